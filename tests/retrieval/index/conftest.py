"""Galleries of drawn vectors, and what a search of them should find, in plain numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from retrieval.index import gallery, gallery_state
from retrieval.index.gallery import Gallery
from retrieval.index.search import Floats
from retrieval.index.spec import IndexSpec

VECTORS, DIMENSION = 4, 16
Made = Callable[..., Gallery]


@pytest.fixture(scope="session")
def drawn() -> Floats:
    """[600, 4, 16] in clumps of pictures that are much alike."""
    random = np.random.default_rng(3)
    clump = random.normal(size=(40, DIMENSION))[np.arange(600) % 40]
    picture = clump + 0.5 * random.normal(size=(600, DIMENSION))
    vectors = picture[:, None] + 0.5 * random.normal(size=(600, VECTORS, DIMENSION))
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def index_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have galleries of more than so many pictures use an index."""

    def set_to(images: int) -> None:
        monkeypatch.setattr(gallery, "EXACT_UP_TO", images)
        monkeypatch.setattr(gallery_state, "EXACT_UP_TO", images)

    return set_to


@pytest.fixture
def made(tmp_path: Path, drawn: Floats) -> Made:
    """Makes a gallery of the first pictures, p0, p1, …, of which every third is red and the rest blue."""

    def make(images: int = 100, *, name: str = "g", storage: str = "fp32", spec: IndexSpec | None = None) -> Gallery:
        colours = pl.DataFrame(
            {"colour": ["blue" if row % 3 else "red" for row in range(images)], "row": range(images)}
        )
        ids = [f"p{row}" for row in range(images)]
        return Gallery.create(tmp_path / name, ids, drawn[:images], metadata=colours, storage=storage, spec=spec)

    return make


def best_of(vectors: Floats, query: Floats) -> npt.NDArray[np.float64]:
    """[N] each picture's highest similarity."""
    best: npt.NDArray[np.float64] = (vectors.astype(np.float64) @ query.astype(np.float64)).max(axis=1)
    return best


@pytest.fixture(scope="session")
def reference() -> Callable[[Floats, Floats], npt.NDArray[np.float64]]:
    return best_of
