"""Rows are scored as the model alone scores them, from every source of histories; wrong ones say what is wrong."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from recollect.batch_scoring.histories import HistorySource
from recollect.batch_scoring.scoring import RESULTS, Limits, RowScorer

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def scorer(world: Any) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(*, limit: int = 50_000, **source: Any) -> RowScorer:
            histories = stack.enter_context(HistorySource(limit=limit, **source).opened())
            return RowScorer(world.ranker, "dare/1", histories, Limits(candidates=4))

        yield make


def rows_of(rows: list[tuple[Any, Any]], **columns: Any) -> pl.DataFrame:
    users = pl.Series([user for user, _ in rows], dtype=pl.String)
    items = pl.Series([items for _, items in rows], dtype=pl.List(pl.Int64))
    return pl.DataFrame({"user_id": users, "item_ids": items, **columns})


@pytest.mark.parametrize("source", ["redis", "events", "both"])
def test_histories_of_a_store_are_cut_at_the_moment_and_at_the_limit(
    world: Any, scorer: Any, expected: Any, source: str
) -> None:
    places = {
        "redis": {"redis_url": world.redis_url},
        "events": {"events": world.events},
        "both": {"redis_url": world.redis_url, "events": world.events},
    }[source]
    asked = [None, BEGIN + timedelta(seconds=60), BEGIN + timedelta(seconds=60, microseconds=1), BEGIN]
    rows = rows_of([("ann", [30, 10])] * 4, as_of=pl.Series(asked, dtype=pl.Datetime("us", "UTC")), call=[1, 2, 3, 4])
    found = scorer(**places).score(rows)
    assert found.columns == ["user_id", "item_ids", "as_of", "call", *RESULTS]
    histories: list[list[int]] = [[10, 20, 30, 10], [10], [10, 20, 30], []]
    assert found["scores"].to_list() == [expected(history, [30, 10]) for history in histories]
    assert found["history_length"].to_list() == [4, 1, 3, 0]
    assert found["status"].to_list() == ["scored", "scored", "scored", "degraded"]
    assert found["reason"].to_list() == [None, None, None, "HISTORY_EMPTY"]
    cut = scorer(limit=2, **places).score(rows.head(1))
    assert cut["scores"].to_list() == [expected([30, 10], [30, 10])]


def test_a_request_may_bring_its_history(scorer: Any, expected: Any) -> None:
    rows = rows_of([("x", [30]), ("x", [30]), ("x", [30])], history=[[10, 20, 30], [], [99, 10]])
    found = scorer(limit=2).score(rows)
    assert found["scores"].to_list() == [expected([20, 30], [30]), expected([], [30]), expected([99, 10], [30])]
    assert "history" not in found.columns


def test_what_is_wrong_is_told_beside_what_is_right(scorer: Any, expected: Any) -> None:
    rows = [
        ("ann", [30, 10]),
        (None, [10]),
        ("", [10]),
        ("x" * 300, [10]),
        ("ann", None),
        ("ann", []),
        ("ann", [10, None]),
        ("ann", [10, -3]),
        ("ann", [10, 20, 30, 10, 20]),
        ("ann", [10, 77]),
        ("ann", [10]),
        ("ann", [-1] * 4),
    ]
    history = [[10]] * 10 + [[10, -8], [10]]
    early = [None] * 9 + [datetime(1969, 1, 1)] + [None] * 2
    found = scorer().score(rows_of(rows, history=history, as_of=pl.Series(early, dtype=pl.Datetime("ms"))))
    statuses = found["status"].to_list()
    assert statuses == ["scored", *["refused"] * 11]
    assert found["scores"].to_list() == [expected([10], [30, 10]), *[None] * 11]
    for reason, part in zip(
        found["reason"].to_list()[1:],
        [
            "user_id must not be null",
            "user_id must not be empty",
            "user_id must be at most 256 bytes, got 300",
            "item_ids must not be null",
            "item_ids must not be empty",
            "item_ids[1] must be a whole number below 2^63, got null",
            "item_ids[1] must be 0 or more, got -3",
            "item_ids must be at most 4 candidates, got 5",
            "as_of must be in the years 1970 to 9999",
            "history[1] must be 0 or more, got -8",
            "item_ids[0] must be 0 or more, got -1; send an id of the catalogue; item_ids[1]",
        ],
        strict=True,
    ):
        assert part in reason
    assert set(found["model"]) == {"dare/1"}


def test_unknown_users_and_items_are_scored_and_told(world: Any, scorer: Any, expected: Any) -> None:
    found = scorer(events=world.events).score(rows_of([("nobody", [10, 20]), ("ann", [10, 77]), ("nobody", [77])]))
    assert found["status"].to_list() == ["degraded"] * 3
    assert found["reason"].to_list() == ["HISTORY_EMPTY", "ITEM_UNKNOWN", "HISTORY_EMPTY, ITEM_UNKNOWN"]
    assert found["unknown_positions"].to_list() == [[], [1], [0]]
    assert found["scores"].to_list() == [
        expected([], [10, 20]),
        expected([10, 20, 30, 10], [10, 77]),
        expected([], [77]),
    ]


@pytest.mark.parametrize("rows", [[], [("ann", [10, 20])] * 40, [("ann", None)] * 3], ids=["none", "alike", "refused"])
def test_columns_have_the_same_types_whatever_the_rows(world: Any, scorer: Any, rows: list[Any]) -> None:
    found = scorer(events=world.events).score(rows_of(rows))
    assert {name: found.schema[name] for name in RESULTS} == RESULTS
