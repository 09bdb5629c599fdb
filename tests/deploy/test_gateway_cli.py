"""`recollect score` against a running gateway, and `recollect serve` where it cannot start."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recollect_api import Event


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_score_prints_the_candidates_best_first(run, gateway, client, user):
    client.append(user, [Event(item_id=5, time=datetime(2024, 1, 1, tzinfo=UTC))])
    done = run("score", user, "--items", "7,5", "--target", gateway.address, "--explain", "--json")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["item_id"], row["score"], row["model"]) for row in rows] == [
        (5, 1.0, "counting/1"),
        (7, 0.5, "counting/1"),
    ]
    assert rows[0]["found"] == [{"item_id": 5, "time": "2024-01-01T00:00:00+00:00", "type": "click", "weight": 1.0}]
    assert "found" not in rows[1]


def test_score_takes_only_what_happened_before_as_of(run, gateway, client, user):
    client.append(user, [Event(item_id=5, time=datetime(2024, 1, 1, tzinfo=UTC))])
    done = run("score", user, "--items", "5", "--target", gateway.address, "--as-of", "2023-12-31", "--json")
    row = json.loads(done.stdout)
    assert (row["history_length"], row["degraded"]) == (0, ["HISTORY_EMPTY"])


def test_the_table_shows_scores_reasons_and_what_was_missing(run, gateway, user):
    done = run("score", user, "--items", "5", "--target", gateway.address, "--explain")
    assert done.exit_code == 0, done.output
    for text in ("1.0000", "counting/1", "nothing", "degraded: history empty"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        pytest.param(("--items", "1,-2"), 1, "item_ids[1]: must be 0 or more, got -2", id="the gateway refuses it"),
        pytest.param(("--items", "1,two"), 2, "whole numbers", id="an item that is no number"),
        pytest.param(("--items", f"1,{10**20}"), 1, "item_ids[1]: must be from", id="an item beyond 64 bits"),
        pytest.param(
            ("--items", "1", "--as-of", "0001-01-01T00:00:00+14:00"),
            1,
            "as_of: must be within",
            id="a time before UTC's",
        ),
        pytest.param(("--items", "1", "--as-of", "soon"), 2, "2024-01-31T12:00", id="a time that is none"),
    ],
)
def test_a_wrong_score_command_says_what_is_wrong(run, gateway, user, words, status, says):
    done = run("score", user, *words, "--target", gateway.address)
    assert done.exit_code == status
    assert says in done.stderr


def test_score_names_the_address_where_nobody_answers(run, user):
    done = run("score", user, "--items", "1", "--target", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "127.0.0.1:1" in done.stderr


def test_serve_names_a_missing_model_before_it_starts_anything(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path))
    done = run("serve", "--model", "dare@stable", "--port", "0")
    assert done.exit_code == 1
    assert "dare@stable" in done.stderr
    assert "--no-recommender serves without one" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_serve_refuses_an_index_that_nobody_would_recommend_from(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path))
    done = run("serve", "--no-recommender", "--index", "items@stable", "--port", "0")
    assert done.exit_code == 1
    assert "--index items@stable" in done.stderr
    assert "take one of them away" in done.stderr
