"""Search over gRPC with a real model and real galleries: what is served is what the model says, and what is refused."""

import io
import logging
import math
import threading

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from recollect.gateway.server import COMPOSED_SERVICES
from recollect_api import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
    RecollectClient,
    SearchWarningKind,
    ServerFault,
    Unavailable,
)
from recollect_api.v1 import composed_retrieval_pb2, composed_retrieval_pb2_grpc
from retrieval.composed.encoder import load_composed
from retrieval.composed.geometry import Box
from retrieval.errors import Refusal
from retrieval.images import decode_image

TEXT = "at night on a beach"
BOX = (8.0, 4.0, 30.0, 30.0)


@pytest.fixture
def client(start_searching, make_gallery):
    make_gallery()
    with RecollectClient(start_searching().address, timeout_s=30, classify_timeout_s=30) as client:
        yield client


def asked(encoder, data, text=TEXT, box=None, beta=None):
    """The query's vector [d] and its β, made without any of the service's code."""
    prepared = encoder.prepare(decode_image(data), box and Box(*box))
    query = encoder.embed_queries(encoder.image_tokens(prepared.pixels[None]), prepared.mask[None], [text], beta=beta)
    return query.vectors[0], query.beta[0]


def ranking(query, vectors, leave_out=()):
    scores = (vectors @ query).max(1)
    order = [int(at) for at in np.argsort(-scores, kind="stable") if at not in leave_out]
    return [f"{at}.png" for at in order], [float(scores[at]) for at in order]


def refused_fields(raised):
    return {violation.field: violation.description for violation in raised.value.violations}


@pytest.mark.parametrize("box", [None, BOX], ids=["whole picture", "box"])
def test_the_hits_of_a_picture_are_those_of_the_model(client, encoder, vectors, shop_pictures, box):
    data = (shop_pictures / "3.png").read_bytes()
    answer = client.search_composed(TEXT, gallery="shop", image=data, box=box, k=4, request_id="call-1")
    query, beta = asked(encoder, data, box=box)
    names, scores = ranking(query, vectors)
    assert [hit.image_id for hit in answer.hits] == names[:4]
    # Vectors of galleries are kept as halves.
    assert [hit.score for hit in answer.hits] == pytest.approx(scores[:4], abs=2e-3)
    assert answer.beta == pytest.approx(beta.tolist(), abs=1e-4)
    assert (answer.gallery, answer.model_name, answer.model_fingerprint) == ("shop", "tiny", encoder.fingerprint[:12])
    assert answer.request_id == "call-1"
    assert (answer.explanation, answer.hits[0].matched_vector, answer.warnings) == (None, None, ())


@pytest.mark.parametrize("kept", [True, False], ids=["features kept", "features made anew"])
def test_a_reference_by_id_is_the_same_picture_and_no_hit(
    make_gallery, start_searching, encoder, vectors, shop_pictures, kept
):
    make_gallery(keep_features=kept)
    with RecollectClient(start_searching().address, classify_timeout_s=30) as client:
        answer = client.search_composed(TEXT, gallery="shop", image_id="3.png", box=BOX)
    query, beta = asked(encoder, (shop_pictures / "3.png").read_bytes(), box=BOX)
    names, scores = ranking(query, vectors, leave_out=(3,))
    assert [hit.image_id for hit in answer.hits] == names
    assert [hit.score for hit in answer.hits] == pytest.approx(scores, abs=2e-3)
    assert answer.beta == pytest.approx(beta.tolist(), abs=2e-3)


def test_features_that_are_kept_make_the_image_encoder_unnecessary(make_gallery, start_searching, encoder, monkeypatch):
    make_gallery()
    address = start_searching().address
    monkeypatch.setattr(encoder, "image_tokens", None)
    with RecollectClient(address, classify_timeout_s=30) as client:
        assert len(client.search_composed(TEXT, gallery="shop", image_id="3.png", k=3).hits) == 3


def test_a_reference_that_came_before_is_remembered(make_gallery, start_searching, encoder, shop_pictures, monkeypatch):
    make_gallery(keep_features=False)
    gateway = start_searching(references=2)
    embedded = []
    real = encoder.image_tokens
    monkeypatch.setattr(encoder, "image_tokens", lambda pixels: embedded.append(len(pixels)) or real(pixels))
    data = [(shop_pictures / f"{number}.png").read_bytes() for number in range(3)]
    with RecollectClient(gateway.address, classify_timeout_s=30) as client:
        for reference in (data[0], data[0], data[1], data[0], data[2]):
            client.search_composed(TEXT, gallery="shop", image=reference)
        assert len(embedded) == 3
        # The one used least recently went.
        client.search_composed(TEXT, gallery="shop", image=data[0])
        assert len(embedded) == 3
        client.search_composed(TEXT, gallery="shop", image=data[1])
        assert len(embedded) == 4
        client.search_composed(TEXT, gallery="shop", image_id="5.png")
        client.search_composed("with a second cup", gallery="shop", image_id="5.png")
        assert len(embedded) == 5


def test_beta_can_be_given(client, encoder, vectors, shop_pictures):
    data = (shop_pictures / "1.png").read_bytes()
    rankings = {}
    for beta in (0.0, 2.5, 50.0):
        answer = client.search_composed(TEXT, gallery="shop", image=data, box=BOX, beta=beta)
        assert answer.beta == (beta,)
        _, scores = ranking(asked(encoder, data, box=BOX, beta=beta)[0], vectors)
        assert [hit.score for hit in answer.hits] == pytest.approx(scores, abs=2e-3)
        rankings[beta] = [hit.score for hit in answer.hits]
    assert rankings[0.0] != pytest.approx(rankings[50.0], abs=1e-4)


def test_a_vector_modulator_tells_one_beta_for_each_query_token(
    tiny_composed, make_gallery, start_searching, shop_pictures
):
    encoder = load_composed(tiny_composed(modulation="vector"))
    make_gallery(encoder=encoder)
    with RecollectClient(start_searching(encoder=encoder).address, classify_timeout_s=30) as client:
        answer = client.search_composed(TEXT, gallery="shop", image=shop_pictures / "1.png", box=BOX)
    _, beta = asked(encoder, (shop_pictures / "1.png").read_bytes(), box=BOX)
    assert len(answer.beta) == 4
    assert answer.beta == pytest.approx(beta.tolist(), abs=1e-3)


def test_metadata_is_told_and_filtered_by(client):
    answer = client.search_composed(TEXT, gallery="shop", image_id="0.png")
    told = {hit.image_id: hit.metadata for hit in answer.hits}
    assert told["5.png"] == {"colour": "blue", "price": "5"}
    # What nothing is known of is left out.
    assert told["4.png"] == {"colour": "green"}
    some = client.search_composed(
        TEXT,
        gallery="shop",
        image_id="0.png",
        filters={"colour": ["blue", "green"], "price": ["1", "2", "3", "4", "8"]},
    )
    assert {hit.image_id for hit in some.hits} == {"1.png", "2.png", "8.png"}
    order = [hit.image_id for hit in answer.hits if hit.image_id in ("1.png", "2.png", "8.png")]
    assert [hit.image_id for hit in some.hits] == order
    assert client.search_composed(TEXT, gallery="shop", image_id="0.png", filters={"colour": ["mauve"]}).hits == ()


def test_ten_hits_unless_said_and_no_more_than_there_are(make_gallery, start_searching, tmp_path, shop_pictures):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(12):
        (many / f"{number}.png").write_bytes((shop_pictures / f"{number % 10}.png").read_bytes())
    make_gallery(source=many)
    with RecollectClient(start_searching().address, classify_timeout_s=30) as client:
        assert len(client.search_composed(TEXT, gallery="shop", image_id="0.png").hits) == 10
        assert len(client.search_composed(TEXT, gallery="shop", image_id="0.png", k=100).hits) == 11


def test_an_explanation_says_where_it_was_looked_and_what_each_word_did(client, encoder, vectors, shop_pictures):
    data = (shop_pictures / "2.png").read_bytes()
    answer = client.search_composed(TEXT, gallery="shop", image=data, box=BOX, explain=True)
    reasons = answer.explanation
    prepared = encoder.prepare(decode_image(data), Box(*BOX))
    tokens = encoder.image_tokens(prepared.pixels[None])[0]
    maps = encoder.explain(tokens, prepared.mask, TEXT)
    grid = prepared.mask[1:].reshape(maps.base.shape)
    assert reasons.base_box_share == pytest.approx(float((maps.base * grid).sum()), abs=1e-4)
    assert reasons.modulated_box_share == pytest.approx(float((maps.modulated * grid).sum()), abs=1e-4)
    assert reasons.base_box_share < reasons.modulated_box_share
    for png in (reasons.base_attention, reasons.modulated_attention):
        assert Image.open(io.BytesIO(png)).format == "PNG"
    query, _ = asked(encoder, data, box=BOX)
    best = int(answer.hits[0].image_id.removesuffix(".png"))
    assert [each.word for each in reasons.words] == TEXT.split()
    without, _ = asked(encoder, data, text="at night on a", box=BOX)
    change = float((vectors[best] @ query).max() - (vectors[best] @ without).max())
    assert reasons.words[-1].importance == pytest.approx(change, abs=4e-3)
    for hit in answer.hits:
        similarities = vectors[int(hit.image_id.removesuffix(".png"))] @ query
        assert similarities[hit.matched_vector] == pytest.approx(similarities.max(), abs=2e-3)


@pytest.mark.parametrize("kept", [True, False], ids=["file there", "file gone"])
def test_features_explain_without_their_picture(make_gallery, start_searching, kept):
    make_gallery(keep_paths=kept)
    with RecollectClient(start_searching().address, classify_timeout_s=30) as client:
        reasons = client.search_composed(TEXT, gallery="shop", image_id="2.png", box=BOX, explain=True).explanation
    picture = np.asarray(Image.open(io.BytesIO(reasons.base_attention)).convert("RGB"))
    # Noise has many colours, the plain square that stands for it is grey.
    assert (picture[..., 0] != picture[..., 1]).any() == kept


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        pytest.param({"text": "night " * 20}, SearchWarningKind.TEXT_TRUNCATED, "8 tokens", id="long text"),
        pytest.param({"box": (10, 10, 900, 30)}, SearchWarningKind.BOX_CLIPPED, "64 by 40", id="box half outside"),
        pytest.param({"box": (0, 0, 4, 40)}, SearchWarningKind.BOX_NOT_SEEN, "the middle", id="box cropped away"),
        pytest.param({"box": BOX, "beta": 0.0}, SearchWarningKind.BOX_IGNORED, "β is 0", id="beta of nothing"),
    ],
)
def test_what_had_no_effect_is_said(client, shop_pictures, arguments, kind, says):
    answer = client.search_composed(**{"text": TEXT, "gallery": "shop", "image": shop_pictures / "0.png", **arguments})
    (warning,) = answer.warnings
    assert warning.kind == kind
    assert says in warning.message


def test_a_large_jpeg_is_shrunk_while_it_is_decoded_and_its_box_with_it(client, tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    large, small = tmp_path / "large.jpg", tmp_path / "small.png"
    image = Image.fromarray(colours).resize((640, 512), Image.Resampling.NEAREST)
    image.save(large, "JPEG", quality=95)
    image.resize((80, 64), Image.Resampling.BICUBIC).save(small)
    by_large = client.search_composed(TEXT, gallery="shop", image=large, box=(160, 128, 320, 384), beta=30)
    by_small = client.search_composed(TEXT, gallery="shop", image=small, box=(20, 16, 40, 48), beta=30)
    elsewhere = client.search_composed(TEXT, gallery="shop", image=large, box=(400, 0, 560, 128), beta=30)
    same, other = ([hit.score for hit in answer.hits] for answer in (by_small, elsewhere))
    assert [hit.score for hit in by_large.hits] == pytest.approx(same, abs=0.02)
    assert [hit.score for hit in by_large.hits] != pytest.approx(other, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        pytest.param({"text": " \n"}, {"text": "must not be blank"}, id="blank text"),
        pytest.param({"text": "a" * 2_001}, {"text": "at most 2000 characters, got 2001"}, id="long text"),
        pytest.param({"k": 101}, {"k": "at most 100, got 101"}, id="k"),
        pytest.param({"beta": -0.5}, {"beta": "finite and 0 or more, got -0.5"}, id="negative beta"),
        pytest.param({"beta": math.inf}, {"beta": "finite and 0 or more, got inf"}, id="infinite beta"),
        pytest.param({"beta": math.nan}, {"beta": "finite and 0 or more, got nan"}, id="beta that is no number"),
        pytest.param(
            {"box": (math.nan, 0, math.inf, 9)},
            {"box.x1": "finite number, got nan", "box.x2": "finite number, got inf"},
            id="box that is no number",
        ),
        pytest.param({"box": (5, 5, 5, 9)}, {"box.x2": "more than box.x1, which is 5, got 5"}, id="box of no width"),
        pytest.param(
            {"box": (9, 9, 5, 5)}, {"box.x2": "more than box.x1", "box.y2": "more than box.y1"}, id="box turned round"
        ),
        pytest.param({"box": (200, 0, 300, 30)}, {"box": "in the picture of 64 by 40"}, id="box outside"),
        pytest.param({"gallery": "../shop"}, {"gallery": "got '../shop'"}, id="gallery's name"),
        pytest.param({"image": None, "image_id": ""}, {"image_id": "must not be empty"}, id="empty id"),
        pytest.param({"filters": {"colour": []}}, {"filters[0].values": "1 to 1000 values, got 0"}, id="empty filter"),
        pytest.param(
            {"filters": {"size": ["1"]}},
            {"filters[0].column": "got 'size'; there is 'colour', 'price'"},
            id="unknown column",
        ),
        pytest.param({"request_id": "r" * 129}, {"request_id": "at most 128 bytes"}, id="request id"),
    ],
)
def test_every_field_that_is_wrong_is_named(client, shop_pictures, arguments, fields):
    with pytest.raises(InvalidRequest) as raised:
        client.search_composed(**{"text": TEXT, "gallery": "shop", "image": shop_pictures / "0.png", **arguments})
    found = refused_fields(raised)
    assert found.keys() == fields.keys()
    for field, says in fields.items():
        assert says in found[field]


def test_a_request_without_a_reference_is_refused(client):
    with grpc.insecure_channel(client.target) as channel:
        stub = composed_retrieval_pb2_grpc.ComposedRetrievalStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Search(composed_retrieval_pb2.ComposedRetrievalSearchRequest(gallery="shop", text=TEXT))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", Refusal.EMPTY, id="nothing"),
        pytest.param(b"no picture", Refusal.UNKNOWN_FORMAT, id="text"),
        pytest.param(None, Refusal.TRUNCATED, id="half a picture"),
    ],
)
def test_a_picture_that_is_refused_has_the_reason_of_the_classifier(client, shop_pictures, data, reason):
    if data is None:
        data = (shop_pictures / "0.png").read_bytes()[:-40]
    with pytest.raises(InvalidRequest) as raised:
        client.search_composed(TEXT, gallery="shop", image=data)
    assert (raised.value.reason, raised.value.refusal) == ("IMAGE_REFUSED", reason.name)
    assert list(refused_fields(raised)) == ["image"]


def test_unknown_names_are_answered_with_those_that_come_close(client):
    with pytest.raises(NotFound, match="no gallery 'shp'; there is 'shop'"):
        client.search_composed(TEXT, gallery="shp", image_id="0.png")
    with pytest.raises(NotFound, match=r"no picture '33.png' in gallery 'shop'; there is '3.png'"):
        client.search_composed(TEXT, gallery="shop", image_id="33.png")


def test_where_there_is_no_gallery_it_is_said_how_to_make_one(start_searching):
    with (
        RecollectClient(start_searching().address, classify_timeout_s=30) as client,
        pytest.raises(NotFound, match="there is none yet; make one with `recollect composed index`"),
    ):
        client.search_composed(TEXT, gallery="shop", image_id="0.png")


def test_a_picture_of_which_nothing_is_kept_is_asked_for(make_gallery, start_searching, tmp_path, shop_pictures):
    make_gallery(keep_features=False, keep_paths=False)
    make_gallery("moved", keep_features=False, source=_copied(shop_pictures, tmp_path / "copies"))
    (tmp_path / "copies" / "0.png").write_bytes(b"something else")
    (tmp_path / "copies" / "1.png").unlink()
    with RecollectClient(start_searching().address, classify_timeout_s=30) as client:
        for gallery, image_id in (("shop", "0.png"), ("moved", "0.png"), ("moved", "1.png")):
            with pytest.raises(NotPossible, match="send it as image") as raised:
                client.search_composed(TEXT, gallery=gallery, image_id=image_id)
            assert str(tmp_path) not in str(raised.value)


def _copied(source, to):
    to.mkdir()
    for path in source.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_the_galleries_are_listed(make_gallery, start_searching, encoder):
    shop, other = make_gallery(), make_gallery("other")
    with RecollectClient(start_searching().address, timeout_s=30) as client:
        found = client.list_galleries()
    assert (found.model_name, found.model_fingerprint) == ("tiny", encoder.fingerprint[:12])
    assert [(each.name, each.version, each.images) for each in found.galleries] == [
        ("other", other.version, 10),
        ("shop", shop.version, 10),
    ]
    status = found.galleries[1]
    assert (status.vectors, status.dimension, status.columns) == (4, 8, ("colour", "price"))
    assert (status.model_name, status.model_fingerprint, status.problem) == ("tiny", encoder.fingerprint[:12], "")


def test_an_error_that_nobody_foresaw_tells_nothing(client, encoder, shop_pictures, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("the text that nobody may see")

    monkeypatch.setattr(encoder, "embed_queries", fail)
    with caplog.at_level(logging.CRITICAL), pytest.raises(ServerFault) as raised:
        client.search_composed(TEXT, gallery="shop", image=shop_pictures / "0.png")
    assert "nobody may see" not in str(raised.value)
    assert raised.value.incident


def test_queries_that_come_together_are_embedded_together_each_with_its_own_beta(
    make_gallery, start_searching, encoder, shop_pictures, monkeypatch
):
    make_gallery()
    gateway = start_searching()
    may_go, waits, batches = threading.Event(), threading.Event(), []
    real = encoder.embed_queries

    def slow(tokens, masks, texts, *, beta=None):
        batches.append((len(texts), beta))
        waits.set()
        assert may_go.wait(30)
        return real(tokens, masks, texts, beta=beta)

    monkeypatch.setattr(encoder, "embed_queries", slow)
    asked_for = [("at night", None), ("on a beach", 3.0), ("with a second cup", None), ("at night", 3.0), ("cup", 0.0)]
    answers = {}
    with RecollectClient(gateway.address, classify_timeout_s=30) as client:

        def ask(at):
            text, beta = asked_for[at]
            answers[at] = client.search_composed(text, gallery="shop", image_id="0.png", box=BOX, beta=beta)

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(5)]
        threads[0].start()
        assert waits.wait(30)
        for thread in threads[1:]:
            thread.start()
        while len(gateway.composed._queries._waiting) < 4:
            pass
        may_go.set()
        for thread in threads:
            thread.join(30)
        assert batches[0] == (1, None)
        assert sorted(batches[1:], key=str) == [(1, 0.0), (1, None), (2, 3.0)]
        for at, (text, beta) in enumerate(asked_for):
            alone = client.search_composed(text, gallery="shop", image_id="0.png", box=BOX, beta=beta)
            assert [hit.image_id for hit in answers[at].hits] == [hit.image_id for hit in alone.hits]
            assert answers[at].beta == pytest.approx(alone.beta, abs=1e-5)
            scores = [hit.score for hit in alone.hits]
            assert [hit.score for hit in answers[at].hits] == pytest.approx(scores, abs=1e-5)


def test_too_many_searches_are_refused_and_late_ones_given_up(
    make_gallery, start_searching, encoder, shop_pictures, monkeypatch
):
    make_gallery()
    gateway = start_searching(most_waiting=1)
    may_go, waits = threading.Event(), threading.Event()
    real = encoder.image_tokens

    def slow(pixels):
        waits.set()
        assert may_go.wait(30)
        return real(pixels)

    monkeypatch.setattr(encoder, "image_tokens", slow)
    with RecollectClient(gateway.address, classify_timeout_s=30) as client:
        errors = []

        def ask():
            try:
                client.search_composed(TEXT, gallery="shop", image=shop_pictures / "0.png", timeout_s=5)
            except ClientError as error:
                errors.append(error)

        first = threading.Thread(target=ask)
        first.start()
        assert waits.wait(30)
        with pytest.raises(Unavailable, match="1 searches wait already") as refused:
            client.search_composed(TEXT, gallery="shop", image=shop_pictures / "1.png")
        assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.join(30)
        assert [type(error) for error in errors] == [DeadlineExceeded]
        may_go.set()


def test_without_a_model_it_is_said_how_to_get_one(gateway):
    with (
        RecollectClient(gateway.address) as client,
        pytest.raises(ServerFault, match="--composed MODEL") as raised,
    ):
        client.search_composed(TEXT, gallery="shop", image_id="0.png")
    assert (raised.value.code, raised.value.reason) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "COMPOSED_RETRIEVAL_DISABLED",
    )
    with RecollectClient(gateway.address) as client, pytest.raises(ServerFault, match="--composed MODEL"):
        client.list_galleries()


def test_health_knows_the_service_where_it_is_served(gateway, start_searching):
    (name,) = COMPOSED_SERVICES
    searching = start_searching()
    with grpc.insecure_channel(searching.address) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(gateway.address) as channel, pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
