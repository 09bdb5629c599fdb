"""Answer Prometheus on a port that all processes of the service share: whichever is asked tells of all.

Any one of them may be killed, and the port answers on. Plain HTTP, or HTTPS with the service's certificate; where calls
need tokens, so does this port, with the scope `metrics`.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from recollect.errors import SetupError
from recollect.gateway.address import address_of, client_address
from recollect.security.certificates import Renewal, TlsFiles
from recollect.security.scopes import Scope
from recollect.security.tokens import Clock, TokenBook, now
from recollect.telemetry.processes import collected

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""How long a connection may take for its request, and to take the answer."""
PATH = "/metrics"
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]
"""A WSGI application."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """Where metrics are told, and to whom."""

    host: str
    port: int
    """All processes of the service on a machine share it; 0 takes a free one, which none but this process has."""
    directory: Path | None = None
    """Where the processes of the service count; None: there is this one alone."""
    tls: TlsFiles | None = None
    """Certificate and key; None: plain HTTP."""
    tokens: Path | None = None
    """File of the tokens that are asked for; None: none is."""

    @property
    def url(self) -> str:
        """Where a program on this machine reads them."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{client_address(self.host, self.port)}{PATH}"


class Exporter:
    """Answers on the port, in threads of its own, until `stop`."""

    def __init__(self, config: MetricsConfig) -> None:
        """SetupError where the address cannot be listened on, or a file of `config` is wrong."""
        app: App = _tell if config.tokens is None else _Guarded(TokenBook(config.tokens))
        tls = None if config.tls is None else _Tls(config.tls)
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        server_class = type("_Bound", (_Server,), {"address_family": family, "tls": tls})
        try:
            self._server: WSGIServer = make_server(
                config.host, config.port, app, server_class=server_class, handler_class=_QuietHandler
            )
        except OSError as error:
            raise SetupError(
                f"cannot tell metrics on {address_of(config.host, config.port)} ({error.strerror or error}); choose "
                "another --metrics-port, or 0 for a free one"
            ) from error
        self.port: int = self._server.server_port
        """Where it answers."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a connection; every process of the service may listen on the port."""

    daemon_threads = True
    allow_reuse_port = True
    tls: "_Tls | None" = None

    def server_bind(self) -> None:
        """Without asking a name server what this machine is called, which `HTTPServer` does."""
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; encrypted, it shakes hands in its own thread."""
        connection, address = super().get_request()
        connection.settimeout(TIMEOUT_S)
        return (connection if self.tls is None else self.tls.wrapped(connection)), address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's thread."""
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A connection that breaks is its caller's matter."""
        log.debug("a connection of %s broke", client_address, exc_info=True)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing: it is asked every few seconds."""


class _Tls:
    """The certificate to show, anew when its files have changed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._renewal = Renewal(files)
        self._shown = self._renewal.current()
        self._context = self._read()

    def wrapped(self, connection: socket.socket) -> ssl.SSLSocket:
        """`connection`, to be encrypted."""
        identity = self._renewal.current()
        if identity is not self._shown:
            self._shown, self._context = identity, self._read()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._files.certificate, self._files.key)
        if self._files.client_ca is not None:
            context.load_verify_locations(self._files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class _Guarded:
    """Lets only callers in with a token of the scope `metrics`."""

    def __init__(self, book: TokenBook, clock: Clock = now) -> None:
        self._book = book
        self._clock = clock
        self._looking = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """See WSGI."""
        scheme, _, presented = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        with self._looking:
            token = self._book.find(presented)
        if scheme.lower() != "bearer" or token is None or token.state(self._clock()) != "valid":
            return _refuse(start_response, HTTPStatus.UNAUTHORIZED, "send authorization: Bearer TOKEN")
        if Scope.METRICS not in token.scopes:
            return _refuse(start_response, HTTPStatus.FORBIDDEN, "the token needs the scope metrics")
        return _tell(environ, start_response)


def _tell(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    if environ.get("PATH_INFO") != PATH:
        return _refuse(start_response, HTTPStatus.NOT_FOUND, f"metrics are at {PATH}")
    if environ.get("REQUEST_METHOD") != "GET":
        return _refuse(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "metrics are read by GET")
    told: Iterable[bytes] = make_wsgi_app(collected())(environ, start_response)
    return told


def _refuse(start_response: StartResponse, status: HTTPStatus, why: str) -> Iterable[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(f"{status.value} {status.phrase}", headers)
    return [f"{why}\n".encode()]
