"""Runs side by side: what is shared, what is repeated, and what the report makes of them."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.errors import ConfigError, DataError
from recsys.models.directory import load_model
from recsys.training.config import TrainConfig
from recsys.training.experiment import Variant, run_one, training_speed, variants
from recsys.training.experiment_report import draw_attention_sizes, draw_learning_curves, markdown, table_of

CONFIG = TrainConfig(
    samples=SampleConfig(protocol=LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)),
    attention_dim=4,
    representation_dim=4,
    batch_size=192,
    epochs=2,
    validate_every=7,
    learning_rate=0.02,
)
PNG = b"\x89PNG\r\n\x1a\n"


def run_of(variant: str, model: str, attention_dim: int, seed: int, auc: float, **own: object) -> dict[str, object]:
    return {
        "variant": variant,
        "model": model,
        "attention_dim": attention_dim,
        "seed": seed,
        "auc": auc,
        "gauc": auc - 0.01,
        "logloss": 0.5,
        "trained_per_cpu_s": 20_000.0,
        "scored_per_cpu_s": None,
        "validation_step": [10, 20],
        "validation_auc": [auc - 0.1, auc],
        **own,
    }


RUNS = [
    run_of("dare, attention 4", "dare", 4, 0, 0.80),
    run_of("dare, attention 4", "dare", 4, 1, 0.84),
    run_of("dare, attention 8", "dare", 8, 0, 0.90),
    run_of("twin", "twin", 16, 0, 0.79),
    run_of("twin", "twin", 16, 1, 0.81, logloss=0.7),
]


def test_variants_have_attention_sizes_where_the_model_has() -> None:
    assert [(row.name, row.run_name(2)) for row in variants(["twin", "dare"], [2, 4], CONFIG)] == [
        ("twin", "twin-seed2"),
        ("dare, attention 2", "dare-attention2-seed2"),
        ("dare, attention 4", "dare-attention4-seed2"),
    ]
    (alone,) = variants(["dare"], [], CONFIG)
    assert alone.run_name(0) == "dare-attention4-seed0", "the same run, whether or not sizes were asked for"
    of_twin = Variant("twin", "twin").of(replace(CONFIG, attention_dim=2), seed=3)
    assert (of_twin.model, of_twin.attention_dim, of_twin.seed) == ("twin", 4, 3)


@pytest.mark.parametrize(
    ("models", "sizes", "message"),
    [
        ([], [], "at least one model, .* got no model"),
        (["dare", "dare"], [], "each model and attention size once; got dare,dare"),
        (["dare"], [4, 4], "got dare and 4,4"),
        (["dare", "dien"], [], "no model 'dien'; there are dare"),
        (["dare"], [0], "attention_dim must be at least 1, got 0"),
    ],
)
def test_variants_that_cannot_be_are_refused(models: list[str], sizes: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variants(models, sizes, CONFIG)


def test_a_run_is_measured_once_and_kept(shop_store: EventStore, tmp_path: Path) -> None:
    variant, run = Variant("dare", "dare", 2), tmp_path / "run"
    result = run_one(str(shop_store.directory), CONFIG, variant, 5, run)
    saved = load_model(run / "model")
    assert saved.model.config.attention_dim == result["attention_dim"] == 2
    assert saved.training["seed"] == result["seed"] == 5
    assert {name: result[name] for name in saved.metrics["test"]} == saved.metrics["test"]
    assert result["validation_step"] == [entry["step"] for entry in saved.metrics["validation"]]
    assert (
        max(result["validation_auc"]) == result["validation_auc"][result["validation_step"].index(result["best_step"])]
    )
    assert result["trained_per_cpu_s"] > 0
    assert result["scored_per_cpu_s"] > 0
    (run / "result.json").write_text(json.dumps({**result, "auc": 0.123}))
    again = run_one(str(shop_store.directory), CONFIG, Variant("dare, attention 2", "dare", 2), 5, run)
    assert (again["auc"], again["variant"]) == (0.123, "dare, attention 2")


def test_training_speed_leaves_validations_and_restarts_out() -> None:
    log = [
        {"step": 5, "loss": 1.0, "cpu_s": 10.0},
        {"step": 10, "loss": 1.0, "cpu_s": 10.5},  # 5 · 100 / 0.5 = 1000
        {"step": 10, "validation": {}},
        {"step": 15, "loss": 1.0, "cpu_s": 60.0},
        {"step": 20, "loss": 1.0, "cpu_s": 60.25},  # 2000
        {"step": 25, "loss": 1.0, "cpu_s": 3.0},  # another process
        {"step": 30, "loss": 1.0, "cpu_s": 3.1},  # 5000
    ]
    assert training_speed(log, 100) == pytest.approx(2000)
    assert training_speed(log[:1], 100) is None


def test_the_table_has_spreads_and_differences_seed_by_seed() -> None:
    lines = markdown(table_of(RUNS)).splitlines()
    assert lines[0].startswith("| model | seeds | AUC | GAUC | log loss | AUC less dare, attention 4's | trained a CPU")
    assert (
        lines[2] == "| dare, attention 4 | 2 | 0.8200 ± 0.0283 | 0.8100 ± 0.0283 | 0.5000 ± 0.0000 |  | 20,000 ± 0 |  |"
    )
    assert lines[3] == "| dare, attention 8 | 1 | 0.9000 | 0.8900 | 0.5000 | +0.1000 | 20,000 |  |"
    assert "| -0.0200 ± 0.0141 |" in lines[4], "−0.01 for seed 0 and −0.03 for seed 1"
    with pytest.raises(DataError, match="at least one finished run"):
        table_of([])


def test_plots_are_drawn_where_there_is_something_to_draw(tmp_path: Path) -> None:
    runs = table_of(RUNS)
    draw_learning_curves(runs, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    assert draw_attention_sizes(runs, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").read_bytes().startswith(PNG)
    one_size = runs.filter(pl.col("variant") != "dare, attention 8")
    assert not draw_attention_sizes(one_size, tmp_path / "other.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "curves.png"]
