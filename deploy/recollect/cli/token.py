"""`recollect token`: who may call a service, with what, and until when."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import cell, err, explains_errors, out, show_json, show_table
from recollect.errors import SetupError
from recollect.security.scopes import Scope

if TYPE_CHECKING:
    from recollect.security.tokens import NewToken, Token, TokenFile

token_app = typer.Typer(
    help="Tokens that calls must carry: make, list, rotate and revoke them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
NEVER = "never"

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="File of the tokens; RECOLLECT_TOKENS if left out.", show_default=False
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Which one, as `list` shows it.")]
ExpiresOption = Annotated[
    str, typer.Option(metavar="TIME", help="How long it counts: 30m, 12h, 90d, or never: until it is revoked.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="Write it there, for this user alone, instead of printing it."),
]


@token_app.command()
@explains_errors
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for people: shop-backend, nightly-import.")],
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be repeated. None of them includes another.")],
    expires: ExpiresOption = "90d",
    rate: Annotated[
        float | None, typer.Option(help="Calls a second that each replica takes; as the service is set up if left out.")
    ] = None,
    burst: Annotated[float | None, typer.Option(help="Calls at once; those of one second if left out.")] = None,
    output: OutputOption = None,
    file: FileOption = None,
) -> None:
    """Make a token and print it, once: the file has only its hash. A running service takes it at once.

    Examples:

    `recollect token create shop-backend --scope read --scope write --file var/tokens.json`

    `recollect token create nightly --scope admin --expires 12h --output nightly.token`
    """
    if burst is not None and rate is None:
        raise typer.BadParameter("--burst is of no use without --rate; give both")
    _require_limits(rate, burst)
    made = _file(file).create(name, scope, lifetime=_time(expires), rate=rate, burst=burst)
    _hand_over(made, output)


@token_app.command(name="list")
@explains_errors
def list_tokens(
    file: FileOption = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False
) -> None:
    """List tokens, oldest first: whose they are, what they allow, and whether they count."""
    rows = [_row(each) for each in _file(file).read()]
    if as_json:
        show_json(rows)
        return
    columns = ["id", "name", "scopes", "state", "expires", "rate"]
    show_table("", columns, [[cell(row[column]) for column in columns] for row in rows])


@token_app.command()
@explains_errors
def rotate(
    token_id: IdArgument,
    keep: Annotated[
        str, typer.Option(metavar="TIME", help="How long the present one counts yet; 0m: no longer.")
    ] = "24h",
    expires: ExpiresOption = "90d",
    output: OutputOption = None,
    file: FileOption = None,
) -> None:
    """Make a successor with the same name, scopes and rate, and let the present one expire.

    Example: `recollect token rotate 5c3b0f0e9a1d --keep 1h --file var/tokens.json`
    """
    stays = _time(keep)
    if stays is None:
        raise typer.BadParameter("the present one must end; give --keep 24h, for one")
    _hand_over(_file(file).rotate(token_id, keep=stays, lifetime=_time(expires)), output)


@token_app.command()
@explains_errors
def revoke(token_id: IdArgument, file: FileOption = None) -> None:
    """Have a token refused from now on, by running services too.

    Example: `recollect token revoke 5c3b0f0e9a1d --file var/tokens.json`
    """
    token = _file(file).revoke(token_id)
    out.print(f"{token.id} of {token.name} is refused from now on", highlight=False)


def _file(path: Path | None) -> "TokenFile":
    from recollect.security.tokens import TokenFile
    from recollect.settings import Settings

    found = path or Settings.load().tokens
    if found is None:
        raise SetupError("no file of tokens is configured; name it with --file, or in RECOLLECT_TOKENS")
    return TokenFile(found)


def _time(text: str) -> timedelta | None:
    if text == NEVER:
        return None
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise typer.BadParameter(f"expected a time such as 30m, 12h or 90d, or {NEVER}, got {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def _require_limits(rate: float | None, burst: float | None) -> None:
    if rate is not None and not 0 < rate < float("inf"):
        raise typer.BadParameter(f"--rate must be above 0, got {rate:g}")
    if burst is not None and not 1 <= burst < float("inf"):
        raise typer.BadParameter(f"--burst must be at least 1, got {burst:g}")


def _hand_over(made: "NewToken", output: Path | None) -> None:
    token = made.token
    until = "until it is revoked" if token.expires is None else f"until {token.expires:%Y-%m-%d %H:%M} UTC"
    told = f"token {token.id} of {token.name}: {', '.join(token.scopes)}, {until}"
    if output is None:
        err.print(f"{told}; it is shown this once", highlight=False, soft_wrap=True)
        out.print(made.secret, highlight=False, soft_wrap=True)
        return
    try:
        output.touch(mode=0o600)
        output.chmod(0o600)
        output.write_text(made.secret + "\n", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot write {output} ({error.strerror}); revoke {token.id} and create another") from error
    err.print(f"{told}; in {output}", highlight=False, soft_wrap=True)


def _row(token: "Token") -> dict[str, Any]:
    from recollect.security.tokens import now

    return {
        "id": token.id,
        "name": token.name,
        "scopes": _listed(token.scopes),
        "state": token.state(now()),
        "created": token.created.isoformat(" ", "minutes"),
        "expires": None if token.expires is None else token.expires.isoformat(" ", "minutes"),
        "rate": token.rate,
    }


def _listed(scopes: Sequence[Scope]) -> str:
    return " ".join(scopes)
