"""The port of the metrics: who is told, how it is encrypted, and that many processes share it."""

import gzip
import http.client
import shutil
import socket
import ssl
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recollect import serve_app
from recollect.errors import SetupError
from recollect.security.certificates import TlsFiles
from recollect.security.exposure import require_guarded
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenFile
from recollect.settings import Settings
from recollect.telemetry.exporter import Exporter, MetricsConfig
from recollect.telemetry.metrics import REGISTRY
from recollect.telemetry.reading import MetricsTarget, MetricsUnread, read_snapshot, url_of


@pytest.fixture
def export():
    started = []

    def start(**config):
        config = {"host": "127.0.0.1", "port": 0, **config}
        exporter = Exporter(MetricsConfig(**config))
        started.append(exporter)
        return f"http{'s' if 'tls' in config else ''}://localhost:{exporter.port}/metrics"

    yield start
    for exporter in started:
        exporter.stop()


def get(url, path="/metrics", method="GET", **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_it_tells_every_metric_in_the_form_of_prometheus(export):
    url = export()
    status, headers, body = get(url)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    told = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {family.name for family in REGISTRY.collect()} <= told
    status, headers, packed = get(url, **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"recollect_queue_depth" in gzip.decompress(packed)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/metrics/../etc", "GET", 404), ("/metrics", "POST", 405)],
)
def test_it_tells_nothing_else(export, path, method, status):
    got = get(export(), path, method)
    assert got[0] == status
    assert b"recollect_" not in got[2]


def test_every_process_may_listen_on_the_port_and_other_users_of_it_are_refused(export):
    with serve_app.reserve_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        for _ in range(2):
            assert export(port=port).endswith(f":{port}/metrics")
        assert get(f"http://127.0.0.1:{port}")[0] == 200
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SetupError, match=r"--metrics-port"):
        export(port=other.getsockname()[1])


def test_a_connection_that_breaks_harms_no_other(export):
    url = export()
    with socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=30) as raw:
        raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"400" in raw.recv(1_000)
    with socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=30):
        assert get(url)[0] == 200


def test_only_a_token_of_its_scope_is_let_in(export, tmp_path, authority):
    tokens = TokenFile(tmp_path / "tokens.json")
    reader = tokens.create("backend", [Scope.READ, Scope.WRITE, Scope.ADMIN], lifetime=None).secret
    made = tokens.create("prometheus", [Scope.METRICS], lifetime=None)
    url = export(tokens=tokens.path)
    for header, status in (
        (None, 401),
        ("Bearer nothing", 401),
        (f"Basic {made.secret}", 401),
        (f"Bearer {reader}", 403),
        (f"Bearer {made.secret}", 200),
    ):
        got = get(url, **({} if header is None else {"Authorization": header}))
        assert got[0] == status, header
        assert (b"recollect_queue_depth" in got[2]) is (status == 200)
        assert ("WWW-Authenticate" in got[1]) is (status == 401)
    tokens.revoke(made.token.id)
    assert get(url, Authorization=f"Bearer {made.secret}")[0] == 401
    with pytest.raises(MetricsUnread, match="unencrypted"):
        MetricsTarget(url=url, token=made.secret)


def test_it_shows_the_service_s_certificate_and_takes_a_renewed_one(export, authority, make_authority):
    pair = authority.issue("server")
    url = export(tls=TlsFiles(certificate=pair.certificate, key=pair.key))
    target = MetricsTarget(url=url, root_certificates=authority.roots)
    assert read_snapshot(target).samples["recollect_queue_depth"]
    with pytest.raises(MetricsUnread, match="certificate verify failed"):
        read_snapshot(MetricsTarget(url=url, root_certificates=make_authority("others").roots))

    def serial():
        context = ssl.create_default_context(cadata=authority.roots.decode())
        address = ("localhost", urlsplit(url).port)
        with (
            socket.create_connection(address, timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            return encrypted.getpeercert()["serialNumber"]

    before = serial()
    renewed = authority.issue("renewed")
    shutil.copy(renewed.key, pair.key)
    renewed.certificate.replace(pair.certificate)
    assert serial() != before
    assert read_snapshot(target).samples["recollect_queue_depth"]


def test_mutual_tls(export, authority, make_authority):
    pair, mine, theirs = authority.issue("server"), authority.issue("mine"), make_authority("others").issue("theirs")
    url = export(tls=TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=authority.path))

    def read(shown):
        given = {} if shown is None else dict(zip(("client_certificate", "client_key"), shown.read(), strict=True))
        return read_snapshot(MetricsTarget(url=url, root_certificates=authority.roots, **given))

    assert read(mine).samples["recollect_queue_depth"]
    for shown in (None, theirs):
        with pytest.raises(MetricsUnread):
            read(shown)


@pytest.mark.parametrize(
    ("given", "tls", "url"),
    [
        ("localhost:9464", False, "http://localhost:9464/metrics"),
        ("localhost:9464", True, "https://localhost:9464/metrics"),
        ("http://somewhere:1/", False, "http://somewhere:1/metrics"),
        ("http://somewhere:1/told/here", True, "http://somewhere:1/told/here"),
    ],
)
def test_addresses(given, tls, url):
    assert url_of(given, tls=tls) == url


def test_what_is_no_service_says_so(tmp_path):
    with pytest.raises(MetricsUnread, match=r"recollect serve --metrics-port 9464"):
        read_snapshot(MetricsTarget(url="http://127.0.0.1:1/metrics"))


def test_other_machines_are_kept_out_as_of_the_other_ports(authority, tmp_path):
    pair = authority.issue("server")
    guarded = {"tls_cert": pair.certificate, "tls_key": pair.key, "tokens": tmp_path / "tokens.json"}
    with pytest.raises(SetupError, match=r"^metrics_host 0\.0\.0\.0 can be reached"):
        require_guarded(Settings(metrics_host="0.0.0.0", metrics_port=0))
    require_guarded(Settings(metrics_host="0.0.0.0"))
    require_guarded(Settings(metrics_host="0.0.0.0", metrics_port=0, **guarded))
    require_guarded(Settings(metrics_host="0.0.0.0", metrics_port=0, insecure=True))
    assert Settings().metrics_port is None


def test_ports_that_are_the_same_are_refused(tmp_path):
    for ports, says in (
        ({"port": 7_001, "metrics_port": 7_001}, "--metrics-port must not be the gateway's port 7001"),
        ({"admin_port": 7_001, "metrics_port": 7_001}, "--metrics-port must not be the admin port 7001"),
    ):
        settings = Settings(var=tmp_path, classification=False, recommender=False, **{"port": 0, **ports})
        with pytest.raises(SetupError, match=says):
            serve_app.check(settings, None)
