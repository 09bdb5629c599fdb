"""What a model knows and a catalogue lets pass, worked out by hand for both."""

import gc
import weakref

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Catalogue
from recsys.metadata import CatalogueFacts, ItemFilter, ItemMetadata
from recsys.metadata.items import STANDARD
from recsys.recommending.filtering import ItemFilters


def metadata(prices):
    """An item's price each."""
    count = len(prices)
    columns = {name: pl.Series([None] * count, dtype=dtype) for name, dtype in STANDARD.items()}
    columns |= {"item_id": pl.Series(list(prices)), "price": pl.Series([float(price) for price in prices.values()])}
    frame = pl.DataFrame(columns)
    return ItemMetadata(frame, CatalogueFacts.of(frame, only_in_stock=False, source={}))


@pytest.fixture
def vocabulary():
    """A model of items 10, 20, … 50."""
    return Catalogue(
        item_ids=np.array([-1, 10, 20, 30, 40, 50]),
        category_rows=np.array([0, 1, 1, 1, 1, 1], dtype=np.int32),
        category_ids=np.array([-1, 1]),
    )


POPULAR = np.array([40, 10, 50, 30, 20])


def test_what_passes_is_known_to_both_and_keeps_its_popularity(vocabulary):
    filters = ItemFilters(vocabulary, POPULAR, metadata({10: 5, 30: 6, 35: 1, 40: 7, 50: 100}))
    passing = filters.passing(ItemFilter(max_price=10.0))
    assert passing.popular.tolist() == [40, 10, 30]
    assert passing.matching == 4
    asked = np.array([50, 40, 35, 30, 20, 10, -1, 999])
    assert filters.allowed(passing)(asked).tolist() == [False, True, False, True, False, True, False, False]
    assert filters.known == 0.8


def test_the_same_filter_is_looked_up_once(vocabulary):
    filters = ItemFilters(vocabulary, POPULAR, metadata({10: 5, 30: 6}))
    assert filters.passing(ItemFilter(max_price=5.0)) is filters.passing(ItemFilter(max_price=5.0))
    assert filters.passing(ItemFilter(max_price=5.5)) is not filters.passing(ItemFilter(max_price=5.0))


def test_a_catalogue_or_a_model_of_nothing_lets_nothing_pass(vocabulary):
    nothing = ItemFilters(vocabulary, POPULAR, metadata({}))
    assert nothing.passing(ItemFilter(max_price=5.0)).popular.tolist() == []
    assert nothing.known == 0
    empty = Catalogue(item_ids=np.array([-1]), category_rows=np.zeros(1, dtype=np.int32), category_ids=np.array([-1]))
    filters = ItemFilters(empty, POPULAR[:0], metadata({10: 5}))
    assert filters.passing(ItemFilter(max_price=5.0)).matching == 1
    assert not filters.allowed(filters.passing(ItemFilter(max_price=5.0)))(np.array([10])).any()


def test_what_was_swapped_out_is_let_go_at_once(vocabulary):
    filters = ItemFilters(vocabulary, POPULAR, metadata({10: 5}))
    filters.passing(ItemFilter(max_price=5.0))
    gone = weakref.ref(filters)
    gc.disable()
    try:
        del filters
        assert gone() is None
    finally:
        gc.enable()
