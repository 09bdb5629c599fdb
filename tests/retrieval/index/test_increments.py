"""Changing an index without building it: every search is that of an index which was built of what should be there."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index import overlay
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.changes import Changes
from retrieval.index.increments import (
    changed_share,
    lacking,
    merged,
    stored_changes,
    with_carried,
    write_changed,
)
from retrieval.index.quality import Thresholds, judge, neighbours_overlap, recall_at
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec, Kind, Storage
from retrieval.index.tables import VectorTable
from retrieval.index.vector_index import VectorIndex, as_compared

COUNT, DIMENSION = 1_200, 16
LISTS = {"kind": Kind.IVF, "lists": 8, "probes": 8}
SPECS = {
    "flat": IndexSpec(),
    "flat-sq8": IndexSpec(storage=Storage.SQ8),
    "ivf-fp16": IndexSpec(**LISTS, storage=Storage.FP16),
    "ivf-pq-refined": IndexSpec(**LISTS, storage=Storage.PQ, codes=8, refine=Storage.FP16),
    "hnsw": IndexSpec(kind=Kind.HNSW, links=16, probes=400),
}


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def ids_of(numbers: np.ndarray | list[int], *, names: bool = False) -> pl.Series:
    return pl.Series("id", [f"item-{each:05d}" for each in numbers] if names else list(map(int, numbers)))


def built(
    work: Path,
    spec: IndexSpec = SPECS["flat"],
    *,
    ids: pl.Series | None = None,
    vectors: np.ndarray | None = None,
    normalized: bool = True,
) -> VectorIndex:
    source = ArrayVectors(
        ids_of(np.arange(COUNT) * 2) if ids is None else ids, drawn(COUNT, 1) if vectors is None else vectors
    )
    plan = BuildPlan(choose=lambda _count, _dimension: spec, normalized=normalized)
    return build_vector_index(source, plan, work)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VectorIndex]:
    return {name: built(tmp_path_factory.mktemp(name), spec) for name, spec in SPECS.items()}


@dataclass
class Expected:
    """What should be found: id → vector, changed step by step beside the index."""

    there: dict[int, np.ndarray] = field(
        default_factory=lambda: dict(zip(range(0, 2 * COUNT, 2), drawn(COUNT, 1), strict=True))
    )

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.array(sorted(self.there))
        vectors = as_compared(np.stack([self.there[each] for each in ids.tolist()]), normalized=True)
        scores = as_unit(queries) @ vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return ids[order], np.take_along_axis(scores, order, 1)


def as_unit(queries: np.ndarray) -> np.ndarray:
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def changed_in_six_steps(index: VectorIndex, expected: Expected, folder: Path) -> VectorIndex:
    """Add new ids and replace some, delete of the base and of what was added, and add again what was deleted."""
    random = np.random.default_rng(9)
    for step in range(6):
        if step % 2 == 0:
            numbers = np.unique(random.integers(0, 2 * COUNT + 400, size=120))
            new = VectorTable(ids_of(numbers), drawn(len(numbers), 100 + step))
            changes = index.changes.with_added(new)
            expected.there |= dict(zip(numbers.tolist(), new.vectors, strict=True))
        else:
            gone = random.choice(sorted(expected.there), 150, replace=False)
            changes = index.changes.with_removed(ids_of(gone))
            for each in gone.tolist():
                del expected.there[each]
        index = write_changed(index, changes, folder / f"step-{step}", version="first")
    return index


@pytest.mark.parametrize("name", SPECS)
def test_repeated_changes_find_what_an_exact_search_over_what_is_there_finds(
    name: str, bases: dict[str, VectorIndex], tmp_path: Path
) -> None:
    expected = Expected()
    index = changed_in_six_steps(bases[name], expected, tmp_path)
    assert index.ids.to_list() == sorted(expected.there)
    assert len(index) == index.facts.count == len(expected.there)
    queries = drawn(60, 5)
    ids, scores = expected.nearest(queries, 10)
    exact, found = index.exact(queries, 10), index.search(queries, 10)
    np.testing.assert_array_equal(index.ids.to_numpy()[exact.rows], ids)
    np.testing.assert_allclose(exact.scores, scores, atol=1e-5)
    if name in ("flat", "hnsw"):
        np.testing.assert_array_equal(index.ids.to_numpy()[found.rows], ids)
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    else:
        assert recall_at(index, np.arange(200)) > 0.9
        # Scores are those of the vectors, whatever the base is compressed to, so that they may be merged.
        true = np.einsum("qd,qkd->qk", as_unit(queries), index.vectors_at(found.rows.ravel()).reshape(60, 10, -1))
        np.testing.assert_allclose(found.scores, true, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_vectors_by_id_are_those_that_count_now(bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    expected = Expected()
    index = changed_in_six_steps(bases["flat"], expected, tmp_path)
    ids = sorted(expected.there)
    vectors = as_compared(np.stack([expected.there[each] for each in ids]), normalized=True)
    rows = index.rows_of(ids)
    assert rows.tolist() == list(range(len(ids)))
    np.testing.assert_array_equal(index.vectors_at(rows), vectors)
    assert index.rows_of(sorted(set(range(2 * COUNT)) - set(ids))).max() == -1


def test_inner_products_as_given_are_merged_too(tmp_path: Path) -> None:
    base = built(tmp_path / "work", SPECS["flat"], normalized=False)
    new = VectorTable(ids_of([1, 4]), 3 * drawn(2, 8))
    index = write_changed(base, base.changes.with_added(new), tmp_path / "changed", version="first")
    query = drawn(1, 11)
    vectors = np.concatenate([drawn(COUNT, 1)[:2], drawn(COUNT, 1)[3:], new.vectors])
    ids = np.r_[np.arange(COUNT)[:2] * 2, np.arange(COUNT)[3:] * 2, 1, 4]
    best = np.argsort(-(vectors @ query[0]))[:7]
    found = index.search(query, 7)
    assert index.ids.gather(found.rows[0]).to_list() == ids[best].tolist()
    np.testing.assert_allclose(found.scores[0], (vectors @ query[0])[best], rtol=1e-5)


def test_names_are_ids_as_well(tmp_path: Path) -> None:
    base = built(tmp_path / "work", ids=ids_of(np.arange(COUNT), names=True))
    new = VectorTable(ids_of([3, 90_000], names=True), drawn(2, 7))
    changes = base.changes.with_added(new).with_removed(ids_of([5], names=True))
    index = write_changed(base, changes, tmp_path / "changed", version="first")
    found = index.search(drawn(2, 7), 1)
    assert index.ids.gather(found.rows[:, 0]).to_list() == ["item-00003", "item-90000"]
    assert index.rows_of(["item-00005", "item-00004"]).tolist() == [-1, 4]


@pytest.mark.parametrize("name", ["ivf-fp16", "hnsw"])
def test_k_are_found_though_most_near_ones_are_hidden(name: str, bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    narrow = {"ivf-fp16": IndexSpec(kind=Kind.IVF, lists=64, probes=1), "hnsw": SPECS["hnsw"]}[name]
    base = built(tmp_path / "work", narrow)
    query = base.vectors_at(np.array([0]))
    near = base.exact(query, 1_150).rows[0]
    index = write_changed(
        base, base.changes.with_removed(base.ids.gather(near).sort()), tmp_path / "changed", version="first"
    )
    assert len(index) == 50
    found = index.search(query, 50)
    assert sorted(found.rows[0].tolist()) == list(range(50))
    assert index.search(query, 500).rows.shape == (1, 50)


@pytest.mark.parametrize("hidden", [1, 20, 100, 290, 310])
def test_however_many_near_ones_are_hidden_those_behind_them_are_found(
    hidden: int, bases: dict[str, VectorIndex], tmp_path: Path
) -> None:
    base = bases["flat"]
    near, far = base.vectors_at(np.array([3])), base.vectors_at(np.array([900]))
    order = base.exact(near, COUNT).rows[0]
    gone = base.ids.gather(order[:hidden]).sort()
    index = write_changed(base, base.changes.with_removed(gone), tmp_path / "changed", version="first")
    found = index.search(np.concatenate([near, far]), 40).rows
    assert index.ids.gather(found[0]).to_list() == base.ids.gather(order[hidden : hidden + 40]).to_list()
    np.testing.assert_array_equal(found, index.exact(np.concatenate([near, far]), 40).rows)


def test_only_what_is_allowed_is_found_in_both_parts(bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    base = bases["ivf-fp16"]
    changes = base.changes.with_added(VectorTable(ids_of([1, 3]), drawn(2, 4))).with_removed(ids_of([0]))
    index = write_changed(base, changes, tmp_path / "changed", version="first")
    allowed = np.zeros(len(index), dtype=np.bool_)
    allowed[index.rows_of([1, 2, 8])] = True
    rows = index.search(drawn(1, 4), 5, allowed=allowed).rows[0]
    assert sorted(index.ids.gather(rows[rows >= 0]).to_list()) == [1, 2, 8]
    assert rows.tolist().count(-1) == 2


def test_when_all_of_the_base_is_hidden_only_what_was_added_is_found(
    bases: dict[str, VectorIndex], tmp_path: Path
) -> None:
    base = bases["ivf-fp16"]
    changes = base.changes.with_removed(base.ids).with_added(VectorTable(ids_of([7, 5]), drawn(2, 3)))
    index = write_changed(base, changes, tmp_path / "changed", version="first")
    assert sorted(index.search(drawn(1, 1), 9).rows[0].tolist()) == [0, 1]
    with pytest.raises(IndexingError, match="nothing would be left of the 2 vectors"):
        write_changed(index, index.changes.with_removed(ids_of([5, 7])), tmp_path / "none", version="first")
    assert not (tmp_path / "none").exists()


def test_of_equal_scores_the_first_id_comes_first(tmp_path: Path) -> None:
    same = np.tile(drawn(1, 2), (4, 1))
    base = built(tmp_path / "work", ids=ids_of([10, 20, 30, 40]), vectors=same)
    index = write_changed(
        base, base.changes.with_added(VectorTable(ids_of([5, 25]), same[:2])), tmp_path / "changed", version="first"
    )
    assert index.ids.gather(index.search(same[:1], 6).rows[0]).to_list() == [5, 10, 20, 25, 30, 40]


def test_files_of_the_base_are_the_same_files_and_unchanged(bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    base = bases["ivf-fp16"]
    before = {path.name: path.read_bytes() for path in base.manifest.directory.iterdir()}
    index = changed_in_six_steps(base, Expected(), tmp_path)
    assert {path.name: path.read_bytes() for path in base.manifest.directory.iterdir()} == before
    for role in ("index", "ids", "vectors"):
        assert index.manifest.path(role).samefile(base.manifest.path(role))
    assert set(index.manifest.files) == {
        "index.faiss",
        "ids.parquet",
        "vectors.npy",
        "added.parquet",
        "removed.parquet",
    }


def test_where_there_are_no_hard_links_files_are_copied(
    bases: dict[str, VectorIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    base = bases["flat"]
    index = write_changed(base, base.changes.with_removed(ids_of([0])), tmp_path / "changed", version="first")
    assert not index.manifest.path("index").samefile(base.manifest.path("index"))
    assert len(index) == COUNT - 1


@pytest.mark.parametrize("file", ["added.parquet", "removed.parquet", "index.faiss"])
def test_altered_files_are_refused(file: str, bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    index = changed_in_six_steps(bases["flat"], Expected(), tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(index.manifest.directory, copy)
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(IndexingError, match=f"{file} is altered"):
        VectorIndex.open(copy)


def test_facts_tell_of_the_base_and_of_lengths(tmp_path: Path) -> None:
    base = built(tmp_path / "work")
    new = VectorTable(ids_of([1]), 50 * drawn(1, 2))
    index = write_changed(base, base.changes.with_added(new), tmp_path / "changed", version="first")
    again = write_changed(index, index.changes.with_removed(ids_of([0, 2])), tmp_path / "again", version="second")
    lengths = np.linalg.norm(np.concatenate([drawn(COUNT, 1), new.vectors]), axis=1)
    assert again.facts.base is not None
    assert (again.facts.base.version, again.facts.base.count, again.facts.count) == ("first", COUNT, COUNT - 1)
    assert again.facts.norm_mean == pytest.approx(lengths.mean(), rel=1e-5)
    assert again.facts.norm_std == pytest.approx(lengths.std(), rel=1e-4)
    assert changed_share(again) == pytest.approx(3 / COUNT)
    assert changed_share(base) == 0


def test_the_gate_expects_what_is_there_and_not_what_was_deleted(bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    base = bases["ivf-fp16"]
    changes = base.changes.with_removed(base.ids.head(200)).with_added(VectorTable(ids_of([1, 3]), drawn(2, 4)))
    index = write_changed(base, changes, tmp_path / "changed", version="first")
    verdict = judge(index, Thresholds(), live=base)
    values = {check.name: check.value for check in verdict.checks}
    assert verdict.passed
    assert values["coverage"] == 1.0
    assert min(values["recall"], values["overlap"]) > 0.99
    # What was added is expected of whatever comes after it.
    later = judge(base, Thresholds(coverage=1.0), live=index)
    assert [check.name for check in later.checks if not check.passed] == ["coverage"]
    assert "1, 3;" in later.reasons[0]


def test_an_index_of_names_covers_none_of_an_index_of_numbers(bases: dict[str, VectorIndex], tmp_path: Path) -> None:
    names = built(tmp_path / "work", ids=ids_of(np.arange(COUNT), names=True))
    for index, live in ((names, bases["flat"]), (bases["flat"], names)):
        verdict = judge(index, Thresholds(), live=live)
        assert {check.name for check in verdict.checks if not check.passed} == {"coverage"}
        assert neighbours_overlap(index, live, np.arange(5)) is None


class TestMerging:
    """What the next build is made of."""

    def changes(self) -> Changes:
        """Of an index of 0 to 9: 3 and 20 added, 4 and 30 deleted, 21 kept from before."""
        nothing = Changes.none(pl.Int64(), DIMENSION)
        kept = nothing.with_added(VectorTable(ids_of([21]), drawn(1, 1))).added
        return (
            Changes(nothing.added, nothing.removed, kept)
            .with_added(VectorTable(ids_of([3, 20, 30]), drawn(3, 2)))
            .with_removed(ids_of([4, 30]))
        )

    def test_the_source_wins_deleted_ids_stay_out_and_what_it_lacks_is_kept(self, tmp_path: Path) -> None:
        changes, vectors = self.changes(), drawn(12, 3)
        source = ArrayVectors(ids_of(np.arange(12)), vectors, {"kind": "drawn"})
        lacks = lacking(source, changes)
        assert lacks.ids.to_list() == [20, 21]
        carried = Changes(changes.added.without(changes.added.ids), changes.removed, lacks)
        merge = merged(source, carried)
        assert merge.ids.to_list() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 20, 21]
        assert merge.facts["merged"]["left_out"] == 1
        assert {key: merge.facts[key] for key in source.facts} == source.facts
        plan = BuildPlan(choose=lambda _count, _dimension: IndexSpec(), normalized=False)
        index = with_carried(build_vector_index(merge, plan, tmp_path), carried)
        rows = index.rows_of([3, 20, 21, 4])
        np.testing.assert_array_equal(index.vectors_at(rows[:1]), vectors[3:4])
        np.testing.assert_array_equal(index.vectors_at(rows[1:3]), [drawn(3, 2)[1], drawn(1, 1)[0]])
        assert rows[3] == -1
        assert index.facts.base is None

        # The build after it, of the same source, knows as much.
        _, told = stored_changes(index.manifest.directory) or pytest.fail("nothing is stored")
        assert told.removed.to_list() == [4, 30]
        assert lacking(source, told).ids.to_list() == [20, 21]
        assert told.digest == carried.digest

    def test_a_damaged_index_still_tells_what_was_changed(self, tmp_path: Path) -> None:
        carried = Changes.none(pl.Int64(), DIMENSION).with_removed(ids_of([4]))
        plan = BuildPlan(choose=lambda _count, _dimension: IndexSpec(), normalized=False)
        source = ArrayVectors(ids_of([1, 2]), drawn(2, 1))
        manifest = with_carried(build_vector_index(source, plan, tmp_path), carried).manifest
        for role in ("index", "vectors"):
            manifest.path(role).write_bytes(b"damaged")
        _, told = stored_changes(manifest.directory) or pytest.fail("nothing is stored")
        assert told.removed.to_list() == [4]
        manifest.path("removed").write_bytes(b"damaged")
        with pytest.raises(IndexingError, match=r"removed\.parquet is altered"):
            stored_changes(manifest.directory)

    def test_added_again_is_deleted_no_more(self) -> None:
        changes = self.changes().with_added(VectorTable(ids_of([4]), drawn(1, 6)))
        assert changes.removed.to_list() == [30]
        assert changes.wanted.ids.to_list() == [3, 4, 20, 21]
        assert self.changes().with_removed(ids_of([21])).wanted.ids.to_list() == [3, 20]

    def test_batches_of_any_size_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        source = ArrayVectors(ids_of(np.arange(12)), drawn(12, 3))
        merge = merged(source, self.changes())
        whole = np.concatenate(list(merge.batches()))
        monkeypatch.setattr("retrieval.index.sources._BATCH", 5)
        np.testing.assert_array_equal(np.concatenate(list(merge.batches())), whole)
        assert len(whole) == len(merge.ids)

    def test_with_nothing_to_merge_a_source_is_itself(self) -> None:
        source = ArrayVectors(ids_of([0, 1]), drawn(2, 3))
        assert merged(source, Changes.none(pl.Int64(), DIMENSION)) is source

    def test_what_an_earlier_attempt_carried_is_forgotten(self, tmp_path: Path) -> None:
        base = built(tmp_path)
        carried = with_carried(base, base.changes.with_removed(ids_of([1])))
        assert carried.changes.removed.to_list() == [1]
        assert not with_carried(carried, Changes.none(pl.Int64(), DIMENSION)).changes


def test_queries_that_found_enough_are_not_searched_again(
    bases: dict[str, VectorIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = built(tmp_path / "work", IndexSpec(kind=Kind.IVF, lists=32, probes=4))
    near = base.exact(base.vectors_at(np.array([0])), 400).rows[0]
    gone = base.ids.gather(near).sort()
    index = write_changed(base, base.changes.with_removed(gone), tmp_path / "changed", version="first")
    asked: list[int] = []
    real = overlay.search

    def counted(index: object, queries: np.ndarray, k: int, **more: object) -> object:
        asked.append(len(queries))
        return real(index, queries, k, **more)

    monkeypatch.setattr(overlay, "search", counted)
    far = index.vectors_at(np.array([0, 1, 2]))
    index.search(np.concatenate([base.vectors_at(np.array([0])), far]), 40)
    assert asked[0] == 4
    assert all(count < 4 for count in asked[1:])
