"""API tokens: a file of their hashes, which commands change and a running service reads anew.

A token is `rcl_ID_SECRET`. The secret is 256 random bits, so that SHA-256 is enough: slow hashes such as Argon2 make
guessing what people choose expensive, and nobody guesses 256 bits. The id is no secret; logs name a token by it.
"""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from recollect.artifacts.locks import locked
from recollect.errors import SetupError
from recollect.security.scopes import Scope
from retrieval.files import write_whole

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
_FORM = re.compile(r"rcl_([0-9a-f]{12})_[0-9a-f]{64}")
_NOBODY = hashlib.sha256(b"").hexdigest()
"""What a token of an unknown id is compared with, so that it is refused no faster."""


class Token(BaseModel):
    """What is kept of a token: enough to know it again, not enough to use it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern="^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=100)
    """Whose it is, for people."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the whole token."""
    created: AwareDatetime
    expires: AwareDatetime | None
    """None: never."""
    revoked: AwareDatetime | None = None
    """Since when it is refused; None: it is not."""
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Calls a second that each replica takes; None: as the service is set up."""
    burst: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    """Calls that it takes at once; None: those of one second."""

    def state(self, now: datetime) -> Literal["valid", "revoked", "expired"]:
        """Whether it is taken at a time."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"


class _Contents(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made."""

    token: Token
    secret: str
    """What callers send. It is nowhere else and cannot be had again."""


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


class TokenFile:
    """The file, as commands change it: one at a time, and readers find the old one or the new one."""

    def __init__(self, path: Path, clock: Clock = now) -> None:
        self.path = path
        self._clock = clock

    def read(self) -> tuple[Token, ...]:
        """All tokens, oldest first; SetupError where the file is missing or not one of tokens."""
        try:
            found = _Contents.model_validate_json(self.path.read_bytes()).tokens
        except OSError as error:
            raise SetupError(
                f"cannot read the tokens in {self.path} ({error.strerror}); `recollect token create` makes the file"
            ) from error
        except ValidationError as error:
            # Without what was found there: it may be a token that somebody pasted.
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise SetupError(f"{self.path} is not a file of tokens: {where}: {first['msg']}") from None
        ids = [each.id for each in found]
        if len(set(ids)) < len(ids):
            raise SetupError(f"{self.path} has two tokens of one id; take one of them out")
        return found

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        lifetime: timedelta | None,
        rate: float | None = None,
        burst: float | None = None,
    ) -> NewToken:
        """Add a token that lives as long as `lifetime`; None: until it is revoked."""
        with self._changed() as tokens:
            made = self._make(name, scopes, lifetime=lifetime, rate=rate, burst=burst)
            tokens.append(made.token)
        return made

    def revoke(self, token_id: str) -> Token:
        """Have a token refused from now on; SetupError where there is none of that id."""
        with self._changed() as tokens:
            at = self._find(tokens, token_id)
            if tokens[at].revoked is None:
                tokens[at] = tokens[at].model_copy(update={"revoked": self._clock()})
            return tokens[at]

    def rotate(self, token_id: str, *, keep: timedelta, lifetime: timedelta | None) -> NewToken:
        """Make a successor with the same name, scopes and rate, and let the token expire after `keep`."""
        with self._changed() as tokens:
            at = self._find(tokens, token_id)
            before, ends = tokens[at], self._clock() + keep
            if before.state(self._clock()) != "valid":
                raise SetupError(f"token {token_id} is {before.state(self._clock())}; create another one")
            if before.expires is None or before.expires > ends:
                tokens[at] = before.model_copy(update={"expires": ends})
            made = self._make(before.name, before.scopes, lifetime=lifetime, rate=before.rate, burst=before.burst)
            tokens.append(made.token)
        return made

    def _make(
        self, name: str, scopes: Sequence[Scope], *, lifetime: timedelta | None, rate: float | None, burst: float | None
    ) -> NewToken:
        token_id, created = secrets.token_hex(6), self._clock()
        secret = f"rcl_{token_id}_{secrets.token_hex(32)}"
        token = Token(
            id=token_id,
            name=name,
            scopes=tuple(sorted(set(scopes))),
            sha256=digest_of(secret),
            created=created,
            expires=None if lifetime is None else created + lifetime,
            rate=rate,
            burst=burst,
        )
        return NewToken(token, secret)

    def _find(self, tokens: Sequence[Token], token_id: str) -> int:
        for at, each in enumerate(tokens):
            if each.id == token_id:
                return at
        raise SetupError(f"{self.path} has no token {token_id!r}; `recollect token list` shows them")

    @contextmanager
    def _changed(self) -> Iterator[list[Token]]:
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            tokens = list(self.read()) if self.path.exists() else []
            yield tokens
            contents = _Contents(format=1, tokens=tuple(tokens)).model_dump(mode="json")
            write_whole(self.path, json.dumps(contents, indent=2) + "\n")


class TokenBook:
    """The file, as a service reads it: anew when it has changed. Where it is then missing or wrong, what was read last
    counts, and the log says so: to refuse everybody for a slip of an editor would be the worse mistake."""

    def __init__(self, path: Path) -> None:
        """SetupError where it cannot be read at the start."""
        self._file = TokenFile(path)
        self._seen = self._look()
        self._tokens = self._by_id()

    def find(self, presented: str) -> Token | None:
        """The token that `presented` is, expired and revoked ones too; None for any other text."""
        self._refresh()
        form = _FORM.fullmatch(presented)
        token = None if form is None else self._tokens.get(form[1])
        # Compared whatever was found, in a time that does not depend on where the two differ.
        same = hmac.compare_digest(digest_of(presented), _NOBODY if token is None else token.sha256)
        return token if same else None

    def _refresh(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._tokens = self._by_id()
        except SetupError as error:
            log.error("the tokens that were read last count on: %s", error)

    def _by_id(self) -> Mapping[str, Token]:
        return {each.id: each for each in self._file.read()}

    def _look(self) -> tuple[int, int, int] | None:
        try:
            told = os.stat(self._file.path)  # noqa: PTH116 - asked at every call, and half as long as Path's
        except OSError:
            return None
        return told.st_mtime_ns, told.st_size, told.st_ino


def digest_of(presented: str) -> str:
    """SHA-256, in hex, of what a caller sent."""
    return hashlib.sha256(presented.encode(errors="surrogatepass")).hexdigest()
