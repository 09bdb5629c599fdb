"""Refuse to listen where others can reach the service while nothing keeps them out."""

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from recollect.errors import SetupError
from recollect.gateway.address import EVERY_HOST

if TYPE_CHECKING:
    from recollect.settings import Settings


def require_guarded(settings: "Settings", *, admin: bool | None = None) -> None:
    """SetupError where the gateway, the admin server or the metrics would listen beyond this machine without TLS and
    tokens, and nobody has said that this is wanted. `admin`: whether that server listens; None: if it has a port."""
    administered = settings.admin_port is not None if admin is None else admin
    hosts = {
        "host": settings.host,
        **({"admin_host": settings.admin_host} if administered else {}),
        **({"metrics_host": settings.metrics_host} if settings.metrics_port is not None else {}),
    }
    missing = [
        what
        for what, there in (
            ("TLS (--tls-cert, --tls-key)", settings.tls),
            ("token that calls must carry (--tokens)", settings.tokens),
        )
        if there is None
    ]
    if settings.insecure or not missing:
        return
    for name, host in hosts.items():
        if not is_loopback(host):
            raise SetupError(
                f"{name} {host or '(every interface)'} can be reached from other machines, and there is no "
                f"{' and no '.join(missing)}; give them, listen on 127.0.0.1, or say --insecure where something else "
                "keeps strangers out, such as a private network or a proxy"
            )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine to itself alone; a name is, where all of its addresses are."""
    if host in EVERY_HOST:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # what cannot be told is not taken for safe
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
