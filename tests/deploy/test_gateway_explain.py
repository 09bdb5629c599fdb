"""Explain over gRPC: what each score rests on, by category, beside what it would be without a history."""

from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import polars as pl
import pytest

from recollect.catalogues.publishing import CatalogueGuard, publish_catalogue
from recollect.catalogues.serving import FollowedCatalogue
from recollect.gateway.models import ServedModel
from recollect_api import (
    AsyncRecollectClient,
    CategoryShare,
    DegradedReason,
    Event,
    InvalidRequest,
    RecollectClient,
    ServerFault,
)
from recollect_api.v1 import recommender_pb2
from recsys.data.catalogue import Catalogue
from recsys.metadata.importing import ImportOptions, import_catalogue

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
UNKNOWN = 200_000


def events(*item_ids):
    return [Event(item_id=item, time=BEGIN + timedelta(seconds=at)) for at, item in enumerate(item_ids)]


def knowing_categories(gateway):
    """Items 0 … 9: even ones are vases, odd ones mugs."""
    items = np.arange(10)
    catalogue = Catalogue(
        item_ids=np.r_[-1, items],
        category_rows=np.r_[0, items % 2 + 1].astype(np.int32),
        category_ids=np.array([-1, 70, 80]),
        category_keys=pl.Series(["", "vase", "mug"]),
    )
    gateway.slot.swap(ServedModel(name="counting", version="1", ranker=gateway.ranker, catalogue=catalogue))
    return gateway


@pytest.fixture
def gateway(start_gateway):
    return knowing_categories(start_gateway())


def test_each_item_is_told_with_and_without_the_history(client, user):
    client.append(user, events(5, 4, 5))
    told = client.explain(user, [5, 4, 9, 5], request_id="why")
    assert [item.item_id for item in told.items] == [5, 4, 9, 5]
    # (1 + occurrences) / (1 + length), and 1 where there is no history.
    assert [item.score for item in told.items] == [0.75, 0.5, 0.25, 0.75]
    assert [item.score_without_history for item in told.items] == [1.0] * 4
    assert [item.score for item in client.score(user, [5, 4, 9]).items] == [0.75, 0.5, 0.25]
    first, second, third, _ = told.items
    assert [(each.item_id, each.weight) for each in first.found] == [(5, 3.0), (5, 1.0)]
    assert first.categories == (CategoryShare(category_id=80, category_name="mug", share=4.0, behaviours=2),)
    assert second.categories == (CategoryShare(category_id=70, category_name="vase", share=2.0, behaviours=1),)
    assert (third.found, third.categories) == ((), ())
    assert (told.model_name, told.model_version, told.request_id) == ("counting", "1", "why")
    assert (told.history_version, told.history_length, told.degraded) == (1, 3, ())


def test_fewer_behaviours_may_be_told_and_shares_are_of_all(client, user):
    client.append(user, events(5, 5, 5))
    (item,) = client.explain(user, [5], max_behaviours=2).items
    assert [each.weight for each in item.found] == [3.0, 2.0]
    assert item.categories[0].behaviours == 3


def test_only_what_is_earlier_than_as_of_counts(client, user):
    client.append(user, events(5, 4))
    assert client.explain(user, [4], as_of=BEGIN + timedelta(seconds=1)).history_length == 1


def test_what_is_missing_is_said(client, user):
    told = client.explain(user, [5, UNKNOWN])
    assert told.degraded == (DegradedReason.HISTORY_EMPTY, DegradedReason.ITEM_UNKNOWN)
    assert [item.known for item in told.items] == [True, False]
    assert [item.score == item.score_without_history for item in told.items] == [True, True]


def test_without_a_history_store_nothing_is_found(start_gateway, tmp_path):
    gateway = knowing_categories(start_gateway(redis_url=f"unix://{tmp_path}/nobody.sock"))
    with RecollectClient(gateway.address, timeout_s=20) as client:
        told = client.explain("anyone", [5])
    assert told.degraded == (DegradedReason.HISTORY_UNAVAILABLE,)
    assert (told.items[0].found, told.history_version) == ((), 0)


def test_items_and_behaviours_are_named_where_names_are_displayed(start_gateway, tmp_path, user):
    frame = pl.DataFrame({"item": [4, 5], "name": ["a tall vase", "a red mug"], "price": [3.0, 5.0]})
    frame.write_parquet(tmp_path / "shop.parquet")
    imported = import_catalogue(tmp_path / "shop.parquet", ImportOptions(currency="EUR"))
    publish_catalogue(tmp_path / "catalogues", "shop", imported, CatalogueGuard(), label="stable")
    followed = FollowedCatalogue(tmp_path / "catalogues", "shop@stable")
    gateway = knowing_categories(start_gateway(catalogue=followed))
    with RecollectClient(gateway.address, timeout_s=30) as client:
        client.append(user, events(5))
        told = client.explain(user, [5, 9], display=["name"])
        plain = client.explain(user, [5])
    assert told.items[0].metadata.name == told.items[0].found[0].item_name == "a red mug"
    assert told.items[1].metadata is None
    assert told.catalogue_name == "shop"
    assert (plain.items[0].metadata, plain.items[0].found[0].item_name, plain.catalogue_name) == (None, "", "")
    followed.close()


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        ({}, ["user_id", "item_ids"]),
        ({"user_id": "u", "item_ids": range(101)}, ["item_ids"]),
        ({"user_id": "u", "item_ids": [1, -1]}, ["item_ids[1]"]),
        ({"user_id": "u", "item_ids": [1], "max_behaviours": -1}, ["max_behaviours"]),
        ({"user_id": "u", "item_ids": [1], "request_id": "r" * 129, "display": [""]}, ["request_id", "display[0]"]),
    ],
    ids=["nothing", "too many items", "a negative item", "a negative number of behaviours", "id and column"],
)
def test_every_field_that_is_wrong_is_named(client, request_, fields):
    request = recommender_pb2.ExplainRequest(**request_)
    with pytest.raises(InvalidRequest) as refused:
        client._ask(lambda stubs: stubs.recommender.Explain, request, 30)
    assert [violation.field for violation in refused.value.violations] == fields


def test_a_gateway_without_a_recommender_says_so(start_gateway):
    with RecollectClient(start_gateway(recommender=False).address, timeout_s=30) as client:
        with pytest.raises(ServerFault, match="without --no-recommender") as refused:
            client.explain("u", [1])
        assert refused.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_the_async_client_explains_alike(gateway, client, user):
    client.append(user, events(5))

    async def ask():
        async with AsyncRecollectClient(gateway.address, timeout_s=30) as client:
            return await client.explain(user, [5, 4], max_behaviours=1)

    import asyncio

    assert asyncio.run(ask()) == client.explain(user, [5, 4], max_behaviours=1)
