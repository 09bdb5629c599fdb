"""Gradients on two ways: their sum is what training takes, and what they are to each other is counted rightly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, SampleSet, make_samples
from recsys.diagnosis.gradient_report import draw_gradients, gradient_markdown, gradient_rows
from recsys.diagnosis.gradients import (
    HISTOGRAM_BINS,
    Conflict,
    RowGradients,
    measure_conflicts,
    pairs_of,
    split_gradients,
    training_batches,
)
from recsys.diagnosis.subjects import Variants
from recsys.errors import ConfigError
from recsys.models.batch import Batch, collate
from recsys.models.model import Model
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model, train

CONFIG = TrainConfig(
    samples=SampleConfig(protocol=LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)),
    attention_dim=4,
    representation_dim=4,
    batch_size=192,
    epochs=2,
    validate_every=100,
    learning_rate=0.02,
)
DOT_PRODUCTS = ["dare", "twin", "twin-4e", "twin-projected", "sim-hard", "eta"]
SHARED = {"twin", "twin-projected", "sim-hard", "eta"}


@pytest.fixture
def training(shop_store: EventStore) -> SampleSet:
    return make_samples(shop_store, CONFIG.samples, "train")


@pytest.fixture
def batch(shop_store: EventStore, training: SampleSet) -> Batch:
    return collate(shop_store, training.take(np.arange(0, len(training), 7)))


def model_of(store: EventStore, kind: str) -> Model:
    model = new_model(store, TrainConfig(samples=CONFIG.samples, model=kind, attention_dim=4, representation_dim=4))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight.mul_(40)  # far from the beginning, where scores hardly matter
    return model.train()


@pytest.mark.parametrize("kind", DOT_PRODUCTS)
def test_the_two_add_up_to_what_training_takes(shop_store: EventStore, batch: Batch, kind: str) -> None:
    model = model_of(shop_store, kind)
    found = split_gradients(model, batch)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.loss(batch, l2=0.5).backward()
    pairs = {pair.name: pair for pair in pairs_of(model)}
    assert found.keys() == pairs.keys()
    for name, pair in pairs.items():
        assert pair.shared == (kind in SHARED)
        one, other = found[name]
        if pair.shared:
            torch.testing.assert_close(one + other, pair.attention.weight.grad, msg=name)
        else:
            torch.testing.assert_close(one, pair.attention.weight.grad, msg=name)
            torch.testing.assert_close(other, pair.representation.weight.grad, msg=name)
        assert one.any(), name
        assert other.any(), name


def test_tables_of_every_kind_are_paired_and_each_is_in_one(shop_store: EventStore) -> None:
    for kind in DOT_PRODUCTS:
        model = model_of(shop_store, kind)
        paired = {id(table) for pair in pairs_of(model) for table in (pair.attention, pair.representation)}
        assert paired == {id(module) for module in model.modules() if isinstance(module, nn.Embedding)}, kind


@pytest.mark.parametrize("kind", ["din", "sdim"])
def test_kinds_whose_gradients_are_one_are_refused(shop_store: EventStore, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"gradients of {kind} cannot be told apart: only models that search and wei"):
        measure_conflicts(model_of(shop_store, kind), [])


def gradients(*rows: tuple[list[float], list[float]]) -> RowGradients:
    return RowGradients(torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows]))


def test_a_conflict_is_a_negative_cosine() -> None:
    conflict = Conflict(table="item", shared=True)
    conflict.add(
        gradients(
            ([0.0, 0.0], [5.0, 0.0]),  # attention does not reach it
            ([1.0, 0.0], [-2.0, 0.0]),  # cosine −1
            ([3.0, 4.0], [4.0, -3.0]),  # 0
            ([0.0, 2.0], [0.0, 1.0]),  # 1
            ([1.0, 0.0], [0.0, 0.0]),
        )
    )
    conflict.add(gradients(([1.0, 1.0], [-1.0, 0.0])))  # −1/√2
    conflict.add(gradients(([0.0, 0.0], [1.0, 0.0])))  # nothing that both reach
    row = conflict.as_row()
    assert (row["rows"], row["steps"]) == (4, 2)
    assert row["negative_cosine_rows"] == pytest.approx(2 / 4)
    assert row["negative_cosine_steps"] == pytest.approx(1 / 2), "the first step's mean cosine is 0"
    assert row["cosine"] == pytest.approx(-(2**-0.5) / 4)
    assert row["attention_norm"] == pytest.approx((1 + 5 + 2 + 2**0.5) / 4)
    assert row["representation_norm"] == pytest.approx((2 + 5 + 1 + 1) / 4)
    assert row["representation_longer"] == pytest.approx(1 / 4)
    histogram = row["cosines"]
    assert (histogram[0], histogram[HISTOGRAM_BINS // 2], histogram[-1], sum(histogram)) == (1, 1, 1, 4)


def test_other_sizes_have_lengths_and_no_angle() -> None:
    conflict = Conflict(table="item", shared=False)
    conflict.add(RowGradients(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0, 2.0]])))
    row = conflict.as_row()
    assert (row["attention_norm"], row["representation_norm"], row["representation_longer"]) == (5, 3, 0)
    assert row["cosine"] is row["negative_cosine_rows"] is row["negative_cosine_steps"] is row["cosines"] is None
    assert Conflict(table="item", shared=True).as_row()["cosine"] is None, "nothing was measured"


def test_the_model_is_left_as_it_is(shop_store: EventStore, batch: Batch) -> None:
    model = model_of(shop_store, "twin").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at_weights = measure_conflicts(model, [batch, batch])
    training = measure_conflicts(model, [batch, batch], learning_rate=0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    once = measure_conflicts(model, [batch])
    for one, both, stepped in zip(once, at_weights, training, strict=True):
        assert both.attention_norm == pytest.approx(2 * one.attention_norm), "twice the same"
        assert stepped.attention_norm != pytest.approx(both.attention_norm), "the second at other weights"


def test_batches_are_those_of_the_training(
    shop_store: EventStore, training: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recsys.training.loop as loop

    taken: list[bytes] = []
    real = loop.train_step

    def recorded(model: Model, optimizer: torch.optim.Optimizer, batch: Batch, **rest: object) -> torch.Tensor:
        taken.append(batch.targets.numpy().tobytes())
        return real(model, optimizer, batch, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", recorded)
    train(shop_store, CONFIG, tmp_path / "run")
    expected = [batch.targets.numpy().tobytes() for batch in training_batches(shop_store, training, CONFIG)]
    assert taken == expected
    some = training_batches(shop_store, training, CONFIG, most=3)
    assert [batch.targets.numpy().tobytes() for batch in some] == expected[:3]


def test_rows_are_means_over_models_and_plotted(tmp_path: Path) -> None:
    first, second = (Conflict(table="item", shared=True) for _ in range(2))
    first.add(gradients(([1.0, 0.0], [-3.0, 0.0])))
    second.add(gradients(([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [1.0, 0.0])))
    apart = Conflict(table="item", shared=False)
    apart.add(RowGradients(torch.ones(1, 2), torch.ones(1, 3)))
    conflicts = {"a": [first], "b": [second], "c": [apart]}
    variants = Variants(names={"twin": ("a", "b"), "dare": ("c",), "din": ("d",)})
    rows = gradient_rows(conflicts, variants, weights="as trained")
    assert [(row["search"], row["models"], row["rows"]) for row in rows] == [("twin", 2, 3), ("dare", 1, 1)]
    assert rows[0]["negative_cosine_rows"] == pytest.approx((1 + 0) / 2), "models count alike"
    assert rows[0]["representation_norm"] == pytest.approx((3 + 1) / 2)
    lines = gradient_markdown(rows).splitlines()
    assert lines[2].startswith(
        "| twin | as trained | item | yes | 3 | 50.0 % | 50.0 % | -0.250 | 1000.000 | 2000.000 |"
    )
    assert lines[3].startswith("| dare | as trained | item | no | 1 |  |  |  | 1414.214 | 1732.051 | 100.0 % |")
    assert draw_gradients(rows, tmp_path / "some.png")
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_gradients(rows[1:], tmp_path / "none.png"), "no angle to draw"
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]
