"""Read the metrics of a running service, as Prometheus does."""

import http.client
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from recollect.errors import RecollectError

DEFAULT_PORT = 9464
"""Port of metrics that commands look at where no setting names one: the usual one of OpenTelemetry's."""
Labels = frozenset[tuple[str, str]]


class MetricsUnread(RecollectError):  # noqa: N818 - it is the service's state, not the program's
    """Metrics cannot be read; the message says what helps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsTarget:
    """Where metrics are, and how to get there."""

    url: str
    """As http://localhost:9464/metrics."""
    root_certificates: bytes | None = None
    """PEM roots to trust; None: the system's."""
    client_certificate: bytes | None = None
    """PEM chain to show, with `client_key`."""
    client_key: bytes | None = None
    token: str | None = None
    """Sent as `authorization: Bearer …`."""
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.token is not None and not self.url.startswith("https://"):
            raise MetricsUnread(f"a token would travel unencrypted to {self.url}; give its https:// address")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All counts of a service at one time."""

    at: float
    """Seconds of the monotonic clock."""
    samples: Mapping[str, Mapping[Labels, float]]
    """Name of the sample → its labels → its value."""


def url_of(given: str, *, tls: bool) -> str:
    """The whole URL of `given`, which may be `host:port` alone."""
    if "://" not in given:
        given = f"{'https' if tls else 'http'}://{given}"
    return given if given.partition("://")[2].partition("/")[2] else f"{given.rstrip('/')}/metrics"


def read_snapshot(target: MetricsTarget) -> Snapshot:
    """The counts now; MetricsUnread where there is no answer, or one that is not Recollect's."""
    text = _text(target)
    at = time.monotonic()
    samples: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except ValueError as error:
        raise MetricsUnread(f"{target.url} tells no metrics ({error}); give the address of --metrics-port") from None
    if not any(name.startswith("recollect_") for name in samples):
        raise MetricsUnread(f"{target.url} tells other metrics than Recollect's; give the address of --metrics-port")
    return Snapshot(at=at, samples=samples)


def _text(target: MetricsTarget) -> str:
    request = urllib.request.Request(target.url, headers={"accept": "text/plain;version=0.0.4"})
    if target.token is not None:
        request.add_header("authorization", f"Bearer {target.token}")
    https = urllib.request.HTTPSHandler(context=_context(target))
    # Without the proxies of the environment: the service is on this machine or in this network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    try:
        with opener.open(request, timeout=target.timeout_s) as answer:
            told: bytes = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            why = error.read(200).decode(errors="replace").strip()
        raise MetricsUnread(f"{target.url} answers {error.code} {error.reason}: {why or 'nothing more'}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise MetricsUnread(
            f"cannot read {target.url} ({reason}); is `recollect serve --metrics-port {DEFAULT_PORT}` running there, "
            "and is it https where the service has TLS?"
        ) from error
    return told.decode(errors="replace")


def _context(target: MetricsTarget) -> ssl.SSLContext:
    roots = None if target.root_certificates is None else target.root_certificates.decode("ascii")
    context = ssl.create_default_context(cadata=roots)
    if target.client_certificate is not None and target.client_key is not None:
        # ssl reads these from files alone; the directory is this user's.
        with tempfile.TemporaryDirectory() as place:
            chain, key = Path(place) / "chain.pem", Path(place) / "key.pem"
            chain.write_bytes(target.client_certificate)
            key.touch(mode=0o600)
            key.write_bytes(target.client_key)
            context.load_cert_chain(chain, key)
    return context
