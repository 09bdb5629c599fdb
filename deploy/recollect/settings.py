"""Everything that a deployment may set, from the environment (`RECOLLECT_*`), a TOML file or the command line."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from recollect.errors import SetupError

if TYPE_CHECKING:
    from recollect.catalogues.publishing import CatalogueGuard
    from recollect.security.access import AccessRules
    from recollect.security.certificates import TlsFiles
    from retrieval.index.quality import Thresholds


_TOGETHER = (
    ("tls_cert", "tls_key"),
    ("tls_key", "tls_cert"),
    ("tls_client_ca", "tls_cert"),
    ("target_cert", "target_key"),
    ("target_key", "target_cert"),
)
"""Settings, and those without which they are of no use."""


class Settings(BaseSettings):
    """Resolved as: command line, then `RECOLLECT_*`, then a file `recollect_<setting>` in the directory that
    `RECOLLECT_SECRETS` names, as containers get their secrets, then the file named by `RECOLLECT_CONFIG`, then these
    defaults.
    """

    model_config = SettingsConfigDict(env_prefix="RECOLLECT_", extra="forbid", frozen=True)

    var: Path = Path("var")
    """Where models, event stores, run directories and the embedded Redis keep their files."""
    artifacts: str | None = None
    """Where machines share models, indexes, galleries and catalogues: an fsspec URL such as s3://bucket/prefix, or a
    directory that all of them mount. None keeps them in `var` alone."""
    redis_url: str | None = None
    """`redis://`, `rediss://` or `unix://` URL of the history store; None starts a private server in `var`."""
    redis_fsync: Literal["always", "everysec"] = "everysec"
    """How often the private server's append-only file reaches the disk: before every answer, or once a second."""
    redis_timeout_s: float = Field(default=0.25, gt=0)
    """How long a request waits for Redis before it goes on without a history, seconds."""
    events: Path | None = None
    """Event store that histories which Redis does not have are completed from; None for none."""
    serving_log_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of Score and Recommend calls that are kept, with what was retrieved, in `var`/serving-log."""
    serving_log_bytes: int = Field(default=1 << 30, ge=1)
    """Most that this log takes of the disk; the oldest is removed first."""
    ray_address: str | None = None
    """Address of a Ray cluster; None starts a private single-node one."""
    host: str = "127.0.0.1"
    """Address that the gateway listens on. One that other machines reach is refused without `tls_cert` and `tokens`."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port of the gateway; 0 takes a free one."""
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the admin services, which change what answers; 0 takes a free one. None, unless asked for, leaves them
    out: whoever has an account on this machine could call them, and a second service on it would want another port."""
    admin_host: str = "127.0.0.1"
    """Address that they listen on, likewise."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which Prometheus reads the metrics of all processes of a node; 0 takes a free one, None leaves it out."""
    metrics_host: str = "127.0.0.1"
    """Address that it listens on; it shows `tls_cert` and asks for `tokens`, as the gateway does."""
    otel_endpoint: str | None = None
    """Collector that traces are sent to by OTLP over HTTP, as http://localhost:4318; None: nothing is traced."""
    otel_sample_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of calls that are traced, of those whose caller sends no trace; a caller's own decision is kept."""
    log_format: Literal["text", "json"] | None = None
    """How the service writes its log; None: as text where standard error is a terminal, else as JSON."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """The least that it writes; `info` writes a line for every call."""
    slow_call_s: float | None = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Calls of the gateway with one request and one answer that take longer are written as warnings, seconds."""
    insecure: bool = False
    """Whether to listen where other machines reach the service without TLS and tokens all the same."""
    tls_cert: Path | None = None
    """Certificate in PEM that the gateway and the admin server show, with those between it and its root; None leaves
    calls unencrypted. A renewed file is taken while serving."""
    tls_key: Path | None = None
    """Its private key in PEM, without a passphrase."""
    tls_client_ca: Path | None = None
    """Roots in PEM of the certificates that callers must show; None asks for none."""
    tokens: Path | None = None
    """File of `recollect token` with the tokens that calls must carry; None asks for none. A change counts at once."""
    token_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Calls a second that each replica takes of a token that has no rate of its own; None: any number."""
    build_sources: Path | None = None
    """Directory below which indexes asked for over gRPC read Parquet files; None: `vectors` in `var`."""
    build_niceness: int = Field(default=19, ge=0, le=19)
    """How far builds and judgements asked for over gRPC stand back behind what serves: 0 not at all, 19 most. What a
    build makes on the cluster of `ray_address` are that cluster's tasks, and stand back as they do."""
    max_request_bytes: int = Field(default=16 << 20, ge=1 << 10, lt=1 << 31)
    """Largest request in bytes, of the admin services too; our clients send 16 MiB at most."""
    max_wait_s: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """How long a call that ranks may wait for its turn, seconds; one that would wait longer is refused at once, with
    RESOURCE_EXHAUSTED and when to come again."""
    replicas: int = Field(default=2, ge=1)
    """Gateway replicas on this node; they share one port."""
    cores: int | None = Field(default=None, ge=1)
    """Processor cores that they share; None: those that this process may use, in a container those of its limit. Where
    the nodes of a cluster have others than the one that builds the application, say it."""
    history_limit: int = Field(default=50_000, ge=1, le=100_000)
    """Longest history that is kept and scored, in events."""
    recommender: bool = True
    """Whether the gateway scores and recommends items, which takes a model of `recollect train`."""
    canary: str | None = None
    """Model that is tried on some users, as `dare@canary`; its label is followed, and need not be there yet. None tries
    none."""
    canary_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the users who get its answers, always the same ones; the replies name its version."""
    canary_shadow_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the other users whose Score calls it ranks, too, once they are answered, to be compared."""
    max_candidates: int = Field(default=1_000, ge=1)
    """Most candidates in one Score request."""
    index: str | None = None
    """Index that Recommend finds candidates in, as `items@stable`; None leaves Recommend out."""
    catalogue: str | None = None
    """Catalogue that items are filtered and displayed by, as `shop@stable`; None leaves both out."""
    recommend_candidates: int = Field(default=500, ge=1)
    """Candidates that a Recommend request ranks, at most."""
    recommend_popularity: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """How far popularity counts in the order of what Recommend shows; 0: not at all. `recollect evaluate recommend`
    tells what suits a shop."""
    classification: bool = True
    """Whether the gateway also classifies images by description."""
    encoder: str = "demo-shop"
    """What embeds images and texts: a shipped encoder, `encoder@LABEL` for one that was trained here, a checkpoint's
    directory, or a name on the Hugging Face hub."""
    encoder_runtime: Literal["auto", "torch", "onnx"] = "auto"
    """What runs it."""
    classifier_replicas: int = Field(default=1, ge=1)
    """Processes that hold an encoder; they share `var`."""
    max_images: int = Field(default=16, ge=1)
    """Most images in one Classify request."""
    max_image_bytes: int = Field(default=10 << 20, ge=1)
    """Largest image, in bytes; all of a request take `max_request_bytes`."""
    max_image_pixels: int = Field(default=40_000_000, ge=1)
    """Largest image, in pixels."""
    composed_model: str | None = None
    """Model of composed retrieval: `adafocal@LABEL` for one that was trained here, a model's directory, or the name of
    a BLIP-2 on the Hugging Face hub; None leaves composed retrieval out."""
    composed_replicas: int = Field(default=1, ge=1)
    """Processes that hold such a model; they share `var`."""
    gallery_label: str = "stable"
    """The label whose version of a gallery answers."""
    index_min_recall: float = Field(default=0.95, ge=0, le=1)
    """Recall@10 against exact search that an index must reach to be activated."""
    index_min_coverage: float = Field(default=0.99, ge=0, le=1)
    """Share of the live index's ids that it must hold."""
    index_max_norm_drift: float = Field(default=0.5, ge=0)
    """Change of the vectors' mean length against the live index that it may show, as a share."""
    index_min_overlap: float = Field(default=0.1, ge=0, le=1)
    """Share of the live index's ten neighbours that it must give too."""
    index_max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Share of the rows of ids and vectors that may be unusable; beyond it nothing is built."""
    catalogue_max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Share of a catalogue file's rows that may be unusable; beyond it the whole file is refused."""
    catalogue_min_coverage: float = Field(default=0.8, ge=0, le=1)
    """Share of the items of the live catalogue that an imported one must have to be activated."""
    target_tls: bool = False
    """Whether commands call a service over TLS; any of the next four means that they do."""
    target_ca: Path | None = None
    """Roots in PEM that its certificate is checked against; None: the public ones that come with gRPC."""
    target_cert: Path | None = None
    """Certificate in PEM that commands show to a service that asks for one."""
    target_key: Path | None = None
    """Its private key in PEM."""
    target_token: SecretStr | None = None
    """Token that commands call a service with."""
    llm_base_url: str | None = None
    """Where a language model answers chat completions, as https://host/v1; it writes descriptors of new classes."""
    llm_api_key: SecretStr | None = None
    """Key for it; None where it asks for none."""
    llm_model: str | None = None
    """Which of its models to ask."""

    @property
    def tls(self) -> "TlsFiles | None":
        """Files of the certificate that is shown; whole paths, since replicas have another working directory."""
        from recollect.security.certificates import TlsFiles

        if self.tls_cert is None or self.tls_key is None:
            return None
        client_ca = None if self.tls_client_ca is None else self.tls_client_ca.absolute()
        return TlsFiles(certificate=self.tls_cert.absolute(), key=self.tls_key.absolute(), client_ca=client_ca)

    @property
    def access(self) -> "AccessRules | None":
        """Which tokens calls must carry."""
        from recollect.security.access import AccessRules

        return None if self.tokens is None else AccessRules(tokens=self.tokens.absolute(), rate=self.token_rate)

    @model_validator(mode="after")
    def _whole_pairs(self) -> Self:
        """A certificate without its key is of no use, nor is half a connection's."""
        for one, other in _TOGETHER:
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise ValueError(f"{one} is of no use without {other}; give both")
        return self

    @property
    def serving_log(self) -> Path:
        """Where the sampled serving log is; the whole path, since replicas have another working directory."""
        return self.var.resolve() / "serving-log"

    @property
    def catalogue_guard(self) -> "CatalogueGuard":
        """What an imported catalogue must be to be activated."""
        from recollect.catalogues.publishing import CatalogueGuard

        return CatalogueGuard(max_bad_rows=self.catalogue_max_bad_rows, min_coverage=self.catalogue_min_coverage)

    @field_validator("otel_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        """A URL that spans can be posted to."""
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be the URL of a collector, such as http://localhost:4318")
        return value

    @field_validator("artifacts")
    @classmethod
    def _whole_path(cls, value: str | None) -> str | None:
        """A directory's whole path, since replicas have another working directory; a URL as it is."""
        return value if value is None or ":" in value else str(Path(value).resolve())

    @property
    def index_thresholds(self) -> "Thresholds":
        """What an index must reach to be activated."""
        from retrieval.index.quality import Thresholds

        return Thresholds(
            recall=self.index_min_recall,
            coverage=self.index_min_coverage,
            norm_drift=self.index_max_norm_drift,
            overlap=self.index_min_overlap,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put secrets, and then the TOML file, behind the environment."""
        secrets = os.environ.get("RECOLLECT_SECRETS")
        if secrets and not Path(secrets).is_dir():
            raise SetupError(f"RECOLLECT_SECRETS is {secrets}, which is no directory; name the one with the secrets")
        files = SecretsSettingsSource(settings_cls, secrets_dir=secrets or None)
        toml = TomlConfigSettingsSource(settings_cls, toml_file=os.environ.get("RECOLLECT_CONFIG"))
        return init_settings, env_settings, files, toml

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Settings with the command line's `overrides`; those that are None were not given."""
        return cls(**{name: value for name, value in overrides.items() if value is not None})
