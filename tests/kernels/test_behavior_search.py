"""The search: values by hand, the total order, and a brute-force twin at odd sizes."""

import math

import pytest
import torch

from recollect_kernels import Backend, behavior_search, gather_rows, loops, quantize_rows
from recollect_kernels.behavior_search import group_maxima, reference
from recollect_kernels.behavior_search.ordering import sort_key

SIZES = [
    pytest.param([1], 1, 8, 1, id="one-behaviour"),
    pytest.param([0], 3, 8, 20, id="empty-history"),
    pytest.param([63, 0, 1, 200], 3, 16, 20, id="ragged-with-empty"),
    pytest.param([1000, 7], 5, 24, 128, id="k-above-a-short-history"),
    pytest.param([511, 512, 0, 513, 3], 2, 8, 1, id="around-the-length-that-counts-as-long"),
    pytest.param([5000, 130], 3, 8, 20, id="grouped-with-a-partial-group"),
]
BACKENDS = ["reference", "cpu"]


def ragged(lengths: list[int], vocabulary: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(0, vocabulary, (sum(lengths),), generator=generator)
    return rows, torch.tensor([0, *lengths]).cumsum(0)


def brute_force(query, keys, rows, offsets, k, bias):  # type: ignore[no-untyped-def]
    """Python's own sort over (−score, position); the score is computed as the op defines it."""
    scores, positions = [], []
    for b in range(query.shape[0]):
        history = rows[offsets[b] : offsets[b + 1]]
        for t in range(query.shape[1]):
            scored = []
            for position, row in enumerate(history.tolist()):
                recency = min(len(history) - 1 - position, len(bias) - 1)
                scored.append((-(query[b, t] @ keys[row] + bias[recency]).item(), position))
            best = sorted(scored)[:k] + [(math.inf, -1)] * max(0, k - len(scored))
            scores.append([-score for score, _ in best])
            positions.append([position for _, position in best])
    shape = (*query.shape[:2], k)
    return torch.tensor(scores).view(shape), torch.tensor(positions).view(shape)


@pytest.fixture(params=["loops", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the CPU backend does with numba and without, at sizes where plain torch would be as fast, too."""
    if request.param == "torch":
        monkeypatch.setattr(loops, "compiled", lambda: None)
        monkeypatch.setattr(group_maxima, "_MUCH", 1)
    return str(request.param)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("lengths", "targets", "d", "k"), SIZES)
@pytest.mark.usefixtures("way")
def test_equals_brute_force(lengths: list[int], targets: int, d: int, k: int, backend: Backend) -> None:
    generator = torch.Generator().manual_seed(1)
    # Small integers make every sum exact, and ties frequent.
    keys = torch.randint(-2, 3, (50, d), generator=generator).float()
    query = torch.randint(-2, 3, (len(lengths), targets, d), generator=generator).float()
    bias = torch.randint(-1, 2, (40,), generator=generator).float()
    rows, offsets = ragged(lengths, 50, generator)
    found = behavior_search(query, keys, rows, offsets, k=k, recency_bias=bias, backend=backend)
    scores, positions = brute_force(query, keys, rows, offsets, k, bias)
    assert torch.equal(found.scores, scores)
    assert torch.equal(found.positions, positions)


def test_by_hand_with_bias() -> None:
    keys = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    query = torch.tensor([[[2.0, 1.0]]])
    rows, offsets = torch.tensor([1, 2, 3, 1]), torch.tensor([0, 4])
    plain = behavior_search(query, keys, rows, offsets, k=2)
    assert plain.scores.tolist() == [[[3.0, 2.0]]]
    assert plain.positions.tolist() == [[[2, 0]]], "positions 0 and 3 tie at 2.0; the lower one wins"
    # Recency: position 3 is 0, position 2 is 1, and both older ones share the last entry.
    biased = behavior_search(query, keys, rows, offsets, k=2, recency_bias=torch.tensor([5.0, 0.0, 1.5]))
    assert biased.scores.tolist() == [[[7.0, 3.5]]]
    assert biased.positions.tolist() == [[[3, 0]]]


def test_nan_loses_to_everything() -> None:
    keys = torch.tensor([[math.nan], [-math.inf], [1.0]])
    rows, offsets = torch.tensor([0, 1, 2]), torch.tensor([0, 3])
    found = behavior_search(torch.ones(1, 1, 1), keys, rows, offsets, k=3)
    assert found.positions.tolist() == [[[2, 1, 0]]]


def test_sort_key_orders_signed_zeros_by_position() -> None:
    key = sort_key(torch.tensor([-0.0, 0.0, -1e-45, 1e-45, math.inf]))
    assert key.argsort(descending=True).tolist() == [4, 3, 0, 1, 2]


def test_a_history_is_not_searched_beyond_its_end() -> None:
    keys = torch.tensor([[0.0], [1.0], [9.0]])
    rows, offsets = torch.tensor([1, 1, 2, 2]), torch.tensor([0, 2, 4])
    found = behavior_search(torch.ones(2, 1, 1), keys, rows, offsets, k=3)
    assert found.scores.tolist() == [[[1.0, 1.0, -math.inf]], [[9.0, 9.0, -math.inf]]]
    assert found.positions.tolist() == [[[0, 1, -1]], [[0, 1, -1]]]


def test_tiles_of_targets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    query, keys = torch.randn(2, 9, 8, generator=generator), torch.randn(30, 8, generator=generator)
    rows, offsets = ragged([40, 25], 30, generator)
    whole = behavior_search(query, keys, rows, offsets, k=5)
    monkeypatch.setattr(reference, "_TILE", 2 * 40 * 2)
    tiled = behavior_search(query, keys, rows, offsets, k=5)
    assert torch.equal(whole.positions, tiled.positions)


SPECIAL = [
    pytest.param([math.nan], id="nan"),
    pytest.param([math.inf, -math.inf], id="infinities"),
    pytest.param([math.nan, math.inf, -math.inf, -0.0, 0.0], id="all"),
]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("values", SPECIAL)
@pytest.mark.parametrize("length", [600, 4_999])
@pytest.mark.usefixtures("way")
def test_special_values_rank_alike_on_every_backend(values: list[float], share: float, length: int) -> None:
    generator = torch.Generator().manual_seed(11)
    keys = torch.randint(-3, 4, (length, 1), generator=generator).float()
    chosen = torch.rand(length, generator=generator) < share
    keys[chosen, 0] = torch.tensor(values)[torch.randint(0, len(values), (int(chosen.sum()),), generator=generator)]
    rows, offsets = torch.arange(length), torch.tensor([0, length])
    query = torch.tensor([[[1.0], [-1.0]]])
    found, expected = (
        behavior_search(query, keys, rows, offsets, k=20, backend=backend) for backend in ("cpu", "reference")
    )
    assert torch.equal(found.positions, expected.positions)
    torch.testing.assert_close(found.scores, expected.scores, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 20, 128])
@pytest.mark.parametrize("length", [512, 1_000, 40_000])
@pytest.mark.usefixtures("way")
def test_a_history_of_equal_scores_gives_the_oldest(length: int, k: int) -> None:
    rows, offsets = torch.zeros(length, dtype=torch.int32), torch.tensor([0, length])
    found = behavior_search(torch.ones(1, 2, 3), torch.ones(1, 3), rows, offsets, k=k, backend="cpu")
    assert found.positions.tolist() == [[list(range(k))] * 2]


@pytest.mark.parametrize("quantized", [False, True], ids=["fp32", "int8"])
@pytest.mark.usefixtures("way")
def test_real_numbers_rank_alike_in_tiles(monkeypatch: pytest.MonkeyPatch, quantized: bool) -> None:
    generator = torch.Generator().manual_seed(12)
    table = torch.randn(3_000, 16, generator=generator)
    keys = quantize_rows(table) if quantized else table
    rows, offsets = ragged([2_600, 40, 9_000], 3_000, generator)
    query, bias = torch.randn(3, 7, 16, generator=generator), torch.randn(200, generator=generator)
    monkeypatch.setattr(group_maxima, "_TILE", 3 * 9_000)
    found, expected = (
        behavior_search(query, keys, rows, offsets, k=32, recency_bias=bias, backend=backend)
        for backend in ("cpu", "reference")
    )
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    # Two behaviours of one score to the last bit but one may change places; all others are the same.
    assert (found.positions == expected.positions).float().mean() > 0.999


def test_int8_rows_stand_within_half_a_step() -> None:
    table = torch.randn(20, 16, generator=torch.Generator().manual_seed(3))
    table[4] = 0.0
    quantized = quantize_rows(table)
    error = (gather_rows(quantized, torch.arange(20)) - table).abs()
    assert bool((error <= quantized.scales.unsqueeze(1) / 2 + 1e-7).all())
    assert quantized.scales[4] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"query": torch.zeros(2, 4)}, r"query must be \[B, T, d\]", id="query-rank"),
        pytest.param({"keys": torch.zeros(5, 3)}, r"keys must be \[V, 4\]", id="key-width"),
        pytest.param({"query": torch.zeros(2, 1, 0), "keys": torch.zeros(5, 0)}, "with d at least 1", id="no-width"),
        pytest.param({"keys": torch.zeros(5, 4).double()}, "keys and query must both be float64 or neither", id="fp64"),
        pytest.param({"query": torch.zeros(2, 1, 4).double()}, "must both be float64 or neither", id="fp64-query"),
        pytest.param({"rows": torch.zeros(3)}, r"rows must be \[E\] int32 or int64", id="row-type"),
        pytest.param({"offsets": torch.tensor([0, 3])}, r"offsets must be \[3\]", id="offset-count"),
        pytest.param({"k": 0}, "k must be at least 1", id="k"),
        pytest.param({"recency_bias": torch.zeros(0)}, r"recency_bias must be \[P\]", id="empty-bias"),
        pytest.param({"rows": torch.tensor([1, 5, 3]), "backend": "triton"}, "got 5 at 1", id="rows-for-triton"),
        pytest.param({"backend": "cuda"}, "backend must be one of 'auto', 'triton', 'cpu', 'reference'", id="backend"),
    ],
)
def test_says_what_does_not_fit(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "query": torch.zeros(2, 1, 4),
        "keys": torch.zeros(5, 4),
        "rows": torch.tensor([1, 2, 3]),
        "offsets": torch.tensor([0, 1, 3]),
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        behavior_search(**{**arguments, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("way")
def test_no_gradient_is_kept(backend: Backend) -> None:
    keys, bias = torch.randn(9, 4).requires_grad_(), torch.randn(5).requires_grad_()
    query = torch.randn(1, 2, 4).requires_grad_()
    found = behavior_search(query, keys, torch.arange(9), torch.tensor([0, 9]), k=3, recency_bias=bias, backend=backend)
    assert not found.scores.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("way")
def test_a_caller_s_autocast_changes_nothing(backend: Backend) -> None:
    generator = torch.Generator().manual_seed(3)
    query, keys = torch.randn(1, 3, 16, generator=generator), torch.randn(2_000, 16, generator=generator)
    history = query, keys, torch.arange(2_000), torch.tensor([0, 2_000])
    alone = behavior_search(*history, k=20, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        within = behavior_search(*history, k=20, backend=backend)
    assert torch.equal(within.positions, alone.positions)
    assert torch.equal(within.scores, alone.scores)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", [2**32 + 1, -(2**32) + 1, 2**62], ids=["above", "below", "far"])
@pytest.mark.parametrize("stored", ["fp32", "fp16", "int8"])
@pytest.mark.usefixtures("way")
def test_a_row_that_int32_does_not_hold_is_refused(stored: str, row: int, backend: Backend) -> None:
    plain = torch.randn(10, 4)
    keys = {"fp32": plain, "fp16": plain.half(), "int8": quantize_rows(plain)}[stored]
    with pytest.raises(ValueError, match=rf"rows must lie in \[0, 10\).* got {row} at 1"):
        behavior_search(
            torch.randn(1, 1, 4), keys, torch.tensor([2, row, 3]), torch.tensor([0, 3]), k=2, backend=backend
        )
