"""Measure indexes of one vector an id beside bare FAISS with the same parameters: queries a second, build, memory.

The vectors are made: each lies round one of `centres`, as the items of a category do, with numbers that vary less and
less, as trained embeddings' do. A query is a vector moved by noise. Both indexes are built from the same file, each in
a process of its own, whose largest memory is told; then they answer the same queries one by one, in turns.
"""

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from retrieval.index.build import build_index
from retrieval.index.building import BuildPlan, build_vector_index, with_probes
from retrieval.index.quality import fewest_probes
from retrieval.index.search import Floats, set_own_probes, use_threads
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec
from retrieval.index.vector_index import VectorIndex, unit

_PART = 65_536
_SPREAD, _ASKED = 0.7, 0.4
"""How far vectors are moved from their centre, and queries from their vector, by a centre's length."""
_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What is measured."""

    count: int = 1_000_000
    dimension: int = 128
    centres: int = 20_000
    queries: int = 200
    """In each round."""
    rounds: int = 7
    """In which both take a turn; figures are medians."""
    threads: int = 2
    """That build; queries one by one take one."""
    aim: float = 0.97
    """Recall@10 that probes are chosen for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One index beside bare FAISS."""

    spec: str
    """FAISS's name of both, and the lists that a search looks through."""
    n: int
    dim: int
    recall10: float
    """Share of the true ten that ours finds."""
    qps: float
    bare_faiss_qps: float
    ratio: float
    """Ours by bare, median over rounds."""
    build_s: float
    """From a file of vectors to an open index, written, judged by nobody."""
    bare_build_s: float
    """From the same file to an index in memory, written nowhere."""
    memory_mb: float
    """What an open index holds in memory; ours maps vectors for exact comparison besides."""
    bare_memory_mb: float
    build_peak_mb: float
    """Largest memory of the process that built, mapped files included."""
    bare_build_peak_mb: float
    disk_mb: float

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)


def measure(spec: IndexSpec, sizes: Sizes, *, told: Callable[[str], None] = lambda _step: None) -> Row:
    """Build `spec` both ways and let both answer."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        told("making vectors")
        queries = make_vectors(place / "given.npy", sizes)
        told("building")
        ours = _in_a_process(_build_ours, place, spec, sizes)
        told("building bare FAISS")
        bare = _in_a_process(_build_bare, place, spec, sizes)
        use_threads(1)
        index = VectorIndex.open(place / "ours" / "index")
        if sizes.aim and index.probes:
            told("choosing probes")
            index = with_probes(index, fewest_probes(index, sizes.aim))
        return _compared(index, place, queries, sizes, ours, bare, told)


def make_vectors(path: Path, sizes: Sizes) -> Floats:
    """Write [N, d] of unit length to `path`; returns queries [Q, d]."""
    random = np.random.default_rng(sizes.count)
    scale = (1 / np.sqrt(1 + np.arange(sizes.dimension) / 16)).astype(np.float32)
    scale /= np.linalg.norm(scale)

    def draw(count: int) -> Floats:
        drawn: Floats = random.standard_normal((count, sizes.dimension), dtype=np.float32) * scale
        return drawn

    centres = draw(sizes.centres)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(sizes.count, sizes.dimension))
    for begin in range(0, sizes.count, _PART):
        count = min(_PART, sizes.count - begin)
        out[begin : begin + count] = unit(centres[random.integers(sizes.centres, size=count)] + _SPREAD * draw(count))
    near = out[np.sort(random.choice(sizes.count, sizes.queries, replace=False))]
    return unit(near + _ASKED * draw(sizes.queries))


@dataclass(frozen=True, slots=True)
class _Built:
    seconds: float
    peak_mb: float


def _in_a_process(
    build: Callable[[Path, IndexSpec, Sizes], None], place: Path, spec: IndexSpec, sizes: Sizes
) -> _Built:
    """Build in a new process, so that its memory is its own."""
    report = place / "report.json"
    process = multiprocessing.get_context("spawn").Process(target=_reported, args=(build, place, spec, sizes, report))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{build.__name__} ended with {process.exitcode}")
    return _Built(**json.loads(report.read_text()))


def _reported(
    build: Callable[[Path, IndexSpec, Sizes], None], place: Path, spec: IndexSpec, sizes: Sizes, report: Path
) -> None:
    import faiss  # noqa: F401 - so that its import is not timed

    use_threads(sizes.threads)
    began = time.perf_counter()
    build(place, spec, sizes)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.write_text(json.dumps({"seconds": seconds, "peak_mb": peak}))


def _build_ours(place: Path, spec: IndexSpec, sizes: Sizes) -> None:
    given = np.load(place / "given.npy", mmap_mode="r")
    source = ArrayVectors(pl.Series("id", np.arange(len(given))), given)
    build_vector_index(source, BuildPlan(choose=lambda _n, _d: spec), place / "ours", threads=sizes.threads)


def _build_bare(place: Path, spec: IndexSpec, _sizes: Sizes) -> None:
    import faiss

    index = build_index(spec, np.load(place / "given.npy", mmap_mode="r"))
    began = time.perf_counter()
    faiss.write_index(index, str(place / "bare.faiss"))
    # Ours is written as it is built; what bare FAISS takes for that is not counted.
    (place / "written").write_text(str(time.perf_counter() - began))


def _compared(
    index: VectorIndex,
    place: Path,
    queries: Floats,
    sizes: Sizes,
    ours: _Built,
    bare: _Built,
    told: Callable[[str], None],
) -> Row:
    import faiss

    told("comparing")
    plain: Any = faiss.read_index(str(place / "bare.faiss"))
    probes = index.probes
    set_own_probes(plain, probes)
    true = index.exact(queries, _SHOWN).rows
    found = np.concatenate([index.search(query[None], _SHOWN).rows for query in queries])
    recall = float(np.mean([len(set(a) & set(b)) / _SHOWN for a, b in zip(true.tolist(), found.tolist(), strict=True)]))
    rates: list[tuple[float, float]] = []
    for number in range(sizes.rounds):
        turns: list[Callable[[], object]] = [
            lambda: [index.search(query[None], _SHOWN) for query in queries],
            lambda: [plain.search(query[None], _SHOWN) for query in queries],
        ]
        # Whoever comes second has warmer caches: each is second every other time.
        order = (0, 1) if number % 2 else (1, 0)
        seconds = [0.0, 0.0]
        for at in order:
            began = time.perf_counter()
            turns[at]()
            seconds[at] = time.perf_counter() - began
        rates.append((len(queries) / seconds[0], len(queries) / seconds[1]))
    held = (place / "bare.faiss").stat().st_size / 1e6
    directory = place / "ours" / "index"
    spec = index.facts.spec
    return Row(
        spec=spec.factory(sizes.dimension) + (f" · {probes}" if probes else ""),
        n=sizes.count,
        dim=sizes.dimension,
        recall10=recall,
        qps=statistics.median(rate for rate, _ in rates),
        bare_faiss_qps=statistics.median(rate for _, rate in rates),
        ratio=statistics.median(rate / bare_rate for rate, bare_rate in rates),
        build_s=ours.seconds,
        bare_build_s=bare.seconds - float((place / "written").read_text()),
        memory_mb=(directory / "index.faiss").stat().st_size / 1e6 + index.ids.estimated_size() / 1e6,
        bare_memory_mb=held,
        build_peak_mb=ours.peak_mb,
        bare_build_peak_mb=bare.peak_mb,
        disk_mb=sum(path.stat().st_size for path in directory.iterdir()) / 1e6,
    )
