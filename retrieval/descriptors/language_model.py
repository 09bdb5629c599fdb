"""Ask a language model over the chat completions protocol: an answer comes back, or the reason why none did."""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, Field, SecretStr, ValidationError

from retrieval.errors import GenerationError

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that another attempt may cure."""
_REMEDIES = {
    401: "set llm_api_key (RECOLLECT_LLM_API_KEY) to a key that it accepts",
    402: "top up the account, or choose another endpoint with llm_base_url",
    403: "use a key and a model that this account may use (llm_api_key, llm_model)",
    404: "check llm_base_url, which usually ends in /v1, and llm_model",
    405: "check llm_base_url, which usually ends in /v1",
}
_EXCERPT = 200
"""Characters of a server's own words that an error repeats."""


class EndpointError(GenerationError):
    """The endpoint refuses in a way that no other question would change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model wrote."""

    text: str
    """As it came; may be empty."""
    complete: bool
    """False where the endpoint cut it off at a limit of length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to go on asking. Delays double from the first to the longest, each shortened by up to half at random."""

    timeout_s: float = 120.0
    """From sending a question to the last byte of its answer."""
    attempts: int = 6
    """Of one question."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    longest_asked_s: float = 300.0
    """Longest wait that the endpoint may ask for with Retry-After; asked for more, the run ends."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or not 1 <= self.attempts <= 100 or not 0 <= self.first_delay_s <= self.longest_delay_s:
            raise GenerationError(f"patience needs a timeout, 1 to 100 attempts and delays that don't fall, got {self}")


class _PassingTrouble(Exception):  # noqa: N818 - it is handled here and never an error for a caller
    """An attempt failed in a way that may pass."""

    def __init__(
        self, what: str, *, asked_s: float | None = None, lasting: type[GenerationError] = GenerationError
    ) -> None:
        super().__init__(what)
        self.asked_s = asked_s
        """How long the endpoint wants to be left alone, seconds."""
        self.lasting = lasting
        """What it is if it does not pass."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class LanguageModel:
    """One model behind one endpoint, used as an asynchronous context manager.

    Nothing but the model's name and the question is sent, because endpoints disagree on every other field. The key is
    in no error, not even where the endpoint repeats it.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: SecretStr | None = None,
        patience: Patience | None = None,
        generator: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.model = model
        self._patience = patience or Patience()
        self._generator = generator or random.Random()
        self._sleep = sleep
        self._clock = clock
        self._key = api_key.get_secret_value().strip() if api_key else ""
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise GenerationError(
                "llm_api_key must be printable ASCII without spaces; copy the key again (not shown here)"
            )
        self._url, self._name = _checked(base_url)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx2.AsyncClient(headers=headers, timeout=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def complete(self, prompt: str) -> Answer:
        """The model's answer to `prompt`.

        Raises EndpointError for what every question would meet (key, model, address, quota) and GenerationError for
        what went wrong with this one, after as many attempts as may help.
        """
        for attempt in itertools.count(1):
            try:
                return await self._attempt(prompt)
            except _PassingTrouble as trouble:
                if attempt >= self._patience.attempts:
                    raise trouble.lasting(
                        f"{self._name} {trouble}, at the last of {attempt} attempts; run again later, what is there is "
                        "kept"
                    ) from None
                await self._sleep(self._delay(attempt, trouble))
        raise AssertionError("the loop above has no end")

    async def _attempt(self, prompt: str) -> Answer:
        question = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        try:
            async with asyncio.timeout(self._patience.timeout_s):
                response = await self._client.post(self._url, json=question)
        except TimeoutError:
            raise _PassingTrouble(f"gave no whole answer in {self._patience.timeout_s:g} s") from None
        except httpx2.ConnectError as error:
            said = self._excerpt(str(error))
            raise _PassingTrouble(
                f"cannot be reached ({said}; is llm_base_url right?)", lasting=EndpointError
            ) from None
        except httpx2.RequestError as error:
            raise _PassingTrouble(f"was lost ({type(error).__name__}: {self._excerpt(str(error))})") from None
        if response.status_code == HTTPStatus.OK:
            return self._read(response)
        raise self._trouble_of(response)

    def _read(self, response: httpx2.Response) -> Answer:
        try:
            choice = _Completion.model_validate_json(response.content).choices[0]
        except ValidationError:
            said = self._excerpt(f"{response.headers.get('content-type', 'no content type')}: {response.text}")
            raise _PassingTrouble(
                f"answered with no chat completion ({said}); llm_base_url usually ends in /v1", lasting=EndpointError
            ) from None
        return Answer(text=choice.message.content or "", complete=choice.finish_reason != "length")

    def _trouble_of(self, response: httpx2.Response) -> Exception:
        status = response.status_code
        said = f"answered {status} ({self._excerpt(response.text) or 'no text'})"
        if response.is_redirect:
            target = response.headers.get("location", "")
            return EndpointError(f"{self._name} redirects to {self._excerpt(target)}; set llm_base_url to that")
        if status in _REMEDIES:
            return EndpointError(f"{self._name} {said}; {_REMEDIES[status]}")
        if "insufficient_quota" in response.text:
            return EndpointError(f"{self._name} {said}; {_REMEDIES[402]}")
        if status not in _PASSING and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return GenerationError(
                f"{self._name} {said}; it does not take this question, write these descriptors by hand"
            )
        asked_s = self._asked_wait(response.headers.get("retry-after", ""))
        if asked_s is not None and asked_s > self._patience.longest_asked_s:
            return EndpointError(
                f"{self._name} {said} and wants {asked_s:.0f} s of rest; run again after that, what is there is kept"
            )
        lasting = EndpointError if status == HTTPStatus.TOO_MANY_REQUESTS else GenerationError
        return _PassingTrouble(said, asked_s=asked_s, lasting=lasting)

    def _asked_wait(self, retry_after: str) -> float | None:
        """Seconds that a Retry-After header asks for, None where it says nothing of use: RFC 9110, section 10.2.3."""
        try:
            seconds = float(retry_after)
        except ValueError:
            try:
                date = parsedate_to_datetime(retry_after)
            except ValueError:
                return None
            # A date without a zone is in UTC, as the RFC asks.
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - self._clock()).total_seconds()
        return seconds if math.isfinite(seconds) else None

    def _delay(self, attempt: int, trouble: _PassingTrouble) -> float:
        doubled = min(self._patience.longest_delay_s, self._patience.first_delay_s * 2.0 ** (attempt - 1))
        delay = doubled * self._generator.uniform(0.5, 1.0)
        return delay if trouble.asked_s is None else max(delay, trouble.asked_s)

    def _excerpt(self, said: str) -> str:
        """What the other side said, on one line, short and without the key."""
        printable = "".join(character if character.isprintable() else " " for character in said)
        words = " ".join((printable.replace(self._key, "***") if self._key else printable).split())
        return words if len(words) <= _EXCERPT else f"{words[:_EXCERPT]}…"


def _checked(base_url: str) -> tuple[str, str]:
    """The address to post to, and the same as errors name it: without what may be secret."""
    try:
        parts = urlsplit(base_url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise GenerationError(
            "llm_base_url must be like https://host/v1, without user, query or fragment; a key belongs in llm_api_key; "
            f"got one with scheme {parts.scheme!r} and host {host!r}"
        )
    bracketed = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{bracketed}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    return f"{address.removesuffix('/chat/completions')}/chat/completions", address
