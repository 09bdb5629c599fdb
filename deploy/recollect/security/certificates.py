"""Read certificates and keys, say what is wrong with them before anything starts, and take renewed ones while serving.

Certificates live for days or weeks and are renewed by programs such as cert-manager or certbot. Every handshake looks
whether the files have changed; what is changed and right is taken, and what is wrong leaves the certificate before.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from recollect.errors import SetupError

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """What a server shows to its callers, and whose certificates it asks of them: PEM files."""

    certificate: Path
    """The server's certificate first, then those between it and the root."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """Roots of the certificates that callers must show (mutual TLS); None: they need none."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.certificate, self.key, *(() if self.client_ca is None else (self.client_ca,)))


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsIdentity:
    """What the files held, checked."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    until: datetime
    """When the certificate expires."""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], root_certificates=self.client_ca
        )


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def read_identity(files: TlsFiles, clock: Clock = now) -> TlsIdentity:
    """The checked content of `files`.

    SetupError where one cannot be read, is no PEM, has expired or is not valid yet, and where the key is another's.
    """
    certificate, key = read_pair(files.certificate, files.key, clock)
    roots = None if files.client_ca is None else read_roots(files.client_ca, clock)
    return TlsIdentity(certificate=certificate, key=key, client_ca=roots, until=_expiry(certificate))


def read_pair(certificate: Path, key: Path, clock: Clock = now) -> tuple[bytes, bytes]:
    """A certificate with its chain, and its key; SetupError as of `read_identity`."""
    chain, secret = _read(certificate), _read(key)
    first = _certificates(certificate, chain)[0]
    _require_valid(certificate, first, clock())
    if first.public_key() != _public_half(key, secret):
        subject = first.subject.rfc4514_string() or "no subject"
        raise SetupError(
            f"{key} is not the key of the certificate {certificate} ({subject}); "
            "give the two that were made together, the server's own certificate first in its file"
        )
    return chain, secret


def read_roots(path: Path, clock: Clock = now) -> bytes:
    """Roots to trust; SetupError where the file cannot be read, is no PEM, or all that it has have expired."""
    data = _read(path)
    found = _certificates(path, data)
    if all(clock() > each.not_valid_after_utc for each in found):
        latest = max(each.not_valid_after_utc for each in found)
        raise SetupError(
            f"every certificate in {path} has expired, the last one on {latest:%Y-%m-%d %H:%M} UTC; renew it"
        )
    return data


def server_credentials(files: TlsFiles, *, servers: int) -> list[grpc.ServerCredentials]:
    """Credentials for each of so many servers that take renewed files by themselves; SetupError as of `read_identity`.

    All go by one look at the files, so that what is wrong with them is said once.
    """
    renewal = Renewal(files)
    return [_credentials(renewal, asks=files.client_ca is not None) for _ in range(servers)]


def _credentials(renewal: "Renewal", *, asks: bool) -> grpc.ServerCredentials:
    shown = renewal.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks before each handshake: another certificate to show, or None to go on with the present one."""
        nonlocal shown
        identity = renewal.current()
        if identity is shown:
            return None
        shown = identity
        return identity.configuration()

    return grpc.dynamic_ssl_server_credentials(shown.configuration(), renewed, require_client_authentication=asks)


class Renewal:
    """Looks whether another certificate is to be shown; threads may share it."""

    def __init__(self, files: TlsFiles, clock: Clock = now) -> None:
        """SetupError as of `read_identity`."""
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        # Looked at before they are read: what changes in between is seen at the next handshake.
        self._seen = self._look()
        self._identity = read_identity(files, clock)

    def current(self) -> TlsIdentity:
        """What is to be shown: what the files hold, or the same as before where they have not changed or are wrong."""
        with self._lock:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                try:
                    self._identity = read_identity(self._files, self._clock)
                except SetupError as error:
                    log.error("the TLS certificate before answers on: %s", error)
                else:
                    until = self._identity.until
                    log.warning("took the renewed certificate %s, valid until %s", self._files.certificate, until)
            return self._identity

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_signature, self._files.paths))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size, told.st_ino


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); give a PEM file that this user may read") from error


def _certificates(path: Path, data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise SetupError(
            f"{path} has no certificate in PEM ({error}); it begins with -----BEGIN CERTIFICATE-----"
        ) from error


def _public_half(path: Path, data: bytes) -> object:
    """The public key that belongs to a private one."""
    try:
        return serialization.load_pem_private_key(data, password=None).public_key()
    except TypeError as error:
        raise SetupError(
            f"the key {path} needs a passphrase; give one without, which only this user may read"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SetupError(f"{path} has no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----") from error


def _require_valid(path: Path, certificate: x509.Certificate, at: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at > end:
        raise SetupError(f"the certificate {path} expired on {end:%Y-%m-%d %H:%M} UTC; renew it")
    if at < begin:
        raise SetupError(
            f"the certificate {path} is not valid before {begin:%Y-%m-%d %H:%M} UTC; wait, or correct the clock"
        )


def _expiry(chain: bytes) -> datetime:
    return x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc
