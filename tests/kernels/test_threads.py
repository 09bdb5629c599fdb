"""Work is shared among threads completely, evenly, and without losing an error."""

import os
import threading

import numpy as np
import pytest
import torch

from recollect_kernels import threads as sharing
from recollect_kernels.threads import ranges, run_all, shares


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

    done: list[int] = []
    monkeypatch.setattr(os, "sched_setaffinity", refused)
    run_all([lambda: done.append(1), lambda: done.append(2)])
    monkeypatch.setattr(sharing, "_sched_getcpu", None)
    run_all([lambda: done.append(3), lambda: done.append(4)])
    assert sorted(done) == [1, 2, 3, 4]


def test_work_is_shared_when_there_is_enough_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    one, eight = np.array([0, 10_000]), np.arange(9) * 10_000
    assert shares(one, 1, 500, 1 << 30) == [(0, 1, 0, 124), (0, 1, 124, 248), (0, 1, 248, 376), (0, 1, 376, 500)]
    assert shares(eight, 8, 1, 1 << 30) == [(0, 2, 0, 1), (2, 4, 0, 1), (4, 6, 0, 1), (6, 8, 0, 1)]
    assert shares(one, 1, 500, 1 << 10) == [(0, 1, 0, 500)]
    assert shares(one, 1, 100, 1 << 30) == [(0, 1, 0, 32), (0, 1, 32, 68), (0, 1, 68, 100)]
    assert shares(one, 1, 63, 1 << 30) == [(0, 1, 0, 63)], "too few targets to gather the history twice for"
