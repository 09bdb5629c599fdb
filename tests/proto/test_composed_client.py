"""The client's calls for composed retrieval: what they send, what they make of answers, which errors they end with."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recollect_api import (
    AsyncRecollectClient,
    ComposedHit,
    GalleryStatus,
    InvalidRequest,
    NotFound,
    RecollectClient,
    SearchExplanation,
    SearchWarning,
    SearchWarningKind,
    WordImportance,
)
from recollect_api.v1 import composed_retrieval_pb2, composed_retrieval_pb2_grpc

STATUS = composed_retrieval_pb2.GalleryStatus(
    name="shop",
    version="7",
    images=3,
    vectors=32,
    dimension=256,
    storage="fp16",
    columns=["colour", "price"],
    model_name="adafocal",
    model_fingerprint="0123",
    problem="none",
)


class Service(composed_retrieval_pb2_grpc.ComposedRetrievalServicer):
    """Fails with the statuses in `failures`, one a call, then answers; keeps what it was asked."""

    def __init__(self):
        self.failures, self.requests = [], []

    def _take(self, request, context):
        self.requests.append(request)
        if self.failures:
            context.abort_with_status(rpc_status.to_status(self.failures.pop(0)))

    def Search(self, request, context):
        self._take(request, context)
        explanation = composed_retrieval_pb2.SearchExplanation(
            base_attention=b"base",
            modulated_attention=b"modulated",
            base_box_share=0.25,
            modulated_box_share=0.5,
            words=[composed_retrieval_pb2.WordImportance(word="night", importance=-0.5)],
        )
        return composed_retrieval_pb2.ComposedRetrievalSearchResponse(
            hits=[
                composed_retrieval_pb2.ComposedHit(
                    image_id="a", score=0.5, metadata={"colour": "red"}, matched_vector=0 if request.explain else None
                )
            ],
            beta=[0.5, 0.25],
            gallery=request.gallery,
            gallery_version="7",
            model_name="adafocal",
            model_fingerprint="0123",
            warnings=[
                composed_retrieval_pb2.SearchWarning(kind=2, message="a part"),
                composed_retrieval_pb2.SearchWarning(kind=77, message="new"),
            ],
            explanation=explanation if request.explain else None,
            request_id=request.request_id,
        )

    def ListGalleries(self, request, context):
        self._take(request, context)
        return composed_retrieval_pb2.ListGalleriesResponse(
            galleries=[STATUS], model_name="adafocal", model_fingerprint="0123"
        )


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def target(service):
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 16 << 20)])
    composed_retrieval_pb2_grpc.add_ComposedRetrievalServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(30)


@pytest.fixture
def client(target):
    with RecollectClient(target, timeout_s=30, classify_timeout_s=30) as client:
        yield client


def test_a_search_carries_everything_and_a_file_is_read(service, client, tmp_path):
    (tmp_path / "image").write_bytes(b"from a file")
    client.search_composed(
        "at night",
        gallery="shop",
        image=tmp_path / "image",
        box=(1, 2.5, 3, 4),
        k=7,
        filters={"colour": ["red", "blue"], "price": ["3"]},
        explain=True,
        beta=0.0,
        request_id="r",
    )
    client.search_composed("at night", gallery="shop", image_id="a")
    client.search_composed("at night", gallery="shop", image=b"bytes")
    request, by_id, by_bytes = service.requests
    assert (request.gallery, request.text, request.k, request.explain) == ("shop", "at night", 7, True)
    assert (request.WhichOneof("reference"), request.image, request.request_id) == ("image", b"from a file", "r")
    box = request.box
    assert (box.x1, box.y1, box.x2, box.y2) == (1, 2.5, 3, 4)
    assert {each.column: list(each.values) for each in request.filters} == {"colour": ["red", "blue"], "price": ["3"]}
    # A β of 0 is not the same as none.
    assert (request.HasField("beta"), request.beta) == (True, 0.0)
    assert (by_id.WhichOneof("reference"), by_id.image_id, by_bytes.image) == ("image_id", "a", b"bytes")
    assert not by_id.HasField("beta")
    assert not by_id.HasField("box")


def test_an_answer_is_read_whole_with_warnings_that_this_client_does_not_know(client):
    answer = client.search_composed("at night", gallery="shop", image_id="b", explain=True, request_id="r")
    assert answer.hits == (ComposedHit(image_id="a", score=0.5, metadata={"colour": "red"}, matched_vector=0),)
    assert (answer.beta, answer.gallery, answer.gallery_version) == ((0.5, 0.25), "shop", "7")
    assert (answer.model_name, answer.model_fingerprint, answer.request_id) == ("adafocal", "0123", "r")
    assert answer.warnings == (
        SearchWarning(kind=SearchWarningKind.BOX_CLIPPED, message="a part"),
        SearchWarning(kind=77, message="new"),
    )
    assert answer.explanation == SearchExplanation(
        base_attention=b"base",
        modulated_attention=b"modulated",
        base_box_share=0.25,
        modulated_box_share=0.5,
        words=(WordImportance(word="night", importance=-0.5),),
    )
    plain = client.search_composed("at night", gallery="shop", image_id="b")
    assert (plain.explanation, plain.hits[0].matched_vector) == (None, None)


def test_galleries_are_listed_with_the_model_that_is_asked(client):
    answer = client.list_galleries()
    assert (answer.model_name, answer.model_fingerprint) == ("adafocal", "0123")
    assert answer.galleries == (
        GalleryStatus(
            name="shop",
            version="7",
            images=3,
            vectors=32,
            dimension=256,
            storage="fp16",
            columns=("colour", "price"),
            model_name="adafocal",
            model_fingerprint="0123",
            problem="none",
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"image_id": None}, "either image or image_id", id="no reference"),
        pytest.param({"image": b"x"}, "either image or image_id", id="two references"),
        pytest.param({"box": (1, 2, 3)}, "x1, y1, x2, y2 in pixels, got 3 numbers", id="half a box"),
        pytest.param({"filters": {"colour": "red"}}, "must be a list of values", id="a text for a list"),
        pytest.param({"image_id": None, "image": bytes(17 << 20)}, "at most 16,777,216 bytes", id="too many bytes"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is(service, client, arguments, says):
    with pytest.raises(ValueError, match=says):
        client.search_composed("at night", **{"gallery": "shop", "image_id": "a", **arguments})
    assert service.requests == []


def test_a_picture_that_was_not_read_has_its_reason(service, client):
    info, fields = Any(), Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="IMAGE_REFUSED", domain="recollect", metadata={"refusal": "ANIMATED"}))
    violation = error_details_pb2.BadRequest.FieldViolation(field="image", description="must be one picture")
    fields.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    service.failures = [status_pb2.Status(code=3, message="1 field is wrong", details=[info, fields])]
    with pytest.raises(InvalidRequest, match="image: must be one picture") as refused:
        client.search_composed("at night", gallery="shop", image=b"GIF89a")
    assert (refused.value.reason, refused.value.refusal) == ("IMAGE_REFUSED", "ANIMATED")


@pytest.mark.parametrize("size", [100, 3 << 20], ids=["a small image", "a photograph"])
def test_unavailable_is_repeated_whatever_the_size_of_the_image(service, client, size):
    service.failures = [status_pb2.Status(code=14, message="not now")] * 2
    assert client.search_composed("at night", gallery="shop", image=bytes(size)).hits
    assert len(service.requests) == 3


def test_the_async_client_gives_the_same_answers_and_errors(service, target, tmp_path):
    (tmp_path / "image").write_bytes(b"from a file")
    asked = {"gallery": "shop", "image": tmp_path / "image", "filters": {"colour": ["red"]}, "explain": True}

    async def use():
        async with AsyncRecollectClient(target, timeout_s=30) as client:
            answers = [await client.search_composed("at night", **asked), await client.list_galleries()]
            service.failures = [status_pb2.Status(code=5, message="no gallery 'shop'")]
            with pytest.raises(NotFound, match="no gallery"):
                await client.search_composed("at night", gallery="shop", image_id="a")
            return answers

    answers = asyncio.run(use())
    sent = [request.SerializeToString(deterministic=True) for request in service.requests[:-1]]
    service.requests.clear()
    with RecollectClient(target, timeout_s=30) as client:
        assert answers == [client.search_composed("at night", **asked), client.list_galleries()]
    assert [request.SerializeToString(deterministic=True) for request in service.requests] == sent
