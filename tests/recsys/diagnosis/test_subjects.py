"""Which models of a comparison are one variant, and which cannot be compared."""

from dataclasses import replace
from typing import Any

import pytest

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.diagnosis.subjects import Subject, Trained, Variants, searching, subjects_of
from recsys.errors import ConfigError
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model

CONFIG = TrainConfig(
    samples=SampleConfig(protocol=LeaveLastOut(min_events=20, train_first=3, train_last=18)),
    attention_dim=4,
    representation_dim=4,
)
DATA = {"store": "one place", "n_events": 2_700}


@pytest.fixture
def trained(shop_store: EventStore) -> Any:
    def make(name: str, data: dict[str, Any] | None = None, **own: Any) -> Trained:
        config = replace(CONFIG, **own)
        return Trained(name, new_model(shop_store, config), config, data or DATA)

    return make


def variants(*models: Trained) -> list[str]:
    return [subject.variant for subject in subjects_of(models)]


def test_seeds_are_one_variant(trained: Any) -> None:
    moved = {**DATA, "store": "another place"}
    found = subjects_of(
        [trained("a", seed=0), trained("b", model="twin"), trained("c", moved, seed=1), trained("d", attention_dim=2)]
    )
    assert [(subject.name, subject.variant) for subject in found] == [
        *(("a", "dare"), ("b", "twin"), ("c", "dare"), ("d", "dare, attention 2"))
    ]
    assert Variants.of(found).names == {"dare": ("a", "c"), "twin": ("b",), "dare, attention 2": ("d",)}


def test_the_same_training_twice_is_compared_and_so_are_two_recipes(trained: Any) -> None:
    assert variants(trained("stable"), trained("canary")) == ["dare (stable)", "dare (canary)"]
    assert variants(trained("short"), trained("long", epochs=9)) == ["dare (short)", "dare (long)"]
    assert variants(trained("old"), trained("new", {**DATA, "n_events": 3_000})) == ["dare (old)", "dare (new)"]
    both = variants(trained("s0", seed=0), trained("s1", seed=1), trained("c0", seed=0), trained("c1", seed=1))
    assert both == ["dare (s0)", "dare (s0)", "dare (c0)", "dare (c0)"]


def test_what_cannot_be_compared_is_refused(trained: Any) -> None:
    with pytest.raises(ConfigError, match="name at least one model, and each once; got none"):
        subjects_of([])
    with pytest.raises(ConfigError, match="each once; got a, a"):
        subjects_of([trained("a"), trained("a", seed=1)])
    with pytest.raises(ConfigError, match="b was trained on other samples than a"):
        subjects_of([trained("a"), trained("b", samples=replace(CONFIG.samples, negatives=5))])
    with pytest.raises(ConfigError, match=r"keeps another number of behaviours \(5 and 20\); compare models of one"):
        subjects_of([trained("a"), trained("b", search_k=5)])


def test_models_without_a_search_are_told_of(trained: Any) -> None:
    both: list[Subject] = subjects_of([trained("a"), trained("b", model="sdim")])
    found, told = searching(both)
    assert [subject.name for subject in found] == ["a"]
    assert told == ["b: sdim pools the whole history and searches for nothing, so that there is no search to measure"]
    with pytest.raises(ConfigError, match=r"b: sdim pools the whole .* name at least one model that searches"):
        searching(both[1:])
