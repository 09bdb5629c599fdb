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

from recollect.cli.history import history_app
from recsys.data import event_store
from recsys.data.catalogue import Catalogue
from recsys.data.event_store import StoreManifest

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

    def run(*words: str, status: int = 0) -> Any:
        result = CliRunner().invoke(history_app, list(words))
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
        pytest.param(["check", "--redis", "redis://:s3cret@127.0.0.1:1/0"], 1, "cannot be reached", id="unreachable"),
        pytest.param(["check", "--redis", "cache:6379"], 1, "write redis://HOST:PORT/DB", id="url"),
    ],
)
def test_mistakes_are_explained(say: Say, redis_url: str, words: list[str], status: int, message: str) -> None:
    there = [] if "--redis" in words else ["--redis", redis_url]
    said = say(*words, *there, status=status).stderr
    assert message in said
    assert "Traceback" not in said
    assert "s3cret" not in said


def test_check_says_what_would_be_lost(say: Say, redis_url: str) -> None:
    said = say("check").stdout
    assert "append-only file, fsync everysec" in said
    with Redis.from_url(redis_url) as admin:
        admin.config_set("appendonly", "no")
        try:
            result = say("check", "--redis", redis_url, status=2)
            assert "warning: appendonly is no" in result.stderr
            report = json.loads(say("check", "--json", "--redis", redis_url, status=2).stdout)
            assert report["persistence"] == "none"
        finally:
            admin.config_set("appendonly", "yes")


@pytest.mark.parametrize("command", ["load", "show", "append", "check"])
def test_every_help_teaches_with_an_example(say: Say, command: str) -> None:
    assert f"Example: recollect history {command}" in " ".join(say(command, "--help").stdout.split())
