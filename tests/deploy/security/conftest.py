"""Certificates as an operator would have them made, by authorities of the test's own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes]:
        return self.certificate.read_bytes(), self.key.read_bytes()


class Authority:
    """A root that issues certificates into `directory`."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self._root = (
            x509.CertificateBuilder(self.name, self.name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + 10 * DAY)
            .add_extension(basic, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "ca.pem"
        self.path.write_bytes(_pem(self._root))

    @property
    def roots(self) -> bytes:
        return self.path.read_bytes()

    def issue(
        self,
        file: str,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        common_name: str = "recollect",
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
    ) -> Pair:
        """A certificate for `names`, valid from now + `begins` to now + `ends`; files of the same name are replaced."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self.directory / f"{file}.pem", self.directory / f"{file}.key")
        pair.certificate.write_bytes(_pem(certificate))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


@pytest.fixture
def make_authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Another authority: `make_authority("others")`."""
    return lambda name: Authority(tmp_path / name, name)


@pytest.fixture
def authority(make_authority: Callable[[str], Authority]) -> Authority:
    return make_authority("authority")
