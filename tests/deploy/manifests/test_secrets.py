"""What `make-secrets` makes, and a real Redis with it: who may do what."""

import asyncio
import stat
import subprocess
from datetime import UTC, datetime

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from recollect.embedded.redis import find_server
from recollect.security.certificates import TlsFiles, read_identity
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenBook
from recsys.history.connection import RIGHTS


def make(deploy, directory, *names):
    done = subprocess.run(
        [deploy / "make-secrets", directory, *names], capture_output=True, text=True, check=False, timeout=60
    )
    return done


@pytest.fixture(scope="module")
def secrets(deploy, tmp_path_factory):
    directory = tmp_path_factory.mktemp("made") / "secrets"
    assert make(deploy, directory, "recollect.example", "192.0.2.7").returncode == 0
    return directory


def test_only_who_made_them_reaches_them_and_containers_can_read_them(secrets):
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for path in (secrets / "redis_users", secrets / "recollect" / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert stat.S_IMODE((secrets / "ca.key").stat().st_mode) == 0o600
    names = ["ca.pem", "server.key", "server.pem", "tokens.json"]
    assert sorted(path.name for path in (secrets / "recollect").iterdir()) == names


def test_the_certificate_is_for_the_names_and_by_the_root(secrets):
    from cryptography import x509

    directory = secrets / "recollect"
    identity = read_identity(TlsFiles(certificate=directory / "server.pem", key=directory / "server.key"))
    names = x509.load_pem_x509_certificate(identity.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(each.value) for each in names.value] == ["recollect", "recollect.example", "192.0.2.7"]
    subprocess.run(
        ["openssl", "verify", "-CAfile", directory / "ca.pem", directory / "server.pem"],
        check=True,
        capture_output=True,
    )


def test_prometheus_has_a_token_for_metrics_alone(secrets):
    secret = (secrets / "prometheus_token").read_text()
    found = TokenBook(secrets / "recollect" / "tokens.json").find(secret)
    assert (found.name, found.scopes, found.state(datetime.now(UTC))) == ("prometheus", (Scope.METRICS,), "valid")


def test_a_second_run_changes_nothing_but_what_was_removed(deploy, secrets):
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert make(deploy, secrets, "recollect.example", "192.0.2.7").returncode == 0
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    (secrets / "grafana_password").unlink()
    assert make(deploy, secrets, "recollect.example", "192.0.2.7").returncode == 0
    now = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert {path.name for path in now if now[path] != before[path]} == {"grafana_password"}


def test_without_a_name_it_says_what_it_needs(deploy, tmp_path):
    done = make(deploy, tmp_path / "secrets")
    assert done.returncode == 2
    assert "make-secrets DIRECTORY NAME" in done.stderr
    assert not (tmp_path / "secrets").exists()


def test_the_user_of_histories_has_the_rights_that_the_code_names(secrets):
    (line,) = [
        line for line in (secrets / "redis_users").read_text().splitlines() if line.startswith("user recollect ")
    ]
    assert line.endswith(RIGHTS.replace("PREFIX", "recollect:history:"))


@pytest.fixture(scope="module")
def server(deploy, secrets, tmp_path_factory):
    """A real Redis with the configuration and the users of a deployment, on a socket of its own."""
    directory = tmp_path_factory.mktemp("redis")
    socket = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--aclfile", str(secrets / "redis_users")]
    command = [find_server(), deploy / "docker" / "redis.conf", *options, "--maxmemory", "100mb"]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "eady to accept connections" in line:
            break
    else:
        pytest.fail(f"Redis does not start with {command}")
    yield socket
    process.terminate()
    process.wait(30)
    process.stdout.close()
    assert list(directory.glob("appendonly*")), "what was appended is not on the disk"


def connect(socket, user, password):
    return Redis(unix_socket_path=str(socket), username=user, password=password)


def test_histories_can_be_kept_and_would_be(server, secrets):
    from urllib.parse import quote

    from recsys.history import HistoryStore

    password = (secrets / "redis_password").read_text()

    async def scenario():
        store = HistoryStore(f"unix://recollect:{password}@{quote(str(server))}")
        try:
            await store.try_out()
            return await store.check()
        finally:
            await store.close()

    report = asyncio.run(scenario())
    assert report.persistence == "append-only file, fsync everysec"
    assert report.eviction == "noeviction"
    assert report.user == "recollect"


def test_strangers_and_defaults_may_nothing(server):
    with Redis(unix_socket_path=str(server)) as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    with connect(server, "recollect", "guessed") as guessing, pytest.raises(AuthenticationError):
        guessing.ping()


def test_the_user_of_histories_reaches_no_other_keys_and_no_configuration(server, secrets):
    with connect(server, "recollect", (secrets / "redis_password").read_text()) as client:
        for forbidden in (
            lambda: client.get("RAY@JOB"),
            lambda: client.flushall(),
            lambda: client.config_set("maxmemory", 1),
        ):
            with pytest.raises(NoPermissionError):
                forbidden()


def test_ray_reaches_its_own_keys_and_no_history(server, secrets):
    with connect(server, "ray", (secrets / "ray_redis_password").read_text()) as client:
        client.delete("DUMMY")  # what Ray does first
        client.hset("RAYcluster@KV", "key", "value")
        assert client.hscan("RAYcluster@KV")[1] == {b"key": b"value"}
        with pytest.raises(NoPermissionError):
            client.get("recollect:history:u")
        with pytest.raises(NoPermissionError):
            client.flushall()
