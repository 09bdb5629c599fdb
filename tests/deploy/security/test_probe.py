"""The health check of a container, against real gateways: unencrypted, with TLS, with mutual TLS, gone, draining."""

import os
import subprocess
import sys

import pytest

from recollect.probe import probe
from recollect.security.certificates import TlsFiles
from recollect.settings import Settings


def settings_of(gateway, **settings):
    return Settings(port=gateway.port, **settings)


@pytest.fixture
def files(authority):
    """A certificate for a name that is not this machine's."""
    pair = authority.issue("server", names=("recollect.example", "192.0.2.7"))
    return {"tls_cert": pair.certificate, "tls_key": pair.key}


def tls(files, client_ca=None):
    return TlsFiles(certificate=files["tls_cert"], key=files["tls_key"], client_ca=client_ca)


def test_a_gateway_that_serves(gateway):
    assert probe(settings_of(gateway)) is None
    assert probe(settings_of(gateway, host="0.0.0.0")) is None


@pytest.mark.parametrize(
    "names", [("recollect.example",), ("*.recollect.example",), ("192.0.2.7",)], ids=["name", "wildcard", "address"]
)
def test_the_certificate_is_for_callers_and_not_for_the_probe(start_gateway, authority, names):
    pair = authority.issue("server", names=names)
    files = {"tls_cert": pair.certificate, "tls_key": pair.key}
    assert probe(settings_of(start_gateway(tls=tls(files)), **files)) is None


def test_a_gateway_with_another_certificate_is_not_ours(start_gateway, authority, files):
    other = authority.issue("other", names=("recollect.example",))
    shown = TlsFiles(certificate=other.certificate, key=other.key)
    assert "UNAVAILABLE" in probe(settings_of(start_gateway(tls=shown), **files))


def test_where_callers_show_certificates_the_probe_shows_its_own_or_only_connects(start_gateway, authority, files):
    gateway = start_gateway(tls=tls(files, client_ca=authority.path))
    client = authority.issue("probe")
    shown = {"target_cert": client.certificate, "target_key": client.key}
    assert probe(settings_of(gateway, tls_client_ca=authority.path, **shown, **files)) is None
    assert probe(settings_of(gateway, tls_client_ca=authority.path, **files)) is None
    gateway.stop()
    assert "nobody listens" in probe(settings_of(gateway, tls_client_ca=authority.path, **files))


def test_a_gateway_that_drains_takes_no_calls(gateway):
    async def drain():
        gateway.gateway._listener._health.draining()

    gateway.run(drain())
    assert "takes no calls" in probe(settings_of(gateway))


def test_a_certificate_that_cannot_be_read_is_told(gateway, tmp_path):
    missing = tmp_path / "server.pem"
    assert str(missing) in probe(settings_of(gateway, tls_cert=missing, tls_key=missing))


def test_the_command_says_why_and_ends_with_what_a_container_expects(gateway):
    def run(port):
        environment = os.environ | {"RECOLLECT_PORT": str(port)}
        command = [sys.executable, "-m", "recollect.probe"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    served = run(gateway.port)
    assert (served.returncode, served.stdout) == (0, "serving\n")
    gateway.stop()
    gone = run(gateway.port)
    assert gone.returncode == 1
    assert f"127.0.0.1:{gateway.port} does not answer: UNAVAILABLE" in gone.stderr
