"""Taking users out of an event store leaves everything else as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.erasure import erase_users
from recsys.data.event_store import EventStore
from recsys.errors import StoreError

LOG = {"ann": [(1, 10), (2, 20), (3, 30)], "bob": [(4, 5)], "cy": [], "dee": [(5, 7), (6, 8)]}


def events_of(store: EventStore) -> dict[str, list[tuple[int, int]]]:
    return {
        user: [(int(store.items[at]), int(store.times[at])) for at in range(store.offsets[u], store.offsets[u + 1])]
        for u, user in enumerate(store.user_ids)
    }


def test_what_is_later_stays_and_who_has_nothing_left_goes(store_of: Callable[..., EventStore]) -> None:
    store = store_of(LOG)
    seen: list[tuple[int, int]] = []
    erasure = erase_users(
        store.directory, {"ann": 20, "bob": 99, "nobody": 99}, progress=lambda *done: seen.append(done)
    )
    assert (erasure.users, erasure.events) == (2, 3)
    after = EventStore(store.directory)
    assert events_of(after) == {"ann": [(3, 30)], "cy": [], "dee": [(5, 7), (6, 8)]}
    assert (after.manifest.first_time_ms, after.manifest.last_time_ms) == (7, 30)
    assert after.manifest.report["events_erased"] == 3
    assert after.catalogue.item_ids.tolist() == store.catalogue.item_ids.tolist()
    assert seen[-1] == (3, 3)
    assert events_of(store) == {name: list(events) for name, events in LOG.items()}  # who has it open reads on
    assert erase_users(store.directory, {"dee": 7}).events == 1
    assert EventStore(store.directory).manifest.report["events_erased"] == 4


def test_nothing_to_erase_writes_nothing(store_of: Callable[..., EventStore]) -> None:
    store = store_of(LOG)
    before = (store.directory / "manifest.json").stat()
    assert erase_users(store.directory, {"ann": 9, "nobody": 99}).events == 0
    assert (store.directory / "manifest.json").stat().st_ino == before.st_ino


def test_the_bytes_are_gone_from_the_disk(store_of: Callable[..., EventStore]) -> None:
    time_ms = 0x0102030405060708
    store = store_of({"ann": [(1, time_ms)], "bob": [(2, 5)]})
    pattern = time_ms.to_bytes(8, "little")

    def on_disk() -> bool:
        return any(pattern in path.read_bytes() for path in store.directory.parent.rglob("*") if path.is_file())

    assert on_disk()
    erase_users(store.directory, {"ann": time_ms})
    assert not on_disk()


def test_everybody_can_be_erased(store_of: Callable[..., EventStore]) -> None:
    store = store_of({"ann": [(1, 10)], "bob": [(2, 5)]})
    assert erase_users(store.directory, {"ann": 99, "bob": 99}).events == 2
    after = EventStore(store.directory)
    assert (len(after), after.n_users) == (0, 0)


def test_no_event_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no event store at"):
        erase_users(tmp_path, {"ann": 1})


def test_any_users_and_times(tmp_path_factory: pytest.TempPathFactory, store_of: Callable[..., EventStore]) -> None:
    names = iter(range(10**6))

    @settings(deadline=None, max_examples=40)
    @given(
        log=st.dictionaries(
            st.sampled_from("abcdef"), st.lists(st.integers(0, 9), max_size=5).map(sorted), min_size=1
        ).filter(lambda log: any(log.values())),
        until=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9)),
    )
    def check(log: dict[str, list[int]], until: dict[str, int]) -> None:
        rows = {user: [(1 + at, time) for at, time in enumerate(times)] for user, times in log.items()}
        store = store_of(rows, name=f"store{next(names)}")
        erase_users(store.directory, until)
        expected = {}
        for user, events in sorted(rows.items()):
            left = [event for event in events if event[1] > until.get(user, -1)]
            if left or not (events and len(left) < len(events)):
                expected[user] = left
        assert events_of(EventStore(store.directory)) == expected

    check()
