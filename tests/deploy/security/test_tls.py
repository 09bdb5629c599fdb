"""TLS and mutual TLS of the gateway and the admin server, and certificates that are renewed while they serve."""

import logging
import socket
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from typer.testing import CliRunner

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.cli import app
from recollect.security.certificates import TlsFiles
from recollect.settings import Settings
from recollect_api import NotFound, RecollectClient, Unavailable
from recollect_api.admin import AdminClient

DAY = timedelta(days=1)


def files_of(pair, client_ca=None):
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=client_ca)


@pytest.fixture
def server(authority):
    return authority.issue("server")


@pytest.fixture
def caller(authority):
    return authority.issue("caller", names=("caller",), common_name="caller")


@pytest.fixture
def mutual(start_gateway, authority, server):
    """A gateway that asks for certificates."""
    return start_gateway(tls=files_of(server, authority.path))


def showing(pair):
    certificate, key = pair.read()
    return {"client_certificate": certificate, "client_key": key}


def score(port, user, **options):
    with RecollectClient(f"localhost:{port}", timeout_s=5, **options) as client:
        return client.score(user, [1]).items[0].score


def test_a_caller_with_a_certificate_is_answered(mutual, authority, caller, user):
    options = {"tls": True, "root_certificates": authority.roots, **showing(caller)}
    assert score(mutual.port, user, **options) == 1.0
    with RecollectClient(f"127.0.0.1:{mutual.port}", timeout_s=5, **options) as client:
        assert client.score(user, [1]).items[0].score == 1.0


def test_nobody_else_is_answered(mutual, start_gateway, authority, make_authority, caller, user):
    other = make_authority("others")
    trusting = {"tls": True, "root_certificates": authority.roots}
    old = authority.issue("old", names=("caller",), begins=-2 * DAY, ends=-DAY)
    elsewhere = start_gateway(tls=files_of(authority.issue("elsewhere", names=("elsewhere.example",))))
    attempts = {
        "plaintext": (mutual, {}),
        "wrong CA: the server's is not ours": (
            mutual,
            {**trusting, **showing(caller), "root_certificates": other.roots},
        ),
        "wrong CA: ours is not the server's": (mutual, {**trusting, **showing(other.issue("caller"))}),
        "an expired certificate": (mutual, {**trusting, **showing(old)}),
        "wrong name": (elsewhere, trusting),
        "no client certificate": (mutual, trusting),
    }
    accepted = []
    for name, (gateway, options) in attempts.items():
        try:
            score(gateway.port, user, **options)
            accepted.append(name)
        except Unavailable:
            pass
    assert accepted == []
    assert mutual.ranker.ranked == elsewhere.ranker.ranked == []
    # It was them, not the gateway.
    assert score(mutual.port, user, **trusting, **showing(caller)) == 1.0


def test_callers_refuse_a_server_whose_certificate_has_expired(start_gateway, authority, user, eventually):
    gateway = start_gateway(tls=files_of(authority.issue("server", ends=timedelta(seconds=2))))

    def refused():
        try:
            score(gateway.port, user, tls=True, root_certificates=authority.roots)
        except Unavailable:
            return True
        return False

    eventually(refused)
    # Renewed, it is trusted again.
    authority.issue("server")
    assert score(gateway.port, user, tls=True, root_certificates=authority.roots) == 1.0


def shown_by(port, authority):
    """The serial number of what the server shows now."""
    context = ssl.create_default_context(cadata=authority.roots.decode())
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("localhost", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        return x509.load_der_x509_certificate(encrypted.getpeercert(binary_form=True)).serial_number


def test_a_renewed_certificate_is_shown_and_no_connection_is_lost(start_gateway, authority, server, user):
    gateway = start_gateway(tls=files_of(server))
    before = shown_by(gateway.port, authority)
    with RecollectClient(
        f"localhost:{gateway.port}", tls=True, root_certificates=authority.roots, connections=1, timeout_s=5
    ) as client:
        client.score(user, [1])
        authority.issue("server")
        renewed = shown_by(gateway.port, authority)
        client.score(user, [1])
    assert renewed != before
    assert shown_by(gateway.port, authority) == renewed


def test_a_renewal_that_is_wrong_changes_nothing_and_is_told_once(start_gateway, authority, server, caplog):
    gateway = start_gateway(tls=files_of(server))
    before = shown_by(gateway.port, authority)
    caplog.set_level(logging.ERROR)
    # As programs renew: the one file first, then the other.
    server.key.write_bytes(authority.issue("other").key.read_bytes())
    assert [shown_by(gateway.port, authority) for _ in range(3)] == [before] * 3
    assert len([line for line in caplog.messages if "is not the key of the certificate" in line]) == 1
    server.certificate.write_bytes((authority.directory / "other.pem").read_bytes())
    assert shown_by(gateway.port, authority) != before
    server.certificate.unlink()
    assert shown_by(gateway.port, authority) != before


def test_callers_that_are_no_longer_trusted_are_refused_without_a_restart(
    mutual, authority, make_authority, caller, user
):
    options = {"tls": True, "root_certificates": authority.roots, **showing(caller)}
    assert score(mutual.port, user, **options) == 1.0
    others = make_authority("others")
    ours = authority.roots
    others.path.replace(authority.path)
    with pytest.raises(Unavailable):
        score(mutual.port, user, **{**options, "root_certificates": ours})
    theirs = showing(others.issue("caller"))
    assert score(mutual.port, user, **{**options, "root_certificates": ours, **theirs}) == 1.0


def test_the_admin_server_is_guarded_likewise(authority, server, caller, tmp_path, caplog):
    settings = Settings(
        var=tmp_path / "var", tls_cert=server.certificate, tls_key=server.key, tls_client_ca=authority.path
    )
    with RunningAdmin(AdminConfig(settings=settings, port=0)) as admin:
        target = f"localhost:{admin.port}"
        for options in ({}, {"tls": True, "root_certificates": authority.roots}):
            with AdminClient(target, timeout_s=5, **options) as stranger, pytest.raises(Unavailable):
                stranger.list_index_versions()
        with AdminClient(target, tls=True, root_certificates=authority.roots, **showing(caller)) as known:
            assert known.list_index_versions().versions == ()
            caplog.set_level(logging.INFO, logger="recollect.audit")
            with pytest.raises(NotFound):
                known.remove_unneeded_model_versions("dare")
            assert '"certificate": "caller"' in caplog.text
        asked = ("--target", target, "--ca", authority.path, "--cert", caller.certificate, "--key", caller.key)
        done = CliRunner().invoke(app, ["index", "list", *map(str, asked)])
        assert done.exit_code == 0, done.output


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_commands_take_their_connection_from_options_and_settings(run, mutual, authority, caller, user, monkeypatch):
    words = ("score", user, "--items", "1", "--target", f"localhost:{mutual.port}", "--json")
    assert run(*words).exit_code == 1
    done = run(*words, "--ca", authority.path, "--cert", caller.certificate, "--key", caller.key)
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("RECOLLECT_TARGET_CA", str(authority.path))
    monkeypatch.setenv("RECOLLECT_TARGET_CERT", str(caller.certificate))
    monkeypatch.setenv("RECOLLECT_TARGET_KEY", str(caller.key))
    assert run(*words).exit_code == 0
    # What was said for one command is not said for the next.
    assert run(*words, "--ca", caller.certificate).exit_code == 1
    assert run(*words).exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"--ca": "none.pem"}, "cannot read none.pem", id="no such file"),
        pytest.param({"--cert": "a.pem"}, "target_cert is of no use without target_key", id="half a pair"),
        pytest.param({"--token-file": "none"}, "cannot read the token in none", id="no token file"),
    ],
)
def test_commands_say_what_is_wrong_with_their_files(run, user, options, says):
    words = [word for pair in options.items() for word in pair]
    done = run("score", user, "--items", "1", *words)
    assert done.exit_code == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    "words",
    [("score", "u", "--items", "1"), ("index", "list"), ("doctor",), ("bench", "serve", "--requests", "none.parquet")],
    ids=lambda words: words[0],
)
def test_commands_say_what_cannot_be_a_target_or_a_token(run, words, monkeypatch):
    there = run(*words, "--target", "localhost:99999")
    monkeypatch.setenv("RECOLLECT_TARGET_TOKEN", "sec ret")
    token = run(*words, "--target", "localhost:1")
    assert (there.exit_code, token.exit_code) == (1, 1)
    assert "error: target must have a port of at most 65535, got 'localhost:99999'" in there.stderr
    assert "error: token must be printable ASCII" in token.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(("--tls-key", "x"), "tls_key is of no use without tls_cert", id="half a pair"),
        pytest.param(("--tls-client-ca", "x"), "tls_client_ca is of no use without tls_cert", id="roots alone"),
        pytest.param(("--tls-cert", "x.pem", "--tls-key", "x.key"), "x.pem (No such file", id="no such file"),
    ],
)
def test_serve_says_what_is_wrong_before_it_starts_anything(run, tmp_path, options, says):
    done = run("serve", "--no-recommender", "--no-classification", "--port", "0", *options)
    assert done.exit_code == 1
    assert says in done.stderr.replace("\n", "")
    assert not (tmp_path / "var").exists()


def test_expired_and_mismatched_files_are_refused_by_serve(run, authority, server):
    old = authority.issue("old", begins=-2 * DAY, ends=-DAY)
    other = authority.issue("other")
    for certificate, key, says in (
        (old.certificate, old.key, "expired on"),
        (server.certificate, other.key, "is not the key of the certificate"),
    ):
        words = ("serve", "--no-recommender", "--no-classification", "--port", "0")
        done = run(*words, "--tls-cert", certificate, "--tls-key", key)
        assert done.exit_code == 1
        assert says in done.stderr
