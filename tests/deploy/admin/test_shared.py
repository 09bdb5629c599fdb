"""Admin services of machines that share versions: each sees what the others have, and says when it cannot."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recollect.admin.server import RunningAdmin
from recollect.artifacts import INDEXES, open_store
from recollect.indexes.building import IndexBuilder
from recollect.indexes.plans import SpecWanted
from recollect_api import Unavailable
from recollect_api.admin import AdminClient
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


@pytest.fixture
def admin(start_admin: Callable[..., RunningAdmin], mount: Path) -> AdminClient:
    return AdminClient(start_admin(settings={"artifacts": str(mount)}).address)


def build(machine: Path, mount: Path, *, seed: int) -> str:
    builder = IndexBuilder(
        root=machine / "indexes", shared=f"{mount}/indexes", thresholds=Thresholds(overlap=0), label=None
    )
    vectors = np.random.default_rng(seed).normal(size=(300, 8)).astype(np.float32)
    source = ArrayVectors(pl.Series("id", np.arange(300)), vectors, {"kind": "model", "model": "m/1"})
    return builder.rebuild("items", source, SpecWanted().plan()).artifact.version


def test_what_another_machine_built_is_listed_judged_and_activated(
    admin: AdminClient, mount: Path, tmp_path: Path, var: Path
) -> None:
    version = build(tmp_path / "other", mount, seed=1)
    (listed,) = admin.list_index_versions("items").versions
    assert (listed.version, listed.vectors, listed.labels) == (version, 300, ())
    assert not (var / "indexes" / "items").exists()
    other = open_store(tmp_path / "other" / "indexes", shared=f"{mount}/indexes", kind=INDEXES)
    assert listed.size_bytes == sum(
        entry["bytes"] for entry in other.manifest(other.version("items", version))["files"].values()
    )
    admin.activate_index("items", version, expected_version="")
    assert other.labelled("items", "stable") == version


def test_a_place_that_is_gone_is_told_and_logged(
    admin: AdminClient, mount: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = build(tmp_path / "other", mount, seed=1)
    mount.rename(tmp_path / "elsewhere")
    caplog.set_level(logging.INFO, logger="recollect")
    for call in (
        lambda: admin.list_index_versions(),
        lambda: admin.activate_index("items", version),
        lambda: admin.roll_back_model("dare"),
    ):
        with pytest.raises(Unavailable, match="cannot be used now; the service's log says why") as caught:
            call()
        assert str(tmp_path) not in str(caught.value)
        told = [each.message for each in caplog.records if each.name == "recollect.gateway.errors"]
        assert f"there is no folder {mount}; mount it" in told[-1]
    audited = [each.message for each in caplog.records if each.name == "recollect.audit"]
    assert audited[0].startswith("Indexes.Activate -> UNAVAILABLE ARTIFACTS_UNAVAILABLE")
