"""A label is followed for ever: what cannot be opened leaves what answers, and is tried again when that may help."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recollect.artifacts import Artifact, ArtifactStore, Hold, following
from recollect.artifacts.following import Followed
from recollect.errors import RemoteError

Model = Callable[[str], Path]


@dataclass(frozen=True)
class Opened:
    version: str
    hold: Hold


class FollowedModel(Followed[Opened]):
    """Opens anything, unless `fails` says with what that ends."""

    fails: Exception | None = None
    tries = 0

    def _open(self, artifact: Artifact, hold: Hold) -> Opened:
        self.tries += 1
        if self.fails is not None:
            raise self.fails
        return Opened(artifact.version, hold)


@pytest.fixture
def versions(store: ArtifactStore, model: Model) -> list[str]:
    made = [store.publish("dare", model(name)).version for name in ("first", "second")]
    store.set_label("dare", "stable", made[0])
    return made


@pytest.fixture
def followed(store: ArtifactStore, versions: list[str]) -> Iterator[FollowedModel]:
    followed = FollowedModel(store, "dare@stable", look_s=0.01)
    yield followed
    followed.close()


def look(followed: FollowedModel) -> str:
    asyncio.run(followed.look())
    return followed.current.version


def test_what_was_damaged_is_tried_again_when_the_label_comes_back(
    store: ArtifactStore, versions: list[str], followed: FollowedModel
) -> None:
    weights = store.root / "dare" / versions[1] / "tables" / "weights"
    whole = weights.read_text()
    weights.write_text("x")
    store.set_label("dare", "stable", versions[1])
    assert look(followed) == versions[0]
    weights.write_text(whole)
    # Hashing all of it again every second would take more than it gives.
    assert look(followed) == versions[0]
    store.roll_back("dare", "stable")
    assert look(followed) == versions[0]
    store.set_label("dare", "stable", versions[1])
    assert look(followed) == versions[1]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("faiss"), OSError(24, "Too many open files"), RemoteError("no answer")],
    ids=repr,
)
def test_what_may_pass_is_tried_again_after_a_while(
    store: ArtifactStore,
    versions: list[str],
    followed: FollowedModel,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="recollect")
    store.set_label("dare", "stable", versions[1])
    followed.fails, tries = error, followed.tries
    assert [look(followed) for _ in range(3)] == versions[:1] * 3
    assert followed.tries == tries + 1
    monkeypatch.setattr(following, "RETRY_S", 0.0)
    store.roll_back("dare", "stable")
    look(followed)
    store.set_label("dare", "stable", versions[1])
    caplog.clear()
    assert [look(followed) for _ in range(3)] == versions[:1] * 3
    assert followed.tries == tries + 4
    # One trace tells all.
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False]
    assert repr(error) in caplog.messages[2]
    followed.fails = None
    assert look(followed) == versions[1]


def test_whatever_happens_the_task_goes_on(
    store: ArtifactStore,
    versions: list[str],
    followed: FollowedModel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []

    def refresh() -> None:
        looked.append(1)
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(store, "refresh", refresh)

    async def follow() -> None:
        task = asyncio.create_task(followed.follow())
        while len(looked) < 5:
            await asyncio.sleep(0.01)
        monkeypatch.undo()
        store.set_label("dare", "stable", versions[1])
        while followed.current.version != versions[1]:
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    asyncio.run(asyncio.wait_for(follow(), 30))
    assert caplog.text.count("dare@stable cannot be looked at") == 1
