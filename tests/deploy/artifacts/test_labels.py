"""Labels: what was activated can be rolled back, nobody overwrites another's activation, a crash loses neither."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.artifacts import ArtifactStore
from recollect.artifacts import labels as labels_module
from recollect.errors import ArtifactError, LabelMoved, NothingBefore


@pytest.fixture
def versions(store: ArtifactStore, tmp_path: Path) -> list[str]:
    """Four of them."""
    made = []
    for number in range(4):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / "weights").write_text(str(number))
        made.append(store.publish("dare", tmp_path / "source").version)
    return made


def test_a_rollback_goes_back_step_by_step(store: ArtifactStore, versions: list[str]) -> None:
    for version in versions[:3]:
        store.set_label("dare", "stable", version)
    assert store.roll_back("dare", "stable") == versions[1]
    assert store.roll_back("dare", "stable") == versions[0]
    with pytest.raises(ArtifactError, match="pointed at nothing before; there is nothing to roll back to"):
        store.roll_back("dare", "stable")
    assert store.labelled("dare", "stable") == versions[0]


def test_what_was_left_by_a_rollback_is_not_come_back_to(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1])
    store.roll_back("dare", "stable")
    store.set_label("dare", "stable", versions[2])
    assert store.roll_back("dare", "stable") == versions[0]


def test_labels_have_histories_of_their_own(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "canary", versions[1])
    store.set_label("dare", "stable", versions[2])
    assert store.roll_back("dare", "stable") == versions[0]
    assert store.labels("dare") == {"canary": versions[1], "stable": versions[0]}
    told = [(each.label, each.version, each.before, each.how) for each in store.label_history("dare")]
    assert told == [
        ("stable", versions[0], None, "set"),
        ("canary", versions[1], None, "set"),
        ("stable", versions[2], versions[0], "set"),
        ("stable", versions[0], versions[2], "rollback"),
    ]


def test_setting_what_is_set_is_no_change(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[0])
    assert len(store.label_history("dare")) == 1


def test_an_activation_that_another_one_overtook_is_refused(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1], expected=versions[0])
    with pytest.raises(LabelMoved, match=f"points at {versions[1]}, not at {versions[0]} as expected"):
        store.set_label("dare", "stable", versions[2], expected=versions[0])
    with pytest.raises(LabelMoved):
        store.roll_back("dare", "stable", expected=versions[0])
    with pytest.raises(LabelMoved, match="points at nothing"):
        store.set_label("dare", "canary", versions[0], expected=versions[0])
    assert store.labels("dare") == {"stable": versions[1]}


def test_a_first_activation_can_expect_that_there_was_none(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0], expected="")
    with pytest.raises(LabelMoved, match=f"points at {versions[0]}, not at nothing as expected") as moved:
        store.set_label("dare", "stable", versions[1], expected="")
    assert moved.value.current == versions[0]
    with pytest.raises(LabelMoved, match="points at nothing") as missing:
        store.set_label("dare", "canary", versions[1], expected=versions[0])
    assert missing.value.current is None


def test_what_a_rollback_would_go_back_to_is_known_before(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    with pytest.raises(NothingBefore):
        store.previous("dare", "stable")
    store.set_label("dare", "stable", versions[1])
    assert store.previous("dare", "stable") == versions[0]
    assert store.labelled("dare", "stable") == versions[1]


def test_a_damaged_version_is_not_rolled_back_to(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1])
    (store.root / "dare" / versions[0] / "weights").write_text("x")
    with pytest.raises(ArtifactError, match="weights is altered"):
        store.roll_back("dare", "stable")
    assert store.labelled("dare", "stable") == versions[1]


def test_no_label_no_rollback(store: ArtifactStore, versions: list[str]) -> None:
    with pytest.raises(ArtifactError, match="no model 'dare@stable'"):
        store.roll_back("dare", "stable")
    for name in ("nobody", "../nobody"):
        with pytest.raises(ArtifactError, match=f"no model '{name}@stable'"):
            store.roll_back(name, "stable")
        assert not (store.root / name).exists()


def test_a_crash_between_telling_and_doing_changes_nothing(
    store: ArtifactStore, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1])
    with monkeypatch.context() as patch:
        patch.setattr(labels_module, "write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.set_label("dare", "stable", versions[2])
    assert store.labelled("dare", "stable") == versions[1]
    assert store.roll_back("dare", "stable") == versions[0]


def die_before_it_is_done(change: Callable[[], object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            change()


def test_a_rollback_that_was_told_and_not_done_can_be_repeated(store: ArtifactStore, versions: list[str]) -> None:
    for version in versions[:3]:
        store.set_label("dare", "stable", version)
    for _ in range(2):
        die_before_it_is_done(lambda: store.roll_back("dare", "stable"))
        assert store.labelled("dare", "stable") == versions[2]
    store.remove_unneeded("dare", keep=1)
    assert store.versions("dare") == versions[1:]  # of those without a label the newest, which is the last one
    assert store.roll_back("dare", "stable") == versions[1]


def test_what_never_answered_is_not_rolled_back_to(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1])
    die_before_it_is_done(lambda: store.set_label("dare", "stable", versions[3]))
    die_before_it_is_done(lambda: store.set_label("dare", "canary", versions[2]))
    # They are as new as before: without a label the newest stay.
    assert store.remove_unneeded("dare", keep=2).versions == ()
    store.set_label("dare", "stable", versions[2])
    assert store.roll_back("dare", "stable") == versions[1]
    assert store.roll_back("dare", "stable") == versions[0]


def test_what_was_told_and_not_done_may_be_done_later(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    for _ in range(2):
        die_before_it_is_done(lambda: store.set_label("dare", "stable", versions[1]))
    store.set_label("dare", "stable", versions[1])
    store.set_label("dare", "stable", versions[2])
    assert [store.roll_back("dare", "stable") for _ in range(2)] == [versions[1], versions[0]]
    with pytest.raises(NothingBefore):
        store.roll_back("dare", "stable")


def test_a_history_cut_short_is_read_as_far_as_it_goes(store: ArtifactStore, versions: list[str]) -> None:
    store.set_label("dare", "stable", versions[0])
    store.set_label("dare", "stable", versions[1])
    path = store.root / "dare" / "labels" / ".history.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"time": "2026"})[:9])
    assert [each.version for each in store.label_history("dare")] == versions[:2]
    # What follows a torn line is not torn with it.
    store.set_label("dare", "stable", versions[2])
    assert [each.version for each in store.label_history("dare")] == versions[:3]
    assert store.roll_back("dare", "stable") == versions[1]


def _count_up(root: Path, versions: list[str], times: int) -> None:
    store = ArtifactStore(root)
    for _ in range(times):
        while True:
            now = store.labelled("dare", "stable")
            assert now is not None
            try:
                store.set_label("dare", "stable", versions[(versions.index(now) + 1) % 4], expected=now)
                break
            except LabelMoved:
                continue


def test_of_many_who_expect_the_same_one_succeeds(store: ArtifactStore, versions: list[str]) -> None:
    """Four processes count a label round its versions; a lost update would leave it short."""
    store.set_label("dare", "stable", versions[0])
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count_up, args=(store.root, versions, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(store.label_history("dare")) == 101
    assert store.labelled("dare", "stable") == versions[100 % 4]
