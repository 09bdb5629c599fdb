"""Increments as versions: labels, gate, rollback and removal as for builds, and what the next build makes of them."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import INDEXES, ArtifactStore
from recollect.artifacts.workplace import remove_unfinished, workplace
from recollect.errors import IndexRefused, LabelMoved, RecollectError, VersionDamaged
from recollect.indexes import increments
from recollect.indexes.building import IndexBuilder, open_version
from recollect.indexes.increments import Increment, add_vectors, delete_ids
from recollect.indexes.merging import MergePolicy
from recollect.indexes.serving import FollowedIndex
from retrieval.errors import IndexingError
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec
from retrieval.index.vector_index import VectorIndex

COUNT, DIMENSION = 300, 8
PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())


def drawn(count: int, seed: int, *, dimension: int = DIMENSION) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def source_of(
    ids: Sequence[int] | range = range(COUNT), *, seed: int = 1, maker: str = "dare/1", dimension: int = DIMENSION
) -> ArrayVectors:
    vectors = drawn(len(ids), seed, dimension=dimension)
    return ArrayVectors(pl.Series("id", list(ids)), vectors, {"kind": "model", "model": maker})


@pytest.fixture
def builder(tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(root=tmp_path / "indexes", thresholds=Thresholds(), label="stable")


@pytest.fixture
def store(builder: IndexBuilder) -> ArtifactStore:
    return builder.store


@pytest.fixture
def base(builder: IndexBuilder) -> str:
    return builder.rebuild("items", source_of(), PLAN).artifact.version


@pytest.fixture
def add(builder: IndexBuilder, tmp_path: Path) -> Callable[..., Increment]:
    """Add vectors of some ids: `add([300, 301], seed=2)`."""

    def added(ids: list[int], *, seed: int = 2, vectors: np.ndarray | None = None, to: Any = builder) -> Increment:
        path = tmp_path / "new.parquet"
        values = drawn(len(ids), seed) if vectors is None else vectors
        pl.DataFrame({"id": ids, "vector": values}, schema_overrides={"id": pl.Int64}).write_parquet(path)
        return add_vectors(to, "items", [path])

    return added


def answering(builder: IndexBuilder) -> VectorIndex:
    return open_version(builder.store.resolve("items@stable"))


def test_each_increment_is_a_version_that_answers_and_can_be_rolled_back(
    base: str, builder: IndexBuilder, store: ArtifactStore, add: Callable[..., Increment]
) -> None:
    first = add([300, 0])
    assert (first.added, first.replaced, first.refused, first.advice) == (2, 1, (), None)
    second = delete_ids(builder, "items", [5, 300, 999])
    assert (second.deleted, [each.id for each in second.refused]) == (2, [999])
    assert store.labelled("items", "stable") == second.artifact.version
    index = answering(builder)
    assert index.ids.to_list() == [each for each in range(COUNT) if each != 5]
    assert index.facts.base is not None
    assert index.facts.base.version == base
    nearest = index.search(drawn(2, 2)[1:], 1).rows[0, 0]
    assert index.ids[int(nearest)] == 0  # by its new vector

    assert store.roll_back("items", "stable") == first.artifact.version
    assert 300 in answering(builder).ids
    assert store.roll_back("items", "stable") == base
    assert answering(builder).ids.to_list() == list(range(COUNT))


def test_versions_share_the_files_of_the_base_and_survive_its_removal(
    base: str, builder: IndexBuilder, store: ArtifactStore, add: Callable[..., Increment]
) -> None:
    versions = [base, *(add([300 + number]).artifact.version for number in range(3))]
    files = [store.root / "items" / version / "index" / "vectors.npy" for version in versions]
    assert all(file.samefile(files[0]) for file in files)
    size = files[0].stat().st_size
    removed = store.remove_unneeded("items", keep=0)
    assert set(removed.versions) == set(versions[:3])
    assert removed.bytes < 3 * size + 30_000  # what is shared was not freed
    assert files[3].stat().st_nlink == 1
    assert len(answering(builder)) == COUNT + 3


def test_nothing_is_left_where_it_is_made(base: str, builder: IndexBuilder, add: Callable[..., Increment]) -> None:
    add([300])
    with pytest.raises(IndexingError, match="none of the ids can be deleted: id 7000 is not in the index"):
        delete_ids(builder, "items", [7000])
    assert sorted(path.name for path in (builder.root / ".building").iterdir()) == ["items.lock"]


def test_a_killed_increment_changes_nothing_and_keeps_what_a_killed_build_made(
    base: str, builder: IndexBuilder, store: ArtifactStore, add: Callable[..., Increment], tmp_path: Path
) -> None:
    building = builder.root / ".building" / "items"
    (building / "work").mkdir(parents=True)
    (building / "work" / "job.json").write_text("{}")
    code = (
        "import os, signal; from pathlib import Path; from recollect.indexes import increments\n"
        "from recollect.indexes.building import IndexBuilder; from retrieval.index.quality import Thresholds\n"
        "increments.judge = lambda *_args, **_more: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"builder = IndexBuilder(root=Path({str(builder.root)!r}), thresholds=Thresholds(), label='stable')\n"
        "increments.delete_ids(builder, 'items', [3])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (building / "increment" / "index" / "manifest.json").exists()
    assert store.labelled("items", "stable") == base
    assert store.versions("items") == [base]
    add([301])
    assert answering(builder).ids.to_list() == [*range(COUNT), 301]
    assert [path.name for path in building.rglob("*")] == ["work", "job.json"]
    assert remove_unfinished(builder.root, "items", "index") == 2


def test_only_one_command_changes_an_index(base: str, builder: IndexBuilder, add: Callable[..., Increment]) -> None:
    with (
        workplace(builder.root, "items", "index", label=None),
        pytest.raises(RecollectError, match="another command is changing index 'items'"),
    ):
        add([300])


def test_a_label_that_was_moved_meanwhile_is_left_alone(
    base: str,
    builder: IndexBuilder,
    store: ArtifactStore,
    add: Callable[..., Increment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = add([300]).artifact.version
    real = increments.judge

    def moved(*args: Any, **more: Any) -> Any:
        store.roll_back("items", "stable")
        return real(*args, **more)

    monkeypatch.setattr(increments, "judge", moved)
    with pytest.raises(LabelMoved, match=f"points at {base}, not at {first}"):
        add([301])
    assert store.labelled("items", "stable") == base


def test_the_gate_refuses_what_does_not_belong(
    base: str, builder: IndexBuilder, store: ArtifactStore, add: Callable[..., Increment]
) -> None:
    with pytest.raises(IndexRefused, match="mean length went from") as refused:
        add([300], vectors=10_000 * drawn(1, 2))
    assert store.labelled("items", "stable") == base
    assert refused.value.reference.split("/")[1] in store.versions("items")


def test_many_changes_advise_a_build(base: str, builder: IndexBuilder, add: Callable[..., Increment]) -> None:
    assert add(list(range(290, 310))).advice is None  # 20 added and 10 hidden of 300
    advice = delete_ids(builder, "items", [0]).advice
    assert advice is not None
    assert advice.startswith("10% of the base was added, replaced or deleted")
    assert "recollect index build items" in advice


def test_a_running_service_goes_over_to_an_increment(
    base: str, builder: IndexBuilder, add: Callable[..., Increment]
) -> None:
    followed = FollowedIndex(builder.root, "items@stable")
    twin = drawn(COUNT, 1)[:1]
    version = add([500], vectors=twin).artifact.version
    asyncio.run(followed.look())
    assert followed.current.version == version
    ids, similarities = followed.current.neighbours.nearest(np.array([0, 500]), 3)
    assert (ids[0, 0], ids[1, 0]) == (500, 0)
    np.testing.assert_allclose(similarities[:, 0], 1, atol=1e-3)
    followed.close()


@pytest.mark.usefixtures("base")
class TestTheNextBuild:
    """What a build merges."""

    def test_the_source_wins_what_was_deleted_stays_out_and_what_it_lacks_is_kept(
        self, builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        add([0, 300, 301])
        delete_ids(builder, "items", [1, 301])
        for night in (1, 2):  # the second one merges what the first carried on
            built = builder.rebuild("items", source_of(), PLAN)
            assert (built.merging.left_out, built.merging.changes.kept.ids.to_list()) == (1, [300])
            assert built.index.ids.to_list() == [0, *range(2, 301)]
            assert built.index.facts.base is None
            assert {check.name: check.value for check in built.verdict.checks}["coverage"] == 1.0, night
            own = built.index.rows_of([0, 300])
            found = built.index.search(np.concatenate([drawn(COUNT, 1)[:1], drawn(3, 2)[1:2]]), 1)
            assert found.rows[:, 0].tolist() == own.tolist()

    def test_the_same_build_again_gives_the_same_index(
        self, builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        add([300])
        delete_ids(builder, "items", [1])
        first, second = (builder.rebuild("items", source_of(), PLAN).index.manifest for _ in range(2))
        assert first.files == second.files
        assert first.facts == second.facts

    def test_what_was_added_again_after_it_was_deleted_is_in(
        self, builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        delete_ids(builder, "items", [1, 2])
        builder.rebuild("items", source_of(), PLAN)
        add([1])
        built = builder.rebuild("items", source_of(), PLAN)
        assert built.index.ids.to_list() == [0, 1, *range(3, COUNT)]
        # The source has it, so that its vector counts.
        assert built.index.search(drawn(COUNT, 1)[1:2], 1).rows[0, 0] == 1

    def test_deleted_ids_come_back_when_that_is_said(self, builder: IndexBuilder) -> None:
        delete_ids(builder, "items", [1, 2])
        built = builder.rebuild("items", source_of(), PLAN, merge=MergePolicy(restore_deleted=True))
        assert built.index.ids.to_list() == list(range(COUNT))
        assert builder.rebuild("items", source_of(seed=1), PLAN).index.ids.to_list() == list(range(COUNT))

    @pytest.mark.parametrize(
        "other",
        [{"maker": "dare/2"}, {"dimension": 4}],
        ids=["another model", "another dimension"],
    )
    def test_vectors_of_another_maker_stop_the_build_unless_they_are_dropped(
        self, other: dict[str, Any], builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        builder = replace(builder, thresholds=Thresholds(overlap=0))
        add(list(range(295, 320)))
        delete_ids(builder, "items", [7])
        source = source_of(**other)
        with pytest.raises(
            RecollectError, match=r"20 vectors that were added since, such as 300, 301, 302, .*--drop-added"
        ):
            builder.rebuild("items", source, PLAN)
        assert not (builder.root / ".building" / "items" / "work").exists()
        built = builder.rebuild("items", source, PLAN, merge=MergePolicy(drop_added=True))
        assert built.index.ids.to_list() == [each for each in range(COUNT) if each != 7]
        assert built.merging.dropped.to_list() == list(range(300, 320))

    def test_a_source_that_has_what_was_added_may_be_of_any_maker(
        self, builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        builder = replace(builder, thresholds=Thresholds(overlap=0))
        add([300, 301])
        built = builder.rebuild("items", source_of(range(302), maker="dare/2"), PLAN)
        assert len(built.index) == 302
        assert len(built.merging.changes.kept) == 0

    def test_what_a_source_has_had_is_its_own_and_goes_with_it(
        self, builder: IndexBuilder, add: Callable[..., Increment]
    ) -> None:
        add([300])
        assert 300 in builder.rebuild("items", source_of(range(COUNT + 1)), PLAN).index.ids
        built = builder.rebuild("items", source_of(), PLAN)
        assert (300 in built.index.ids, len(built.merging.dropped)) == (False, 0)

    def test_a_build_for_a_label_of_its_own_leaves_out_what_was_deleted_from_the_stable_one(
        self, builder: IndexBuilder
    ) -> None:
        delete_ids(builder, "items", [17])
        canary = replace(builder, label="canary").rebuild("items", source_of(), PLAN)
        assert (canary.merging.left_out, 17 in canary.index.ids) == (1, False)
        assert {check.name for check in canary.verdict.checks} >= {"coverage", "overlap"}
        builder.activate("items", canary.artifact.version, label="stable")
        assert 17 not in builder.rebuild("items", source_of(), PLAN).index.ids

    def test_what_another_machine_deletes_meanwhile_is_not_overwritten(
        self, builder: IndexBuilder, tmp_path: Path
    ) -> None:
        shared = str(tmp_path / "shared")
        here, there = (replace(builder, root=tmp_path / each, shared=f"{shared}/indexes") for each in "ab")
        Path(shared).mkdir()
        here.rebuild("items", source_of(), PLAN)
        deleted: list[str] = []

        def told(step: str, _done: int, _of: int) -> None:
            if step == "training" and not deleted:
                deleted.append(delete_ids(there, "items", [17]).artifact.version)

        with pytest.raises(LabelMoved, match=r"is built, but label 'stable' of 'items' points at"):
            replace(here, told=told).rebuild("items", source_of(), PLAN)
        assert here.store.labelled("items", "stable") == deleted[0]
        assert 17 not in here.rebuild("items", source_of(), PLAN).index.ids

    @pytest.mark.parametrize("file", ["index.faiss", "vectors.npy", None], ids=["index", "vectors", "all"])
    def test_a_damaged_version_stops_no_build_and_what_was_deleted_stays_out(
        self, file: str | None, builder: IndexBuilder, store: ArtifactStore
    ) -> None:
        live = delete_ids(builder, "items", [17]).artifact
        everything = MergePolicy(drop_added=True, restore_deleted=True)
        if file is None:
            shutil.rmtree(live.directory)
            with pytest.raises(VersionDamaged, match="with both --drop-added and --restore-deleted, which forgets it"):
                builder.rebuild("items", source_of(), PLAN)
            built = builder.rebuild("items", source_of(), PLAN, merge=everything)
        else:
            # The files of the base are hard links.
            (live.directory / "index" / file).unlink()
            (live.directory / "index" / file).write_bytes(b"damaged")
            built = builder.rebuild("items", source_of(), PLAN)
        assert (17 in built.index.ids) == (file is None)
        assert store.labelled("items", "stable") == built.artifact.version
        told = {check.name: check.reason for check in built.verdict.checks}
        assert told.keys() == {"recall", "compared"}
        assert told["compared"].startswith(f"nothing is compared with {live.reference}, which is damaged")

    def test_changes_that_cannot_be_read_are_forgotten_only_when_that_is_said(
        self, builder: IndexBuilder, store: ArtifactStore
    ) -> None:
        live = delete_ids(builder, "items", [17]).artifact
        (live.directory / "index" / "removed.parquet").write_bytes(b"damaged")
        for merge in (MergePolicy(), MergePolicy(restore_deleted=True)):
            with pytest.raises(VersionDamaged, match=r"removed\.parquet is altered .* or build with both --drop-added"):
                builder.rebuild("items", source_of(), PLAN, merge=merge)
        assert store.labelled("items", "stable") == live.version
        both = MergePolicy(drop_added=True, restore_deleted=True)
        assert 17 in builder.rebuild("items", source_of(), PLAN, merge=both).index.ids

    def test_another_version_takes_over_from_a_damaged_one(
        self, builder: IndexBuilder, store: ArtifactStore, base: str
    ) -> None:
        good = replace(builder, label="other").rebuild("items", source_of(range(COUNT - 1)), PLAN).artifact.version
        (builder.root / "items" / base / "index" / "ids.parquet").write_bytes(b"damaged")
        verdict = builder.activate("items", good, label="stable")
        assert [check.name for check in verdict.checks] == ["recall", "compared"]
        assert store.labelled("items", "stable") == good

    def test_a_rollback_takes_increments_back_from_the_next_build_too(
        self, builder: IndexBuilder, store: ArtifactStore, add: Callable[..., Increment]
    ) -> None:
        add([300])
        store.roll_back("items", "stable")
        assert builder.rebuild("items", source_of(), PLAN).index.ids.to_list() == list(range(COUNT))


def test_an_index_of_names_is_not_recommended_from(builder: IndexBuilder) -> None:
    source = ArrayVectors(pl.Series("id", ["a", "b"]), drawn(2, 1))
    builder.rebuild("photos", source, PLAN)
    with pytest.raises(RecollectError, match="must be numbers of items, got names such as 'a'"):
        FollowedIndex(builder.root, "photos@stable")
    assert ArtifactStore(builder.root, kind=INDEXES).remove_unneeded("photos", keep=0).held == ()
