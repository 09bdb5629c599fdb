"""Ids, rows and names of a catalogue."""

import numpy as np
import polars as pl
import pytest

from recsys.data import catalogue as module
from recsys.data.catalogue import Catalogue, key_to_id, keys_to_ids
from recsys.errors import DataError, StoreError


def small(**keys):
    return Catalogue(
        item_ids=np.array([-1, 5, 9, 70]),
        category_rows=np.array([0, 2, 0, 1], dtype=np.int32),
        category_ids=np.array([-1, 3, 4]),
        **keys,
    )


def test_rows_of_any_shape_and_unknown_ids():
    rows = small().rows_of([[5, 9], [70, 71], [0, -1]])
    assert rows.dtype == np.int32
    assert rows.tolist() == [[1, 2], [3, 0], [0, 0]]


def test_rows_of_an_empty_catalogue():
    empty = Catalogue(item_ids=np.array([-1]), category_rows=np.zeros(1, np.int32), category_ids=np.array([-1]))
    assert empty.rows_of([1, 2]).tolist() == [0, 0]
    assert (empty.n_items, empty.n_categories) == (0, 0)


def test_names_with_and_without_keys():
    keys = {"item_keys": pl.Series(["", "bowl", "mug", "vase"]), "category_keys": pl.Series(["", "glass", "wood"])}
    assert (small(**keys).name_of(9), small(**keys).category_name_of(5)) == ("mug", "wood")
    assert (small(**keys).name_of(8), small(**keys).category_name_of(9)) == ("8", "unknown")
    assert (small().name_of(9), small().category_name_of(5)) == ("9", "4")


def test_a_saved_catalogue_loads_equal(tmp_path):
    saved = small(item_keys=pl.Series(["", "bowl", "mug", "vase"]))
    saved.save(tmp_path)
    loaded = Catalogue.load(tmp_path)
    for name in ("item_ids", "category_rows", "category_ids"):
        assert np.array_equal(getattr(saved, name), getattr(loaded, name))
        assert getattr(saved, name).dtype == getattr(loaded, name).dtype
    assert loaded.item_keys.to_list() == ["", "bowl", "mug", "vase"]
    assert loaded.category_keys is None


def test_a_missing_catalogue_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="no catalogue in"):
        Catalogue.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "expected"),
    # blake2b-64 from another implementation (`b2sum -l 64`), shifted right by one.
    [("walnut salad bowl", 0x1227B7479091CF03), ("", 0x7253502BBA3CD95A), ("é", 0x658D5FC5F7F98C97)],
)
def test_an_id_never_changes(key, expected):
    assert key_to_id(key) == expected
    assert 0 <= expected < 2**63


def test_keys_that_share_an_id_are_named(monkeypatch):
    assert keys_to_ids(["a", "b"]).tolist() == [key_to_id("a"), key_to_id("b")]
    monkeypatch.setattr(module, "key_to_id", lambda key: len(key))
    with pytest.raises(DataError, match="'ab' and 'cd' have the same id 2"):
        keys_to_ids(["ab", "x", "cd"])
