"""`recollect token`: made, listed, rotated and revoked as a person does it."""

import json
import stat

import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recollect.security.tokens import TokenBook


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


@pytest.fixture
def run(path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_TOKENS", str(path))
    return lambda *words: CliRunner().invoke(app, ["token", *map(str, words)])


def rows(run):
    return [json.loads(line) for line in run("list", "--json").stdout.splitlines()]


def test_a_token_is_printed_once_and_alone(run, path):
    done = run("create", "shop", "--scope", "read", "--scope", "write", "--rate", "50")
    assert done.exit_code == 0, done.output
    secret = done.stdout.strip()
    token = TokenBook(path).find(secret)
    assert (token.name, [*token.scopes], token.rate) == ("shop", ["read", "write"], 50)
    assert (token.expires - token.created).days == 90
    for shown in (run("list").output, run("list", "--json").output):
        assert token.id in shown
        assert secret not in shown
        assert token.sha256 not in shown


def test_it_is_written_to_a_file_that_nobody_else_reads(run, path, tmp_path):
    there = tmp_path / "shop.token"
    there.touch(mode=0o644)
    done = run("create", "shop", "--scope", "read", "--output", there)
    assert (done.exit_code, done.stdout) == (0, "")
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    assert TokenBook(path).find(there.read_text().strip()).name == "shop"


def test_rotation_and_revocation(run, path):
    first = run("create", "shop", "--scope", "read", "--expires", "never").stdout.strip()
    (row,) = rows(run)
    assert (row["state"], row["expires"]) == ("valid", None)
    second = run("rotate", row["id"], "--keep", "0m", "--expires", "1h").stdout.strip()
    assert [each["state"] for each in rows(run)] == ["expired", "valid"]
    book = TokenBook(path)
    assert {book.find(first).name, book.find(second).name} == {"shop"}
    done = run("revoke", book.find(second).id)
    assert (done.exit_code, "is refused from now on" in done.stdout) == (0, True)
    assert [each["state"] for each in rows(run)] == ["expired", "revoked"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        pytest.param(("create", "shop"), 2, "--scope", id="no scope"),
        pytest.param(("create", "shop", "--scope", "root"), 2, "root", id="unknown scope"),
        pytest.param(("create", "shop", "--scope", "read", "--expires", "soon"), 2, "30m, 12h", id="no time"),
        pytest.param(("create", "shop", "--scope", "read", "--rate", "0"), 2, "above 0", id="no rate"),
        pytest.param(("create", "shop", "--scope", "read", "--burst", "2"), 2, "without", id="burst alone"),
        pytest.param(("rotate", "x", "--keep", "never"), 2, "must end", id="kept for ever"),
        pytest.param(("revoke", "x"), 1, "no token 'x'", id="unknown token"),
        pytest.param(("list",), 1, "recollect token create", id="no file"),
    ],
)
def test_what_is_wrong_is_said(run, path, words, status, says):
    done = run(*words)
    assert done.exit_code == status
    assert says in done.stderr
    assert not path.exists() or json.loads(path.read_text())["tokens"] == []


def test_without_a_file_it_says_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.delenv("RECOLLECT_TOKENS", raising=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["token", "list"])
    assert done.exit_code == 1
    assert "--file" in done.stderr


def test_serve_reads_the_tokens_before_it_starts_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    words = ["serve", "--no-recommender", "--no-classification", "--port", "0", "--tokens", str(tmp_path / "none.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "`recollect token create` makes the file" in done.stderr
    assert not (tmp_path / "var").exists()


def test_a_token_in_the_settings_is_never_shown(tmp_path, monkeypatch):
    (tmp_path / "settings.toml").write_text("target_token = ['rcl_hidden']\nport = 'some'\n")
    monkeypatch.setenv("RECOLLECT_CONFIG", str(tmp_path / "settings.toml"))
    done = CliRunner().invoke(app, ["token", "list"])
    assert done.exit_code == 1
    assert "target_token: " in done.stderr
    assert "got 'some'" in done.stderr
    assert "rcl_hidden" not in done.output
