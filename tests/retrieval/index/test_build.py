"""Building and searching an index: right answers for every kind, the same for the same seed, filters and parameters."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import faiss
import numpy as np
import pytest

from retrieval.errors import IndexingError
from retrieval.index.build import build_index
from retrieval.index.search import Floats, allowed_bits, own_probes, search, use_threads
from retrieval.index.spec import IndexSpec, Kind, Storage

_ALL_LISTS = {"kind": Kind.IVF, "lists": 8, "probes": 8}
KINDS = {
    "flat": IndexSpec(),
    "flat-fp16": IndexSpec(storage=Storage.FP16),
    "ivf": IndexSpec(**_ALL_LISTS),
    "ivf-sq8": IndexSpec(**_ALL_LISTS, storage=Storage.SQ8),
    "ivf-pq-refined": IndexSpec(**_ALL_LISTS, storage=Storage.PQ, codes=8, refine=Storage.FP32),
    "ivf-fast-scan-refined": IndexSpec(**_ALL_LISTS, storage=Storage.PQ, codes=8, bits=4, refine=Storage.FP16),
    "hnsw": IndexSpec(kind=Kind.HNSW, links=16, probes=64),
}


@pytest.fixture(scope="module")
def vectors() -> Floats:
    drawn = np.random.default_rng(5).normal(size=(1_500, 16))
    unit: Floats = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_each_vector_finds_itself_first(spec: IndexSpec, vectors: Floats) -> None:
    similarities, ids = search(build_index(spec, vectors), vectors[:50], 3)
    assert (ids[:, 0] == np.arange(50)).mean() >= 0.98
    assert (np.diff(similarities, axis=1) <= 0).all()
    np.testing.assert_allclose(similarities[:, 0], 1, atol=0.02)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_only_allowed_ids_are_found(spec: IndexSpec, vectors: Floats) -> None:
    allowed = np.zeros(1_500, dtype=np.bool_)
    allowed[[3, 700, 1_499]] = True
    _, ids = search(build_index(spec, vectors), vectors[:5], 4, allowed=allowed_bits(allowed), probes=None)
    assert set(ids.ravel().tolist()) <= {3, 700, 1_499, -1}
    if spec.kind is not Kind.HNSW:  # which walks past what is not allowed, and may end before it is there
        assert all(set(row) == {3, 700, 1_499, -1} for row in ids.tolist())


@pytest.mark.parametrize("each", [1, 3, 8, 32])
def test_a_bit_for_each_id_lowest_first(each: int) -> None:
    allowed = np.array([True, False, True, True, False])
    bits = allowed_bits(allowed, each=each)
    told = [bool(bits[at >> 3] >> (at & 7) & 1) for at in range(5 * each)]
    assert told == [bool(allowed[at // each]) for at in range(5 * each)]


@pytest.mark.parametrize("name", ["ivf-sq8", "ivf-pq-refined", "hnsw"])
def test_the_same_seed_builds_the_same_bytes_and_another_seed_others(name: str, vectors: Floats) -> None:
    first, again = (faiss.serialize_index(build_index(KINDS[name], vectors, seed=7)) for _ in range(2))
    assert np.array_equal(first, again)
    if name != "hnsw":  # which is not trained
        assert not np.array_equal(first, faiss.serialize_index(build_index(KINDS[name], vectors, seed=8)))


@pytest.mark.parametrize("name", ["ivf-sq8", "ivf-pq-refined"])
def test_any_seed_of_32_bits_will_do(name: str, vectors: Floats) -> None:
    largest, smallest = (faiss.serialize_index(build_index(KINDS[name], vectors, seed=at)) for at in (2**32 - 1, 0))
    assert not np.array_equal(largest, smallest)


def test_probes_of_a_call_overrule_the_index(vectors: Floats) -> None:
    index = build_index(IndexSpec(kind=Kind.IVF, lists=8, probes=1), vectors)
    assert own_probes(index) == (1, 8)
    true = np.argsort(-(vectors[:100] @ vectors.T), axis=1)[:, :10]
    one, all_of_them = (
        sum([len(set(a) & set(b)) for a, b in zip(search(index, vectors[:100], 10, probes=n)[1], true, strict=True)])
        for n in (None, 8)
    )
    assert all_of_them == 1000
    assert one < 1000
    assert own_probes(index) == (1, 8)


def test_progress_counts_to_all(vectors: Floats) -> None:
    told: list[tuple[int, int]] = []
    many = np.concatenate([vectors] * 50)
    build_index(IndexSpec(), many, progress=lambda done, count: told.append((done, count)))
    assert told == [(65_536, 75_000), (75_000, 75_000)]


def test_a_row_that_is_not_finite_is_named(vectors: Floats) -> None:
    bad = np.concatenate([vectors] * 50)
    bad[70_000, 3] = np.nan
    with pytest.raises(IndexingError, match="row 70000 is not"):
        build_index(IndexSpec(), bad)


def test_too_few_vectors_to_train_on_are_refused(vectors: Floats) -> None:
    with pytest.raises(IndexingError, match=r"IVF8,Flat must be trained on at least 8 vectors, got 7"):
        build_index(KINDS["ivf"], vectors[:7])
    with pytest.raises(IndexingError, match="at least 256 vectors, got 100"):
        build_index(KINDS["ivf-pq-refined"], vectors[:100])


def test_the_number_of_threads_is_of_the_thread_that_sets_it() -> None:
    before, seen = faiss.omp_get_max_threads(), []

    def set_and_see() -> None:
        use_threads(before + 1)
        seen.append(faiss.omp_get_max_threads())

    thread = Thread(target=set_and_see)
    thread.start()
    thread.join()
    assert seen == [before + 1]
    assert faiss.omp_get_max_threads() == before


def same_lists(index: object, other: object) -> bool:
    """Whether two indexes have the same centres and vectors of the same codes in the same lists."""
    return bool((faiss.serialize_index(index) == faiss.serialize_index(other)).all())


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Let FAISS see a GPU, and take what is given for what makes the copy on it."""

    def see(copy: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", copy, raising=False)

    return see


@pytest.mark.parametrize("name", ["ivf", "ivf-sq8", "ivf-pq-refined", "ivf-fast-scan-refined"])
def test_centres_found_by_another_index_are_the_same(
    name: str, vectors: Floats, on_gpus: Callable[[Callable[[Any], Any]], None], caplog: pytest.LogCaptureFixture
) -> None:
    alone = build_index(KINDS[name], vectors)
    asked: list[Any] = []

    def found(flat: Any) -> Any:  # where a GPU's copy of it would be
        asked.append(flat)
        return flat

    on_gpus(found)
    assert same_lists(build_index(KINDS[name], vectors), alone)
    (flat,) = asked
    assert flat.ntotal == KINDS[name].lists, "it was what found them"
    assert not caplog.text


def out_of_memory(flat: Any) -> Any:
    raise RuntimeError("out of memory")


def fails_when_asked(flat: Any) -> Any:
    return faiss.IndexFlatIP(flat.d + 1)


@pytest.mark.parametrize("copy", [out_of_memory, fails_when_asked])
@pytest.mark.parametrize("name", ["ivf", "ivf-pq-refined"])
def test_where_a_gpu_cannot_the_processor_finds_the_same(
    name: str,
    copy: Callable[[Any], Any],
    vectors: Floats,
    on_gpus: Callable[[Callable[[Any], Any]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = build_index(KINDS[name], vectors)
    on_gpus(copy)
    assert same_lists(build_index(KINDS[name], vectors), alone)
    assert caplog.text.count("no GPU finds the centres of lists, the processor does") == 1


@pytest.mark.skipif(not faiss.get_num_gpus(), reason="needs a GPU and a FAISS that knows it")
def test_a_gpu_finds_lists_as_good_as_the_processor(
    vectors: Floats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = IndexSpec(kind=Kind.IVF, lists=32, probes=4)
    _, exact = search(build_index(IndexSpec(), vectors), vectors[:200], 10)

    def recall() -> float:
        _, ids = search(build_index(spec, vectors), vectors[:200], 10)
        return float(np.mean([len(set(row) & set(right)) for row, right in zip(ids, exact, strict=True)])) / 10

    by_gpu = recall()
    assert not caplog.text, "it was a GPU that found them"
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert by_gpu == pytest.approx(recall(), abs=0.05)
