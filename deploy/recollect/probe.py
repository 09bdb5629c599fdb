"""Say whether the gateway of this machine takes calls, for health checks of containers: `python -m recollect.probe`.

It asks grpc.health.v1 where `RECOLLECT_PORT` and the other settings say that the gateway listens, and ends with 0 if it
serves and 1 if it does not, with the reason. Probes that orchestrators bring along speak no TLS.
"""

import socket
import sys
from typing import TYPE_CHECKING

import grpc  # type: ignore[import-untyped]

from recollect.errors import SetupError
from recollect.gateway.address import EVERY_HOST, address_of

if TYPE_CHECKING:
    from recollect.settings import Settings

TIMEOUT_S = 3.0
_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""HealthCheckResponse with the status SERVING; the request for the server as a whole is empty."""


def main() -> None:
    """Probe what the settings name, and exit."""
    from recollect.settings import Settings

    problem = probe(Settings.load())
    if problem:
        sys.exit(problem)
    sys.stdout.write("serving\n")


def probe(settings: "Settings", *, timeout_s: float = TIMEOUT_S) -> str | None:
    """What keeps the gateway of `settings` from serving; None: nothing.

    Its certificate is the one of `tls_cert`. Where it asks callers for one, `target_cert` is shown; without that, that
    somebody listens must do.
    """
    host = "127.0.0.1" if settings.host in EVERY_HOST else settings.host
    address = address_of(host, settings.port)
    if settings.tls_client_ca is not None and settings.target_cert is None:
        return _listened(host, settings.port, timeout_s)
    try:
        with _channel(settings, address) as channel:
            answer = channel.unary_unary(_CHECK)(b"", timeout=timeout_s)
    except grpc.RpcError as error:
        return f"{address} does not answer: {error.code().name}: {error.details()}"
    except (OSError, SetupError) as error:
        return f"{address} cannot be asked: {error}"
    return None if answer == _SERVING else f"{address} answers, and takes no calls"


def _listened(host: str, port: int, timeout_s: float) -> str | None:
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        return f"nobody listens on {address_of(host, port)}: {error}"
    return None


def _channel(settings: "Settings", address: str) -> grpc.Channel:
    if settings.tls is None:
        return grpc.insecure_channel(address)
    shown = settings.tls.certificate.read_bytes()
    client = settings.target_cert, settings.target_key
    certificate, key = (None if path is None else path.read_bytes() for path in client)
    credentials = grpc.ssl_channel_credentials(root_certificates=shown, private_key=key, certificate_chain=certificate)
    # The certificate is for the name that callers know, not for this machine to itself.
    return grpc.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", _name_in(shown))])


def _name_in(certificate: bytes) -> str:
    """A name or address that the certificate in PEM is for; SetupError where it is for none."""
    from cryptography import x509

    try:
        names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound) as error:
        raise SetupError(f"the certificate names nobody ({error}); make one with subjectAltName") from error
    hosts = names.value.get_values_for_type(x509.DNSName)
    addresses = map(str, names.value.get_values_for_type(x509.IPAddress))
    return next((name.replace("*", "probe") for name in [*hosts, *addresses]), "")


if __name__ == "__main__":
    main()
