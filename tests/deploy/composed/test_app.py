"""Composed retrieval on a real Ray Serve: what is served is what the model says, on every replica, after a crash."""

import signal

import psutil
import pytest

from recollect import serve_app, serve_config
from recollect.artifacts import ArtifactStore
from recollect.composed.building import GalleryBuilder, GalleryOptions
from recollect.composed.galleries import MadeWith
from recollect.composed.sources import read_source
from recollect.errors import SetupError
from recollect.settings import Settings
from recollect_api import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    RecollectClient,
    Unavailable,
)
from retrieval.composed.encoder import load_composed
from retrieval.composed.geometry import Box
from retrieval.images import ImageLimits, decode_image

TEXT = "at night on a beach"
BOX = (8.0, 4.0, 30.0, 30.0)


@pytest.fixture(scope="module")
def var(tmp_path_factory, tiny_composed):
    """A `var` with a published model."""
    directory = tmp_path_factory.mktemp("composed-app")
    models = ArtifactStore(directory / "models")
    models.set_label("adafocal", "stable", models.publish("adafocal", tiny_composed()).version)
    return directory


@pytest.fixture(scope="module")
def publish(var, encoder, shop_pictures, tmp_path_factory):
    """Publish a gallery of the first pictures: `publish("shop", 10)`."""

    def make(name, count, encoder=encoder):
        directory = tmp_path_factory.mktemp("pictures")
        for number in range(count):
            (directory / f"{number}.png").write_bytes((shop_pictures / f"{number}.png").read_bytes())
        builder = GalleryBuilder(root=var / "indexes", label="stable", limits=ImageLimits())
        made = MadeWith(model="tiny", model_name="tiny", fingerprint=encoder.fingerprint)
        return builder.make(name, read_source(directory), encoder, made, GalleryOptions()).artifact.version

    return make


@pytest.fixture(scope="module")
def app(ray_node, history_redis_url, var, publish):
    publish("shop", 10)
    settings = Settings(
        port=0, replicas=1, var=var, classification=False, composed_model="adafocal@stable", composed_replicas=2
    )
    with serve_app.run(settings, None, redis_url=history_redis_url, application="composed") as started:
        yield started


@pytest.fixture
def client(app):
    with RecollectClient(app.address, timeout_s=30, classify_timeout_s=30) as client:
        yield client


def test_settings_reach_the_models_process(var, tiny_composed, monkeypatch, tmp_path):
    monkeypatch.chdir(var.parent)
    settings = Settings(
        var=var.name, composed_replicas=1_000, gallery_label="canary", max_image_bytes=5, max_image_pixels=7
    )
    config = serve_config.composed_config(settings, "adafocal@stable")
    version = ArtifactStore(var / "models").labels("adafocal")["stable"]
    monkeypatch.chdir(tmp_path)
    # Replicas have another working directory.
    assert config.model == str(var / "models" / "adafocal" / version)
    assert (config.model_name, config.indexes, config.label) == (f"adafocal/{version}", var / "indexes", "canary")
    assert (config.image_limits.max_bytes, config.image_limits.max_pixels, config.embedding_threads) == (5, 7, 1)
    # Callers learn a directory's name, not where it is.
    assert serve_config.composed_config(settings, str(tiny_composed())).model_name == "tiny-scalar-0"


@pytest.mark.slow
def test_what_is_served_is_what_the_model_says(client, encoder, vectors, shop_pictures):
    data = (shop_pictures / "3.png").read_bytes()
    prepared = encoder.prepare(decode_image(data), Box(*BOX))
    query = encoder.embed_queries(encoder.image_tokens(prepared.pixels[None]), prepared.mask[None], [TEXT])
    scores = (vectors @ query.vectors[0]).max(1)
    # Which replica answers is Serve's choice.
    for _ in range(4):
        answer = client.search_composed(TEXT, gallery="shop", image=data, box=BOX, explain=True)
        assert {hit.image_id: pytest.approx(hit.score, abs=2e-3) for hit in answer.hits} == {
            f"{number}.png": float(score) for number, score in enumerate(scores)
        }
        assert answer.beta == pytest.approx(query.beta[0].tolist(), abs=1e-4)
        assert len(answer.explanation.words) == 5
    assert answer.model_name.startswith("adafocal/")
    assert client.list_galleries().galleries[0].images == 10


@pytest.mark.slow
def test_refusals_cross_from_the_models_process_as_what_they_are(client, publish, tiny_composed, shop_pictures):
    with pytest.raises(NotFound, match="no gallery 'shp'; there is 'shop'"):
        client.search_composed(TEXT, gallery="shp", image_id="0.png")
    with pytest.raises(InvalidRequest) as refused:
        client.search_composed(TEXT, gallery="shop", image=b"no picture")
    assert (refused.value.reason, refused.value.refusal) == ("IMAGE_REFUSED", "UNKNOWN_FORMAT")
    with pytest.raises(InvalidRequest) as outside:
        client.search_composed(TEXT, gallery="shop", image_id="0.png", box=(900, 0, 950, 9))
    assert [violation.field for violation in outside.value.violations] == ["box"]
    publish("foreign", 2, encoder=load_composed(tiny_composed(seed=1)))
    with pytest.raises(NotPossible, match="was made with the model tiny"):
        client.search_composed(TEXT, gallery="foreign", image_id="0.png")


@pytest.mark.slow
def test_every_replica_goes_over_to_a_new_version(client, publish, eventually):
    first = publish("swapped", 4)
    assert client.search_composed(TEXT, gallery="swapped", image_id="0.png").gallery_version == first
    second = publish("swapped", 6)

    def all_new():
        answers = [client.search_composed(TEXT, gallery="swapped", image_id="0.png") for _ in range(8)]
        for answer in answers:
            assert len(answer.hits) == {first: 3, second: 5}[answer.gallery_version]
        return {answer.gallery_version for answer in answers} == {second}

    eventually(all_new)


@pytest.mark.slow
def test_galleries_survive_the_death_of_every_model_process(client, eventually):
    before = client.search_composed(TEXT, gallery="shop", image_id="0.png")
    victims = model_processes()
    assert len(victims) == 2
    for victim in victims:
        victim.send_signal(signal.SIGKILL)

    def answer():
        try:
            return client.search_composed(TEXT, gallery="shop", image_id="0.png", timeout_s=10)
        except (Unavailable, DeadlineExceeded):
            # Nothing else may come while there is no model.
            return None

    assert eventually(answer) == before
    assert not set(victims) & set(model_processes())


def model_processes():
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ServeReplica:composed:ComposedRetrieval" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_setup_error_with_its_reason(
    ray_node, counting_models, history_redis_url, tmp_path
):
    (tmp_path / "empty").mkdir()
    settings = Settings(port=0, replicas=1, var=tmp_path, classification=False, composed_model=str(tmp_path / "empty"))
    with pytest.raises(SetupError, match=r"ComposedError: .*empty"):
        serve_app.run(
            settings,
            "counting/1",
            redis_url=history_redis_url,
            models=counting_models(tmp_path),
            application="no-model",
        )
