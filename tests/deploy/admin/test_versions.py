"""Versions of indexes over the wire: listed, verified, activated where they may answer, rolled back, removed."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from recollect.admin.server import RunningAdmin
from recollect.artifacts import INDEXES, ArtifactStore
from recollect_api import Conflict, NotFound, NotPossible
from recollect_api.admin import AdminClient, AsyncAdminClient, LabelMove


@pytest.fixture
def store(var: Path, versions: list[str]) -> ArtifactStore:
    return ArtifactStore(var / "indexes", kind=INDEXES)


def test_versions_are_listed_page_by_page_with_what_is_known_of_them(
    admin: AdminClient, versions: list[str], store: ArtifactStore
) -> None:
    store.set_label("items", "stable", versions[1])
    found = list(admin.index_versions(page_size=1))
    assert [each.version for each in found] == sorted(versions)
    one = next(each for each in found if each.version == versions[1])
    assert (one.name, one.labels, one.vectors, one.dimension) == ("items", ("stable",), 500, 16)
    assert (one.factory, one.probes, one.source.model) == ("Flat", 0, "m/1")
    assert one.size_bytes > 500 * 16 * 4
    published = store.manifest(store.version("items", versions[1]))["created"]
    assert one.create_time == datetime.fromisoformat(published)
    assert [check.name for check in one.quality.checks] == ["recall"]
    assert list(admin.index_versions("items")) == found
    with pytest.raises(NotFound, match="there is no index 'others'; there is items") as missing:
        admin.list_index_versions("others")
    assert missing.value.reason == "VERSION_NOT_FOUND"


def test_a_damaged_version_is_listed_as_such(admin: AdminClient, versions: list[str], store: ArtifactStore) -> None:
    (store.root / "items" / versions[0] / "verdict.json").write_text("{")
    found = {each.version: each for each in admin.index_versions()}
    assert "cannot be read" in found[versions[0]].problem
    assert str(store.root) not in found[versions[0]].problem
    assert found[versions[1]].problem == ""
    with pytest.raises(NotPossible, match=r"verdict\.json is altered") as damaged:
        admin.verify_index("items", versions[0])
    assert damaged.value.reason == "VERSION_DAMAGED"
    assert str(store.root) not in str(damaged.value)


def test_a_version_is_judged_beside_the_one_that_answers(
    admin: AdminClient, versions: list[str], store: ArtifactStore
) -> None:
    first = admin.activate_index("items", versions[0], expected_version="")
    assert (first.version, first.before) == (versions[0], "")
    assert first.quality is not None
    assert [check.name for check in first.quality.checks] == ["recall"]
    second = admin.activate_index("items", versions[1], expected_version=versions[0])
    assert second.quality is not None
    assert {check.name for check in second.quality.checks} == {"recall", "coverage", "norm_drift", "overlap"}
    with pytest.raises(NotPossible, match="of the 500 ids that should be there are") as refused:
        admin.activate_index("items", versions[3])
    assert refused.value.reason == "INDEX_REFUSED"
    assert [(each.kind, each.subject) for each in refused.value.preconditions] == [("coverage", f"items/{versions[3]}")]
    assert store.labelled("items", "stable") == versions[1]
    worth = admin.verify_index("items", versions[3])
    assert not worth.passed
    assert admin.verify_index("items", versions[3], against="nobody").passed
    back = admin.roll_back_index("items", expected_version=versions[1])
    assert (back.version, back.before) == (versions[0], versions[1])
    with pytest.raises(NotPossible, match="nothing to roll back to") as nothing:
        admin.roll_back_index("items")
    assert nothing.value.reason == "NOTHING_BEFORE"


@pytest.mark.parametrize(("expected", "told"), [(1, "points at nothing"), (None, "")], ids=["a version", "none"])
def test_what_is_not_as_expected_is_refused(
    admin: AdminClient, versions: list[str], store: ArtifactStore, expected: int | None, told: str
) -> None:
    if expected is None:
        store.set_label("items", "canary", versions[0])
        with pytest.raises(Conflict, match=f"points at {versions[0]}, not at nothing") as moved:
            admin.activate_index("items", versions[1], label="canary", expected_version="")
        assert moved.value.current_version == versions[0]
    else:
        with pytest.raises(Conflict, match=told) as moved:
            admin.activate_index("items", versions[0], label="canary", expected_version=versions[expected])
        assert moved.value.current_version == ""
    assert moved.value.reason == "LABEL_MOVED"
    store.set_label("items", "stable", versions[0])
    store.set_label("items", "stable", versions[1])
    with pytest.raises(Conflict):
        admin.roll_back_index("items", expected_version=versions[0])
    assert store.labelled("items", "stable") == versions[1]


def test_of_two_who_expect_the_same_one_succeeds(
    running: RunningAdmin, versions: list[str], store: ArtifactStore
) -> None:
    store.set_label("items", "stable", versions[0])
    done: list[LabelMove] = []
    refused: list[Conflict] = []
    start = threading.Barrier(2)

    def move(version: str) -> None:
        with AdminClient(running.address) as client:
            start.wait()
            try:
                done.append(client.activate_index("items", version, expected_version=versions[0]))
            except Conflict as error:
                refused.append(error)

    moving = [threading.Thread(target=move, args=(version,)) for version in versions[1:3]]
    for each in moving:
        each.start()
    for each in moving:
        each.join()
    assert (len(done), len(refused)) == (1, 1)
    assert store.labelled("items", "stable") == done[0].version == refused[0].current_version


def test_a_caller_who_goes_leaves_the_label_and_no_process(
    running: RunningAdmin, versions: list[str], store: ArtifactStore, workers: Callable[..., list[object]], eventually
) -> None:
    from recollect_api import DeadlineExceeded

    with AdminClient(running.address) as client, pytest.raises(DeadlineExceeded):
        client.activate_index("items", versions[0], timeout_s=0.3)
    eventually(lambda: workers() == [])
    assert store.labelled("items", "stable") is None


def test_what_nobody_needs_is_removed(
    running: RunningAdmin, admin: AdminClient, versions: list[str], store: ArtifactStore
) -> None:
    store.set_label("items", "stable", versions[0])
    (store.root / ".building" / "items").mkdir(parents=True)
    (store.root / ".building" / "items" / "vectors.npy").write_bytes(bytes(1_000))
    with store.hold(store.resolve(f"items/{versions[1]}")):
        removed = admin.remove_unneeded_index_versions("items", keep=0)
    assert set(removed.removed) == {versions[2], versions[3]}
    assert removed.in_use == (versions[1],)
    assert removed.freed_bytes > 1_000
    assert not (store.root / ".building" / "items").exists()
    with pytest.raises(NotFound):
        admin.remove_unneeded_index_versions("others")
    operation = admin.build_index("items", files=["small.parquet"])
    with pytest.raises(NotPossible) as busy:
        admin.remove_unneeded_index_versions("items")
    assert (busy.value.reason, busy.value.metadata["operation"]) == ("BUILD_RUNNING", operation.name)
    admin.wait_operation(operation.name)


def test_the_async_client_gives_the_same_answers_and_errors(running: RunningAdmin, versions: list[str]) -> None:
    async def use() -> None:
        async with AsyncAdminClient(running.address, timeout_s=60) as client:
            assert [each.version async for each in client.index_versions(page_size=3)] == sorted(versions)
            moved = await client.activate_index("items", versions[0])
            assert (moved.version, moved.before) == (versions[0], "")
            with pytest.raises(Conflict):
                await client.activate_index("items", versions[1], expected_version=versions[1])
            assert (await client.verify_index("items", versions[1])).passed
            seen: list[str] = []
            operation = await client.build_index("items", files=["small.parquet"], label="")
            ended = await client.wait_operation(operation.name, on_progress=lambda each: seen.append(each.name))
            assert ended.result().vectors == 500
            assert set(seen) == {operation.name}
            assert [each.name async for each in client.operations()] == [operation.name]
            removed = await client.remove_unneeded_index_versions("items", keep=0)
            assert len(removed.removed) == 4
            assert (await client.list_model_versions()).versions == ()

    asyncio.run(use())
