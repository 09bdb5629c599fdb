"""Measure galleries: how fast the similar pictures are found, how many of them, in how much memory, and the build.

The vectors are made, not embedded, with what makes embedded ones easy and hard to search. Of 256 numbers the first
vary most (like 1/√(1 + j/16)). A picture lies round one of `--centres` centres, as pictures of one class do; its 32
vectors lie round the picture's own, each moved by what is the same for all pictures (query tokens of a Q-Former each
look for something of their own) and by noise. A query is one vector of its target, moved by noise to a cosine of about
0.85, so that pictures round the same centre compete with the target. The true ten are computed here with plain matrix
products from the vectors as given, before anything is stored or compressed. The fewer pictures a centre has, the more
of the true ten lie round other centres, and the harder they are to find.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retrieval.index.gallery import Gallery
from retrieval.index.search import Floats, use_threads

_VECTORS, _DIMENSION, _PART, _SHOWN = 32, 256, 2_048, 10
_TOKEN, _IMAGE, _NOISE, _ASKED = 0.6, 0.7, 0.5, 0.6
"""How far vectors are moved, by the length of a centre: by token, picture and noise; and queries from their vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One gallery and way to search it."""

    images: int
    centres: int
    storage: str
    mode: str
    """`index` or `exact`."""
    spec: str
    """FAISS's name of the index, and the lists that a search looks through."""
    recall10: float
    """Share of the true ten most similar pictures that are found."""
    target: float
    """Share of queries whose target is among the ten; `truth` says what share could be."""
    truth: float
    p50_ms: float
    p99_ms: float
    build_s: float
    """From vectors in a file to an open gallery; 0 where it was there from an earlier run."""
    disk_mb: float
    index_mb: float
    """Of the index, which is held in memory; vectors are memory-mapped."""


class Made:
    """Vectors [N, 32, 256] of unit length and queries, the same for the same numbers of pictures and centres."""

    def __init__(self, images: int, centres: int, directory: Path) -> None:
        self.images, self.name = images, f"{images}-{centres}"
        self.centres = centres
        random = np.random.default_rng((images, centres))
        self._scale = (1 / np.sqrt(1 + np.arange(_DIMENSION) / 16)).astype(np.float32)
        self._scale /= np.linalg.norm(self._scale)
        self._centres = self._draw(random, centres)
        self._tokens = self._draw(random, _VECTORS)
        path = directory / f"made-{self.name}.npy"
        if not path.exists():
            partial = path.with_suffix(".partial")
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(images, _VECTORS, _DIMENSION))
            for begin in range(0, images, _PART):
                out[begin : begin + _PART] = self._part(begin, min(_PART, images - begin))
            del out
            partial.replace(path)
        self.vectors: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")

    def queries(self, count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Queries [count, 256] and the rows of their targets."""
        random = np.random.default_rng((self.images, 1))
        targets = np.sort(random.choice(self.images, count, replace=False))
        near = self.vectors[targets, random.integers(_VECTORS, size=count)].astype(np.float32)
        return _unit(near + _ASKED * self._draw(random, count)), targets

    def truth(self, queries: Floats) -> npt.NDArray[np.int64]:
        """Rows of the ten most similar pictures [n, 10]."""
        best = torch.full((len(queries), 0), 0.0)
        rows = torch.zeros((len(queries), 0), dtype=torch.int64)
        for begin in range(0, self.images, _PART):
            part = torch.from_numpy(np.asarray(self.vectors[begin : begin + _PART], dtype=np.float32))
            # [n, p · V] -> [n, p]
            score = torch.from_numpy(queries) @ part.reshape(-1, _DIMENSION).T
            score = score.view(len(queries), -1, _VECTORS).amax(dim=2)
            together = torch.cat([best, score], dim=1)
            numbers = torch.cat([rows, torch.arange(begin, begin + len(part)).expand(len(queries), -1)], dim=1)
            best, at = together.topk(_SHOWN, dim=1)
            rows = numbers.gather(1, at)
        return rows.numpy()

    def _part(self, begin: int, count: int) -> Floats:
        random = np.random.default_rng((self.images, 2, begin))
        image = self._centres[random.integers(self.centres, size=count)] + _IMAGE * self._draw(random, count)
        noise = self._draw(random, count * _VECTORS).reshape(count, _VECTORS, _DIMENSION)
        return _unit(image[:, None] + _TOKEN * self._tokens + _NOISE * noise)

    def _draw(self, random: np.random.Generator, count: int) -> Floats:
        drawn: Floats = random.standard_normal((count, _DIMENSION), dtype=np.float32) * self._scale
        return drawn


def measure(made: Made, directory: Path, storage: str, *, queries: int, exact: bool, threads: int) -> Iterator[Row]:
    """A gallery of all pictures in `storage`, made where it is not there: with its index, and exactly if asked."""
    use_threads(threads)
    torch.set_num_threads(threads)
    place = directory / f"gallery-{made.name}-{storage}"
    build_s = 0.0
    if not (place / "manifest.json").exists():
        began = time.perf_counter()
        Gallery.create(place, [f"{row:06d}" for row in range(made.images)], made.vectors, storage=storage)
        build_s = time.perf_counter() - began
    gallery = Gallery.open(place)
    asked, targets = made.queries(queries)
    truth = made.truth(asked)
    disk = sum(path.stat().st_size for path in place.iterdir())
    index = sum(path.stat().st_size for path in place.glob("index-*"))
    for mode in ["index"] * (gallery.spec is not None) + ["exact"] * (exact or gallery.spec is None):
        few = slice(None) if mode == "index" else slice(0, min(queries, 50))
        for query in asked[few]:
            gallery.search(query, _SHOWN, exact=mode == "exact")  # so that no page is read from the disk while timed
        took, found = [], []
        for query in asked[few]:
            began = time.perf_counter()
            hits = gallery.search(query, _SHOWN, exact=mode == "exact")
            took.append(1e3 * (time.perf_counter() - began))
            found.append({int(hit.image_id) for hit in hits})
        recall = [len(there & set(best)) / _SHOWN for there, best in zip(found, truth[few].tolist(), strict=True)]
        aimed = targets[few].tolist()
        spec = gallery.spec
        yield Row(
            images=made.images,
            centres=made.centres,
            storage=storage,
            mode=mode,
            spec="" if spec is None or mode == "exact" else f"{spec.factory(_DIMENSION)} · {spec.probes}",
            recall10=float(np.mean(recall)),
            target=float(np.mean([row in there for row, there in zip(aimed, found, strict=True)])),
            truth=float(np.mean([row in best for row, best in zip(aimed, truth[few].tolist(), strict=True)])),
            p50_ms=float(np.percentile(took, 50)),
            p99_ms=float(np.percentile(took, 99)),
            build_s=build_s,
            disk_mb=disk / 1e6,
            index_mb=index / 1e6,
        )


def main(arguments: list[str] | None = None) -> None:
    """Print a table, or with --json a line for each row."""
    parser = argparse.ArgumentParser(prog="python -m retrieval.index.benchmarks.gallery", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--centres", type=int, default=2_000, help="round which pictures lie: fewer of each are harder")
    parser.add_argument("--storage", nargs="+", default=["fp16", "sq8", "pq"])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--exact-up-to", type=int, default=10_000, help="pictures up to which exact search is timed")
    parser.add_argument("--directory", type=Path, required=True, help="where galleries are kept for the next run")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    chosen.directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for images in chosen.images:
        made = Made(images, chosen.centres, chosen.directory)
        for storage in chosen.storage:
            for row in measure(
                made,
                chosen.directory,
                storage,
                queries=min(chosen.queries, images),
                exact=images <= chosen.exact_up_to,
                threads=chosen.threads,
            ):
                rows.append(row)
                if chosen.json:
                    print(json.dumps(asdict(row)), flush=True)
    if not chosen.json:
        print(_table(rows, chosen.threads))


def _table(rows: list[Row], threads: int) -> str:
    """Markdown, under a line that says where it was measured."""
    import faiss

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    names = list(Row.__dataclass_fields__)
    lines = [
        f"Galleries of pictures of {_VECTORS} vectors of {_DIMENSION}, {datetime.now(UTC):%Y-%m-%d}, "
        f"{platform.machine()}, {threads} threads, Python {platform.python_version()}, FAISS {faiss.__version__}, "
        f"torch {torch.__version__}; most memory of the process {peak:,.0f} MB\n",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(_shown(value) for value in asdict(row).values())} |" for row in rows),
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


if __name__ == "__main__":
    main()
