"""The gate before activation: figures worked out by hand, and a reason for every refusal."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.quality import (
    Thresholds,
    fewest_probes,
    judge,
    neighbours_overlap,
    recall_at,
    sampled_rows,
)
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec, Kind
from retrieval.index.vector_index import VectorIndex

COUNT, DIMENSION = 2_000, 8
ALL = np.arange(COUNT)


def drawn(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(COUNT, DIMENSION)).astype(np.float32)


def built(path: Path, vectors: np.ndarray, ids: np.ndarray = ALL, *, probes: int | None = None) -> VectorIndex:
    spec = IndexSpec() if probes is None else IndexSpec(kind=Kind.IVF, lists=32, probes=probes)
    source = ArrayVectors(pl.Series("id", ids), vectors)
    return build_vector_index(source, BuildPlan(choose=lambda _n, _d: spec), path)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    return built(tmp_path_factory.mktemp("exact"), drawn())


@pytest.fixture(scope="module")
def one_list(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    return built(tmp_path_factory.mktemp("one"), drawn(), probes=1)


def test_recall_of_an_exact_index_is_one_though_vectors_repeat(tmp_path: Path) -> None:
    vectors = drawn()
    vectors[1_000:] = vectors[:1_000]
    assert recall_at(built(tmp_path, vectors), ALL[:100]) == 1.0


def test_recall_counts_the_true_neighbours_that_are_found(one_list: VectorIndex) -> None:
    rows = ALL[:60]
    units = np.asarray(one_list.vectors, dtype=np.float32)
    scores = units[rows] @ units.T
    scores[np.arange(60), rows] = -np.inf
    true = np.argsort(-scores, axis=1)[:, :10]
    found = one_list.search(units[rows], 11).rows
    shares = [
        len(set(a.tolist()) & (set(b.tolist()) - {row})) / 10 for a, b, row in zip(true, found, rows, strict=True)
    ]
    assert recall_at(one_list, rows) == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0.2 < np.mean(shares) < 0.9


def test_an_index_of_one_vector_misses_nothing(tmp_path: Path) -> None:
    one = ArrayVectors(pl.Series("id", [5]), np.ones((1, 3), dtype=np.float32))
    assert recall_at(build_vector_index(one, BuildPlan(choose=lambda _n, _d: IndexSpec()), tmp_path), ALL[:1]) == 1.0


def test_the_fewest_probes_reach_the_target(one_list: VectorIndex, exact: VectorIndex) -> None:
    probes = fewest_probes(one_list, 0.95)
    rows = sampled_rows(one_list, 200)
    assert recall_at(one_list, rows, probes=probes) >= 0.95 > recall_at(one_list, rows, probes=probes - 1 - probes // 8)
    assert fewest_probes(one_list, 1.1) == 32
    assert fewest_probes(exact, 0.95) == 0


def test_overlap_with_itself_is_one_and_with_noise_about_chance(exact: VectorIndex, tmp_path: Path) -> None:
    assert neighbours_overlap(exact, exact, ALL[:50]) == 1.0
    other = neighbours_overlap(built(tmp_path, drawn(2)), exact, ALL[:200])
    assert other is not None
    assert other < 0.05  # chance is 10 / 2000


def test_overlap_counts_only_ids_that_both_have(exact: VectorIndex, tmp_path: Path) -> None:
    kept = ALL[::2]
    half = built(tmp_path / "half", drawn()[kept], kept)
    assert neighbours_overlap(half, exact, np.arange(100)) == 1.0
    strangers = built(tmp_path / "strangers", drawn(), ALL + COUNT)
    assert neighbours_overlap(strangers, exact, ALL[:100]) is None


def test_a_good_index_passes_and_says_by_how_much(exact: VectorIndex) -> None:
    verdict = judge(exact, Thresholds(), live=exact)
    assert verdict.passed
    assert verdict.reasons == []
    values = {check.name: check.value for check in verdict.checks}
    assert values == {"recall": 1.0, "coverage": 1.0, "norm_drift": 0.0, "overlap": 1.0}


@pytest.mark.parametrize(
    ("name", "make", "match"),
    [
        ("recall", lambda path: built(path, drawn(), probes=1), "of the true 10 neighbours, fewer than 0.95"),
        ("coverage", lambda path: built(path, drawn()[60:], ALL[60:]), r"97\.000% of the 2,000 ids .* 0, 1, 2;"),
        ("norm_drift", lambda path: built(path, 2 * drawn()), "mean length went from"),
        ("overlap", lambda path: built(path, drawn(2)), "of the neighbours are those of the index that answers"),
    ],
    ids=["recall", "coverage", "norm_drift", "overlap"],
)
def test_each_fault_is_refused_for_its_own_reason(
    name: str, make: object, match: str, exact: VectorIndex, tmp_path: Path
) -> None:
    verdict = judge(make(tmp_path), Thresholds(), live=exact)  # type: ignore[operator]
    assert [check.name for check in verdict.checks if not check.passed] == [name]
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert re.search(match, reason)


def test_a_first_index_is_held_to_what_is_told_of_it(exact: VectorIndex) -> None:
    assert [check.name for check in judge(exact, Thresholds()).checks] == ["recall"]
    verdict = judge(exact, Thresholds(coverage=0.5), expected_ids=[0, 1, -5])
    assert verdict.checks[1].value == pytest.approx(2 / 3)
    assert verdict.passed
    assert not judge(exact, Thresholds(coverage=0.7), expected_ids=[0, 1, -5]).passed


@pytest.mark.parametrize("changes", [{"recall": 1.2}, {"overlap": -0.1}, {"norm_drift": -1}, {"queries": 0}], ids=str)
def test_thresholds_that_cannot_be_are_named(changes: dict) -> None:
    with pytest.raises(IndexingError, match=next(iter(changes))):
        Thresholds(**changes)
