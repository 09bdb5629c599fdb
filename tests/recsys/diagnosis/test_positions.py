"""Recall of planted behaviours and what they add to scores, of models whose attention was set by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, make_samples
from recsys.diagnosis import positions
from recsys.diagnosis.estimates import mean_by_user
from recsys.diagnosis.planting import PLANTS, PlantConfig, Planting
from recsys.diagnosis.position_report import draw_positions, position_markdown, position_rows
from recsys.diagnosis.positions import Planted, mean_of, measure_positions
from recsys.diagnosis.subjects import Variants
from recsys.models.dare import Dare
from recsys.models.kinds import MODELS, build_model
from recsys.models.twin import Twin

PROTOCOL = LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)
CONFIG = PlantConfig(targets=50, lengths=(20, 40), bins=5)
K = 4


@pytest.fixture
def planting(shop_store: EventStore) -> Planting:
    samples = make_samples(shop_store, SampleConfig(protocol=PROTOCOL), "test")
    return Planting(shop_store, samples, PROTOCOL.training_events(shop_store), CONFIG)


def recall(found: list[Planted], plant: str, length: int) -> list[float]:
    (one,) = (planted for planted in found if (planted.plant, planted.length) == (plant, length))
    assert one.found is not None
    return [float(value) for value in one.found.mean(axis=1)]


def test_who_looks_at_the_category_finds_it_everywhere(
    planting: Planting, shop_store: EventStore, by_category: Callable[[EventStore], Dare]
) -> None:
    found = measure_positions(planting, by_category(shop_store).serving())
    for length in (20, 40):
        for plant in ("item", "category"):
            assert recall(found, plant, length) == [1] * 5
    # An unrelated plant competes with unrelated behaviours alone, of which the four latest are kept.
    assert recall(found, "unrelated", 20) == [1, 0, 0, 0, 0]
    newest, *others = recall(found, "unrelated", 40)
    assert 0.2 < newest < 0.8, "four of the eight latest"
    assert others == [0] * 4


def test_who_looks_at_the_latest_finds_nothing_old(
    planting: Planting, shop_store: EventStore, by_recency: Callable[[EventStore], Twin]
) -> None:
    found = measure_positions(planting, by_recency(shop_store).serving())
    for plant in PLANTS:
        assert recall(found, plant, 20) == [1, 0, 0, 0, 0]
    for planted in found:
        assert planted.found is not None
        assert planted.found_shuffled is not None
        # The plant moves to a random place: about K/L of them to one of the four latest, from every bin.
        assert planted.found_shuffled.mean() == pytest.approx(K / planted.length, abs=0.06)
        assert (planted.change[planted.found == 0] == 0).all(), "what is not found changes no score"
        assert (planted.change_shuffled[planted.found_shuffled == 0] == 0).all()
        assert (planted.change[planted.found == 1] != 0).any()


def test_what_a_plant_adds_is_the_difference_of_two_scores(
    planting: Planting, shop_store: EventStore, by_recency: Callable[[EventStore], Twin]
) -> None:
    scorer = by_recency(shop_store).serving()
    planted = next(one for one in measure_positions(planting, scorer) if (one.plant, one.length) == ("category", 20))
    everyone = slice(0, 50)
    histories = planting.histories(20, everyone)
    for number, columns in enumerate(planting.places(20, everyone)):
        for target in (0, 17, 49):
            history = histories[target].copy()
            without = score(scorer, history, planting.targets.rows[target])
            history[columns[target]] = planting.targets.planted["category"][target]
            added = score(scorer, history, planting.targets.rows[target]) - without
            assert planted.change[number, target] == pytest.approx(added, abs=1e-6)


def score(scorer: Any, history: np.ndarray[Any, Any], target: int) -> float:
    scores, _ = scorer.score(torch.from_numpy(history), torch.tensor([0, len(history)]), torch.tensor([[target]]))
    return float(scores[0, 0])


def test_targets_without_a_plant_are_left_out(planting: Planting, shop_store: EventStore) -> None:
    planting.targets.planted["category"][:7] = 0
    model = build_model(Twin, Twin.sizes(n_items=50, n_categories=3, search_k=K), shop_store.catalogue, seed=0)
    for planted in measure_positions(planting, model.eval().serving()):
        missing = np.isnan(planted.change)
        assert missing[:, :7].all() == (planted.plant == "category")
        assert not missing[:, 7:].any()
        assert planted.found is not None
        assert np.array_equal(np.isnan(planted.found), missing)


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_is_measured(planting: Planting, shop_store: EventStore, kind: str) -> None:
    sizes = MODELS[kind].sizes(n_items=50, n_categories=3, search_k=K)
    model = build_model(MODELS[kind], sizes, shop_store.catalogue, seed=0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.mul_(60)  # so that scores differ by more than rounding
    done: list[int] = []
    found = measure_positions(planting, model.eval().serving(), searches=model.searches, progress=done.append)
    assert sum(done) == 2 * 50
    assert [(one.plant, one.length) for one in found] == [(plant, length) for length in (20, 40) for plant in PLANTS]
    assert all((one.found is None) == (kind == "sdim") for one in found)
    if kind == "sim-hard":
        assert recall(found, "item", 40) == recall(found, "category", 40) == [1] * 5
        assert recall(found, "unrelated", 40) == [0] * 5
    if kind == "din":
        for one in found:
            assert np.allclose(one.change, one.change_shuffled, atol=1e-5), "it knows no order"


def planted_of(found: list[list[float]], change: list[list[float]], *, searches: bool = True) -> Planted:
    values = np.array(found)
    return Planted(
        plant="item",
        length=10,
        users=np.array([0, 0, 1], dtype=np.int32),
        found=values if searches else None,
        found_shuffled=1 - values if searches else None,
        change=np.array(change),
        change_shuffled=np.zeros((2, 3)),
    )


NAN = float("nan")
RUNS = {
    "a": [planted_of([[1, 1, NAN], [0, 1, NAN]], [[0.5, 0.3, NAN], [0.1, 0.1, NAN]])],
    "b": [planted_of([[1, 1, NAN], [0, 0, NAN]], [[0.3, 0.1, NAN], [0.1, 0.1, NAN]])],
    "c": [planted_of([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], searches=False)],
}
VARIANTS = Variants(names={"dare": ("a", "b"), "sdim": ("c",)})
TWO_BINS = PlantConfig(lengths=(10,), bins=2)


def test_rows_are_means_over_models_and_targets() -> None:
    bins, gaps = position_rows(RUNS, VARIANTS, TWO_BINS, 4)
    newest, oldest, *of_sdim = bins
    assert (newest["search"], newest["models"], newest["targets"], newest["recall_by_chance"]) == ("dare", 2, 2, 0.4)
    assert [(row["first_position"], row["last_position"]) for row in (newest, oldest)] == [(1, 5), (6, 10)]
    assert (newest["recall"], oldest["recall"]) == (1, 0.25)
    assert (newest["recall_shuffled"], oldest["recall_shuffled"]) == (0, 0.75)
    assert (newest["score_change"], oldest["score_change"]) == pytest.approx((0.3, 0.1))
    assert all(row["recall"] is None and row["recall_by_chance"] is None for row in of_sdim)
    gap, other = gaps
    assert gap["recall_gap"] == -0.75
    assert gap["recall_gap_shuffled"] == 0.75
    assert gap["score_change_gap"] == pytest.approx(-0.2)
    assert gap["recall_gap_seeds"] == pytest.approx(np.std([-0.5, -1.0], ddof=1))
    assert other["recall_gap"] is None
    assert other["score_change_gap"] == 0
    json.dumps([*bins, *gaps], allow_nan=True)


def test_tables_and_plots_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    bins, gaps = position_rows(RUNS, VARIANTS, TWO_BINS, 4)
    recalls = position_markdown(bins, gaps, "recall").splitlines()
    assert len(recalls) == 3, "sdim has no recall"
    assert recalls[2].startswith("| dare | item | 10 | 1.000 | 0.250 | -0.7500 | 0.3536 | 0.375 | +0.7500 | 0.400 |")
    assert len(position_markdown(bins, gaps, "score_change").splitlines()) == 4
    assert draw_positions(bins, "recall", tmp_path / "recall.png")
    assert not draw_positions(bins[2:], "recall", tmp_path / "none.png")
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["recall.png"]


def test_means_over_models_are_target_by_target() -> None:
    mean = mean_of([RUNS["a"][0], RUNS["b"][0]])
    assert mean.found is not None
    assert np.array_equal(mean.found, [[1, 1, NAN], [0, 0.5, NAN]], equal_nan=True)
    assert mean_of(RUNS["c"]).found is None


def test_errors_know_that_a_users_samples_are_alike() -> None:
    values, users = np.array([1.0, 1.0, 0.0, 0.0, NAN]), np.array([0, 0, 1, 1, 2], dtype=np.int32)
    mean = mean_by_user(values, users)
    # As if each user had one sample: deviations ±½ of two users, √(2·¼·2/1)·… over four samples.
    assert (mean.value, mean.error) == (0.5, pytest.approx(np.sqrt((1 + 1) * 2) / 4))
    assert mean_by_user(values, np.arange(5, dtype=np.int32)).error < mean.error
    assert np.isnan(mean_by_user(values[:2], users[:2]).error)
    assert np.isnan(mean_by_user(values[4:], users[4:]).value)


def test_parts_do_not_change_what_is_drawn_of_targets(
    planting: Planting,
    shop_store: EventStore,
    by_category: Callable[[EventStore], Dare],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(positions, "_AT_ONCE", 200)
    done: list[int] = []
    found = measure_positions(planting, by_category(shop_store).serving(), progress=done.append)
    assert max(done) == 10
    assert recall(found, "item", 40) == [1] * 5
    assert recall(found, "unrelated", 20) == [1, 0, 0, 0, 0]
