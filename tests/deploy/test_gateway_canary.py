"""A model that is tried: on whom, how far it agrees, and what becomes of one that cannot answer."""

import asyncio
import logging

import numpy as np
import pytest

from recollect.artifacts import following
from recollect.errors import ArtifactError, RemoteError
from recollect.gateway.canary import MOST_FAILURES, Canary, CanaryConfig, compare
from recollect.gateway.models import ServedModel
from recollect_api import RecollectClient

USERS = [f"user-{number}" for number in range(4_000)]


class Models:
    """`dare@canary` is what `label` says; `dare/broken` cannot be loaded, nor anything while they are `away`."""

    def __init__(self):
        self.label, self.loaded, self.away = None, [], False

    def pin(self, reference):
        return reference

    def current(self, reference):
        assert reference == "dare@canary"
        if self.label is None:
            raise ArtifactError("no such label")
        return f"dare/{self.label}"

    def load(self, reference):
        self.loaded.append(reference)
        if self.away:
            raise RemoteError("no answer")
        if reference == "dare/broken":
            raise ArtifactError("this version is torn")
        return ServedModel(name="dare", version=reference.removeprefix("dare/"), ranker=None)


@pytest.fixture
def models():
    return Models()


def looked(models, **config):
    canary = Canary(models, CanaryConfig(reference="dare@canary", **config))
    asyncio.run(canary.look())
    return canary


def who(chosen):
    return {user for user in USERS if chosen(user) is not None}


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_share_of_users_who_get_its_answers(models, share):
    models.label = "2"
    canary = looked(models, share=share)
    assert len(who(canary.answering)) / len(USERS) == pytest.approx(share, abs=0.03)
    assert who(canary.answering) == who(looked(models, share=share).answering)


def test_a_larger_share_keeps_whom_a_smaller_one_had(models):
    models.label = "2"
    assert who(looked(models, share=0.1).answering) < who(looked(models, share=0.2).answering)


def test_who_gets_its_answers_is_the_last_to_be_compared(models):
    models.label = "2"
    canary = looked(models, share=0.3, shadow_share=0.6)
    assert len(who(canary.shadowing)) / len(USERS) == pytest.approx(0.6, abs=0.03)
    assert not who(canary.shadowing) & who(canary.answering)


def test_a_label_that_is_not_there_yet_is_waited_for(models):
    canary = looked(models, share=1.0)
    assert canary.current is None
    assert canary.answering("user-1") is None
    models.label = "2"
    asyncio.run(canary.look())
    assert canary.answering("user-1").version == "2"
    models.label = "3"
    asyncio.run(canary.look())
    assert canary.answering("user-1").version == "3"


def test_one_that_cannot_be_loaded_leaves_the_one_before_and_is_not_tried_again(models):
    models.label = "2"
    canary = looked(models, share=1.0)
    models.label = "broken"
    for _ in range(3):
        asyncio.run(canary.look())
    assert canary.current.version == "2"
    assert models.loaded == ["dare/2", "dare/broken"]


def test_one_that_cannot_be_fetched_is_tried_again_after_a_while(models, monkeypatch, caplog):
    models.label, models.away = "2", True
    canary = looked(models, share=1.0)
    models.away = False
    asyncio.run(canary.look())
    assert models.loaded == ["dare/2"]
    monkeypatch.setattr(following, "RETRY_S", 0.0)
    models.label, models.away = "3", True
    for _ in range(3):
        asyncio.run(canary.look())
    assert [record.exc_info is not None for record in caplog.records] == [True, True, False, False]
    models.away = False
    asyncio.run(canary.look())
    assert canary.current.version == "3"


def test_one_that_was_restored_is_tried_when_its_label_comes_back(models):
    models.label = "2"
    canary = looked(models, share=1.0)
    for label in ("broken", "2", "broken"):
        models.label = label
        asyncio.run(canary.look())
    assert models.loaded == ["dare/2", "dare/broken", "dare/broken"]


def test_one_that_was_taken_away_may_come_back_when_its_label_does(models):
    models.label = "2"
    canary = looked(models, share=1.0)
    for _ in range(MOST_FAILURES):
        canary.failed(canary.current)
    for label in ("broken", "2"):
        models.label = label
        asyncio.run(canary.look())
    assert canary.current.version == "2"


def test_one_that_cannot_answer_is_taken_away_until_its_label_moves(models):
    models.label = "2"
    canary = looked(models, share=1.0)
    for _ in range(MOST_FAILURES - 1):
        canary.failed(canary.current)
    canary.succeeded()
    for _ in range(MOST_FAILURES):
        assert canary.current is not None
        canary.failed(canary.current)
    assert canary.current is None
    asyncio.run(canary.look())
    assert canary.current is None
    models.label = "3"
    asyncio.run(canary.look())
    assert canary.current.version == "3"


@pytest.mark.parametrize("name", ["share", "shadow_share"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_no_share_beyond_all(name, value):
    with pytest.raises(ValueError, match=f"{name} must be 0 to 1"):
        CanaryConfig(reference="dare@canary", **{name: value})


def test_what_is_compared():
    scores = np.linspace(1, 0, 20, dtype=np.float32)
    assert compare(scores, scores) == compare(scores, scores.copy())
    assert (compare(scores, scores).mean_change, compare(scores, scores).top_shared) == (0.0, 1.0)
    reversed_ = compare(scores, scores[::-1].copy())
    assert reversed_.top_shared == 0.0
    assert reversed_.mean_change == pytest.approx(np.abs(scores - scores[::-1]).mean())
    assert compare(scores[:1], scores[5:6]).top_shared == 1.0


@pytest.fixture
def tried(start_gateway, counting_models, tmp_path, monkeypatch):
    """A gateway of model 1 that tries what `canary` names; what it compares is kept."""

    def start(reference="counting/2", **config):
        models = counting_models(tmp_path)
        canary = Canary(models, CanaryConfig(reference=reference, **config))
        asyncio.run(canary.look())
        gateway = start_gateway(canary=canary)
        compared = []
        monkeypatch.setattr(
            "recollect.gateway.trial.compared", lambda *version, **told: compared.append((version, told))
        )
        return gateway, compared

    return start


def client_of(gateway):
    return RecollectClient(gateway.address, timeout_s=30)


def test_a_share_of_the_users_gets_its_answers_labelled_as_such(tried):
    gateway, compared = tried(share=0.5)
    with client_of(gateway) as client:
        versions = {user: client.score(user, [1, 2]) for user in USERS[:40]}
        again = {user: client.score(user, [1, 2]).model_version for user in USERS[:40]}
    # The ranker of version n scores everything n.
    assert all({item.score for item in got.items} == {float(got.model_version)} for got in versions.values())
    assert {got.model_version for got in versions.values()} == {"1", "2"}
    assert again == {user: got.model_version for user, got in versions.items()}
    assert not compared


def test_others_are_compared_once_they_have_their_answer(tried, eventually):
    gateway, compared = tried(shadow_share=1.0)
    with client_of(gateway) as client:
        for user in USERS[:3]:
            assert client.score(user, [1, 2, 3]).model_version == "1"
            eventually(lambda user=user: len(compared) == USERS.index(user) + 1)
    assert compared == [(("2",), {"score_change": 1.0, "top_shared": 1.0})] * 3


def test_what_it_cannot_answer_the_other_model_does(tried, monkeypatch, caplog):
    gateway, _ = tried(share=1.0)
    canary = gateway.gateway._trial._canary
    ranker = canary.current.ranker

    def fail(*_arguments, **_options):
        raise RuntimeError("a table is missing")

    monkeypatch.setattr(ranker, "rank", fail)
    with client_of(gateway) as client, caplog.at_level(logging.ERROR):
        assert [client.score(user, [1]).model_version for user in USERS[:5]] == ["1"] * 5
    assert canary.current is None
    assert "the canary counting/2 is taken away" in caplog.text


def test_a_canary_equal_to_what_answers_is_not_compared(tried):
    gateway, compared = tried(reference="counting/1", shadow_share=1.0)
    with client_of(gateway) as client:
        client.score("u", [1])
    assert not gateway.gateway._trial._comparing
    assert compared == []
