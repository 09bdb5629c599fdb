"""Write a host and a port as gRPC reads them."""

EVERY_HOST = ("0.0.0.0", "::", "")
"""Hosts that mean every interface: to listen on, not to call."""


def address_of(host: str, port: int) -> str:
    """`host:port`, with the brackets of an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_address(host: str, port: int) -> str:
    """Where a client on the same machine calls a server that listens on `host` and `port`."""
    return address_of("localhost" if host in EVERY_HOST else host, port)
