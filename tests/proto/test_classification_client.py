"""The client's calls for classification: what they send, what they make of answers, and which errors they end with."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recollect_api import (
    AlreadyExists,
    AsyncRecollectClient,
    ClassHit,
    ClassifiedImage,
    ClientError,
    Conflict,
    Contrast,
    ContrastTerm,
    DescriptorWarning,
    NotFound,
    NotPossible,
    Reason,
    RecollectClient,
    RefusalReason,
    RefusedImage,
    RevisionState,
    Scoring,
    Unavailable,
)
from recollect_api.v1 import (
    classifier_pb2,
    classifier_pb2_grpc,
    descriptor_sets_pb2,
    descriptor_sets_pb2_grpc,
)

REVISION = descriptor_sets_pb2.Revision(
    etag="3-abc", state=2, classes=2, texts=3, texts_embedded=3, serving_etag="3-abc", shipped=True
)
WARNING = descriptor_sets_pb2.DescriptorWarning(class_name="mug", descriptor="a handle", message="twice")
CLASSES = {"mug": ["a handle", "used for tea"], "jar": []}


class Service(classifier_pb2_grpc.ClassifierServicer, descriptor_sets_pb2_grpc.DescriptorSetsServicer):
    """Fails with the statuses in `failures`, one a call, then answers; keeps what it was asked."""

    def __init__(self):
        self.failures, self.requests = [], []

    def _take(self, request, context):
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, grpc.StatusCode):
                context.abort(failure, "not now")
            context.abort_with_status(rpc_status.to_status(failure))

    def Classify(self, request, context):
        self._take(request, context)
        hit = classifier_pb2.ClassHit(
            class_name="mug",
            score=0.5,
            probability=0.75,
            reasons=[classifier_pb2.Reason(descriptor="a handle", similarity=0.5, contribution=0.25)],
        )
        term = classifier_pb2.ContrastTerm(class_name="jar", descriptor="a lid", contribution=-0.5)
        contrast = classifier_pb2.Contrast(winner="mug", rival="jar", difference=0.25, terms=[term])
        results = [
            classifier_pb2.ImageResult(
                classification=classifier_pb2.Classification(hits=[hit], contrast=contrast if at == 0 else None)
            )
            for at, _ in enumerate(request.images)
        ]
        refusals = [(classifier_pb2.REFUSAL_REASON_TRUNCATED, "half"), (77, "new")]
        results += [
            classifier_pb2.ImageResult(refusal=classifier_pb2.Refusal(reason=reason, message=message))
            for reason, message in refusals
        ]
        return classifier_pb2.ClassifyResponse(
            results=results,
            encoder_name="clip",
            encoder_fingerprint="0123",
            descriptor_set=request.descriptor_set,
            descriptor_set_etag="3-abc",
            request_id=request.request_id,
        )

    def Create(self, request, context):
        self._take(request, context)
        return descriptor_sets_pb2.DescriptorSetsCreateResponse(revision=REVISION, warnings=[WARNING])

    def Get(self, request, context):
        self._take(request, context)
        content = descriptor_sets_pb2.DescriptorSet(
            name=request.name,
            classes=[descriptor_sets_pb2.DescribedClass(name=name, descriptors=CLASSES[name]) for name in CLASSES],
            prefix="a photo of a ",
        )
        return descriptor_sets_pb2.DescriptorSetsGetResponse(
            descriptor_set=content, revision=REVISION, warnings=[WARNING]
        )

    def List(self, request, context):
        self._take(request, context)
        at = int(request.page_token or 0)
        summary = descriptor_sets_pb2.DescriptorSetSummary(name=f"set-{at}", revision=REVISION)
        return descriptor_sets_pb2.DescriptorSetsListResponse(
            descriptor_sets=[summary], next_page_token=str(at + 1) if at < 2 else ""
        )

    def Update(self, request, context):
        self._take(request, context)
        revision = descriptor_sets_pb2.Revision(etag="4-def", state=1, texts=3, texts_embedded=1, serving_etag="3-abc")
        return descriptor_sets_pb2.DescriptorSetsUpdateResponse(revision=revision)

    def Delete(self, request, context):
        self._take(request, context)
        return descriptor_sets_pb2.DescriptorSetsDeleteResponse()


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def target(service):
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 16 << 20)])
    classifier_pb2_grpc.add_ClassifierServicer_to_server(service, server)
    descriptor_sets_pb2_grpc.add_DescriptorSetsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(30)


@pytest.fixture
def client(target):
    with RecollectClient(target, timeout_s=30, classify_timeout_s=30) as client:
        yield client


def test_a_classify_call_carries_everything_and_files_are_read(service, client, tmp_path):
    (tmp_path / "image").write_bytes(b"from a file")
    client.classify(
        [b"bytes", tmp_path / "image", str(tmp_path / "image")],
        classes=CLASSES,
        prefix="a photo of a ",
        suffix=".",
        top_k=7,
        explain=True,
        contrast_with="jar",
        scoring=Scoring.MAX,
        request_id="r",
    )
    (request,) = service.requests
    assert list(request.images) == [b"bytes", b"from a file", b"from a file"]
    inline = request.inline_classes
    assert [(each.name, list(each.descriptors)) for each in inline.classes] == list(CLASSES.items())
    assert (inline.prefix, inline.suffix) == ("a photo of a ", ".")
    assert (request.top_k, request.explain, request.contrast_with, request.scoring) == (7, True, "jar", 3)
    assert request.request_id == "r"
    client.classify([b""], descriptor_set="kitchen")
    assert (service.requests[1].WhichOneof("classes"), service.requests[1].descriptor_set) == (
        "descriptor_set",
        "kitchen",
    )


def test_an_answer_is_read_whole_with_reasons_that_this_client_does_not_know(client):
    answer = client.classify([b"1", b"2"], descriptor_set="kitchen", request_id="r")
    reason = Reason(descriptor="a handle", similarity=0.5, contribution=0.25)
    hit = ClassHit(name="mug", score=0.5, probability=0.75, reasons=(reason,))
    term = ContrastTerm(class_name="jar", descriptor="a lid", contribution=-0.5)
    assert answer.images == (
        ClassifiedImage(hits=(hit,), contrast=Contrast(winner="mug", rival="jar", difference=0.25, terms=(term,))),
        ClassifiedImage(hits=(hit,)),
        RefusedImage(reason=RefusalReason.TRUNCATED, message="half"),
        RefusedImage(reason=77, message="new"),
    )
    assert answer.images[0].best is answer.images[0].hits[0]
    assert (answer.encoder_name, answer.encoder_fingerprint) == ("clip", "0123")
    assert (answer.descriptor_set, answer.descriptor_set_etag, answer.request_id) == ("kitchen", "3-abc", "r")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"images": b"one"}, "put it into a list", id="bytes instead of a list"),
        pytest.param({"images": "image.jpg"}, "put it into a list", id="a path instead of a list"),
        pytest.param({"classes": None}, "either descriptor_set or classes", id="no classes"),
        pytest.param({"descriptor_set": "kitchen"}, "either descriptor_set or classes", id="classes twice"),
        pytest.param(
            {"classes": None, "descriptor_set": "kitchen", "prefix": "a "},
            "has its own",
            id="a prefix of a stored set",
        ),
        pytest.param({"classes": {"mug": "a handle"}}, "must be a list of descriptors", id="a text for a list"),
        pytest.param({"images": [bytes(9 << 20)] * 2}, "at most 16,777,216 bytes together", id="too many bytes"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is(service, client, arguments, says):
    with pytest.raises(ValueError, match=says):
        client.classify(**{"images": [b""], "classes": CLASSES, **arguments})
    assert service.requests == []


def test_a_set_is_sent_and_read(service, client):
    created = client.create_descriptor_set("kitchen", CLASSES, prefix="a ", suffix=".", request_id="r")
    (request,) = service.requests
    sent = request.descriptor_set
    assert (sent.name, sent.prefix, sent.suffix, request.request_id) == ("kitchen", "a ", ".", "r")
    assert [(each.name, list(each.descriptors)) for each in sent.classes] == list(CLASSES.items())
    assert (created.name, created.etag, created.state, created.ready) == ("kitchen", "3-abc", RevisionState.READY, True)
    assert (created.class_count, created.text_count, created.texts_embedded, created.shipped) == (2, 3, 3, True)
    assert created.warnings == (DescriptorWarning(class_name="mug", descriptor="a handle", message="twice"),)
    stored = client.get_descriptor_set("kitchen")
    assert stored.classes == {"mug": ("a handle", "used for tea"), "jar": ()}
    assert (stored.prefix, stored.suffix, stored.etag, stored.warnings) == (
        "a photo of a ",
        "",
        "3-abc",
        created.warnings,
    )


def test_an_update_and_a_deletion_carry_their_etag(service, client):
    updated = client.update_descriptor_set("kitchen", CLASSES, etag="3-abc", request_id="r")
    assert (updated.etag, updated.ready, updated.serving_etag, updated.texts_embedded) == ("4-def", False, "3-abc", 1)
    client.delete_descriptor_set("kitchen", etag="4-def")
    client.delete_descriptor_set("kitchen")
    update, *deletions = service.requests
    assert (update.descriptor_set.name, update.etag, update.request_id) == ("kitchen", "3-abc", "r")
    assert [(each.name, each.etag) for each in deletions] == [("kitchen", "4-def"), ("kitchen", "")]


def test_sets_go_through_all_pages(service, client):
    assert [each.name for each in client.descriptor_sets(page_size=1)] == ["set-0", "set-1", "set-2"]
    assert [(request.page_size, request.page_token) for request in service.requests] == [(1, ""), (1, "1"), (1, "2")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists),
        (grpc.StatusCode.ABORTED, Conflict),
        (grpc.StatusCode.FAILED_PRECONDITION, NotPossible),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else value.__name__,
)
def test_each_status_has_its_exception_and_is_not_repeated(service, client, code, error):
    service.failures = [code]
    with pytest.raises(ClientError) as raised:
        client.get_descriptor_set("kitchen")
    assert (type(raised.value), raised.value.code, len(service.requests)) == (error, code, 1)


def test_a_conflict_has_the_etag_of_now(service, client):
    info = Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="ETAG_MISMATCH", domain="recollect", metadata={"etag": "9-fed"}))
    service.failures = [status_pb2.Status(code=10, message="changed", details=[info])]
    with pytest.raises(Conflict, match=r"^changed$") as refused:
        client.update_descriptor_set("kitchen", CLASSES, etag="3-abc")
    assert (refused.value.current_etag, refused.value.reason) == ("9-fed", "ETAG_MISMATCH")


@pytest.mark.parametrize("size", [100, 3 << 20], ids=["a small image", "a photograph"])
def test_unavailable_is_repeated_whatever_the_size_of_the_images(service, client, size):
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    assert client.classify([bytes(size)], descriptor_set="kitchen").images
    assert len(service.requests) == 3


def test_the_timeout_of_classify_is_its_own(target, service):
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    with RecollectClient(target, timeout_s=0.001, classify_timeout_s=30) as client:
        with pytest.raises(Unavailable):
            client.classify([b""], descriptor_set="kitchen")
        with pytest.raises(Unavailable):
            client.create_descriptor_set("kitchen", CLASSES)
    assert len(service.requests) == 8


def test_the_async_client_gives_the_same_answers_and_errors(service, target, tmp_path):
    (tmp_path / "image").write_bytes(b"from a file")

    async def use():
        async with AsyncRecollectClient(target, timeout_s=30) as client:
            answers = [
                await client.classify([tmp_path / "image"], classes=CLASSES),
                await client.create_descriptor_set("kitchen", CLASSES),
                await client.get_descriptor_set("kitchen"),
                await client.update_descriptor_set("kitchen", CLASSES, etag="3-abc"),
                await client.list_descriptor_sets(page_size=1),
                [each async for each in client.descriptor_sets(page_size=1)],
                await client.delete_descriptor_set("kitchen", etag="4-def"),
            ]
            service.failures = [grpc.StatusCode.NOT_FOUND]
            with pytest.raises(NotFound):
                await client.get_descriptor_set("kitchen")
            return answers

    answers = asyncio.run(use())
    asked = [request.SerializeToString(deterministic=True) for request in service.requests[:-1]]
    service.requests.clear()
    with RecollectClient(target, timeout_s=30) as client:
        assert answers == [
            client.classify([tmp_path / "image"], classes=CLASSES),
            client.create_descriptor_set("kitchen", CLASSES),
            client.get_descriptor_set("kitchen"),
            client.update_descriptor_set("kitchen", CLASSES, etag="3-abc"),
            client.list_descriptor_sets(page_size=1),
            list(client.descriptor_sets(page_size=1)),
            client.delete_descriptor_set("kitchen", etag="4-def"),
        ]
    assert [request.SerializeToString(deterministic=True) for request in service.requests] == asked
