"""A model is asked what it answered when it was saved; one that answers otherwise, or nonsense, answers nobody."""

import json
from pathlib import Path

import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.errors import StoreError
from recsys.models.directory import WEIGHTS_FILE, save_model
from recsys.models.kinds import MODELS
from recsys.models.self_test import SELF_TEST_FILE, require_self_test
from recsys.ranking import Ranker
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model

SAMPLES = SampleConfig(protocol=LeaveLastOut(), max_history=10)


def saved(store: EventStore, directory: Path, *, kind: str = "dare", spoil: float = 1.0) -> Path:
    model = new_model(store, TrainConfig(samples=SAMPLES, search_k=4, model=kind))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3).mul_(spoil)
    save_model(directory, model.eval(), store.catalogue, training={}, data={}, metrics={})
    return directory


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_what_was_saved_answers_in_every_form(shop_store: EventStore, tmp_path: Path, dtype) -> None:
    Ranker.load(saved(shop_store, tmp_path / "model"), dtype=dtype)


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_of_model_keeps_what_it_answered(shop_store: EventStore, tmp_path: Path, kind: str) -> None:
    scores = json.loads((saved(shop_store, tmp_path / "model", kind=kind) / SELF_TEST_FILE).read_text())["scores"]
    assert {len(row) for row in scores} == {16}
    assert all(0 < score < 1 for row in scores for score in row)


def test_a_model_of_no_numbers_is_refused(shop_store: EventStore, tmp_path: Path) -> None:
    directory = saved(shop_store, tmp_path / "model", spoil=float("nan"))
    with pytest.raises(StoreError, match="64 of 64 scores are no probabilities"):
        Ranker.load(directory)


def test_weights_that_are_not_those_that_were_saved_are_refused(shop_store: EventStore, tmp_path: Path) -> None:
    directory, other = saved(shop_store, tmp_path / "model"), saved(shop_store, tmp_path / "other", spoil=1.1)
    (directory / WEIGHTS_FILE).write_bytes((other / WEIGHTS_FILE).read_bytes())
    with pytest.raises(StoreError, match=r"fails its self-test: \d+ of 64 scores lie more than 0.001 from"):
        Ranker.load(directory)


def test_a_model_of_an_earlier_release_has_no_record(shop_store: EventStore, tmp_path: Path) -> None:
    directory = saved(shop_store, tmp_path / "model")
    (directory / SELF_TEST_FILE).unlink()
    Ranker.load(directory)


@pytest.mark.parametrize("content", ["", "[]", '{"scores": [[0.5]]}'], ids=["empty", "a list", "too few"])
def test_a_record_that_cannot_be_read_is_refused(shop_store: EventStore, tmp_path: Path, content: str) -> None:
    directory = saved(shop_store, tmp_path / "model")
    (directory / SELF_TEST_FILE).write_text(content)
    with pytest.raises(StoreError, match=r"self_test\.json cannot be read"):
        Ranker.load(directory)


def test_what_was_no_number_then_counts_as_far_away(shop_store: EventStore, tmp_path: Path) -> None:
    directory = saved(shop_store, tmp_path / "model")
    ranker = Ranker.load(directory)
    record = json.loads((directory / SELF_TEST_FILE).read_text())
    record["scores"][0][3] = float("nan")
    (directory / SELF_TEST_FILE).write_text(json.dumps(record))
    with pytest.raises(StoreError, match="1 of 64 scores"):
        require_self_test(directory, ranker._serving, ranker.catalogue)
