"""How sorted occurrences are cut into chunks, and what the recencies' sums are folded into."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton")

from recollect_kernels.target_attention import segments


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 200])
@pytest.mark.parametrize("n_ids", [1, 4, 300])
def test_chunks_cover_each_occurrence_once_and_hold_one_id(
    count: int, n_ids: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "WALK", 16)
    generator = torch.Generator().manual_seed(count + n_ids)
    ids = torch.randint(0, n_ids + 1, (count,), generator=generator, dtype=torch.int32)
    found = segments.cut(ids, n_ids)
    ends = found.starts.tolist()
    assert ends[0] == 0
    assert ends[-1] == count
    chunks = [(begin, end) for begin, end in pairwise(ends) if begin < end]
    assert [end for _, end in chunks[:-1]] == [begin for begin, _ in chunks[1:]]
    for begin, end in chunks:
        assert end - begin <= found.chunk == 16
        assert len(set(found.ids[begin:end].tolist())) == 1
    assert found.ids.tolist() == ids[found.order].tolist() == sorted(ids.tolist())
    for mark in range(n_ids + 1):
        assert found.order[found.ids == mark].tolist() == (ids == mark).nonzero().flatten().tolist()


def test_nobody_may_need_a_chunk_that_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "WALK", 16)
    found = segments.cut(torch.tensor([0] + 17 * [1], dtype=torch.int32), n_ids=1)
    assert found.starts.tolist() == [0, 1, 17, 18]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [15.0]), (3, [1.0, 2.0, 12.0]), (5, [1.0, 2.0, 3.0, 4.0, 5.0])],
    ids=["one-entry", "last-takes-the-older", "as-many"],
)
def test_the_last_entry_takes_all_older_recencies(count: int, expected: list[float]) -> None:
    by_recency = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert segments.fold_recency(by_recency, count).flatten().tolist() == expected


def test_entries_older_than_every_history_receive_nothing() -> None:
    assert segments.fold_recency(torch.tensor([[1.0], [2.0]]), 4).flatten().tolist() == [1.0, 2.0, 0.0, 0.0]


def test_behaviours_know_their_history() -> None:
    offsets = torch.tensor([0, 2, 2, 5])
    assert segments.histories_of(torch.zeros(6, dtype=torch.int64), offsets).tolist() == [0, 0, 2, 2, 2, 3]
