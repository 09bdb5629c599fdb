"""Recommend over gRPC: from one index and one model, with what brought each item in; good and bad requests."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from recollect.gateway.models import ServedModel
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import FollowedIndex
from recollect_api import CandidateOrigin, DegradedReason, Event, InvalidRequest, RecollectClient, ServerFault
from recsys.data.catalogue import Catalogue
from recsys.history.serving_log import ServingLog, ServingLogConfig, export_served
from recsys.models.popularity import Popularity
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
COUNT = 24
ITEMS = np.arange(COUNT)
CATALOGUE = Catalogue(
    item_ids=np.r_[-1, ITEMS],
    category_rows=np.r_[0, ITEMS // 4 + 1].astype(np.int32),
    category_ids=np.r_[-1, np.arange(6)],
)
"""The items, in categories of four."""
PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())


def events(*item_ids):
    return [Event(item_id=item, time=BEGIN + timedelta(seconds=at)) for at, item in enumerate(item_ids)]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., str]:
    """Items 0 … 23 on a circle, each like those beside it; the version. Another seed shuffles the items."""
    builder = IndexBuilder(root=tmp_path / "indexes", thresholds=Thresholds(overlap=0), label="stable")

    def make(seed: int | None = None) -> str:
        angles = 2 * np.pi * np.arange(COUNT) / COUNT
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        order = np.arange(COUNT) if seed is None else np.random.default_rng(seed).permutation(COUNT)
        source = ArrayVectors(pl.Series("id", order), vectors, {"seed": seed})
        return builder.rebuild("items", source, PLAN).artifact.version

    return make


@pytest.fixture
def followed(build, tmp_path):
    build()
    index = FollowedIndex(tmp_path / "indexes", "items@stable")
    yield index
    index.close()


@pytest.fixture
def gateway(start_gateway, followed):
    return knowing_the_items(start_gateway(index=followed))


def knowing_the_items(gateway):
    """The gateway with a model that knows the items, in categories of four; popular are 23, 22, …"""
    gateway.slot.swap(
        ServedModel(
            name="counting",
            version="1",
            ranker=gateway.ranker,
            catalogue=CATALOGUE,
            popularity=Popularity(ITEMS[::-1].copy(), np.ones(COUNT, dtype=np.int64)),
        )
    )
    return gateway


def test_items_like_those_of_the_history_with_what_brought_them_in(client, followed, user):
    client.append(user, events(5, 12))
    found = client.recommend(user, 4, request_id="call-1")
    assert {item.item_id for item in found.items} <= {4, 6, 11, 13, 3, 7, 10, 14, 2, 8, 9, 15, 1}
    by_item = {item.item_id: item for item in client.recommend(user, 23).items}
    assert (by_item[4].origin, by_item[4].because_item_id) == (CandidateOrigin.RECENT, 5)
    assert by_item[13].because_item_id == 12
    assert by_item[13].similarity == pytest.approx(np.cos(2 * np.pi / COUNT), abs=1e-3)
    assert not {5, 12} & by_item.keys()
    assert (found.model_name, found.model_version) == ("counting", "1")
    assert (found.index_name, found.index_version) == ("items", followed.current.version)
    assert (found.history_length, found.history_version, found.request_id) == (2, 1, "call-1")
    assert found.degraded == ()
    assert found.candidates >= 4


def test_a_new_user_is_shown_what_is_popular(client, user):
    found = client.recommend(user, 3)
    assert [item.item_id for item in found.items] == [23, 22, 21]
    assert {(item.origin, item.because_item_id) for item in found.items} == {(CandidateOrigin.POPULAR, None)}
    assert found.degraded == (DegradedReason.HISTORY_EMPTY,)


def test_filters_and_limits(client, user):
    client.append(user, events(5, 12))
    assert 5 in {item.item_id for item in client.recommend(user, 23, exclude_seen=False).items}
    assert 4 not in {item.item_id for item in client.recommend(user, 23, exclude_item_ids=[4]).items}
    only = client.recommend(user, 23, category_ids=[1, 3])
    assert {item.item_id for item in only.items} == {4, 6, 7, 13, 14, 15}
    capped = client.recommend(user, 23, max_per_category=1)
    categories = [item.item_id // 4 for item in capped.items]
    assert len(categories) == len(set(categories)) == 6
    assert client.recommend(user, 23, as_of=BEGIN).history_length == 0
    assert len(client.recommend(user).items) == 20  # of 22


def test_explained_items_name_the_behaviours_that_their_score_rests_on(client, user):
    client.append(user, events(5, 7, 5))
    found = client.recommend(user, 23, exclude_seen=False, explain=True)
    by_item = {item.item_id: item for item in found.items}
    assert [each.item_id for each in by_item[5].found] == [5, 5]
    assert by_item[9].found == ()
    assert not any(item.found for item in client.recommend(user, 23, exclude_seen=False).items)


def test_without_a_history_store_what_is_popular_is_shown(start_gateway, followed, tmp_path):
    gateway = start_gateway(index=followed, redis_url=f"unix://{tmp_path}/nobody.sock")
    gateway.slot.swap(
        ServedModel(
            name="counting",
            version="1",
            ranker=gateway.ranker,
            catalogue=CATALOGUE,
            popularity=Popularity(np.array([3, 2]), np.array([1, 1])),
        )
    )
    with RecollectClient(gateway.address, timeout_s=20) as client:
        found = client.recommend("anyone", 5)
    assert {item.item_id for item in found.items} == {2, 3}
    assert found.degraded == (DegradedReason.HISTORY_UNAVAILABLE,)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"user_id": ""}, ["user_id"]),
        ({"count": -1}, ["count"]),
        ({"count": 1_001}, ["count"]),
        ({"max_per_category": -2}, ["max_per_category"]),
        ({"exclude_item_ids": [1, -2]}, ["exclude_item_ids[1]"]),
        ({"category_ids": [-1], "request_id": "x" * 200}, ["request_id", "category_ids[0]"]),
        ({"exclude_item_ids": range(10_001)}, ["exclude_item_ids"]),
    ],
    ids=["user", "negative", "too many", "cap", "item", "two at once", "many ids"],
)
def test_every_wrong_field_is_named(client, user, fields, wrong):
    with pytest.raises(InvalidRequest) as caught:
        client.recommend(**{"user_id": user, **fields})
    assert [violation.field for violation in caught.value.violations] == wrong
    assert client.recommend(user, 1).items


def test_without_an_index_nothing_is_recommended_and_that_is_said(start_gateway, user):
    with RecollectClient(start_gateway().address, timeout_s=20) as client:
        with pytest.raises(ServerFault, match="runs without an index; start it with --index"):
            client.recommend(user)
        assert client.score(user, [1]).items


def test_no_reply_mixes_two_indexes(client, gateway, followed, build, user):
    """Callers ask while the index is replaced; each reply is what the index that it names would give."""
    client.append(user, events(5))
    expected: dict[str, set[int]] = {}

    def note() -> None:
        ids, _ = followed.current.neighbours.nearest(np.array([5]), 2)
        expected[followed.current.version] = set(ids[0].tolist())

    note()
    stop, replies = threading.Event(), []

    def ask() -> None:
        with RecollectClient(gateway.address, timeout_s=20) as own:
            while not stop.is_set():
                found = own.recommend(user, 23)
                nearest = sorted(found.items, key=lambda item: -item.similarity)[:2]
                replies.append((found.index_version, {item.item_id for item in nearest}))

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    for seed in range(8):
        build(seed)
        gateway.run(followed.look())
        note()
    stop.set()
    for caller in callers:
        caller.join(20)
    assert len({version for version, _ in replies}) >= 4
    for version, nearest in replies:
        assert expected[version] == nearest, version


def test_a_recommend_call_is_kept_in_the_serving_log(start_gateway, followed, user, tmp_path):
    log = ServingLog(ServingLogConfig(directory=tmp_path / "log", rate=1.0), random=Random(0))
    gateway = knowing_the_items(start_gateway(index=followed, serving_log=log))
    with RecollectClient(gateway.address, timeout_s=20) as client:
        client.append(user, events(5))
        found = client.recommend(user, 3, exclude_seen=False, explain=True)
    log.close()
    export_served(tmp_path / "log", tmp_path / "served.parquet")
    rows = pl.read_parquet(tmp_path / "served.parquet").rows(named=True)
    assert [row["item_id"] for row in rows] == [item.item_id for item in found.items]
    for row, item in zip(rows, found.items, strict=True):
        assert (row["call"], row["index"]) == ("recommend", f"{found.index_name}/{found.index_version}")
        assert row["score"] == item.score
        assert row["retrieved_item_ids"] == [each.item_id for each in item.found]
    assert [row["retrieved_item_ids"] for row in rows if row["item_id"] == 5] == [[5]]
