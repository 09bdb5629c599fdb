"""A store whose clock goes on by a second with every look."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recollect.artifacts import ArtifactStore


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    moments = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(10_000))
    return ArtifactStore(tmp_path / "models", clock=lambda: next(moments))
