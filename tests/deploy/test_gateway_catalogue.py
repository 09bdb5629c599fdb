"""Recommend and Score with a catalogue over gRPC: what is filtered, what is displayed, what is said where it fails."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from recollect.catalogues.publishing import CatalogueGuard, publish_catalogue
from recollect.catalogues.serving import FollowedCatalogue
from recollect.cli import app
from recollect.gateway.models import ServedModel
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import FollowedIndex
from recollect_api import (
    AsyncRecollectClient,
    Availability,
    CandidateOrigin,
    Event,
    InvalidRequest,
    NotPossible,
    Price,
    RecollectClient,
)
from recsys.data.catalogue import Catalogue
from recsys.metadata.importing import ImportOptions, import_catalogue
from recsys.models.popularity import Popularity
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
COUNT, CANDIDATES = 240, 20
UNTOLD, UNSEEN = 239, 1_000
"""An item that the catalogue does not have, and one of it that the model does not know."""
PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
Publish = Callable[..., str]


def events(*item_ids):
    return [Event(item_id=item, time=BEGIN + timedelta(seconds=at)) for at, item in enumerate(item_ids)]


def shop() -> pl.DataFrame:
    """An item costs its number; each fifth is out of stock, each third of oak; ten in a row are a category."""
    items = np.r_[np.arange(UNTOLD), UNSEEN]
    return pl.DataFrame(
        {
            "item": items,
            "name": [f"item no. {item}" for item in items],
            "category": [[f"tens {item // 10}", "odd" if item % 2 else "even"] for item in items],
            "price": items.astype(float),
            "currency": "EUR",
            "availability": np.where(items % 5, "in_stock", "out_of_stock"),
            "image": [f"{item}.jpg" if item % 2 else None for item in items],
            "material": np.where(items % 3, "pine", "oak"),
            "shelf": items // 100,
        }
    )


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Publish a catalogue as shop@stable; the version."""

    def make(frame: pl.DataFrame, **options) -> str:
        frame.write_parquet(tmp_path / "shop.parquet")
        imported = import_catalogue(tmp_path / "shop.parquet", ImportOptions(**options))
        return publish_catalogue(
            tmp_path / "catalogues", "shop", imported, CatalogueGuard(), label="stable"
        ).artifact.version

    return make


@pytest.fixture
def follow(tmp_path):
    """Follow shop@stable until the test ends."""
    with ExitStack() as stack:

        def make() -> FollowedCatalogue:
            followed = FollowedCatalogue(tmp_path / "catalogues", "shop@stable")
            stack.callback(followed.close)
            return followed

        yield make


@pytest.fixture
def catalogue(publish, follow):
    publish(shop())
    return follow()


@pytest.fixture
def index(tmp_path):
    """Items on a circle, each like those beside it."""
    angles = 2 * np.pi * np.arange(COUNT) / COUNT
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    builder = IndexBuilder(root=tmp_path / "indexes", thresholds=Thresholds(overlap=0), label="stable")
    builder.rebuild("items", ArrayVectors(pl.Series("id", np.arange(COUNT)), vectors, {}), PLAN)
    followed = FollowedIndex(tmp_path / "indexes", "items@stable")
    yield followed
    followed.close()


@pytest.fixture
def start(start_gateway, index):
    """Its model knows the items, in one category; popular are 239, 238, …; it ranks 20 candidates."""

    def make(**options):
        gateway = start_gateway(index=index, recommend_candidates=CANDIDATES, **options)
        items = np.arange(COUNT)
        vocabulary = Catalogue(
            item_ids=np.r_[-1, items],
            category_rows=np.r_[0, np.ones(COUNT)].astype(np.int32),
            category_ids=np.array([-1, 7]),
        )
        gateway.slot.swap(
            ServedModel(
                name="counting",
                version="1",
                ranker=gateway.ranker,
                catalogue=vocabulary,
                popularity=Popularity(items[::-1].copy(), np.ones(COUNT, dtype=np.int64)),
            )
        )
        return gateway

    return make


@pytest.fixture
def gateway(start, catalogue):
    return start(catalogue=catalogue)


def ids(found):
    return {item.item_id for item in found.items}


def test_what_is_asked_for_is_told_of_each_item_from_one_version(client, catalogue, user):
    client.append(user, events(102))
    found = client.recommend(user, 4, display=["name", "price", "availability", "category", "image", "shelf"])
    assert ids(found) == {101, 103, 104, 99}  # 100 is like it and out of stock
    assert (found.catalogue_name, found.catalogue_version) == ("shop", catalogue.current.version)
    item = next(item for item in found.items if item.item_id == 103)
    assert item.because_name == "item no. 102"
    assert item.metadata is not None
    assert (item.metadata.name, item.metadata.image) == ("item no. 103", "103.jpg")
    assert item.metadata.categories == ("tens 10", "odd")
    assert item.metadata.price == Price(amount=103.0, currency="EUR")
    assert item.metadata.availability == Availability.IN_STOCK
    assert item.metadata.columns == {"shelf": "1"}
    brief = client.recommend(user, 4, display=["price"])
    assert {(each.metadata.name, each.because_name) for each in brief.items} == {("", "")}
    silent = client.recommend(user, 4)
    assert {each.metadata for each in silent.items} == {None}
    assert silent.catalogue_version == catalogue.current.version


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        ({"min_price": 30, "max_price": 52.5}, lambda item: 30 <= item <= 52.5),
        ({"max_price": 20, "currency": "EUR"}, lambda item: item <= 20),
        ({"categories": ["tens 3", "tens 20"]}, lambda item: item // 10 in (3, 20)),
        ({"categories": ["odd"], "max_price": 60}, lambda item: item % 2 and item <= 60),
        ({"filters": {"material": ["oak"], "shelf": ["0", "2"]}}, lambda item: item % 3 == 0 and item // 100 != 1),
        ({"filters": {"name": ["item no. 4"]}}, lambda item: item == 4),
        ({"category_ids": [7], "max_price": 9}, lambda item: item <= 9),
        ({"category_ids": [8], "max_price": 9}, lambda _item: False),
    ],
    ids=["range", "currency", "categories", "category and price", "columns", "name", "both", "neither"],
)
@pytest.mark.parametrize("in_stock", [None, True, False])
def test_only_what_passes_is_recommended_and_all_of_it_where_that_is_asked_for(client, user, asked, passes, in_stock):
    client.append(user, events(102))
    wanted = {item for item in range(UNTOLD) if item != 102 and passes(item) and (in_stock is False or item % 5)}
    found = client.recommend(user, 200, in_stock=in_stock, **asked)
    assert ids(found) == wanted
    assert all(item.score > 0 for item in found.items)


@pytest.mark.parametrize("count", [1, 10, 19, 40, 100])
def test_the_count_is_filled_however_few_of_the_nearest_pass(client, user, count):
    """Of 20 candidates none would be as cheap: those that are like the history cost 100 and more, the popular 239."""
    client.append(user, events(110, 130))
    found = client.recommend(user, count, max_price=80, in_stock=False)
    assert len(found.items) == min(count, 81)
    assert found.matching_items == 81
    assert max(item.item_id for item in found.items) <= 80


def test_neighbours_that_pass_are_found_further_away(client, user):
    client.append(user, events(102))
    found = client.recommend(user, CANDIDATES, filters={"material": ["oak"]}, max_price=220, in_stock=False)
    # Three in ten candidates are kept for what is popular.
    origins = {item.item_id: item.origin for item in found.items}
    like = {item for item in range(81, 124) if item % 3 == 0 and item != 102}
    popular = {219, 216, 213, 210, 207, 204}
    assert origins == dict.fromkeys(like, CandidateOrigin.RECENT) | dict.fromkeys(popular, CandidateOrigin.POPULAR)


def test_what_the_catalogue_does_not_have_passes_nothing_and_is_shown_where_nothing_is_asked(
    start, publish, follow, user
):
    publish(shop(), only_in_stock=False)
    with RecollectClient(start(catalogue=follow()).address, timeout_s=20) as client:
        found = client.recommend(user, 3, display=["name"])
        assert [item.item_id for item in found.items] == [239, 238, 237]
        assert [item.metadata and item.metadata.name for item in found.items] == [None, "item no. 238", "item no. 237"]
        assert found.matching_items is None
        # Whether the model knows an item or not, it may match.
        cheap = client.recommend(user, 3, min_price=238)
        assert (ids(cheap), cheap.matching_items) == ({238}, 2)


def test_scores_and_their_reasons_are_displayed_too(client, catalogue, user):
    client.append(user, events(7, 239, 7))
    scores = client.score(user, [7, 239, 5_000], display=["name", "price"], explain=True)
    assert [item.metadata and item.metadata.name for item in scores.items] == ["item no. 7", None, None]
    assert [found.item_name for found in scores.items[0].found] == ["item no. 7"] * 2
    assert [found.item_name for found in scores.items[1].found] == [""]
    assert (scores.catalogue_name, scores.catalogue_version) == ("shop", catalogue.current.version)
    plain = client.score(user, [7], explain=True)
    assert (plain.items[0].metadata, plain.items[0].found[0].item_name, plain.catalogue_name) == (None, "", "")


def test_explained_items_call_their_behaviours_by_name(client, user):
    client.append(user, events(7))
    found = client.recommend(user, 200, exclude_seen=False, explain=True, display=["name"])
    (seen,) = (item for item in found.items if item.item_id == 7)
    assert [each.item_name for each in seen.found] == ["item no. 7"]


def test_a_client_for_asyncio_asks_the_same(gateway, user):
    async def ask():
        async with AsyncRecollectClient(gateway.address, timeout_s=20) as client:
            await client.append(user, events(102))
            found = await client.recommend(
                user, 5, min_price=10, max_price=20, in_stock=True, categories=["odd"], display=["price"]
            )
            scores = await client.score(user, [4], display=["name"])
            return found, scores

    found, scores = asyncio.run(ask())
    assert ids(found) == {11, 13, 17, 19}
    assert {item.metadata.price.amount for item in found.items} == {11, 13, 17, 19}
    assert scores.items[0].metadata.name == "item no. 4"


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"min_price": -1}, {"filter.min_price": "finite and 0 or more, got -1"}),
        ({"max_price": float("inf")}, {"filter.max_price": "got inf"}),
        ({"min_price": float("nan"), "count": -3}, {"count": "got -3", "filter.min_price": "got nan"}),
        ({"min_price": 9, "max_price": 3}, {"filter.max_price": "not be less than min_price, 9, got 3"}),
        ({"max_price": 3, "currency": "eur"}, {"filter.currency": "three capital letters, got 'eur'"}),
        ({"categories": ["a", ""]}, {"filter.categories[1]": "must not be empty"}),
        ({"categories": ["a"] * 1_001}, {"filter.categories": "at most 1,000 names, got 1,001"}),
        ({"filters": {"": ["a"]}}, {"filter.columns[0].column": "must not be empty"}),
        ({"filters": {"a": [], "b": ["c"]}}, {"filter.columns[0].values": "1 to 1000 values, got 0"}),
        ({"filters": {str(n): ["c"] for n in range(21)}}, {"filter.columns": "at most 20, got 21"}),
        ({"display": [""]}, {"display[0]": "must not be empty"}),
        ({"display": ["name"] * 51}, {"display": "at most 50 columns, got 51"}),
        # What only the catalogue can tell.
        ({"max_price": 3, "currency": "USD"}, {"filter.currency": "got 'USD'; there is EUR"}),
        ({"filters": {"colour": ["red"]}}, {"filter.columns[0].column": "got 'colour'; there is 'item_key', 'name'"}),
        (
            {"filters": {"price": ["3"]}, "display": ["name", "brand"]},
            {"display[1]": "got 'brand'", "filter.columns[0].column": "min_price and max_price"},
        ),
    ],
    ids=str,
)
def test_every_wrong_field_is_named_with_its_value_and_good_ones_are_answered(client, user, asked, wrong):
    with pytest.raises(InvalidRequest) as caught:
        client.recommend(**{"user_id": user, **asked})
    assert [violation.field for violation in caught.value.violations] == list(wrong)
    for violation in caught.value.violations:
        assert wrong[violation.field] in violation.description
    assert client.recommend(user, 1, max_price=3).items


def test_a_wrong_column_of_scores_is_named(client, user):
    with pytest.raises(InvalidRequest, match=r"display\[0\]: must be a column of the catalogue, got 'brand'"):
        client.score(user, [1], display=["brand"])


def test_wrong_columns_of_a_wide_catalogue_are_told_and_not_lost(start, publish, follow, user):
    publish(shop().with_columns(pl.lit("x").alias(f"custom_label_{number}") for number in range(45)))
    address = start(catalogue=follow()).address
    with RecollectClient(address, timeout_s=20) as client, pytest.raises(InvalidRequest) as refused:
        client.score(user, [1], display=[f"Column{number}" for number in range(50)])
    assert len(refused.value.violations) > 10
    assert "there is 'item_key', 'name'" in refused.value.violations[0].description
    assert "more" in refused.value.violations[0].description
    assert "more fields, not listed" in refused.value.violations[-1].description


def test_a_text_where_a_list_belongs_is_refused_before_it_is_sent(client, user):
    for asked in ({"display": "name"}, {"categories": "odd"}, {"filters": {"material": "oak"}}):
        with pytest.raises(ValueError, match="must be a list of values, got a text; put it into a list"):
            client.recommend(user, 1, **asked)


def test_without_a_catalogue_a_filter_is_refused_with_the_remedy_and_all_else_answered(start, user):
    with RecollectClient(start().address, timeout_s=20) as client:
        for asked in ({"max_price": 3}, {"in_stock": True}, {"filters": {"a": ["b"]}}, {"categories": ["a"]}):
            with pytest.raises(NotPossible, match=r"runs without a catalogue.*start it with --catalogue") as caught:
                client.recommend(user, **asked)
            assert caught.value.reason == "CATALOGUE_DISABLED"
        # All may be shown, and names are told where they can be had.
        found = client.recommend(user, 3, in_stock=False, display=["name"])
        assert [item.metadata for item in found.items] == [None] * 3
        assert (found.catalogue_name, found.matching_items) == ("", None)
        assert client.score(user, [1], display=["name"]).items[0].metadata is None


def test_a_catalogue_that_knows_none_of_the_model_s_items_is_noted(start, publish, follow, user, caplog):
    publish(shop(), ids="text")
    with RecollectClient(start(catalogue=follow()).address, timeout_s=20) as client:
        assert client.recommend(user, 3, max_price=1_000).items == ()
    assert "has 0 % of the items of model counting/1: were its ids read as the log's (--ids)?" in caplog.text


def test_no_reply_mixes_two_catalogues(client, gateway, catalogue, publish, user):
    """Callers ask while prices change; what a reply filters and displays is of the version it names."""
    client.append(user, events(102))
    frame, expected = shop(), {}
    stop, replies, failures = threading.Event(), [], []

    def ask() -> None:
        with RecollectClient(gateway.address, timeout_s=20) as own:
            while not stop.is_set():
                try:
                    found = own.recommend(user, 30, max_price=50, in_stock=False, display=["price", "name"])
                except Exception as error:
                    failures.append(error)
                    return
                replies.append((found.catalogue_version, found.matching_items, tuple(found.items)))

    expected[catalogue.current.version] = (0, 51)
    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    for dearer in range(1, 9):
        changed = frame.with_columns(pl.col("price") + dearer, pl.col("name") + f" ({dearer})")
        expected[publish(changed)] = (dearer, 51 - dearer)
        gateway.run(catalogue.look())
    stop.set()
    for caller in callers:
        caller.join(20)
    assert failures == []
    assert len({version for version, _, _ in replies}) >= 4
    for version, matching, items in replies:
        dearer, passing = expected[version]
        assert matching == passing
        assert len(items) == 30
        for item in items:
            assert item.metadata.price.amount == item.item_id + dearer <= 50
            assert item.metadata.name == f"item no. {item.item_id}" + (f" ({dearer})" if dearer else "")


@pytest.fixture
def run(gateway, user):
    def call(command, *words):
        words = [str(word) for word in (command, user, *words, "--target", gateway.address)]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"})

    return call


def test_recommend_shows_names_and_takes_filters(run, client, user):
    client.append(user, events(102))
    words = ("--max-price", 30, "--in-stock", "--category", "odd", "--filter", "material=oak", "--filter", "shelf=0")
    shown = run("recommend", *words)
    assert shown.exit_code == 0, shown.output
    for text in ("item no. 21", "tens 2, odd", "21.00 EUR", "in stock", "catalogue shop/", "4 items of the catalogue"):
        assert text in shown.stdout
    rows = [json.loads(line) for line in run("recommend", *words, "--json").stdout.splitlines()]
    assert {row["item_id"] for row in rows} == {3, 9, 21, 27}
    row = next(row for row in rows if row["item_id"] == 9)
    assert row["matching_items"] == 4
    assert row["catalogue"].startswith("shop/")
    assert row["metadata"] == {
        "name": "item no. 9",
        "categories": ["tens 0", "odd"],
        "price": 9.0,
        "currency": "EUR",
        "image": "9.jpg",
        "availability": "in_stock",
    }
    near = run("recommend", "-n", 2)
    assert "item no. 102 (recent" in near.stdout
    any_of_them = run(
        "recommend", "-n", 200, "--any-availability", "--filter", "shelf=0", "--filter", "shelf=2", "--json"
    )
    assert len(any_of_them.stdout.splitlines()) == 139


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--filter", "material"), 2, "must look like material=oak"),
        (("--filter", "colour=red"), 1, "got 'colour'; there is"),
        (("--max-price", "3", "--currency", "USD"), 1, "got 'USD'; there is EUR"),
    ],
    ids=["form", "column", "currency"],
)
def test_a_wrong_filter_is_told(run, words, status, says):
    done = run("recommend", *words)
    assert done.exit_code == status
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_score_shows_names(run, client, user):
    client.append(user, events(7))
    shown = run("score", "--items", "7,239", "--explain")
    assert shown.exit_code == 0, shown.output
    for text in ("item no. 7", "7.00 EUR", "click of item no. 7", "catalogue shop/"):
        assert text in " ".join(shown.stdout.split())
    rows = [json.loads(line) for line in run("score", "--items", "7,239", "--explain", "--json").stdout.splitlines()]
    assert [row["metadata"] and row["metadata"]["name"] for row in rows] == ["item no. 7", None]
    assert rows[0]["found"][0]["name"] == "item no. 7"
