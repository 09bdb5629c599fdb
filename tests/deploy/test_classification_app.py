"""Classification on a real Ray Serve: what is served is what the encoder says, on every replica, also after a crash."""

import io
import signal

import numpy as np
import psutil
import pytest
from PIL import Image

from recollect import serve_app, serve_config
from recollect.errors import SetupError
from recollect.settings import Settings
from recollect_api import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    RecollectClient,
    RefusalReason,
    Unavailable,
)
from retrieval.descriptors.classifier import Classifier
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.load import load_encoder
from retrieval.encoders.protocol import embed_images
from retrieval.images import decode_image

KITCHEN = {
    "mug": ["a handle", "a wide body", "used for tea"],
    "jar": ["a lid", "clear glass"],
    "pan": ["a long handle", "black metal"],
}


@pytest.fixture(scope="module")
def encoder_directory(tmp_path_factory):
    """A compact encoder with random weights."""
    import torch

    from retrieval.encoders.compact.directory import save_compact
    from retrieval.encoders.compact.model import DualEncoder, DualEncoderConfig
    from retrieval.encoders.compact.words import Vocabulary

    vocabulary = Vocabulary.of([*KITCHEN, *(text for texts in KITCHEN.values() for text in texts)])
    sizes = DualEncoderConfig(vocabulary=len(vocabulary), image_size=32, widths=(8, 16), dimension=12)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = DualEncoder(sizes).eval()
    directory = tmp_path_factory.mktemp("encoder") / "tiny"
    save_compact(directory, model, vocabulary, training={}, data={}, metrics={})
    return directory


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(3)
    found = []
    for size in ((48, 40), (40, 64), (80, 80), (33, 50)):
        data = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(data, "PNG")
        found.append(data.getvalue())
    return found


@pytest.fixture(scope="module")
def app(ray_node, counting_models, history_redis_url, encoder_directory, tmp_path_factory):
    directory = tmp_path_factory.mktemp("classification")
    settings = Settings(port=0, replicas=1, var=directory, encoder=str(encoder_directory), classifier_replicas=2)
    with serve_app.run(
        settings,
        "counting/1",
        redis_url=history_redis_url,
        models=counting_models(directory),
        application="classification",
    ) as started:
        yield started


@pytest.fixture
def client(app):
    with RecollectClient(app.address, timeout_s=30, classify_timeout_s=30) as client:
        yield client


def test_settings_reach_the_encoders_process(encoder_directory, tmp_path, monkeypatch):
    monkeypatch.chdir(encoder_directory.parent)
    settings = Settings(
        var="var",
        encoder=encoder_directory.name,
        encoder_runtime="torch",
        classifier_replicas=1_000,
        max_image_bytes=5,
        max_image_pixels=7,
    )
    config = serve_config.classification_config(settings)
    monkeypatch.chdir(tmp_path)
    # Replicas have another working directory.
    assert (config.encoder, config.runtime) == (str(encoder_directory), "torch")
    assert (config.sets, config.text_cache) == (
        encoder_directory.parent / "var" / "descriptor-sets",
        encoder_directory.parent / "var" / "cache" / "texts",
    )
    assert (config.image_limits.max_bytes, config.image_limits.max_pixels, config.embedding_threads) == (5, 7, 1)


@pytest.mark.slow
def test_what_is_served_is_what_the_encoder_says(client, encoder_directory, images):
    encoder = load_encoder(encoder_directory)
    offline = Classifier.prepare(
        DescriptorSet.from_mapping("kitchen", KITCHEN, prefix="a photo of a "),
        encoder.embed_texts,
        logit_scale=encoder.logit_scale,
    )
    target = (encoder.preprocessing.width, encoder.preprocessing.height)
    embeddings = embed_images(encoder, [decode_image(image, target=target) for image in images])
    expected = offline.classify(embeddings, top_k=2, explain=True, contrast_with="pan")
    created = client.create_descriptor_set("kitchen", KITCHEN, prefix="a photo of a ")
    assert created.ready
    answer = client.classify(images, descriptor_set="kitchen", top_k=2, explain=True, contrast_with="pan")
    assert answer.descriptor_set_etag == created.etag
    assert (answer.encoder_name, answer.encoder_fingerprint) == (encoder.name, encoder.fingerprint[:12])
    for found, wanted in zip(answer.images, expected, strict=True):
        assert [hit.name for hit in found.hits] == [hit.name for hit in wanted.hits]
        for hit, reference in zip(found.hits, wanted.hits, strict=True):
            assert (hit.score, hit.probability) == pytest.approx((reference.score, reference.probability), abs=1e-5)
            assert [each.descriptor for each in hit.reasons] == [each.descriptor for each in reference.reasons]
            assert [each.contribution for each in hit.reasons] == pytest.approx(
                [each.contribution for each in reference.reasons], abs=1e-5
            )
        assert (found.contrast is None) == (wanted.contrast is None)


@pytest.mark.slow
def test_every_replica_answers_with_an_update_that_was_said_to_be_ready(client, images):
    revision = client.create_descriptor_set("edited", KITCHEN)
    for turn in range(8):
        classes = {**KITCHEN, "mug": [f"a handle {turn}"]}
        revision = client.update_descriptor_set("edited", classes, etag=revision.etag)
        assert revision.ready
        # Which replica answers is Serve's choice.
        etags = {client.classify(images[:1], descriptor_set="edited").descriptor_set_etag for _ in range(8)}
        assert etags == {revision.etag}


@pytest.mark.slow
def test_refusals_cross_from_the_encoders_process_as_what_they_are(client, images):
    created = client.create_descriptor_set("refusing", KITCHEN)
    client.update_descriptor_set("refusing", {"mug": []}, etag=created.etag)
    with pytest.raises(Conflict) as conflict:
        client.update_descriptor_set("refusing", KITCHEN, etag=created.etag)
    assert conflict.value.current_etag == client.get_descriptor_set("refusing").etag
    with pytest.raises(NotFound, match="'refusing'"):
        client.classify(images[:1], descriptor_set="refusin")
    with pytest.raises(InvalidRequest) as invalid:
        client.classify(images[:1], classes=KITCHEN, contrast_with="bowl")
    assert [violation.field for violation in invalid.value.violations] == ["contrast_with"]
    good, bad = client.classify([images[0], b"no image"], classes=KITCHEN).images
    assert good.hits
    assert bad.reason == RefusalReason.UNKNOWN_FORMAT


@pytest.mark.slow
def test_a_large_image_crosses_whole(client):
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (1_500, 1_500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    assert len(data.getvalue()) > 5 << 20
    assert client.classify([data.getvalue()], classes=KITCHEN).images[0].hits


@pytest.mark.slow
def test_sets_survive_the_death_of_every_encoder_process(client, images, eventually):
    created = client.create_descriptor_set("surviving", KITCHEN)
    before = client.classify(images, descriptor_set="surviving")
    victims = encoder_processes()
    assert len(victims) == 2
    for victim in victims:
        victim.send_signal(signal.SIGKILL)

    def answer():
        try:
            return client.classify(images, descriptor_set="surviving", timeout_s=10)
        except (Unavailable, DeadlineExceeded):
            # Nothing else may come while there is no encoder.
            return None

    after = eventually(answer)
    assert after == before
    assert after.descriptor_set_etag == created.etag
    assert not set(victims) & set(encoder_processes())


def encoder_processes():
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ServeReplica:classification:Classification" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_an_encoder_that_cannot_be_loaded_is_a_setup_error_with_its_reason(
    ray_node, counting_models, history_redis_url, tmp_path
):
    (tmp_path / "empty").mkdir()
    settings = Settings(port=0, replicas=1, var=tmp_path, encoder=str(tmp_path / "empty"))
    with pytest.raises(SetupError, match=r"EncoderError: .*empty"):
        serve_app.run(
            settings,
            "counting/1",
            redis_url=history_redis_url,
            models=counting_models(tmp_path),
            application="no-encoder",
        )
