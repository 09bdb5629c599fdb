"""How commands reach a service: the options of every command with --target, and the settings they stand for."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypedDict, TypeVar

import typer

from recollect.errors import RecollectError, SetupError
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect_api import RecollectClient, Unavailable

SERVICE, COMPOSED_SERVICE = "recollect serve", "recollect serve --composed MODEL"
"""Commands that answer."""
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

_OPTIONS: dict[str, Any] = {
    "tls": Annotated[
        bool | None, typer.Option("--tls", help="Call over TLS; any of the next three does so too.", show_default=False)
    ],
    "ca": Annotated[
        Path | None,
        typer.Option("--ca", metavar="PEM", help="Roots for the service's certificate; the public ones if left out."),
    ],
    "cert": Annotated[
        Path | None, typer.Option("--cert", metavar="PEM", help="Certificate to show to a service that asks for one.")
    ],
    "key": Annotated[Path | None, typer.Option("--key", metavar="PEM", help="Its private key.")],
    "token_file": Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the token to call with; see `recollect token`."),
    ],
}
_given: ContextVar[dict[str, Any] | None] = ContextVar("_given", default=None)


class ConnectionOptions(TypedDict):
    """What every client takes."""

    tls: bool
    root_certificates: bytes | None
    client_certificate: bytes | None
    client_key: bytes | None
    token: str | None


def connects(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command with --target the options of how to get there; `connection` has what they say."""
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _given.set({name: kwargs.pop(name, None) for name in _OPTIONS})
        try:
            return command(*args, **kwargs)
        finally:
            _given.reset(token)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return run


def connection() -> ConnectionOptions:
    """What a client is made with, by the command's options and by the settings behind them.

    SetupError where a file cannot be read, has expired, or is not what it should be.
    """
    from recollect.security.certificates import read_pair, read_roots

    given = _given.get() or {}
    at = Settings.load(**{f"target_{name}": given.get(name) for name in ("tls", "ca", "cert", "key")})
    token_file, secret = given.get("token_file"), at.target_token
    token = _token_of(token_file) if token_file is not None else None if secret is None else secret.get_secret_value()
    pair = None if at.target_cert is None or at.target_key is None else read_pair(at.target_cert, at.target_key)
    return ConnectionOptions(
        tls=at.target_tls or at.target_ca is not None or pair is not None or token is not None,
        root_certificates=None if at.target_ca is None else read_roots(at.target_ca),
        client_certificate=None if pair is None else pair[0],
        client_key=None if pair is None else pair[1],
        token=token,
    )


def made(make: Callable[..., C], target: str, **options: Any) -> C:
    """A client, or a channel's config, for `target`, by the command's options; SetupError where there cannot be one."""
    try:
        return make(target=target, **options, **connection())
    except ValueError as error:
        raise SetupError(str(error)) from error


@contextmanager
def asking(target: str | None, *, timeout_s: float = 5.0, serves: str = SERVICE) -> "Iterator[RecollectClient]":
    """A client of the service at `target`, or of the configured one, whose errors are told as a person needs them.

    `serves` is the command that would answer.
    """
    from recollect.gateway.address import client_address
    from recollect_api import ClientError, RecollectClient, Unavailable

    if target is None:
        settings = Settings.load()
        target = client_address(settings.host, settings.port)
    with made(RecollectClient, target, timeout_s=timeout_s, connections=1) as client:
        try:
            yield client
        except Unavailable as error:
            raise RecollectError(f"{error}{remedy(error, serves)}") from error
        except ClientError as error:
            raise RecollectError(str(error)) from error


def remedy(error: "Unavailable", serves: str) -> str:
    """What may help where the service did not say anything, to be put behind the error."""
    if error.reason:
        return ""
    how = "over TLS, where its certificate must be one of --ca, for this name" if connection()["tls"] else "without TLS"
    return f"; is `{serves}` running there? It was called {how}"


def _token_of(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read the token in {path} ({error}); give a file that this user may read") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SetupError(f"{path} holds no token; it should hold the one line that `recollect token create` printed")
    return token
