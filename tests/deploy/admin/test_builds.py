"""Builds that a service is asked for: their progress, their end by whoever ends them, and what is left then."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from recollect.admin import process as process_module
from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.artifacts import INDEXES, ArtifactStore
from recollect.artifacts.locks import locked
from recollect.artifacts.workplace import workplace
from recollect.indexes.building import IndexBuilder
from recollect.indexes.increments import delete_ids
from recollect_api import Cancelled, Conflict, DeadlineExceeded, NotPossible, Unavailable
from recollect_api.admin import AdminClient, BuildOperation, IndexKind
from retrieval.index.quality import Thresholds
from retrieval.index.vector_index import VectorIndex

UntilStep = Callable[..., BuildOperation]
Workers = Callable[[], list[psutil.Process]]


def left(var: Path) -> set[str]:
    """What lies below the indexes' directory, but locks and the files of versions that are there whole."""
    root = var / "indexes"
    found = {path.relative_to(root).as_posix() for path in root.glob(".building/*")}
    found |= {path.relative_to(root).as_posix() for path in root.glob("*/.*.partial")}
    return {path for path in found if not path.endswith(".lock")}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during the test."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_a_build_tells_its_steps_and_the_version_that_it_made(admin: AdminClient, var: Path) -> None:
    seen: list[BuildOperation] = []
    begun = admin.build_index("items", files=["large.parquet"], request_id="night-1")
    assert (begun.done, begun.index, begun.label, begun.request_id) == (False, "items", "stable", "night-1")
    ended = admin.wait_operation(begun.name, on_progress=seen.append, timeout_s=60)
    version = ended.result()
    assert [step.name for step in ended.steps] == ["checking", "reading", "training", "adding", "judging", "publishing"]
    assert all(step.done == step.total and step.end_time is not None for step in ended.steps)
    assert ended.create_time is not None
    assert ended.end_time is not None
    assert ended.create_time <= ended.steps[0].begin_time <= ended.steps[-1].end_time <= ended.end_time  # type: ignore[operator]
    assert not seen[0].done
    assert (version.vectors, version.dimension, version.labels) == (30_000, 16, ("stable",))
    assert version.factory.startswith("IVF")
    assert version.quality.passed
    assert version.source.files == ("large.parquet",)
    assert admin.list_index_versions().versions == (version,)
    index = VectorIndex.open(var / "indexes" / "items" / version.version / "index")
    assert len(index) == 30_000
    assert left(var) == set()


def test_rows_that_cannot_be_used_are_left_out_and_told_without_paths(admin: AdminClient, var: Path) -> None:
    frame = pl.read_parquet(var / "vectors" / "small.parquet")
    vectors = frame["vector"].to_list()
    vectors[7] = [float("nan")] * 16
    ids = [None, *frame["id"][1:]]
    pl.DataFrame([pl.Series("id", ids), pl.Series("vector", vectors)]).write_parquet(var / "vectors" / "bad.parquet")
    ended = admin.wait_operation(admin.build_index("items", files=["bad.parquet"]).name)
    assert ended.result().vectors == 498
    assert ended.refused_count == 2
    assert [(each.id, each.reason) for each in ended.refused] == [
        ("", "row 0 of bad.parquet has no id; name it"),
        (str(ids[7]), f"the vector of id {ids[7]} must be finite; embed it again or leave it out"),
    ]


@pytest.mark.slow
def test_of_a_folder_and_with_what_was_asked_for(admin: AdminClient) -> None:
    options = {"kind": IndexKind.HNSW, "inner_product": True, "label": "", "recall_aim": 0.0, "seed": 3}
    operation = admin.build_index("items", files=["nightly", "small.parquet"], **options)  # type: ignore[arg-type]
    # Both have the same ids.
    with pytest.raises(NotPossible, match="is there 2 times") as failed:
        admin.wait_operation(operation.name).result()
    assert failed.value.reason == "BUILD_FAILED"
    operation = admin.build_index("items", files=["nightly"], **options)  # type: ignore[arg-type]
    version = admin.wait_operation(operation.name).result()
    assert (version.factory, version.labels, version.source.files) == ("HNSW32,Flat", (), ("nightly/part-0.parquet",))


def test_the_items_of_a_model_by_the_version_that_its_label_meant(
    admin: AdminClient, var: Path, save_model_version: Callable[[int], str]
) -> None:
    version = save_model_version(1)
    ArtifactStore(var / "models").set_label("dare", "stable", version)
    built = admin.wait_operation(admin.build_index("items", model="dare@stable").name).result()
    assert (built.source.kind, built.source.model, built.vectors) == ("model", f"dare/{version}", 3)


@pytest.mark.slow
def test_what_was_deleted_since_the_last_build_stays_out_of_the_next_one(
    admin: AdminClient, versions: list[str], var: Path
) -> None:
    builder = IndexBuilder(root=var / "indexes", thresholds=Thresholds(), label="stable")
    builder.store.set_label("items", "stable", versions[0])
    changed = delete_ids(builder, "items", [3, 4]).artifact.version
    listed = {each.version: each for each in admin.index_versions()}
    assert (listed[changed].base, listed[changed].vectors, listed[changed].labels) == (versions[0], 498, ("stable",))
    assert listed[versions[0]].base == ""
    ended = admin.wait_operation(admin.build_index("items", files=["small.parquet"]).name)
    assert ended.result().vectors == 498
    assert (ended.merged.left_out, ended.merged.kept, ended.merged.dropped) == (2, 0, 0)
    ended = admin.wait_operation(admin.build_index("items", files=["small.parquet"], restore_deleted=True).name)
    assert ended.result().vectors == 500


def test_a_version_that_may_not_answer_is_kept_and_its_figures_are_told(
    start_admin: Callable[..., RunningAdmin], versions: list[str], var: Path
) -> None:
    ArtifactStore(var / "indexes", kind=INDEXES).set_label("items", "stable", versions[3])
    with AdminClient(start_admin().address) as admin:
        ended = admin.wait_operation(admin.build_index("items", files=["small.parquet"]).name)
        with pytest.raises(NotPossible) as refused:
            ended.result()
        assert refused.value.reason == "INDEX_REFUSED"
        assert [each.kind for each in refused.value.preconditions] == ["coverage"]
        assert refused.value.preconditions[0].subject == f"items/{ended.version}"
        kept = {each.version: each for each in admin.index_versions("items")}
        assert (kept[ended.version].labels, kept[ended.version].quality.passed) == ((), False)
        assert kept[versions[3]].labels == ("stable",)


def test_a_label_moved_while_the_version_was_judged_stays(
    admin: AdminClient, versions: list[str], var: Path, until_step: UntilStep
) -> None:
    store = ArtifactStore(var / "indexes", kind=INDEXES)
    store.set_label("items", "stable", versions[0])
    # Publishing waits for this lock.
    with locked(var / "indexes" / "items" / ".publishing"):
        operation = admin.build_index("items", files=["small.parquet"])
        until_step(admin, operation.name, "publishing")
        store.set_label("items", "stable", versions[1])
    ended = admin.wait_operation(operation.name)
    with pytest.raises(Conflict, match=f"points at {versions[1]}, not at {versions[0]}") as moved:
        ended.result()
    assert (moved.value.reason, moved.value.current_version) == ("LABEL_MOVED", versions[1])
    assert ended.version in {each.version for each in admin.index_versions()}
    assert store.labelled("items", "stable") == versions[1]


@pytest.mark.parametrize(
    "step",
    ["", "judging", *(pytest.param(step, marks=pytest.mark.slow) for step in ("reading", "training"))],
    ids=lambda step: step or "starting",
)
def test_a_cancelled_build_leaves_nothing(
    admin: AdminClient, var: Path, until_step: UntilStep, workers: Workers, scratch: Path, step: str
) -> None:
    operation = admin.build_index("items", files=["large.parquet"])
    if step:
        until_step(admin, operation.name, step)
    admin.cancel_operation(operation.name)
    admin.cancel_operation(operation.name)  # again changes nothing
    ended = admin.wait_operation(operation.name, timeout_s=60)
    assert ended.cancel_requested
    with pytest.raises(Cancelled) as cancelled:
        ended.result()
    assert cancelled.value.reason == "BUILD_CANCELLED"
    assert workers() == []
    assert left(var) == set()
    assert list(scratch.iterdir()) == []
    assert admin.list_index_versions().versions == ()
    admin.cancel_operation(operation.name)  # it has ended, and stays as it is
    assert admin.get_operation(operation.name).end_time == ended.end_time


@pytest.mark.slow
def test_a_build_that_does_not_listen_is_killed(
    admin: AdminClient, var: Path, until_step: UntilStep, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_S", 0.2)
    operation = admin.build_index("items", files=["large.parquet"])
    until_step(admin, operation.name, "reading")
    (worker,) = workers()
    worker.suspend()
    admin.cancel_operation(operation.name)
    assert isinstance(admin.wait_operation(operation.name, timeout_s=60).error, Cancelled)
    assert workers() == []
    assert left(var) == set()


def test_a_build_that_publishes_already_is_not_cancelled(
    admin: AdminClient, var: Path, until_step: UntilStep, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_S", 0.2)
    with locked(var / "indexes" / "items" / ".publishing"):
        operation = admin.build_index("items", files=["small.parquet"])
        until_step(admin, operation.name, "publishing")
        admin.cancel_operation(operation.name)
        with pytest.raises(DeadlineExceeded):
            admin.wait_operation(operation.name, timeout_s=1.0)
        assert len(workers()) == 1
    ended = admin.wait_operation(operation.name, timeout_s=60)
    assert ended.cancel_requested
    assert ended.result().labels == ("stable",)


def test_a_killed_build_says_so_and_goes_on_when_it_is_asked_for_again(
    admin: AdminClient, var: Path, until_step: UntilStep, workers: Workers
) -> None:
    operation = admin.build_index("items", files=["large.parquet"])
    until_step(admin, operation.name, "judging")
    (worker,) = workers()
    worker.kill()
    with pytest.raises(Unavailable, match="ended by SIGKILL while judging; ask for the build again") as died:
        admin.wait_operation(operation.name, timeout_s=60).result()
    assert died.value.reason == "BUILD_DIED"
    assert left(var) == {".building/items"}
    again = admin.wait_operation(admin.build_index("items", files=["large.parquet"]).name, timeout_s=60)
    assert again.result().labels == ("stable",)
    # What was read and trained before is not read and trained again.
    assert "reading" not in {step.name for step in again.steps}
    assert left(var) == set()


def test_one_build_of_a_name_at_a_time_whoever_asks(admin: AdminClient, running: RunningAdmin) -> None:
    begun: list[BuildOperation] = []
    refused: list[NotPossible] = []
    start = threading.Barrier(2)

    def ask() -> None:
        with AdminClient(running.address, timeout_s=60) as client:
            start.wait()
            try:
                begun.append(client.build_index("items", files=["small.parquet"]))
            except NotPossible as error:
                refused.append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert (len(begun), len(refused)) == (1, 1)
    assert refused[0].reason == "BUILD_RUNNING"
    assert refused[0].metadata["operation"] == begun[0].name
    other = admin.build_index("others", files=["small.parquet"])
    assert admin.wait_operation(begun[0].name, timeout_s=60).result().name == "items"
    assert admin.wait_operation(other.name, timeout_s=60).result().name == "others"
    assert [each.name for each in admin.operations(page_size=1)] == sorted([other.name, begun[0].name], reverse=True)


def test_a_build_at_a_shell_is_in_the_way(admin: AdminClient, var: Path) -> None:
    with workplace(var / "indexes", "items", "index", label=None):
        operation = admin.build_index("items", files=["small.parquet"])
        with pytest.raises(NotPossible, match="another command is changing index 'items'") as busy:
            admin.wait_operation(operation.name, timeout_s=60).result()
        assert busy.value.reason == "BUILD_RUNNING"


@pytest.mark.slow
def test_no_more_are_built_at_a_time_than_the_service_can_bear(
    admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recollect.admin.builds.MOST", 1)
    first = admin.build_index("first", files=["small.parquet"])
    with pytest.raises(Unavailable, match="first") as refused:
        admin.build_index("second", files=["small.parquet"])
    assert refused.value.reason == "TOO_MANY_BUILDS"
    admin.wait_operation(first.name, timeout_s=60)


@pytest.mark.slow
def test_the_end_of_the_service_ends_its_builds_and_the_next_one_knows_of_them(
    admin_config: Callable[..., AdminConfig],
    start_admin: Callable[..., RunningAdmin],
    until_step: UntilStep,
    workers: Workers,
) -> None:
    with RunningAdmin(admin_config()) as first, AdminClient(first.address) as admin:
        operation = admin.build_index("items", files=["large.parquet"])
        until_step(admin, operation.name, "training")
    assert workers() == []
    with AdminClient(start_admin().address) as admin:
        with pytest.raises(Unavailable, match="the service was stopped while") as stopped:
            admin.get_operation(operation.name).result()
        assert stopped.value.reason == "SERVICE_STOPPED"
        again = admin.wait_operation(admin.build_index("items", files=["large.parquet"]).name, timeout_s=60)
        assert again.result().labels == ("stable",)
        assert "reading" not in {step.name for step in again.steps}


SERVICE = """
import sys
from pathlib import Path

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.settings import Settings

with RunningAdmin(AdminConfig(settings=Settings(var=Path(sys.argv[1]), build_niceness=0), port=0)) as admin:
    print(admin.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def service(var: Path, workers: Workers) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An admin server in a process of its own, and its address."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, var], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_killed_service_takes_its_builds_with_it(
    service: tuple[subprocess.Popen[str], str],
    start_admin: Callable[..., RunningAdmin],
    until_step: UntilStep,
    workers: Workers,
    eventually: Callable[..., object],
) -> None:
    process, address = service
    with AdminClient(address) as admin:
        operation = admin.build_index("items", files=["large.parquet"])
        until_step(admin, operation.name, "reading")
        assert len(workers()) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    eventually(lambda: workers() == [])
    with AdminClient(start_admin().address) as admin:
        told = admin.get_operation(operation.name)
        assert told.error is not None
        assert told.error.reason == "SERVICE_STOPPED"
        assert admin.wait_operation(admin.build_index("items", files=["large.parquet"]).name).result().vectors == 30_000


@pytest.mark.slow
def test_what_was_built_is_remembered_as_long_as_it_is_of_use(
    start_admin: Callable[..., RunningAdmin], var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recollect.admin.operations.KEPT", 1)
    (var / "operations").mkdir()
    (var / "operations" / "20200101T000000-00000000.json").write_text("{torn")
    with AdminClient(start_admin().address) as admin:
        names = []
        for _ in range(4):
            names.append(admin.build_index("items", files=["small.parquet"]).name)
            admin.wait_operation(names[-1], timeout_s=60)
        assert names == sorted(names)
        assert [each.name for each in admin.operations()] == names[-1:]
        admin.forget_operation(names[-1])
        assert list(admin.operations()) == []
    assert [path.name for path in (var / "operations").glob("*.json")] == ["20200101T000000-00000000.json"]


def test_an_operation_that_runs_is_not_forgotten(admin: AdminClient) -> None:
    operation = admin.build_index("items", files=["small.parquet"])
    with pytest.raises(NotPossible, match="cancel it first"):
        admin.forget_operation(operation.name)
    admin.wait_operation(operation.name, timeout_s=60)


def test_a_worker_stands_back_behind_what_serves(
    start_admin: Callable[..., RunningAdmin], until_step: UntilStep, workers: Workers
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with AdminClient(start_admin(settings={"build_niceness": 3}).address) as admin:
        operation = admin.build_index("items", files=["large.parquet"])
        until_step(admin, operation.name, "reading")
        (worker,) = workers()
        assert worker.nice() == min(19, own + 3)
        admin.cancel_operation(operation.name)
        admin.wait_operation(operation.name, timeout_s=60)
