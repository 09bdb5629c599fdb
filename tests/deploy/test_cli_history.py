"""`recollect history` as a person uses it: with nothing configured, and with a Redis of their own."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from redis import Redis
from typer.testing import CliRunner

from recollect.cli import app
from recollect.cli.history import history_app
from recsys.data import event_store
from recsys.data.catalogue import Catalogue
from recsys.data.deletions import Deletions
from recsys.data.event_store import EventStore, StoreManifest

DAY = "2024-03-01T12:00:00"
DAY_MS = 1_709_294_400_000

Say = Callable[..., Any]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run `recollect history …` with its files in a directory of its own."""
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("RECOLLECT_REDIS_URL", raising=False)
    monkeypatch.delenv("RECOLLECT_CONFIG", raising=False)

    def run(*words: str, status: int = 0, app: Any = history_app) -> Any:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An event store of two users, whose items have names."""
    directory = tmp_path / "shop"
    directory.mkdir()
    times = np.array([DAY_MS, DAY_MS + 1_000, DAY_MS], dtype=np.int64)
    np.save(directory / event_store.OFFSETS_FILE, np.array([0, 2, 3]))
    np.save(directory / event_store.ITEMS_FILE, np.array([1, 2, 2], dtype=np.int32))
    np.save(directory / event_store.TIMES_FILE, times)
    np.save(directory / event_store.TYPES_FILE, np.array([1, 4, 1], dtype=np.uint8))
    pl.DataFrame({"user_id": ["ann", "bob"]}).write_parquet(directory / event_store.USERS_FILE)
    Catalogue(
        item_ids=np.array([-1, 7, 8], dtype=np.int64),
        category_rows=np.array([0, 1, 1], dtype=np.int32),
        category_ids=np.array([-1, 5], dtype=np.int64),
        item_keys=pl.Series(["", "teapot", "kettle"]),
        category_keys=pl.Series(["", "kitchen"]),
    ).save(directory)
    manifest = StoreManifest(
        n_users=2, n_items=2, n_categories=1, n_events=3, first_time_ms=DAY_MS, last_time_ms=DAY_MS + 1_000
    )
    (directory / event_store.MANIFEST_FILE).write_text(json.dumps(asdict(manifest)))
    return directory


def test_with_nothing_configured_events_are_kept_between_commands(say: Say) -> None:
    one = ("append", "ann", "--item", "7", "--time", DAY, "--type", "purchase")
    assert f"ann: item 7 at {DAY.replace('T', ' ')}.000+00:00 added; 1 events, version 1" in say(*one).stdout
    assert "was there already" in say(*one).stdout
    (row,) = map(json.loads, say("show", "ann", "--json").stdout.splitlines())
    assert row == {
        "user_id": "ann",
        "time": "2024-03-01 12:00:00.000+00:00",
        "time_ms": DAY_MS,
        "type": "purchase",
        "item_id": 7,
    }


def test_load_and_show_with_names(say: Say, shop: Path, redis_url: str) -> None:
    there = ("--redis", redis_url)
    loaded = json.loads(say("load", str(shop), "--json", *there).stdout)
    assert (loaded["users"], loaded["accepted"], loaded["duplicates"]) == (2, 3, 0)
    again = say("load", str(shop), "--restart", *there).stdout
    assert "events there already" in again
    shown = say("show", "ann", "--limit", "1", "--store", str(shop), *there).stdout
    assert "ann: the latest 1 of 2 events, version 1" in shown
    assert "kettle" in shown
    assert "kitchen" in shown
    assert "teapot" not in shown


def test_load_of_one_user(say: Say, shop: Path, redis_url: str) -> None:
    assert json.loads(say("load", str(shop), "--user", "bob", "--json", "--redis", redis_url).stdout)["accepted"] == 1
    assert "ann has no history" in say("show", "ann", "--redis", redis_url).stdout


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        pytest.param(["append", "u", "--item", "-4"], 1, "item_id must be 0 or more, got -4", id="item"),
        pytest.param(
            ["append", "u", "--item", "4", "--time", "4102444800000"], 1, "time_ms must be at most", id="future"
        ),
        pytest.param(["append", "u", "--item", "4", "--time", "noon"], 2, "got 'noon', expected a time as", id="time"),
        pytest.param(["append", "u", "--item", "4", "--type", "wink"], 2, "got 'wink', expected one of", id="type"),
        pytest.param(["load", "/nowhere"], 1, "no event store at /nowhere", id="store"),
        pytest.param(
            ["show", "u", "--redis", "redis://:s3cret@127.0.0.1:1/0"], 1, "cannot be reached", id="unreachable"
        ),
        pytest.param(["show", "u", "--redis", "cache:6379"], 1, "write redis://HOST:PORT/DB", id="url"),
    ],
)
def test_mistakes_are_explained(say: Say, redis_url: str, words: list[str], status: int, message: str) -> None:
    there = [] if "--redis" in words else ["--redis", redis_url]
    said = say(*words, *there, status=status).stderr
    assert message in said
    assert "Traceback" not in said
    assert "s3cret" not in said


def test_doctor_says_what_would_be_lost(say: Say, redis_url: str) -> None:
    said = say("doctor", app=app).stdout
    for text in ("append-only file, fsync everysec", "standalone", "unix socket", "default"):
        assert text in said
    with Redis.from_url(redis_url) as admin:
        admin.config_set("appendonly", "no")
        try:
            result = say("doctor", "--redis", redis_url, status=2, app=app)
            assert "warning: appendonly is no" in result.stderr
            report = json.loads(say("doctor", "--json", "--redis", redis_url, status=2, app=app).stdout)
            assert report["persistence"] == "none"
        finally:
            admin.config_set("appendonly", "yes")
        assert not admin.keys("*doctor*")


def test_doctor_of_a_server_that_somebody_else_runs(say: Say, secured_redis: Any) -> None:
    report = json.loads(say("doctor", "--json", "--redis", secured_redis.url, app=app).stdout)
    assert (report["mode"], report["transport"], report["user"]) == ("cluster, 1 shard", "TLS", "recollect")
    assert report["warnings"] == []
    wrong = secured_redis.url.replace("s3cret", "wr0ng")
    said = say("doctor", "--redis", wrong, status=1, app=app).stderr
    assert "put user and password into the URL" in said
    assert "wr0ng" not in said
    untrusted = secured_redis.url.split("?")[0]
    assert "certificate" in say("doctor", "--redis", untrusted, status=1, app=app).stderr


def test_doctor_names_the_rights_that_are_missing(say: Say, secured_redis: Any) -> None:
    with Redis.from_url(secured_redis.admin_url) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "-@all", "+@read", "+@connection")
    said = say("doctor", "--redis", secured_redis.url.replace("//recollect", "//reader"), status=1, app=app).stderr
    assert "no permissions" in said
    assert "~PREFIX* -@all +@read +@write -@dangerous +@scripting" in said


def test_a_user_is_deleted_everywhere(say: Say, shop: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ("--redis", redis_url)
    monkeypatch.setenv("RECOLLECT_EVENTS", str(shop))
    say("load", str(shop), *there)
    gone = json.loads(say("delete", "ann", "--json", *there).stdout)
    assert (gone["behaviours"], gone["redis_log"], gone["event_store"]) == (2, "erased", "pending")
    assert "ann has no history" in say("show", "ann", *there).stdout
    said = say("doctor", *there, status=2, app=app)
    assert f"1 deleted users still lie in {shop}" in " ".join(said.stderr.split())
    with Redis.from_url(redis_url) as admin:
        admin.flushall()
    loaded = json.loads(say("load", str(shop), "--json", *there).stdout)
    assert (loaded["accepted"], loaded["deleted"]) == (1, 2)
    erased = json.loads(say("erase", str(shop), "--json", *there).stdout)
    assert (erased["users"], erased["events"], erased["serving_log_rows"]) == (1, 2, 0)
    assert EventStore(shop).user_ids.to_list() == ["bob"]
    assert json.loads(say("delete", "ann", "--json", *there).stdout)["event_store"] == "erased"
    say("doctor", *there, app=app)


def test_deletions_that_only_redis_knows_are_erased_and_noted(say: Say, shop: Path, redis_url: str) -> None:
    there = ("--redis", redis_url)
    say("delete", "bob", *there)
    assert json.loads(say("erase", str(shop), "--json", *there).stdout)["users"] == 1
    assert EventStore(shop).user_ids.to_list() == ["ann"]
    assert list(Deletions(shop).times_ms) == ["bob"]


def test_what_is_exported_can_be_imported_and_trained_on(say: Say, shop: Path, redis_url: str, tmp_path: Path) -> None:
    there = ("--redis", redis_url)
    say("load", str(shop), *there)
    say("append", "ann", "--item", "8", "--time", "2024-03-02", "--type", "cart", *there)
    out = tmp_path / "export"
    result = json.loads(say("export", str(out), "--store", str(shop), "--json", *there).stdout)
    assert result == {"users": 2, "events": 4, "served": 0}
    log, columns = str(out / "histories.parquet"), "--user user_id --item item_id --category category_id --time time"
    said = CliRunner().invoke(
        app,
        ["data", "import", log, "-f", "columns", *columns.split(), "--type", "type", "--to", str(tmp_path / "again")],
    )
    assert said.exit_code == 0, said.output
    before, after = EventStore(shop), EventStore(tmp_path / "again")
    assert after.user_ids.to_list() == ["ann", "bob"]
    assert after.types.tolist() == [1, 4, 2, 1]
    assert after.times.tolist() == [*before.times[:2].tolist(), DAY_MS + 43_200_000, *before.times[2:].tolist()]
    assert after.catalogue.item_ids[after.items].tolist() == [7, 8, 8, 8]


@pytest.mark.parametrize("command", ["load", "show", "append", "delete", "erase", "export"])
def test_every_help_teaches_with_an_example(say: Say, command: str) -> None:
    assert f"Example: recollect history {command}" in " ".join(say(command, "--help").stdout.split())
