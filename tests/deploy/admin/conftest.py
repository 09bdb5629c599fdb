"""Real admin servers over directories of their own, with sources to build of and versions that were built before."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.indexes.building import IndexBuilder
from recollect.indexes.plans import SpecWanted
from recollect.settings import Settings
from recollect_api.admin import AdminClient, BuildOperation
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors

COUNT, DIMENSION = 30_000, 16
"""Too many to be compared one by one, so that a build trains, and takes a second or two."""
SMALL = 500
DEADLINE_S = 60.0
"""How long a test waits for something that should happen."""


def vectors_of(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, DIMENSION))
    return (centres[np.arange(count) % 50] + 0.3 * random.normal(size=(count, DIMENSION))).astype(np.float32)


@pytest.fixture(scope="session")
def admin_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of Parquet files: large.parquet, small.parquet, and the folder nightly."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "nightly").mkdir()
    for name, count in (("large", COUNT), ("small", SMALL), ("nightly/part-0", SMALL)):
        frame = pl.DataFrame({"id": np.arange(count), "vector": vectors_of(count, 1)})
        frame.write_parquet(folder / f"{name}.parquet")
    pl.DataFrame({"id": [1, 1], "vector": [[0.0], [1.0]]}).write_parquet(folder / "twice.parquet")
    return folder


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Indexes of which `items` has three versions that may answer beside each other, and a fourth that may not."""
    root = tmp_path_factory.mktemp("built") / "indexes"
    builder = IndexBuilder(root=root, thresholds=Thresholds(coverage=0, overlap=0), label=None)
    versions = []
    for number in range(4):
        # The last one has other ids: the live index is not covered by it.
        ids = np.arange(SMALL) + (10_000 if number == 3 else 0)
        facts = {"kind": "model", "model": f"m/{number}"}
        source = ArrayVectors(pl.Series("id", ids), vectors_of(SMALL, number), facts)
        versions.append(builder.rebuild("items", source, SpecWanted().plan()).artifact.version)
    return root, versions


@pytest.fixture
def var(tmp_path: Path, admin_sources: Path) -> Path:
    """An empty directory of a service, but for its sources."""
    var = tmp_path / "var"
    shutil.copytree(admin_sources, var / "vectors")
    return var


@pytest.fixture
def versions(var: Path, built_once: tuple[Path, list[str]]) -> list[str]:
    """Versions of the index `items` in `var`; none has a label."""
    shutil.copytree(built_once[0], var / "indexes")
    return built_once[1]


@pytest.fixture
def admin_config(var: Path) -> Callable[..., AdminConfig]:
    """What an admin server over `var` is started with: `admin_config(followed=…, settings={"index_min_recall": 1})`."""

    def make(*, settings: dict[str, Any] | None = None, **options: Any) -> AdminConfig:
        given = Settings(**{"var": var, "build_niceness": 0, **(settings or {})})
        return AdminConfig(settings=given, **{"port": 0, **options})

    return make


@pytest.fixture
def start_admin(admin_config: Callable[..., AdminConfig]) -> Iterator[Callable[..., RunningAdmin]]:
    """Start an admin server, with options as of `admin_config`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(RunningAdmin(admin_config(**options)))


@pytest.fixture
def running(start_admin: Callable[..., RunningAdmin]) -> RunningAdmin:
    return start_admin()


@pytest.fixture
def admin(running: RunningAdmin) -> Iterator[AdminClient]:
    with AdminClient(running.address, timeout_s=DEADLINE_S) as client:
        yield client


@pytest.fixture
def until_step() -> Callable[..., BuildOperation]:
    """Wait until an operation has begun a step; fails where it ends before."""

    def wait(client: AdminClient, name: str, step: str) -> BuildOperation:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            operation = client.get_operation(name)
            if step in {each.name for each in operation.steps}:
                return operation
            assert not operation.done, operation
            assert time.monotonic() < deadline, f"{step} did not begin: {operation}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[psutil.Process]]:
    """The worker processes of the test that run now, whoever is their parent by now."""
    monkeypatch.setenv("TEST_OF_WORKERS", str(tmp_path))

    def is_ours(process: psutil.Process) -> bool:
        try:
            command, ours = process.cmdline(), process.environ().get("TEST_OF_WORKERS") == str(tmp_path)
            return ours and "recollect.admin.worker" in command and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def find() -> list[psutil.Process]:
        return list(filter(is_ours, psutil.process_iter()))

    return find


@pytest.fixture
def save_model_version(publish_tiny_dare: Callable[[Path, int], str], var: Path) -> Callable[[int], str]:
    """Publish a tiny model `dare` of a seed; returns its version."""
    return lambda seed: publish_tiny_dare(var / "models", seed)
