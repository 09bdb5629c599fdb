"""Act on a service that runs, through its admin port, instead of on this machine's directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.connecting import made, remedy
from recollect.errors import RecollectError
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect_api.admin import AdminClient

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="HOST:PORT",
        help="Act on the service whose --admin-port that is, instead of on this directory.",
        show_default=False,
    ),
]
ServiceOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="HOST:PORT",
        help="The service's --admin-port; as configured if left out.",
        show_default=False,
    ),
]


@contextmanager
def admin_at(target: str | None) -> "Iterator[AdminClient]":
    """A client of the service at `target`, or of the configured one; errors of calls become RecollectErrors."""
    from recollect_api import ClientError, Unavailable
    from recollect_api.admin import AdminClient

    with made(AdminClient, target or _configured()) as client:
        try:
            yield client
        except Unavailable as error:
            raise RecollectError(f"{error}{remedy(error, 'recollect serve --admin-port')}") from error
        except ClientError as error:
            raise RecollectError(str(error)) from error


def _configured() -> str:
    from recollect.gateway.address import client_address

    settings = Settings.load()
    if settings.admin_port is None:
        raise RecollectError("no admin port is configured; name the service with --target HOST:PORT")
    return client_address(settings.admin_host, settings.admin_port)
