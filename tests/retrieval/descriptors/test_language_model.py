"""The client of language models against a real endpoint that fails in all the usual ways."""

import asyncio
import random
import socket
import traceback
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from retrieval.descriptors.language_model import Answer, EndpointError, LanguageModel, Patience
from retrieval.errors import GenerationError

KEY = "sk-a-key-that-nobody-may-see"
NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PATIENCE = Patience(attempts=4, first_delay_s=1.0, longest_delay_s=3.0, longest_asked_s=300.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Asking:
    """Asks one question of an endpoint and writes down the pauses instead of making them."""

    def __init__(self, url, *, key=None, patience=PATIENCE):
        self.pauses: list[float] = []
        self._options = {"api_key": SecretStr(key) if key else None, "patience": patience}
        self._url = url

    def __call__(self, prompt="why?"):
        return asyncio.run(self._ask(prompt))

    async def _ask(self, prompt):
        generator = random.Random(5)
        async with LanguageModel(
            self._url, "a-model", generator=generator, sleep=self._pause, clock=lambda: NOON, **self._options
        ) as model:
            return await model.complete(prompt)

    async def _pause(self, seconds):
        self.pauses.append(seconds)


def backoff(*longest):
    """The pauses that the seeded generator makes of these."""
    generator = random.Random(5)
    return [seconds * generator.uniform(0.5, 1.0) for seconds in longest]


def test_a_question_carries_model_prompt_and_key_and_nothing_else(chat):
    chat.script = [chat.said("- a beak")]
    assert Asking(chat.url, key=KEY)("what is it?") == Answer(text="- a beak", complete=True)
    assert chat.asked == [{"model": "a-model", "messages": [{"role": "user", "content": "what is it?"}]}]
    assert chat.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert chat.paths == ["/v1/chat/completions"]


def test_without_a_key_none_is_sent(chat, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "somebody else's")
    chat.script = [chat.said("- a beak")]
    Asking(chat.url)()
    assert "Authorization" not in chat.headers[0]


@pytest.mark.parametrize("ending", ["/", "/chat/completions", "/chat/completions/"])
def test_the_address_may_be_given_in_full(chat, ending):
    chat.script = [chat.said("- a beak")]
    Asking(chat.url + ending)()
    assert chat.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("finish_reason", "text", "answer"),
    [
        pytest.param("length", "- a be", Answer(text="- a be", complete=False), id="cut off"),
        pytest.param("content_filter", None, Answer(text="", complete=True), id="nothing said"),
        pytest.param(None, "- a beak", Answer(text="- a beak", complete=True), id="no reason to finish"),
    ],
)
def test_how_an_answer_ended_is_told(chat, finish_reason, text, answer):
    chat.script = [chat.said(text, finish_reason)]
    assert Asking(chat.url)() == answer


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("2.5", 2.5, id="a fraction"),
        pytest.param("Sun, 01 Mar 2026 12:00:42 GMT", 42.0, id="a date"),
        pytest.param("Sun, 01 Mar 2026 12:00:42 -0000", 42.0, id="a date without a zone"),
        pytest.param("Sun, 01 Mar 2026 11:00:00 GMT", backoff(1.0)[0], id="a date gone by"),
        pytest.param("soon", backoff(1.0)[0], id="no time at all"),
        pytest.param("nan", backoff(1.0)[0], id="not a number"),
        pytest.param("inf", backoff(1.0)[0], id="for ever"),
        pytest.param("-5", backoff(1.0)[0], id="less than nothing"),
        pytest.param("0.01", backoff(1.0)[0], id="less than our own pause"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_the_endpoint_asks_for_is_kept(chat, status, retry_after, pause):
    chat.script = [chat.fails(status, Retry_After=retry_after), chat.said("- a beak")]
    asking = Asking(chat.url)
    assert asking().text == "- a beak"
    assert asking.pauses == [pytest.approx(pause)]


def test_pauses_double_up_to_the_longest_and_vary(chat):
    chat.script = [chat.fails(500), chat.fails(503), chat.fails(502), chat.said("- a beak")]
    asking = Asking(chat.url)
    assert asking().text == "- a beak"
    assert asking.pauses == pytest.approx(backoff(1.0, 2.0, 3.0))
    assert len({round(pause / longest, 6) for pause, longest in zip(asking.pauses, (1, 2, 3), strict=True)}) == 3


def troubles(chat):
    said = chat.said("- a beak")
    return {
        "server error": chat.fails(500),
        "overloaded": chat.fails(503),
        "too many requests": chat.fails(429),
        "request timed out": chat.fails(408),
        "closed in the body": replace(said, breaks_off=True),
        "half of the JSON": replace(said, body=said.body[:40]),
        "not JSON": replace(said, body="{'choices': 1}"),
        "no choices": replace(said, body='{"choices": []}'),
        "another kind of JSON": replace(said, body='{"error": "busy"}'),
        "a page": replace(said, body="<html>Sign in</html>", content_type="text/html"),
        "bytes that are no text": replace(said, headers={"Content-Encoding": "gzip"}),
    }


TROUBLES = [
    ("server error", GenerationError, "answered 500"),
    ("overloaded", GenerationError, "answered 503"),
    ("request timed out", GenerationError, "answered 408"),
    ("closed in the body", GenerationError, "was lost (RemoteProtocolError"),
    ("bytes that are no text", GenerationError, "was lost (DecodingError"),
    ("too many requests", EndpointError, "answered 429"),
    ("half of the JSON", EndpointError, "no chat completion"),
    ("not JSON", EndpointError, "no chat completion"),
    ("no choices", EndpointError, "no chat completion"),
    ("another kind of JSON", EndpointError, "busy"),
    ("a page", EndpointError, "text/html: <html>Sign in</html>"),
]


@pytest.mark.parametrize("trouble", [name for name, _, _ in TROUBLES])
def test_trouble_that_passes_is_lived_through(chat, trouble):
    chat.script = [troubles(chat)[trouble], chat.said("- a beak")]
    assert Asking(chat.url)().text == "- a beak"
    assert len(chat.asked) == 2


@pytest.mark.parametrize(("trouble", "kind", "words"), TROUBLES, ids=[name for name, _, _ in TROUBLES])
def test_trouble_that_stays_is_told_after_the_last_attempt(chat, trouble, kind, words):
    chat.script = [troubles(chat)[trouble]] * 4
    with pytest.raises(GenerationError) as told:
        Asking(chat.url)()
    assert type(told.value) is kind
    assert words in str(told.value)
    assert "4 attempts" in str(told.value)
    assert chat.script == []


def test_json_by_another_name_is_read(chat):
    chat.script = [replace(chat.said("- a beak"), content_type="text/plain")]
    assert Asking(chat.url)().text == "- a beak"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "RECOLLECT_LLM_API_KEY"),
        (402, "top up"),
        (403, "llm_model"),
        (404, "/v1"),
        (405, "/v1"),
    ],
)
def test_a_refusal_is_told_at_once_with_the_remedy(chat, status, words):
    chat.script = [chat.fails(status, '{"error": {"message": "not you"}}')]
    asking = Asking(chat.url)
    with pytest.raises(EndpointError, match=f"answered {status}.*not you.*{words}"):
        asking()
    assert asking.pauses == []


def test_a_redirect_is_told_and_not_followed(chat):
    chat.script = [chat.fails(301, "", Location="https://elsewhere/v1/chat/completions")]
    with pytest.raises(EndpointError, match="redirects to https://elsewhere"):
        Asking(chat.url, key=KEY)()
    assert len(chat.asked) == 1


def test_a_question_that_is_not_taken_is_the_question_s_own_fault(chat):
    chat.script = [chat.fails(400, '{"error": {"message": "flagged"}}')]
    with pytest.raises(GenerationError, match=r"400.*flagged") as told:
        Asking(chat.url)()
    assert type(told.value) is GenerationError


def test_spent_money_does_not_come_back(chat):
    chat.script = [chat.fails(429, '{"error": {"code": "insufficient_quota"}}')]
    with pytest.raises(EndpointError, match="top up"):
        Asking(chat.url)()


def test_a_long_rest_ends_the_run(chat):
    chat.script = [chat.fails(429, Retry_After="86400")]
    asking = Asking(chat.url)
    with pytest.raises(EndpointError, match="86400 s"):
        asking()
    assert asking.pauses == []


def test_an_answer_that_takes_too_long_is_given_up(chat):
    chat.script = [replace(chat.said("- a beak"), before=lambda: chat.closing.wait(20))] * 2
    with pytest.raises(GenerationError, match=r"no whole answer in 0\.05 s, at the last of 2 attempts"):
        Asking(chat.url, patience=replace(PATIENCE, attempts=2, timeout_s=0.05))()


def test_where_nobody_listens_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match="cannot be reached"):
        Asking(url)()


@pytest.mark.parametrize("trouble", ["refused", "wrong page", "redirect", "not taken"])
def test_the_key_is_in_no_error_though_the_endpoint_repeats_it(chat, trouble):
    reply = {
        "refused": chat.fails(401, f'{{"error": "Incorrect key {KEY}"}}'),
        "wrong page": replace(chat.said(""), body=f"you sent {KEY}", content_type=f"text/{KEY}"),
        "redirect": chat.fails(302, "", Location=f"https://elsewhere/?key={KEY}"),
        "not taken": chat.fails(422, KEY),
    }[trouble]
    chat.script = [reply] * 4
    with pytest.raises(GenerationError) as told:
        Asking(chat.url, key=KEY)()
    assert "***" in str(told.value)
    assert KEY not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize("key", ["sk-ключ", "sk-two words", "sk-line\nbreak"], ids=["letters", "space", "line"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(GenerationError, match="llm_api_key must be printable ASCII") as told:
        LanguageModel("http://127.0.0.1/v1", "a-model", api_key=SecretStr(key))
    assert key not in str(told.value)


def test_what_a_server_says_reaches_the_screen_short_and_tame(chat):
    chat.script = [chat.fails(422, "\x1b[2J\r\nred \x07" + "x" * 5_000)]
    with pytest.raises(GenerationError) as told:
        Asking(chat.url)()
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "host/v1",
        "https://",
        "https://user:hush@host/v1",
        "https://host/v1?key=hush",
        "https://host:port/v1",
        "http://[host/v1",
        "",
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_secrets(url):
    with pytest.raises(GenerationError, match="llm_base_url must be like") as told:
        LanguageModel(url, "a-model")
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("change", [{"attempts": 0}, {"timeout_s": 0.0}, {"first_delay_s": 9.0}])
def test_patience_that_makes_no_sense_is_refused(change):
    with pytest.raises(GenerationError, match="patience needs"):
        replace(PATIENCE, **change)
