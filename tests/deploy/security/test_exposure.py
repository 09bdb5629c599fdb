"""Nothing is open to other machines unless it is guarded, or somebody has said so."""

import pytest
from typer.testing import CliRunner

from recollect import serve_app
from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.cli import app
from recollect.errors import SetupError
from recollect.security.exposure import is_loopback, require_guarded
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenFile
from recollect.settings import Settings

OPEN = ["0.0.0.0", "::", "", "192.0.2.2", "2001:db8::1", "no-such-name.invalid"]
CLOSED = ["127.0.0.1", "127.8.9.1", "::1", "localhost"]


@pytest.mark.parametrize("host", CLOSED)
def test_this_machine_alone(host):
    assert is_loopback(host)
    require_guarded(Settings(host=host, admin_host=host, admin_port=0))


@pytest.mark.parametrize("host", OPEN)
def test_other_machines(host):
    assert not is_loopback(host)
    with pytest.raises(SetupError, match=f"^host {host or '.every interface.'} can be reached from other machines"):
        require_guarded(Settings(host=host))
    with pytest.raises(SetupError, match=r"^admin_host"):
        require_guarded(Settings(admin_host=host, admin_port=0))
    # Nobody listens there.
    require_guarded(Settings(admin_host=host))


def test_the_default_is_this_machine():
    assert is_loopback(Settings().host)
    assert is_loopback(Settings().admin_host)
    assert Settings().admin_port is None
    assert Settings().insecure is False


def test_it_takes_both_tls_and_tokens_or_a_word(authority, tmp_path):
    pair = authority.issue("server")
    tls = {"tls_cert": pair.certificate, "tls_key": pair.key}
    tokens = {"tokens": tmp_path / "tokens.json"}
    for given, says in ((tls, "no token"), (tokens, "no TLS"), ({}, "no TLS .* and no token")):
        with pytest.raises(SetupError, match=says):
            require_guarded(Settings(host="0.0.0.0", **given))
        require_guarded(Settings(host="0.0.0.0", insecure=True, **given))
    require_guarded(Settings(host="0.0.0.0", admin_host="0.0.0.0", admin_port=0, **tls, **tokens))


@pytest.mark.parametrize("option", ["host", "admin"])
def test_serve_refuses_before_it_starts_anything(tmp_path, monkeypatch, option):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    words = ["serve", "--no-recommender", "--no-classification", "--port", "0"]
    if option == "host":
        words += ["--host", "0.0.0.0"]
    else:
        monkeypatch.setenv("RECOLLECT_ADMIN_HOST", "0.0.0.0")
        words += ["--admin-port", "0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "0.0.0.0 can be reached from other machines" in done.stderr
    assert "--insecure" in done.stderr
    assert not (tmp_path / "var").exists()


def test_so_do_the_parts_by_themselves(tmp_path):
    with pytest.raises(SetupError, match=r"^host"):
        serve_app.run(Settings(host="0.0.0.0", port=0, var=tmp_path), None, redis_url="unix:///nowhere")
    with pytest.raises(SetupError, match=r"^admin_host"):
        RunningAdmin(AdminConfig(settings=Settings(admin_host="0.0.0.0", var=tmp_path), port=0)).__enter__()


def test_guarded_it_listens_everywhere(authority, tmp_path):
    pair, tokens = authority.issue("server"), TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("me", [Scope.ADMIN], lifetime=None).secret
    settings = Settings(
        admin_host="0.0.0.0",
        admin_port=0,
        var=tmp_path / "var",
        tls_cert=pair.certificate,
        tls_key=pair.key,
        tokens=tokens.path,
    )
    (tmp_path / "token").write_text(secret + "\n")
    with RunningAdmin(AdminConfig(settings=settings, port=0)) as admin:
        words = ["model", "list", "--target", admin.address, "--ca", str(authority.path)]
        done = CliRunner().invoke(app, [*words, "--token-file", str(tmp_path / "token")])
        assert done.exit_code == 0, done.output
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 1
        assert "missing or wrong token" in refused.stderr
