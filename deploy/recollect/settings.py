"""Everything that a deployment may set, from the environment (`RECOLLECT_*`), a TOML file or the command line."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class Settings(BaseSettings):
    """Resolved as: command line, then `RECOLLECT_*`, then the file named by `RECOLLECT_CONFIG`, then these defaults."""

    model_config = SettingsConfigDict(env_prefix="RECOLLECT_", extra="forbid", frozen=True)

    var: Path = Path("var")
    """Where models, event stores, run directories and the embedded Redis keep their files."""
    redis_url: str | None = None
    """`redis://`, `rediss://` or `unix://` URL of the history store; None starts a private server in `var`."""
    redis_timeout_s: float = Field(default=0.25, gt=0)
    """How long a request waits for Redis before it goes on without a history, seconds."""
    ray_address: str | None = None
    """Address of a Ray cluster; None starts a private single-node one."""
    host: str = "127.0.0.1"
    """Address that the gateway listens on."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port of the gateway; 0 takes a free one."""
    replicas: int = Field(default=2, ge=1)
    """Gateway replicas on this node; they share one port."""
    history_limit: int = Field(default=50_000, ge=1, le=100_000)
    """Longest history that is kept and scored, in events."""
    max_candidates: int = Field(default=1_000, ge=1)
    """Most candidates in one Score request."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file behind the environment."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=os.environ.get("RECOLLECT_CONFIG"))
        return init_settings, env_settings, toml

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Settings with the command line's `overrides`; those that are None were not given."""
        return cls(**{name: value for name, value in overrides.items() if value is not None})
