"""The file of tokens: only hashes in it, changed by one at a time, read anew, and what is wrong with it is said."""

import json
import logging
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from recollect.errors import SetupError
from recollect.security.rates import TokenBucket
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenBook, TokenFile

HOUR = timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path, clock):
    return TokenFile(tmp_path / "tokens.json", clock)


def test_a_token_is_found_again_and_is_not_in_the_file(file):
    made = file.create("shop", [Scope.WRITE, Scope.READ, Scope.READ], lifetime=HOUR, rate=5, burst=10)
    other = file.create("other", [Scope.ADMIN], lifetime=None)
    book = TokenBook(file.path)
    found = book.find(made.secret)
    assert found == made.token
    assert (found.name, found.scopes, found.expires) == ("shop", (Scope.READ, Scope.WRITE), NOON + HOUR)
    assert (found.rate, found.burst) == (5, 10)
    assert book.find(other.secret) == other.token
    for made_once in (made, other):
        assert made_once.secret.rpartition("_")[2] not in file.path.read_text()


def test_what_is_not_quite_a_token_is_none(file):
    made = file.create("shop", [Scope.READ], lifetime=None)
    other = file.create("other", [Scope.READ], lifetime=None)
    secret, book = made.secret, TokenBook(file.path)
    mixed = f"rcl_{made.token.id}_{other.secret.rpartition('_')[2]}"
    flipped = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    hashed = f"rcl_{made.token.id}_{made.token.sha256}"
    for text in ("", secret[:-1], secret + " ", secret.upper(), flipped, mixed, hashed, "é\udc80", "rcl_" + "0" * 77):
        assert book.find(text) is None, text
    assert book.find(secret) is not None


def test_what_commands_change_counts_without_a_restart(file):
    first = file.create("shop", [Scope.READ], lifetime=None)
    book = TokenBook(file.path)
    second = file.create("shop", [Scope.READ], lifetime=None)
    assert book.find(second.secret) == second.token
    file.revoke(first.token.id)
    assert book.find(first.secret).state(NOON) == "revoked"
    assert book.find(second.secret).state(NOON) == "valid"


def test_a_rotated_token_counts_for_a_while_and_its_successor_allows_the_same(file, clock):
    before = file.create("shop", [Scope.READ, Scope.WRITE], lifetime=10 * HOUR, rate=3, burst=4)
    clock.now += HOUR
    after = file.rotate(before.token.id, keep=2 * HOUR, lifetime=5 * HOUR)
    book = TokenBook(file.path)
    old, new = book.find(before.secret), book.find(after.secret)
    assert (new.name, new.scopes, new.rate, new.burst) == ("shop", old.scopes, 3, 4)
    assert (old.expires, new.expires) == (NOON + 3 * HOUR, NOON + 6 * HOUR)
    assert [old.state(NOON + hours * HOUR) for hours in (2, 3)] == ["valid", "expired"]
    # It never counts longer than it would have.
    late = file.create("late", [Scope.READ], lifetime=HOUR)
    file.rotate(late.token.id, keep=9 * HOUR, lifetime=None)
    assert TokenBook(file.path).find(late.secret).expires == late.token.expires


def test_a_token_that_does_not_count_has_no_successor(file, clock):
    revoked = file.create("a", [Scope.READ], lifetime=None).token
    expired = file.create("b", [Scope.READ], lifetime=HOUR).token
    file.revoke(revoked.id)
    clock.now += HOUR
    for token, state in ((revoked, "revoked"), (expired, "expired")):
        with pytest.raises(SetupError, match=f"{token.id} is {state}; create another"):
            file.rotate(token.id, keep=HOUR, lifetime=None)
    with pytest.raises(SetupError, match="no token 'nobody'; `recollect token list`"):
        file.revoke("nobody")


def test_two_commands_at_once_lose_nothing(file):
    def make():
        for _ in range(5):
            file.create("shop", [Scope.READ], lifetime=None)

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(30)
    assert len(file.read()) == 20


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda _: "{", "the whole: Invalid JSON", id="torn"),
        pytest.param(lambda _: '{"format": 2, "tokens": []}', "format: Input should be 1", id="of another format"),
        pytest.param(
            lambda text: text.replace("read", "root"), "tokens.0.scopes.0: Input should be 'read'", id="scope"
        ),
        pytest.param(lambda text: text.replace("sha256", "secret"), "tokens.0.sha256: Field required", id="no hash"),
        pytest.param(lambda text: text.replace("+00:00", "").replace("Z", ""), "timezone", id="time without a zone"),
        pytest.param(
            lambda text: json.dumps({"format": 1, "tokens": 2 * json.loads(text)["tokens"]}), "two tokens", id="twice"
        ),
    ],
)
def test_a_file_that_is_wrong_is_named_and_its_content_is_not_told(file, spoil, says):
    made = file.create("shop", [Scope.READ], lifetime=HOUR)
    file.path.write_text(spoil(file.path.read_text()))
    with pytest.raises(SetupError, match=says) as refused:
        TokenBook(file.path)
    assert str(file.path) in str(refused.value)
    assert made.token.sha256 not in str(refused.value)


def test_a_file_that_is_missing_says_how_it_is_made(file):
    with pytest.raises(SetupError, match="recollect token create"):
        TokenBook(file.path)


@pytest.mark.parametrize("spoil", [os.unlink, lambda path: path.write_text("{")], ids=["missing", "torn"])
def test_a_file_that_turns_wrong_while_serving_leaves_what_was_read_and_is_told_once(file, spoil, caplog):
    made = file.create("shop", [Scope.READ], lifetime=None)
    book = TokenBook(file.path)
    before = file.path.read_text()
    spoil(file.path)
    caplog.set_level(logging.ERROR)
    assert [book.find(made.secret) for _ in range(3)] == [made.token] * 3
    assert len([line for line in caplog.messages if "that were read last count on" in line]) == 1
    file.path.write_text(before)
    file.revoke(made.token.id)
    assert book.find(made.secret).revoked is not None


def test_a_bucket_allows_its_burst_and_then_its_rate():
    now = [0.0]
    bucket = TokenBucket(2.0, 3.0, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    # Asking in vain takes nothing.
    assert bucket.take() == 0.5
    now[0] = 0.25
    assert bucket.take() == 0.25
    now[0] = 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    now[0] = 100.0
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
