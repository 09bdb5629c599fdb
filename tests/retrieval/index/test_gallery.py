"""Searching a gallery: by hand, against plain numpy whatever is asked, with filters, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.errors import IndexingError
from retrieval.index.gallery import Gallery, GalleryHit
from retrieval.index.search import Floats
from retrieval.index.spec import IndexSpec, Kind, Storage

Reference = Callable[[Floats, Floats], npt.NDArray[np.float64]]
STORAGES = ["fp32", "fp16", "sq8", "pq"]
FULL = IndexSpec(kind=Kind.IVF, lists=8, probes=8, storage=Storage.SQ8)


def _hand(directory: Path, storage: str = "fp32") -> Gallery:
    """Three pictures of two vectors of two numbers: b's second vector and c's first are the same."""
    vectors = np.array([[[1, 0], [0, 1]], [[0, -1], [0.6, 0.8]], [[0.6, 0.8], [-1, 0]]], dtype=np.float32)
    return Gallery.create(directory, ["a", "b", "c"], vectors, storage=storage)


@pytest.mark.parametrize("storage", STORAGES)
def test_by_hand_a_picture_is_as_similar_as_its_best_vector(tmp_path: Path, storage: str) -> None:
    gallery = _hand(tmp_path, storage)
    # (0.6, 0.8): a by its second vector 0.8, b and c by the same one 1.
    hits = gallery.search(np.array([0.6, 0.8], dtype=np.float32), 5)
    assert [(hit.image_id, hit.vector) for hit in hits] == [("b", 1), ("c", 0), ("a", 1)]
    assert [hit.score for hit in hits] == pytest.approx([1, 1, 0.8], abs=0.01)


def test_of_equal_pictures_the_first_wins_also_at_the_last_place(tmp_path: Path) -> None:
    one = np.array([[1, 0], [0, 1]], dtype=np.float32)
    gallery = Gallery.create(tmp_path, list("abcd"), np.stack([one[::-1], one, one, one]))
    hits = gallery.search(one[0], 2)
    assert hits == [GalleryHit("a", 1.0, 1), GalleryHit("b", 1.0, 0)]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("mode", ["exact", "memory", "index"])
def test_it_finds_what_numpy_finds(
    made: Callable[..., Gallery],
    drawn: Floats,
    reference: Reference,
    index_from: Callable[[int], None],
    mode: str,
    storage: str,
) -> None:
    if mode != "memory":
        index_from(100)
    gallery = made(600, storage=storage, spec=None if mode == "memory" else FULL)
    assert (gallery.spec is None) == (mode == "memory")
    queries = drawn[::20, 1] + 0.1 * np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32)
    shared = []
    for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
        best = reference(drawn, query)
        hits = gallery.search(query, 10, exact=mode == "exact")
        rows = [int(hit.image_id[1:]) for hit in hits]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        np.testing.assert_allclose([hit.score for hit in hits], best[rows], atol=0.01)
        for row, hit in zip(rows, hits, strict=True):
            assert drawn[row, hit.vector] @ query == pytest.approx(best[row], abs=0.01)
        shared.append(len(set(rows) & set(np.argsort(-best)[:10].tolist())))
    assert np.mean(shared) >= {"fp32": 10, "fp16": 9.9, "sq8": 9.5, "pq": 9.5}[storage]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_query_filter_and_number_agrees_with_numpy(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: Floats,
    reference: Reference,
    index_from: Callable[[int], None],
    data: st.DataObject,
) -> None:
    index_from(50)
    at = tmp_path_factory.getbasetemp() / "any-query"
    ids = [f"p{row}" for row in range(300)]
    if not at.exists():
        Gallery.create(at, ids, drawn[:300], storage="fp32", spec=FULL)
    gallery = Gallery.open(at)
    query = data.draw(st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=16)))
    query = (query / np.linalg.norm(query)).astype(np.float32)
    k = data.draw(st.integers(1, 320))
    share = data.draw(st.sampled_from([0.0, 0.02, 0.3, 0.95, 1.0]))
    may = np.random.default_rng(data.draw(st.integers(0, 99))).random(300) < share
    left_out = data.draw(st.lists(st.sampled_from([*ids, "not there"]), max_size=5))
    hits = gallery.search(query, k, exact=data.draw(st.booleans()), exclude=left_out, allowed=may)
    best = reference(drawn[:300], query)
    best[~may | np.isin(ids, left_out)] = -np.inf
    expected = np.sort(best[np.isfinite(best)])[::-1][:k]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    rows = [int(hit.image_id[1:]) for hit in hits]
    assert len(set(rows)) == len(rows)
    np.testing.assert_allclose(best[rows], expected, atol=1e-5)


def test_an_index_that_looks_through_one_list_still_gives_as_many_as_asked_for(
    made: Callable[..., Gallery], drawn: Floats, index_from: Callable[[int], None]
) -> None:
    index_from(10)
    gallery = made(600, spec=IndexSpec(kind=Kind.IVF, lists=40, probes=1, storage=Storage.SQ8))
    assert len({hit.image_id for hit in gallery.search(drawn[0, 0], 250)}) == 250
    red = gallery.filtered({"colour": ["red"]})
    hits = gallery.search(drawn[0, 0], 90, allowed=red, exclude=["p0", "p3"], probes=1)
    assert len({hit.image_id for hit in hits}) == 90
    assert all(int(hit.image_id[1:]) % 3 == 0 for hit in hits)
    assert not {"p0", "p3"} & {hit.image_id for hit in hits}


def test_behind_a_filter_as_much_is_found_as_without(
    made: Callable[..., Gallery], drawn: Floats, reference: Reference, index_from: Callable[[int], None]
) -> None:
    index_from(10)
    gallery = made(600, spec=IndexSpec(kind=Kind.IVF, lists=40, probes=4, storage=Storage.SQ8))
    may = np.random.default_rng(2).random(600) < 0.2
    shared = []
    for query in drawn[::30, 0]:
        best = np.where(may, reference(drawn, query), -np.inf)
        hits = gallery.search(query, 5, allowed=may)
        shared.append(len({int(hit.image_id[1:]) for hit in hits} & set(np.argsort(-best)[:5].tolist())) / 5)
    assert np.mean(shared) >= 0.95


def test_hnsw_and_flat_indexes_find_candidates_too(
    made: Callable[..., Gallery], drawn: Floats, index_from: Callable[[int], None]
) -> None:
    index_from(10)
    for spec in (IndexSpec(kind=Kind.HNSW, probes=64, storage=Storage.FP16), IndexSpec(storage=Storage.FP16)):
        gallery = made(600, name=str(spec.kind), spec=spec)
        found = [gallery.search(drawn[row, 2], 5)[0] for row in range(0, 600, 50)]
        assert [hit.image_id for hit in found] == [f"p{row}" for row in range(0, 600, 50)]
        assert {hit.vector for hit in found} == {2}


def test_a_directory_with_a_gallery_is_not_written_over(made: Callable[..., Gallery]) -> None:
    made(3)
    with pytest.raises(IndexingError, match="holds a gallery already"):
        made(4)


def test_filters_by_columns(made: Callable[..., Gallery]) -> None:
    gallery = made(10)
    assert np.flatnonzero(gallery.filtered({"colour": ["red"]})).tolist() == [0, 3, 6, 9]
    assert np.flatnonzero(gallery.filtered({"colour": ["red"], "row": [3, 4, 9]})).tolist() == [3, 9]
    assert gallery.filtered({"colour": ["red", "blue"]}).all()
    assert not gallery.filtered({"colour": []}).any()
    assert gallery.filtered({}).all()
    with pytest.raises(IndexingError, match="no column 'size' to filter by; there is colour, row"):
        gallery.filtered({"colour": ["red"], "size": [1]})


def test_what_is_not_known_of_a_picture_fits_no_filter(tmp_path: Path) -> None:
    vectors = np.ones((2, 1, 1), dtype=np.float32)
    gallery = Gallery.create(tmp_path, ["a", "b"], vectors, metadata=pl.DataFrame({"colour": ["red", None]}))
    assert gallery.filtered({"colour": ["red"]}).tolist() == [True, False]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_vectors_of_a_picture(made: Callable[..., Gallery], drawn: Floats, storage: str) -> None:
    gallery = made(10, storage=storage)
    np.testing.assert_allclose(gallery.vectors_of("p7"), drawn[7], atol=0.01)
    with pytest.raises(IndexingError, match="no picture 'p10'"):
        gallery.vectors_of("p10")


def test_nothing_may_be_found(made: Callable[..., Gallery], drawn: Floats) -> None:
    gallery = made(3)
    assert gallery.search(drawn[0, 0], 5, allowed=np.zeros(3, dtype=np.bool_)) == []
    assert gallery.search(drawn[0, 0], 5, exclude=["p0", "p1", "p2"]) == []


def test_a_gallery_of_no_pictures(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path, [], np.zeros((0, 4, 16), dtype=np.float32))
    assert len(gallery) == 0
    assert gallery.search(np.ones(16, dtype=np.float32) / 4, 3) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param({"query": np.ones(15, np.float32)}, r"query must be \[16\], got \[15\]", id="dimension"),
        pytest.param({"query": np.ones((1, 16), np.float32)}, r"query must be \[16\], got \[1, 16\]", id="rank"),
        pytest.param({"query": np.full(16, np.nan, np.float32)}, "query must be finite", id="nan"),
        pytest.param({"k": 0}, "k must be at least 1, got 0", id="k"),
        pytest.param({"probes": 0}, "probes must be at least 1, got 0", id="probes"),
        pytest.param({"allowed": np.ones(4, np.bool_)}, r"allowed must be \[5\] bool, .* got \[4\]", id="mask-length"),
        pytest.param({"allowed": np.ones(5)}, r"got \[5\] float64", id="mask-type"),
    ],
)
def test_a_search_that_cannot_be_is_refused(made: Callable[..., Gallery], asked: dict[str, Any], message: str) -> None:
    gallery = made(5)
    with pytest.raises(IndexingError, match=message):
        gallery.search(**{"query": np.ones(16, np.float32) / 4, "k": 3, **asked})


def _altered(vectors: Floats, value: float) -> Floats:
    changed = vectors[:3].copy()
    changed[1, 2] *= value
    return changed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda v: {"vectors": _altered(v, 1.5)}, "vector 2 of picture 'b' must have length 1, got 1.5", id="length"
        ),
        pytest.param(lambda v: {"vectors": _altered(v, np.nan)}, "vector 2 of picture 'b' must be finite", id="nan"),
        pytest.param(lambda v: {"vectors": _altered(v, np.inf)}, "vector 2 of picture 'b' must be finite", id="inf"),
        pytest.param(lambda v: {"vectors": v[:2]}, r"vectors must be \[3, V, d\].* got \[2, 4, 16\]", id="count"),
        pytest.param(lambda v: {"vectors": v[:3, 0]}, r"got \[3, 16\]", id="rank"),
        pytest.param(lambda _: {"ids": ["a", "b", "a"]}, "'a' is there more than once", id="ids"),
        pytest.param(
            lambda _: {"storage": "fp8"}, "storage must be auto, fp32, fp16, sq8, pq, got 'fp8'", id="storage"
        ),
        pytest.param(lambda _: {"metadata": pl.DataFrame({"c": [1]})}, "a row for each of 3 ids, got 1", id="metadata"),
        pytest.param(
            lambda _: {"metadata": pl.DataFrame({"image_id": [1] * 3})}, "not have a column 'image_id'", id="id"
        ),
    ],
)
def test_a_gallery_that_cannot_be_is_refused_and_nothing_opens(
    tmp_path: Path, drawn: Floats, make: Callable[[Floats], dict[str, Any]], message: str
) -> None:
    with pytest.raises(IndexingError, match=message):
        Gallery.create(**{"directory": tmp_path, "ids": list("abc"), "vectors": drawn[:3], **make(drawn)})
    with pytest.raises(IndexingError):
        Gallery.open(tmp_path)
