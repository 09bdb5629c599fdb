"""Classify over gRPC: scores that can be worked out by hand, their reasons, and what spoils what."""

import logging
import math
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recollect.gateway.server import CLASSIFICATION_SERVICES
from recollect_api import (
    ClassifiedImage,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    RecollectClient,
    RefusalReason,
    RefusedImage,
    Scoring,
    ServerFault,
    Unavailable,
)
from recollect_api.errors import from_rpc_error
from recollect_api.v1 import classifier_pb2, classifier_pb2_grpc, descriptor_sets_pb2
from retrieval.errors import Refusal
from retrieval.images import ImageLimits

RED, GREEN, BLUE, PURPLE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255)
GARDEN = {"rose": ["red petals", "green stem"], "sky": ["blue above"], "leaf": ["green all over"]}
SECRET = "the text that nobody may see"
HALF = math.sqrt(0.5)


def names(image):
    return [hit.name for hit in image.hits]


def test_images_are_classified_in_their_order_by_a_stored_set(classifier, picture):
    stored = classifier.create_descriptor_set("garden", GARDEN)
    assert stored.ready
    answer = classifier.classify([picture(RED), picture(BLUE)], descriptor_set="garden", request_id="call-1")
    red, blue = answer.images
    assert names(red) == ["rose", "sky", "leaf"]
    assert [hit.score for hit in red.hits] == pytest.approx([0.5, 0.0, 0.0])
    # Cosines times the encoder's 10, softmax over all three classes.
    whole = math.exp(5) + 2
    assert [hit.probability for hit in red.hits] == pytest.approx([math.exp(5) / whole, 1 / whole, 1 / whole])
    assert (blue.best.name, blue.best.score) == ("sky", pytest.approx(1.0))
    assert red.best.reasons == ()
    assert red.contrast is None
    assert (answer.descriptor_set, answer.descriptor_set_etag) == ("garden", stored.etag)
    assert (answer.encoder_name, answer.encoder_fingerprint) == ("colours", "c0104c0104c0")
    assert answer.request_id == "call-1"


def test_reasons_are_the_descriptors_highest_similarity_first_and_add_up(classifier, picture):
    (image,) = classifier.classify([picture(GREEN)], classes=GARDEN, explain=True).images
    leaf, rose, sky = image.hits
    assert [(each.descriptor, each.similarity, each.contribution) for each in rose.reasons] == [
        ("green stem", pytest.approx(1.0), pytest.approx(0.5)),
        ("red petals", pytest.approx(0.0), pytest.approx(0.0)),
    ]
    for hit in (leaf, rose, sky):
        assert sum(each.contribution for each in hit.reasons) == pytest.approx(hit.score, abs=1e-6)


def test_the_contrast_says_what_won_against_a_named_class(classifier, picture):
    red, green = classifier.classify([picture(PURPLE), picture(GREEN)], classes=GARDEN, contrast_with="rose").images
    contrast = red.contrast
    assert (contrast.winner, contrast.rival) == ("sky", "rose")
    assert contrast.difference == pytest.approx(HALF - HALF / 2)
    assert [(each.class_name, each.descriptor, each.contribution) for each in contrast.terms] == [
        ("sky", "blue above", pytest.approx(HALF)),
        ("rose", "red petals", pytest.approx(-HALF / 2)),
        ("rose", "green stem", pytest.approx(0.0)),
    ]
    assert green.contrast.winner == "leaf"


def test_no_contrast_where_the_class_asked_about_is_the_best(classifier, picture):
    (image,) = classifier.classify([picture(BLUE)], classes=GARDEN, contrast_with="sky").images
    assert image.contrast is None


@pytest.mark.parametrize(
    ("scoring", "score"),
    [(Scoring.UNSPECIFIED, 0.5), (Scoring.MEAN, 0.5), (Scoring.RENORMALISED, HALF), (Scoring.MAX, 1.0)],
    ids=lambda value: value.name if isinstance(value, Scoring) else "",
)
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "inline"])
def test_each_scoring_puts_descriptors_together_its_own_way(classifier, picture, scoring, score, stored):
    if stored:
        classifier.create_descriptor_set("garden", GARDEN)
    which = {"descriptor_set": "garden"} if stored else {"classes": GARDEN}
    (image,) = classifier.classify([picture(RED)], scoring=scoring, **which).images
    assert (image.best.name, image.best.score) == ("rose", pytest.approx(score))


def test_top_k_is_five_unless_said(classifier, picture):
    classes = {f"class {number}": ["red"] for number in range(7)}
    (image,) = classifier.classify([picture(RED)], classes=classes).images
    assert names(image) == [f"class {number}" for number in range(5)]
    (image,) = classifier.classify([picture(RED)], classes=classes, top_k=2).images
    assert names(image) == ["class 0", "class 1"]


def test_a_class_that_no_set_has_can_come_with_the_call(classifier, picture):
    before = classifier.classify([picture(PURPLE)], classes=GARDEN)
    after = classifier.classify([picture(PURPLE)], classes={**GARDEN, "plum": ["red and blue skin"]})
    assert before.images[0].best.name == "sky"
    assert (after.images[0].best.name, after.images[0].best.score) == ("plum", pytest.approx(1.0))
    assert (after.descriptor_set, after.descriptor_set_etag) == ("", "")


def test_prefix_and_suffix_frame_the_texts_of_inline_classes(classifier, encoder, picture):
    classifier.classify([picture(RED)], classes={"rose": ["red"]}, prefix="a photo of a ", suffix=", outdoors")
    assert "a photo of a rose, which has red, outdoors" in encoder.embedded_texts


def test_one_bad_image_spoils_no_other(start_classifying, picture):
    limits = ImageLimits(max_bytes=10_000, max_pixels=10_000)
    gateway = start_classifying(config={"image_limits": limits})
    bad = {
        b"": RefusalReason.EMPTY,
        b"no image": RefusalReason.UNKNOWN_FORMAT,
        picture(RED)[:60]: RefusalReason.TRUNCATED,
        picture(RED, size=(4, 4)): RefusalReason.TOO_SMALL,
        picture(RED, size=(200, 200)): RefusalReason.TOO_MANY_PIXELS,
        bytes(10_001): RefusalReason.TOO_MANY_BYTES,
    }
    images = [picture(RED), *bad, picture(BLUE)]
    with RecollectClient(gateway.address, timeout_s=30) as client:
        first, *refused, last = client.classify(images, classes=GARDEN).images
    assert (first.best.name, last.best.name) == ("rose", "sky")
    assert [type(image) for image in refused] == [RefusedImage] * len(bad)
    assert [image.reason for image in refused] == list(bad.values())
    assert all(image.message for image in refused)


def test_only_bad_images_are_answered_without_the_encoder(classifier, encoder):
    (image,) = classifier.classify([b"no image"], classes=GARDEN).images
    assert image.reason == RefusalReason.UNKNOWN_FORMAT
    assert encoder.batches == []


def test_every_reason_for_a_refusal_has_a_name_on_the_wire():
    wire = {name.removeprefix("REFUSAL_REASON_") for name, _ in classifier_pb2.RefusalReason.items()}
    assert wire == {reason.name for reason in Refusal} | {"UNSPECIFIED"}


def test_images_from_files_and_in_other_formats(classifier, picture, tmp_path):
    (tmp_path / "red.jpg").write_bytes(picture(RED, format="JPEG", size=(64, 48)))
    (tmp_path / "blue.webp").write_bytes(picture(BLUE, format="WEBP"))
    answer = classifier.classify([tmp_path / "red.jpg", str(tmp_path / "blue.webp")], classes=GARDEN)
    assert [image.best.name for image in answer.images] == ["rose", "sky"]


@pytest.mark.parametrize("most", [16, 3], ids=["they fit into a batch", "they do not"])
def test_calls_that_come_while_a_batch_is_computed_share_the_next(
    start_classifying, encoder, picture, eventually, most
):
    gateway = start_classifying(config={"largest_batch": most})
    batcher = gateway.classification._batcher
    encoder.images_may_go.clear()
    answers = {}
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:

        def classify(colour, count):
            answers[colour] = client.classify([picture(colour)] * count, classes=GARDEN)

        callers = [threading.Thread(target=classify, args=(RED, 1))]
        callers[0].start()
        assert encoder.images_wait.wait(30)
        for colour, count in ((GREEN, 2), (BLUE, 3)):
            callers.append(threading.Thread(target=classify, args=(colour, count)))
            callers[-1].start()
        eventually(lambda: len(batcher._waiting) == 5)
        encoder.images_may_go.set()
        for caller in callers:
            caller.join(30)
    assert encoder.batches == ([1, 5] if most == 16 else [1, 3, 2])
    for colour, count, name in ((RED, 1, "rose"), (GREEN, 2, "leaf"), (BLUE, 3, "sky")):
        assert [image.best.name for image in answers[colour].images] == [name] * count


def test_work_whose_deadline_has_passed_is_not_begun(classifying, classifier, encoder, picture, eventually):
    encoder.images_may_go.clear()
    first = threading.Thread(target=classifier.classify, args=([picture(RED)],), kwargs={"classes": GARDEN})
    first.start()
    assert encoder.images_wait.wait(30)
    with pytest.raises(DeadlineExceeded):
        classifier.classify([picture(BLUE)] * 4, classes=GARDEN, timeout_s=0.5)
    waiting = classifying.classification._batcher._waiting
    # The caller's clock may be ahead of the gateway's: only once it has given the work up is it let on.
    eventually(lambda: all(each.result.done() for each in waiting))
    encoder.images_may_go.set()
    first.join(30)
    classifier.classify([picture(GREEN)] * 2, classes=GARDEN)
    assert encoder.batches == [1, 2]


def test_images_past_the_limit_are_refused_and_not_queued(start_classifying, encoder, picture):
    gateway = start_classifying(config={"most_waiting": 3})
    encoder.images_may_go.clear()
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        first = threading.Thread(target=client.classify, args=([picture(RED)] * 2,), kwargs={"classes": GARDEN})
        first.start()
        assert encoder.images_wait.wait(30)
        with pytest.raises(Unavailable, match="2 images wait already, at most 3 may") as refused:
            client.classify([picture(RED)] * 2, classes=GARDEN)
        assert (refused.value.code, refused.value.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_IMAGES_WAIT",
        )
        encoder.images_may_go.set()
        first.join(30)
        assert len(client.classify([picture(RED)] * 3, classes=GARDEN).images) == 3


def test_an_encoder_that_fails_is_an_incident_and_the_next_call_is_answered(classifier, encoder, picture, caplog):
    encoder.failing = True
    with caplog.at_level(logging.ERROR), pytest.raises(ServerFault) as failure:
        classifier.classify([picture(RED)], classes=GARDEN, request_id="call-9")
    assert SECRET not in str(failure.value)
    assert failure.value.incident in caplog.text
    assert SECRET in caplog.text
    encoder.failing = False
    assert isinstance(classifier.classify([picture(RED)], classes=GARDEN).images[0], ClassifiedImage)


def test_an_unknown_set_is_answered_with_names_that_come_close(classifier, picture):
    classifier.create_descriptor_set("garden", GARDEN)
    with pytest.raises(NotFound, match="no descriptor set 'gardn'; there is 'garden'") as missing:
        classifier.classify([picture(RED)], descriptor_set="gardn")
    assert missing.value.reason == "SET_NOT_FOUND"


def described(name="rose", *descriptors):
    return descriptor_sets_pb2.DescribedClass(name=name, descriptors=descriptors)


def inline(*classes, **frame):
    return classifier_pb2.InlineClasses(classes=classes, **frame)


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        pytest.param({"images": []}, "images", "1 to 3 images, got 0", id="no image"),
        pytest.param({"images": [b""] * 4}, "images", "1 to 3 images, got 4", id="too many images"),
        pytest.param({"inline_classes": None}, "descriptor_set", "must be given", id="no classes"),
        pytest.param({"descriptor_set": "../etc"}, "descriptor_set", "got '../etc'", id="a name that is none"),
        pytest.param({"descriptor_set": ""}, "descriptor_set", "got ''", id="an empty name"),
        pytest.param({"top_k": 101}, "top_k", "at most 100, got 101", id="too many classes asked for"),
        pytest.param({"scoring": 9}, "scoring", "SCORING_MEAN", id="a scoring that is none"),
        pytest.param({"request_id": "r" * 129}, "request_id", "got 129", id="request id too long"),
        pytest.param({"contrast_with": "tulip"}, "contrast_with", "no class 'tulip'", id="no such rival"),
        pytest.param({"contrast_with": "\U0001f600" * 5_000}, "contrast_with", "at most 200", id="rival too long"),
        pytest.param({"inline_classes": inline()}, "inline_classes.classes", "1 to 200", id="no inline class"),
        pytest.param(
            {"inline_classes": inline(described("a"), described(" "))},
            "inline_classes.classes[1].name",
            "must not be blank",
            id="a class without a name",
        ),
        pytest.param(
            {"inline_classes": inline(described("a"), described("b", "fine", "x" * 501))},
            "inline_classes.classes[1].descriptors[1]",
            "has 501 characters, at most 500",
            id="a descriptor that is too long",
        ),
        pytest.param(
            {"inline_classes": inline(described("a"), prefix="x\ny")},
            "inline_classes.prefix",
            "control character",
            id="a prefix of two lines",
        ),
        pytest.param(
            {"inline_classes": inline(*(described(f"class {number}") for number in range(201)))},
            "inline_classes.classes",
            "DescriptorSets.Create",
            id="more inline classes than a caller may wait for",
        ),
    ],
)
def test_classify_names_the_wrong_field(start_classifying, fields, field, says):
    fields = {"images": [b"no image"], "inline_classes": inline(described("rose", "red")), **fields}
    if "descriptor_set" in fields:
        del fields["inline_classes"]
    request = classifier_pb2.ClassifyRequest(**fields)
    with grpc.insecure_channel(start_classifying(max_images=3).address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(request, timeout=30)
    error = from_rpc_error(refused.value, target="")
    assert isinstance(error, InvalidRequest), error
    assert [violation.field for violation in error.violations] == [field]
    assert says in error.violations[0].description


def test_a_gateway_without_classification_says_how_to_get_it(client, gateway, picture):
    with pytest.raises(ServerFault, match="--no-classification") as refused:
        client.classify([picture(RED)], classes=GARDEN)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNIMPLEMENTED, "CLASSIFICATION_DISABLED")
    with pytest.raises(ServerFault, match="--no-classification"):
        client.list_descriptor_sets()


def test_health_knows_the_services_of_classification_where_they_answer(classifying, start_gateway):
    def health(gateway, service):
        with grpc.insecure_channel(gateway.address) as channel:
            return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)

    for service in CLASSIFICATION_SERVICES:
        assert health(classifying, service).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            health(start_gateway(), service)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
