"""Rows, tables and plots of what searches find, from figures that were written down."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Catalogue
from recsys.diagnosis.relevance import Relevance, information_of
from recsys.diagnosis.search_quality import (
    IN_FAVOUR,
    INFORMATION,
    OTHER_HALF,
    RANDOM,
    RECENT,
    SAME_CATEGORY,
    Attention,
    Measured,
)
from recsys.diagnosis.search_report import (
    by_category,
    category_name,
    cell_table,
    draw_attention,
    draw_ndcg,
    ndcg_markdown,
    ndcg_rows,
)
from recsys.diagnosis.subjects import Variants

NAN = float("nan")
VARIANTS = Variants(names={"dare": ("a", "b"), "twin": ("c",)})
CATALOGUE = Catalogue(
    item_ids=np.array([-1, 1, 2]),
    category_rows=np.array([0, 1, 2], dtype=np.int32),
    category_ids=np.array([-1, 10, 20]),
    category_keys=pl.Series(["", "VASE", "MUG"]),
)


@pytest.fixture
def counted(relevance: Callable[..., Relevance]) -> Relevance:
    return relevance([[[[1, 0], [0, 0]], [[0, 4], [2, 2]], [[4, 0], [2, 2]]]], [1], bins=(1, 3))


@pytest.fixture
def measured() -> Measured:
    ndcg = {
        (INFORMATION, "a"): [0.8, 0.6, NAN],
        (INFORMATION, "b"): [0.6, 0.6, NAN],
        (INFORMATION, "c"): [0.3, 0.5, NAN],
        (INFORMATION, by_category("a")): [0.9, 0.9, NAN],
        (INFORMATION, by_category("b")): [0.7, 0.7, NAN],
        (INFORMATION, by_category("c")): [0.1, 0.1, NAN],
        (INFORMATION, OTHER_HALF): [0.95, 0.95, NAN],
        (IN_FAVOUR, "a"): [0.5, 0.5, 0.5],
        (IN_FAVOUR, "b"): [0.5, 0.5, 0.5],
        (IN_FAVOUR, "c"): [0.2, 0.2, 0.2],
        **{(grades, name): [0.4, 0.4, NAN] for grades in (INFORMATION, IN_FAVOUR) for name in (RANDOM, RECENT)},
        **{(grades, SAME_CATEGORY): [1.0, 1.0, NAN] for grades in (INFORMATION, IN_FAVOUR)},
    }
    lift = np.array([[[NAN, NAN], [3.0, 0.5], [1.0, 0.0]]])
    return Measured(
        users=np.array([0, 1, 1], dtype=np.int32),
        ndcg={name: np.array(values) for name, values in ndcg.items()},
        attention=Attention(
            categories=np.array([1]),
            behaviours=np.array([[[0, 0], [2, 4], [1, 5]]]),
            lifts={"a": lift, "b": lift / 3, "c": lift},
        ),
        asked=9,
        too_short=2,
    )


def test_rows_are_means_over_seeds_and_differences_are_paired(measured: Measured) -> None:
    rows = {row["search"]: row for row in ndcg_rows(measured, VARIANTS)}
    assert list(rows) == ["dare", "twin", OTHER_HALF, SAME_CATEGORY, RECENT, RANDOM]
    dare, twin = rows["dare"], rows["twin"]
    assert (dare["models"], twin["models"], rows[RANDOM]["models"]) == (2, 1, None)
    assert dare["ndcg"] == pytest.approx((0.7 + 0.6) / 2)
    assert dare["ndcg_seeds"] == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert twin["ndcg_seeds"] is None
    assert (dare["ndcg_by_category"], dare["ndcg_in_favour"]) == pytest.approx((0.8, 0.5))
    assert (dare["less_first"], twin["less_first"]) == (0, pytest.approx(-0.25))
    # Differences of the two users are −0.4 and −0.1: ±0.15 about their mean.
    assert twin["less_first_error"] == pytest.approx(0.15)
    assert rows[OTHER_HALF]["ndcg"] == pytest.approx(0.95)
    assert rows[OTHER_HALF]["less_first"] is None, "it is graded by other users, and so otherwise"
    assert rows[SAME_CATEGORY]["ndcg_by_category"] is None


def test_the_table_shows_them(measured: Measured) -> None:
    lines = ndcg_markdown(ndcg_rows(measured, VARIANTS), 20).splitlines()
    assert lines[0].startswith("| search | models | NDCG@20 | seeds' sd | less dare's |")
    assert lines[2].startswith("| dare | 2 | 0.6500 ± 0.0500 | 0.0707 |  | 0.8000 ± 0.0000 | 0.5000 ± 0.0000 |")
    assert lines[3].startswith("| twin | 1 | 0.4000 ± 0.1000 |  | -0.2500 ± 0.1500 |")
    assert lines[4] == "| other half's grades |  | 0.9500 ± 0.0000 |  |  |  |  |"


def test_cells_hold_counts_information_and_attention(measured: Measured, counted: Relevance) -> None:
    cells = cell_table(measured, counted, CATALOGUE)
    assert len(cells) == 5, "what never occurs has no row"
    (row,) = cells.filter((pl.col("behaviour_category") == "VASE") & (pl.col("positions") == "1–2")).to_dicts()
    assert row == {
        "target_category": "VASE",
        "behaviour_category": "VASE",
        "positions": "1–2",
        "beside_positives": 8,
        "beside_negatives": 0,
        "information_bits": pytest.approx(float(information_of(counted.counts)[0, 1, 0])),
        "behaviours_met": 2,
        "attention: a": 3.0,
        "attention: b": 1.0,
        "attention: c": 3.0,
    }
    assert (category_name(CATALOGUE, 0), category_name(CATALOGUE, 2)) == ("none", "MUG")


def test_plots_are_drawn(measured: Measured, counted: Relevance, tmp_path: Path) -> None:
    draw_ndcg(ndcg_rows(measured, VARIANTS), 20, tmp_path / "ndcg.png")
    draw_attention(measured, counted, CATALOGUE, VARIANTS, 0, tmp_path / "attention.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "ndcg.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
