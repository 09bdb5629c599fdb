"""Work is shared among threads completely, evenly, and without losing an error."""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recollect_kernels import SearchResult, behavior_search
from recollect_kernels import threads as sharing
from recollect_kernels.team import Team, exists
from recollect_kernels.threads import BY_HISTORY, BY_TARGET, plan, ranges, run_all

needs_team = pytest.mark.skipif(not exists(), reason="torch has no OpenMP here")


@pytest.mark.parametrize(
    ("weights", "parts", "expected"),
    [
        pytest.param([], 3, [], id="nothing"),
        pytest.param([5], 3, [(0, 1)], id="one-item"),
        pytest.param([1, 1, 1, 1], 2, [(0, 2), (2, 4)], id="even"),
        pytest.param([9, 1, 1, 1], 2, [(0, 1), (1, 4)], id="a-heavy-first"),
        pytest.param([1, 1, 1, 9], 2, [(0, 4)], id="a-heavy-last"),
        pytest.param([0, 0, 0], 2, [(0, 1), (1, 3)], id="weightless"),
    ],
)
def test_ranges(weights: list[int], parts: int, expected: list[tuple[int, int]]) -> None:
    assert ranges(torch.tensor(weights), parts) == expected


@pytest.mark.parametrize("parts", [1, 2, 7, 64])
def test_ranges_cover_each_item_once(parts: int) -> None:
    weights = torch.randint(0, 50, (37,), generator=torch.Generator().manual_seed(parts))
    found = ranges(weights, parts)
    assert [item for begin, end in found for item in range(begin, end)] == list(range(37))
    assert len(found) <= parts


def test_tasks_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    run_all([lambda: meeting.wait(timeout=10) and None] * 3)
    assert not meeting.broken


def test_the_error_of_another_thread_arrives_after_all_have_ended() -> None:
    ended = threading.Event()

    def fails() -> None:
        raise ZeroDivisionError("in a thread")

    with pytest.raises(ZeroDivisionError, match="in a thread"):
        run_all([fails, ended.set])
    assert ended.is_set()


def test_tasks_begin_apart_and_may_move_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[int, list[set[int]]] = {}
    real = os.sched_setaffinity

    def noted(thread: int, processors: set[int]) -> None:
        begun.setdefault(threading.get_ident(), []).append(set(processors))
        real(thread, processors)

    monkeypatch.setattr(os, "sched_setaffinity", noted)
    barrier, allowed = threading.Barrier(2), os.sched_getaffinity(0)
    after: list[set[int]] = []

    def task() -> None:
        barrier.wait(20)
        after.append(os.sched_getaffinity(0))

    run_all([task, task])
    assert after == [allowed, allowed]
    first, second = begun.values()
    assert len(first[0]) == len(second[0]) == 1
    assert (first[0] == second[0]) == (len(allowed) == 1)


def test_a_system_that_moves_no_threads_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: int, _processors: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    assert run_all([lambda: 1, lambda: 2]) == [1, 2]
    monkeypatch.setattr(sharing, "processor", lambda: None)
    assert run_all([lambda: 3, lambda: 4]) == [3, 4]


def test_a_call_is_cut_by_what_it_has_most_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "exists", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert plan(1, 500, 1 << 30) == (BY_TARGET, 4)
    assert plan(1, 100, 1 << 30) == (BY_TARGET, 3), "a thread takes at least 32, for which it gathers the history"
    assert plan(8, 1, 1 << 30) == (BY_HISTORY, 4)
    assert plan(3, 1, 1 << 30) == (BY_HISTORY, 3)
    assert plan(1, 63, 1 << 30, behaviours=True) == (BY_HISTORY, 1), "only a team joins what it finds"
    assert plan(1, 500, 1 << 10) == (BY_TARGET, 1)


def test_a_team_takes_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    awake = False
    team = Team()
    monkeypatch.setattr(Team, "_is_awake", lambda _self: awake)
    assert not team.takes(50, 2, woken_from=100)
    assert team.takes(50, 2, woken_from=100), "two calls that follow on each other"
    awake = True
    assert team.takes(1, 2, woken_from=100)
    awake = False
    assert not team.takes(99, 2, woken_from=100), "nothing has been missed since"
    monkeypatch.setattr(time, "monotonic", lambda: math.inf)
    assert not team.takes(99, 2, woken_from=100), "the one before is long ago"


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Share every call between two threads."""
    monkeypatch.setattr(sharing, "SHARED_FROM", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def search() -> SearchResult:
    generator = torch.Generator().manual_seed(31)
    table, query = torch.randn(50, 16, generator=generator), torch.randn(1, 1, 16, generator=generator)
    rows = torch.randint(0, 50, (9_000,), generator=generator)
    return behavior_search(query, table, rows, torch.tensor([0, 9_000]), k=40, backend="cpu")


@needs_team
def test_a_team_knows_its_threads(two_threads: None) -> None:
    search()
    own, other = sharing._team._array[-2:].tolist()
    assert own == threading.get_native_id()
    assert other != own
    assert Path(f"/proc/self/task/{other}").exists()
    torch.set_num_threads(3)
    search()
    assert len(set(sharing._team._array[-3:].tolist())) == 3


@needs_team
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is no other processor to send a thread to")
def test_who_sleeps_is_woken_on_another_processor_and_may_move_afterwards(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Team, "_is_awake", lambda _self: False)
    search()  # its threads are known from here on
    _, other = sharing._team._array[-2:].tolist()
    allowed, moved = os.sched_getaffinity(0), []
    real = os.sched_setaffinity

    def noted(thread: int, processors: set[int]) -> None:
        moved.append((thread, set(processors)))
        real(thread, processors)

    monkeypatch.setattr(os, "sched_setaffinity", noted)
    found = search()
    (first, away), (second, back) = moved
    assert first == second == other
    assert away < allowed
    assert len(away) == len(allowed) - 1
    assert back == os.sched_getaffinity(other) == allowed
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(found, search(), strict=True))


@needs_team
def test_a_forked_child_goes_on_without_the_team() -> None:
    program = """
import os, torch
from recollect_kernels import behavior_search, team, threads
threads.SHARED_FROM = 0
torch.set_num_threads(2)
query, table, rows = torch.ones(1, 1, 16), torch.ones(9, 16), torch.zeros(9_000, dtype=torch.int64)
def search():
    return behavior_search(query, table, rows, torch.tensor([0, 9_000]), k=3, backend="cpu").positions.tolist()
def of_histories():
    return behavior_search(query.expand(2, 1, 16), table, rows, torch.tensor([0, 4_000, 9_000]), k=3).positions.tolist()
expected = search(), of_histories()
assert team.exists()
child = os.fork()
if child == 0:
    os._exit(0 if not team.exists() and (search(), of_histories()) == expected else 1)
assert os.waitpid(child, 0)[1] == 0
assert (search(), of_histories()) == expected
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=True, timeout=120)
