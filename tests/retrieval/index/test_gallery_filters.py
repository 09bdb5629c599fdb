"""Filters by columns of every type: what fits, and values that a column cannot have are refused in our own words."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.gallery import Gallery


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    metadata = pl.DataFrame(
        {
            "colour": ["red", None, "blue", "red"],
            "price": [1.5, 2.0, None, 1.5],
            "stock": [3, 0, 7, None],
            "sold": [True, False, None, True],
            "since": [date(2026, 1, 1), None, date(2026, 2, 1), date(2026, 1, 1)],
        }
    )
    return Gallery.create(tmp_path, list("abcd"), np.eye(4, dtype=np.float32)[:, None], metadata=metadata)


@pytest.mark.parametrize(
    ("column", "values", "rows"),
    [
        ("colour", {"red"}, [0, 3]),
        ("price", [1.5, 9.0], [0, 3]),
        ("price", [2], [1]),
        ("stock", (0, 7), [1, 2]),
        ("sold", [False], [1]),
        ("since", [date(2026, 2, 1)], [2]),
        ("since", ["2026-02-01"], [2]),
        ("colour", [None], []),
    ],
)
def test_what_fits(gallery: Gallery, column: str, values: Any, rows: list[int]) -> None:
    assert np.flatnonzero(gallery.filtered({column: values})).tolist() == rows


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("colour", [3], r"values of 'colour' must be String, got \[3\]"),
        ("stock", ["3"], r"values of 'stock' must be Int64, got \['3'\]"),
        ("stock", [2.5], r"values of 'stock' must be Int64, got \[2\.5\]"),
        ("sold", ["yes"], "values of 'sold' must be Boolean"),
    ],
)
def test_values_that_a_column_cannot_have_are_refused(
    gallery: Gallery, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(IndexingError, match=message):
        gallery.filtered({column: values})
