"""DescriptorSets over gRPC: sets that are edited while they answer, by several writers and across a crash."""

import threading
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from recollect_api import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    NotFound,
    NotPossible,
    RecollectClient,
    RevisionState,
    Unavailable,
)
from recollect_api.errors import from_rpc_error
from recollect_api.v1 import (
    classifier_pb2,
    classifier_pb2_grpc,
    descriptor_sets_pb2,
    descriptor_sets_pb2_grpc,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)
GARDEN = {"rose": ["red petals", "green stem"], "leaf": ["green all over"]}


@pytest.fixture
def impatient(monkeypatch):
    """Create and Update return at once, whether or not the revision answers."""
    monkeypatch.setattr("recollect.gateway.descriptor_sets.MAX_WAIT_S", 0.0)


def best(client, images, name="garden"):
    answer = client.classify(images, descriptor_set=name)
    return [image.best.name for image in answer.images], answer.descriptor_set_etag


def test_a_set_is_read_as_it_was_stored(classifier):
    created = classifier.create_descriptor_set("garden", GARDEN, prefix="a photo of a ", suffix=".", request_id="r")
    assert (created.state, created.class_count, created.text_count, created.texts_embedded) == (
        RevisionState.READY,
        2,
        3,
        3,
    )
    assert (created.serving_etag, created.shipped, created.warnings) == (created.etag, False, ())
    stored = classifier.get_descriptor_set("garden")
    assert list(stored.classes.items()) == [(name, tuple(words)) for name, words in GARDEN.items()]
    assert (stored.prefix, stored.suffix, stored.etag) == ("a photo of a ", ".", created.etag)


def test_what_the_author_should_mend_comes_back_as_warnings(classifier):
    classes = {"rose": ["red petals", "", "Red  petals"], "leaf": []}
    created = classifier.create_descriptor_set("garden", classes)
    assert created.text_count == 2
    found = [(warning.class_name, warning.message) for warning in created.warnings]
    assert len(found) == 3
    for (name, message), (where, says) in zip(
        found, [("rose", "empty descriptor"), ("rose", "counts once"), ("leaf", "bare name")], strict=True
    ):
        assert name == where
        assert says in message
    assert classifier.get_descriptor_set("garden").warnings == created.warnings


def test_an_edited_descriptor_changes_the_answer_at_once_and_only_it_is_embedded(classifier, encoder, picture):
    first = classifier.create_descriptor_set("garden", GARDEN)
    assert best(classifier, [picture(GREEN)]) == (["leaf"], first.etag)
    edited = {"rose": ["red petals", "green stem"], "leaf": ["red in autumn"]}
    second = classifier.update_descriptor_set("garden", edited, etag=first.etag)
    assert second.ready
    assert best(classifier, [picture(GREEN)]) == (["rose"], second.etag)
    # Beside these two, the sets that are shipped.
    ours = [text for text in encoder.embedded_texts if text.startswith(("rose", "leaf"))]
    assert ours == [f"rose, which has {words}" for words in GARDEN["rose"]] + [
        "leaf, which has green all over",
        "leaf, which has red in autumn",
    ]


def test_every_replica_answers_with_a_revision_that_was_said_to_be_ready(start_classifying, encoder, picture):
    gateways = [start_classifying(), start_classifying()]
    clients = [RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) for gateway in gateways]
    with clients[0], clients[1]:
        revision = clients[0].create_descriptor_set("garden", GARDEN)
        for turn in range(6):
            assert revision.ready
            for client in clients:
                assert best(client, [picture(RED)])[1] == revision.etag
            descriptors = {**GARDEN, "leaf": [f"green number {turn}"]}
            revision = clients[turn % 2].update_descriptor_set("garden", descriptors, etag=revision.etag)


def test_readers_under_constant_updates_get_answers_of_one_revision_and_never_an_older_one(classifier, picture):
    """Each revision swaps the two classes' colours, so an answer of two revisions would name one class only."""
    images = [picture(RED), picture(GREEN)] * 2
    sides = [{"cup": ["red"], "pot": ["green"]}, {"cup": ["green"], "pot": ["red"]}]
    expected = [["cup", "pot"] * 2, ["pot", "cup"] * 2]
    revision = classifier.create_descriptor_set("garden", sides[0])
    meaning = {revision.etag: expected[0]}
    stop, answers, failures = threading.Event(), [], []

    def read():
        seen = []
        try:
            while not stop.is_set():
                seen.append(best(classifier, images))
        except Exception as error:
            failures.append(error)
        answers.append(seen)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(1, 25):
            # A descriptor that is new every time has to be embedded.
            side = {name: [*words, f"{words[0]} {turn}"] for name, words in sides[turn % 2].items()}
            revision = classifier.update_descriptor_set("garden", side, etag=revision.etag)
            assert revision.ready
            meaning[revision.etag] = expected[turn % 2]
            assert best(classifier, images) == (expected[turn % 2], revision.etag)
    finally:
        stop.set()
        for reader in readers:
            reader.join(30)
    assert failures == []
    order = list(meaning)
    assert len({etag for seen in answers for _, etag in seen}) > 2
    for seen in answers:
        assert [classes for classes, _ in seen] == [meaning[etag] for _, etag in seen]
        positions = [order.index(etag) for _, etag in seen]
        assert positions == sorted(positions)


def test_of_two_writers_the_later_learns_what_the_set_is_now(classifier, classifying):
    first = classifier.create_descriptor_set("garden", GARDEN)
    with RecollectClient(classifying.address, timeout_s=30, classify_timeout_s=30) as other:
        second = other.update_descriptor_set("garden", {"rose": ["thorns"]}, etag=first.etag)
    with pytest.raises(Conflict, match="has changed") as refused:
        classifier.update_descriptor_set("garden", {"rose": ["scent"]}, etag=first.etag)
    assert refused.value.current_etag == second.etag
    assert refused.value.code is grpc.StatusCode.ABORTED
    with pytest.raises(Conflict):
        classifier.delete_descriptor_set("garden", etag=first.etag)
    third = classifier.update_descriptor_set("garden", {"rose": ["thorns", "scent"]}, etag=refused.value.current_etag)
    assert classifier.get_descriptor_set("garden").etag == third.etag


def test_creating_again_is_safe_and_something_else_of_that_name_is_refused(classifier):
    first = classifier.create_descriptor_set("garden", GARDEN)
    assert classifier.create_descriptor_set("garden", GARDEN) == first
    with pytest.raises(AlreadyExists, match="'garden' already"):
        classifier.create_descriptor_set("garden", {"rose": ["thorns"]})


def test_a_deleted_set_does_not_answer(classifier, picture):
    etag = classifier.create_descriptor_set("garden", GARDEN).etag
    assert best(classifier, [picture(RED)])[1] == etag
    classifier.delete_descriptor_set("garden", etag=etag)
    for use in (
        lambda: best(classifier, [picture(RED)]),
        lambda: classifier.get_descriptor_set("garden"),
        lambda: classifier.update_descriptor_set("garden", GARDEN, etag=etag),
    ):
        with pytest.raises(NotFound, match="'garden'"):
            use()
    classifier.delete_descriptor_set("garden")
    again = classifier.create_descriptor_set("garden", {"rose": ["red"], "leaf": []})
    assert best(classifier, [picture(RED)]) == (["rose"], again.etag)


def test_a_shipped_set_answers_and_can_be_copied_and_brought_back(classifier, picture, eventually):
    shipped = eventually(lambda: (found := classifier.get_descriptor_set("grocery")).ready and found)
    assert shipped.shipped
    assert best(classifier, [picture(RED)], "grocery")[1] == shipped.etag
    with pytest.raises(NotPossible, match="update it"):
        classifier.delete_descriptor_set("grocery")
    copy = classifier.update_descriptor_set("grocery", {"tomato": ["red skin"]}, etag=shipped.etag)
    assert not copy.shipped
    assert best(classifier, [picture(RED)], "grocery") == (["tomato"], copy.etag)
    classifier.delete_descriptor_set("grocery")
    eventually(lambda: classifier.get_descriptor_set("grocery").ready)
    assert best(classifier, [picture(RED)], "grocery")[1] == shipped.etag


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_pages_list_every_set_once_by_name(classifier, page_size):
    for name in ("b", "a", "c.1"):
        classifier.create_descriptor_set(name, GARDEN)
    listed = list(classifier.descriptor_sets(page_size=page_size))
    names = [each.name for each in listed]
    assert names == sorted({*names, "a", "b", "c.1", "grocery"})
    assert [(each.class_count, each.text_count) for each in listed if each.name == "b"] == [(2, 3)]
    page = classifier.list_descriptor_sets(page_size=page_size)
    assert [each.name for each in page.descriptor_sets] == names[:page_size]


def classify_once(gateway, name, image):
    """Without the client's own retries; the error that ends the call."""
    with grpc.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        request = classifier_pb2.ClassifyRequest(images=[image], descriptor_set=name)
        with pytest.raises(grpc.RpcError) as refused:
            classifier_pb2_grpc.ClassifierStub(channel).Classify(request, timeout=30)
    return refused.value


def test_a_set_that_was_never_ready_says_how_far_it_is(impatient, start_classifying, encoder, picture, eventually):
    gateway = start_classifying(config={"text_batch": 1})
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        created = client.create_descriptor_set("garden", {"rose": ["red"], "snail": ["slow green"]})
        assert (created.state, created.serving_etag) == (RevisionState.PREPARING, "")
        eventually(lambda: client.get_descriptor_set("garden").texts_embedded == 1)
        error = classify_once(gateway, "garden", picture(RED))
        encoder.texts_may_go.set()
        eventually(lambda: client.get_descriptor_set("garden").ready)
        assert best(client, [picture(RED)])[0] == ["rose"]
    refused = from_rpc_error(error, target="")
    assert isinstance(refused, Unavailable)
    assert refused.reason == "SET_PREPARING"
    assert "'garden' is being prepared: 1 of 2 texts" in refused.message
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(error).details)
    assert retry.retry_delay.seconds == 1


def test_the_client_tries_again_until_a_new_set_is_ready(impatient, start_classifying, encoder, picture, monkeypatch):
    gateway = start_classifying()
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        client.create_descriptor_set("garden", {"rose": ["slow red"]})
        classify, tried = gateway.classification.classify, []

        async def counted(call):
            try:
                return await classify(call)
            finally:
                tried.append(time.monotonic())
                encoder.texts_may_go.set()

        monkeypatch.setattr(gateway.classification, "classify", counted)
        answer = client.classify([picture(RED)], descriptor_set="garden", timeout_s=30)
    assert answer.images[0].best.name == "rose"
    assert len(tried) == 2


def test_the_revision_before_answers_until_all_texts_of_the_new_one_are_embedded(
    impatient, start_classifying, encoder, picture, eventually
):
    gateway = start_classifying(config={"text_batch": 1})
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        first = client.create_descriptor_set("garden", {"rose": ["red"], "leaf": ["green"]})
        eventually(lambda: client.get_descriptor_set("garden").ready)
        # The first text of the new revision would already turn the answer.
        edited = {"rose": ["green"], "leaf": ["slow red"]}
        second = client.update_descriptor_set("garden", edited, etag=first.etag)
        assert (second.state, second.serving_etag) == (RevisionState.PREPARING, first.etag)
        eventually(lambda: client.get_descriptor_set("garden").texts_embedded == 1)
        assert best(client, [picture(RED)]) == (["rose"], first.etag)
        assert client.get_descriptor_set("garden").classes["leaf"] == ("slow red",)
        encoder.texts_may_go.set()
        eventually(lambda: client.get_descriptor_set("garden").ready)
        assert best(client, [picture(RED)]) == (["leaf"], second.etag)


def test_a_small_set_does_not_wait_for_a_large_one(start_classifying, encoder, eventually):
    gateway = start_classifying(config={"text_batch": 1})
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        large = {f"class {number}": ["red"] for number in range(3_000)}
        request = descriptor_sets_pb2.DescriptorSetsCreateRequest(
            descriptor_set=descriptor_sets_pb2.DescriptorSet(
                name="large",
                classes=[descriptor_sets_pb2.DescribedClass(name=name, descriptors=large[name]) for name in large],
            )
        )
        with grpc.insecure_channel(gateway.address) as channel:
            begun = descriptor_sets_pb2_grpc.DescriptorSetsStub(channel).Create.future(request, timeout=30)
            eventually(lambda: sum("class" in text for text in encoder.embedded_texts) > 10)
            client.create_descriptor_set("small", GARDEN)
            assert client.get_descriptor_set("small").ready
            assert not client.get_descriptor_set("large").ready
            begun.cancel()


def test_what_was_accepted_before_a_crash_is_prepared_after_it(
    impatient, start_classifying, encoder, picture, eventually
):
    before = start_classifying(config={"text_batch": 1})
    with RecollectClient(before.address, timeout_s=30, classify_timeout_s=30) as client:
        first = client.create_descriptor_set("garden", {"rose": ["red"], "leaf": ["green"]})
        edited = {"rose": ["green"], "leaf": ["slow red"]}
        accepted = client.update_descriptor_set("garden", edited, etag=first.etag)
        assert encoder.texts_wait.wait(30)
        assert not accepted.ready
    before.stop()
    after = start_classifying(encoder=type(encoder)())
    after.classification._encoder.texts_may_go.set()
    with RecollectClient(after.address, timeout_s=30, classify_timeout_s=30) as client:
        eventually(lambda: client.get_descriptor_set("garden").serving_etag == accepted.etag)
        assert best(client, [picture(RED)]) == (["leaf"], accepted.etag)
    # The text that was embedded before is not embedded again.
    fresh = after.classification._encoder.embedded_texts
    assert "rose, which has green" not in fresh
    assert "leaf, which has slow red" in fresh


def test_sets_that_do_not_fit_into_memory_come_back_from_the_cache(start_classifying, encoder, picture, eventually):
    gateway = start_classifying(config={"texts_in_memory": 1})
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        eventually(lambda: all(shipped.ready for shipped in client.descriptor_sets()))
        etags = {
            name: client.create_descriptor_set(name, {"rose": ["red"], name: ["green"]}).etag for name in ("one", "two")
        }
        for name in ("one", "two", "one"):
            assert best(client, [picture(RED), picture(GREEN)], name) == (["rose", name], etags[name])
            assert list(gateway.classification._sets._kept) == [name]
    assert encoder.embedded_texts.count("rose, which has red") == 1


def test_one_set_that_cannot_be_read_keeps_no_other_from_answering(start_classifying, picture, caplog, tmp_path):
    with RecollectClient(start_classifying().address, timeout_s=30, classify_timeout_s=30) as client:
        broken = client.create_descriptor_set("broken", GARDEN)
    for path in (tmp_path / "descriptor-sets" / "broken" / "revisions").iterdir():
        path.write_text("{}")
    for path in (tmp_path / "descriptor-sets" / "broken" / "ready").iterdir():
        path.unlink()
    with RecollectClient(start_classifying().address, timeout_s=30, classify_timeout_s=30) as client:
        garden = client.create_descriptor_set("garden", GARDEN)
        assert best(client, [picture(RED)]) == (["rose"], garden.etag)
        assert client.list_descriptor_sets().descriptor_sets[0].etag == broken.etag
    assert f"revision {broken.etag} of descriptor set 'broken'" in caplog.text


def described(name="rose", *descriptors):
    return descriptor_sets_pb2.DescribedClass(name=name, descriptors=descriptors)


def content(*classes, name="garden", **frame):
    return descriptor_sets_pb2.DescriptorSet(name=name, classes=classes, **frame)


FINE = described("rose", "red")


@pytest.mark.parametrize(
    ("method", "fields", "field", "says"),
    [
        pytest.param(
            "Create", {"descriptor_set": content(FINE, name="")}, "descriptor_set.name", "got ''", id="no name"
        ),
        pytest.param(
            "Create",
            {"descriptor_set": content(FINE, name="../../etc")},
            "descriptor_set.name",
            "got '../../etc'",
            id="a name that is a path",
        ),
        pytest.param(
            "Create", {"descriptor_set": content()}, "descriptor_set.classes", "1 to 10000 classes", id="empty"
        ),
        pytest.param(
            "Create",
            {"descriptor_set": content(FINE, FINE, FINE, described("leaf", "fine", "a\nb"))},
            "descriptor_set.classes[3].descriptors[1]",
            "control character '\\n'",
            id="a descriptor of two lines",
        ),
        pytest.param(
            "Create",
            {"descriptor_set": content(described("rose", *["red"] * 201))},
            "descriptor_set.classes[0].descriptors",
            "at most 200 descriptors, got 201",
            id="too many descriptors of a class",
        ),
        pytest.param(
            "Create",
            {"descriptor_set": content(FINE, described("leaf"), FINE)},
            "descriptor_set.classes[2].name",
            "got 'rose' 2 times",
            id="a class twice",
        ),
        pytest.param(
            "Create",
            {"descriptor_set": content(*(described(f"{at}", *["x" * 450] * 100) for at in range(200)))},
            "descriptor_set",
            "at most 8388608 bytes",
            id="too many bytes",
        ),
        pytest.param(
            "Update", {"descriptor_set": content(FINE)}, "etag", "as Get returns it", id="an update without an etag"
        ),
        pytest.param("Get", {"name": "a/b"}, "name", "got 'a/b'", id="get a path"),
        pytest.param("Delete", {"name": ".."}, "name", "got '..'", id="delete a path"),
        pytest.param("Delete", {"name": "a", "etag": "e" * 129}, "etag", "got 129", id="an etag too long"),
        pytest.param("List", {"page_size": 1_001}, "page_size", "0 to 1000", id="page too large"),
        pytest.param("List", {"page_token": "!"}, "page_token", "got '!'", id="a token of nobody"),
        pytest.param("List", {"page_token": "Li4vZXRj"}, "page_token", "next_page_token", id="a token with a path"),
    ],
)
def test_a_wrong_field_is_named(classifying, method, fields, field, says):
    request = getattr(descriptor_sets_pb2, f"DescriptorSets{method}Request")(**fields)
    with grpc.insecure_channel(classifying.address) as channel:
        call = getattr(descriptor_sets_pb2_grpc.DescriptorSetsStub(channel), method)
        with pytest.raises(grpc.RpcError) as refused:
            call(request, timeout=30)
    error = from_rpc_error(refused.value, target="")
    assert isinstance(error, InvalidRequest), error
    found = {violation.field: violation.description for violation in error.violations}
    assert field in found
    assert says in found[field]


def test_nothing_is_written_where_a_request_is_wrong(classifying, classifier, tmp_path):
    for name in ("../../etc", "a/b", "", "x" * 101):
        with pytest.raises(InvalidRequest):
            classifier.create_descriptor_set(name, GARDEN)
    found = {path.name for path in (tmp_path / "descriptor-sets").iterdir()}
    assert found <= {"grocery", "demo-shop"}
