"""The Triton search and the fused pair: every path against the reference, on poisoned memory.

Runs on a GPU where there is one, and in Triton's interpreter otherwise. Small integers make sums exact whatever their
order, so that most cases ask for equality.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

import triton as compiler
import triton.language as tl

from recollect_kernels import launch
from recollect_kernels.behavior_search import reference
from recollect_kernels.behavior_search import triton as implementation
from recollect_kernels.search_and_attend.triton import search_and_attend
from recollect_kernels.tables import ScaledTable, Table, gather_rows, quantize_rows
from recollect_kernels.target_attention.reference import attend_kept
from recollect_kernels.tiles.work_list import first_piece, history_of, pieces
from recollect_kernels.tuning import SearchConfiguration

pytestmark = [
    # NumPy, which the interpreter computes with, warns of what a GPU computes in silence.
    pytest.mark.filterwarnings(f"ignore:{message}:RuntimeWarning")
    for message in ("All-NaN slice encountered", "invalid value encountered", "overflow encountered")
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WHOLE = SearchConfiguration(
    group=0,
    block_t=0,
    block_l=64,
    tiles=1,
    warps=4,
    most_groups=128,
    most=128,
    chunk=4096,
    select_warps=4,
)
GROUPED = replace(WHOLE, group=16, block_t=16, tiles=2, chunk=128)
PATHS = {
    "one-pass": WHOLE,
    "one-pass-in-chunks": replace(WHOLE, chunk=64),
    "one-pass-little-room": replace(WHOLE, most=32),
    "tensor-cores": GROUPED,
    "tensor-cores-little-room": replace(GROUPED, most=32, block_l=128, group=32),
    "few-targets": replace(GROUPED, block_t=0, block_l=128),
    "few-targets-wide-groups": replace(GROUPED, block_t=0, group=64, block_l=64, chunk=4096),
}


QUICK = ("one-pass-in-chunks", "tensor-cores", "few-targets")
"""One path of each kind; the others vary sizes, and are tried by the slow tests."""


def path_cases(*names: str) -> list[object]:
    return [pytest.param(PATHS[name], id=name) for name in names or PATHS]


def every_path() -> list[object]:
    return [
        pytest.param(path, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, path in PATHS.items()
    ]


def every_table(*names: str) -> list[object]:
    """fp32 and, slow, what rounds it."""
    return ["float32", *(pytest.param(name, marks=pytest.mark.slow) for name in names)]


def fitted(path: SearchConfiguration, k: int) -> SearchConfiguration:
    """`path` with room for as few groups as k allows: with more than a history has, none would have to be chosen."""
    return replace(path, most_groups=compiler.next_power_of_2(k))


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a kernel reads before it wrote it, never writes, or writes behind its memory, shows."""
    plain = launch.empty
    fences = []

    def poisoned(*shape: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        poison = math.nan if dtype.is_floating_point else 0x7F0F1234
        size = math.prod(shape)
        memory = plain(size + 4_096, like=like, dtype=dtype).fill_(poison)
        fences.append((memory[size:], torch.full_like(memory[size:], poison)))
        return memory[:size].view(shape)

    monkeypatch.setattr(launch, "empty", poisoned)
    yield
    for fence, expected in fences:
        torch.testing.assert_close(fence, expected, rtol=0, atol=0, equal_nan=True)


def ragged(lengths: list[int], vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    rows = torch.randint(0, vocabulary, (sum(lengths),), generator=generator)
    return rows.to(DEVICE), torch.tensor([0, *lengths]).cumsum(0).to(DEVICE)


def integers(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=generator).float().to(DEVICE)


def check(
    query: Tensor,
    keys: Table,
    rows: Tensor,
    offsets: Tensor,
    k: int,
    bias: Tensor | None,
    path: SearchConfiguration | None,
) -> None:
    """Equality with the reference, NaN and all."""
    longest = int(offsets.diff().max())
    chosen = path and fitted(path, k)
    scores, positions = implementation.search(query, keys, rows, offsets, k, bias, longest, chosen)
    expected_scores, expected_positions = reference.search(query, keys, rows, offsets, k, bias)
    assert positions.dtype == torch.int64
    assert torch.equal(positions, expected_positions)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=0, equal_nan=True)


SIZES = [
    pytest.param([1], 1, 8, 1, 3, id="one-behaviour"),
    pytest.param([0, 0], 3, 8, 20, 3, id="empty-histories"),
    pytest.param([63, 0, 1, 200], 3, 16, 20, 40, id="ragged-with-empty"),
    pytest.param([17, 0, 700, 511, 1], 5, 13, 32, 1, id="odd-width-and-one-bias"),
    pytest.param([640, 33], 17, 24, 7, 900, id="two-tiles-of-targets-and-a-bias-longer-than-the-history"),
    pytest.param([900], 2, 64, 1, 64, id="widest-row-and-the-best-alone"),
    pytest.param([1_400, 5], 2, 8, 7, 100, id="a-bias-that-ends-within-a-tile"),
]


@pytest.mark.parametrize("path", every_path())
@pytest.mark.parametrize(("lengths", "targets", "d", "k", "recencies"), SIZES)
def test_equals_the_reference(
    lengths: list[int], targets: int, d: int, k: int, recencies: int, path: SearchConfiguration
) -> None:
    generator = torch.Generator().manual_seed(1)
    rows, offsets = ragged(lengths, 50, generator)
    query = integers(-2, 3, (len(lengths), targets, d), generator)
    check(query, integers(-2, 3, (50, d), generator), rows, offsets, k, integers(-9, 9, (recencies,), generator), path)


@pytest.mark.slow
@pytest.mark.parametrize("path", path_cases("one-pass-in-chunks", "tensor-cores", "few-targets"))
@pytest.mark.parametrize("k", [1, 2, 31, 33, 100, 128])
def test_every_k_with_mass_ties(k: int, path: SearchConfiguration) -> None:
    generator = torch.Generator().manual_seed(2)
    rows, offsets = ragged([2_600, 90, 128], 9, generator)
    check(integers(-1, 2, (3, 2, 8), generator), integers(-1, 2, (9, 8), generator), rows, offsets, k, None, path)


@pytest.mark.parametrize("path", every_path())
def test_a_history_of_equal_scores_gives_the_oldest(path: SearchConfiguration) -> None:
    rows, offsets = torch.zeros(1_100, dtype=torch.int64, device=DEVICE), torch.tensor([0, 1_100], device=DEVICE)
    query, keys = torch.ones(1, 2, 3, device=DEVICE), torch.ones(1, 3, device=DEVICE)
    for k in (1, 20, 32):
        _, positions = implementation.search(query, keys, rows, offsets, k, None, 1_100, fitted(path, k))
        assert positions.tolist() == [[list(range(k))] * 2]


def table_of(dtype: str, whole: Tensor, generator: torch.Generator) -> Table:
    """Integers as a table of `dtype`, scaled by powers of two where it has scales."""
    if dtype in ("int8", "float8_e4m3fn"):
        scales = 2.0 ** torch.randint(-2, 3, (len(whole),), generator=generator).to(DEVICE)
        return ScaledTable(whole.to(getattr(torch, dtype)), scales)
    return whole.to(getattr(torch, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("path", path_cases("one-pass", "tensor-cores", "few-targets"))
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "float8_e4m3fn"])
@pytest.mark.parametrize(
    ("index", "biased"),
    [pytest.param(torch.int32, True, id="int32-bias"), pytest.param(torch.int64, False, id="int64-no-bias")],
)
def test_every_table_and_index_type(dtype: str, index: torch.dtype, path: SearchConfiguration, biased: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    rows, offsets = ragged([300, 0, 77], 200, generator)
    keys = table_of(dtype, integers(-8, 9, (200, 16), generator), generator)
    bias = integers(-30, 30, (50,), generator) if biased else None
    query = integers(-5, 6, (3, 3, 16), generator)
    other = torch.int64 if index == torch.int32 else torch.int32
    check(query, keys, rows.to(index), offsets.to(other), 20, bias, path)


SPECIAL = [
    pytest.param([math.nan], id="nan"),
    pytest.param([math.inf, -math.inf], id="infinities"),
    pytest.param([math.nan, math.inf, -math.inf, -0.0, 0.0], id="all"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "dtype"),
    [
        pytest.param(PATHS[name], dtype, id=f"{name}-{dtype}")
        for name, dtype in [
            ("one-pass-in-chunks", "float16"),
            ("few-targets-wide-groups", "bfloat16"),
            ("tensor-cores", "float16"),
            ("tensor-cores", "bfloat16"),
            ("tensor-cores-little-room", "float32"),
        ]
    ],
)
@pytest.mark.parametrize(
    "share", [pytest.param(0.02, marks=pytest.mark.slow), 0.97, pytest.param(1.0, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("values", SPECIAL)
def test_special_values_rank_as_in_the_reference(
    values: list[float], share: float, dtype: str, path: SearchConfiguration
) -> None:
    generator = torch.Generator().manual_seed(4)
    keys = torch.randint(-3, 4, (1_300, 2), generator=generator).float()
    chosen = torch.rand(1_300, generator=generator) < share
    keys[chosen, 0] = torch.tensor(values)[torch.randint(0, len(values), (int(chosen.sum()),), generator=generator)]
    keys = keys.to(DEVICE, getattr(torch, dtype))
    rows, offsets = torch.arange(1_300, device=DEVICE), torch.tensor([0, 1_300], device=DEVICE)
    # 1.0 leaves nothing for the second half of a split query, and 0 makes infinities NaN in fp32 arithmetic as well.
    query = torch.tensor([[[1.0, 1.0], [-1.0, 3.0], [0.0, 1.0], [math.inf, 1.0], [1.0, math.nan]]], device=DEVICE)
    check(query, keys, rows, offsets, 20, None, path)


@pytest.mark.parametrize("path", path_cases("one-pass", "tensor-cores", "few-targets"))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_an_infinite_key_outranks_whatever_a_tiny_query_multiplies(
    dtype: torch.dtype, path: SearchConfiguration
) -> None:
    keys = torch.ones(400, 2, device=DEVICE, dtype=dtype)
    keys[333, 1] = math.inf
    query = torch.tensor([[[1.0, 1e-30], [3e38, 1e-38], [1e-42, 1e-44]]], device=DEVICE)
    rows, offsets = torch.arange(400, device=DEVICE), torch.tensor([0, 400], device=DEVICE)
    scores, positions = implementation.search(query, keys, rows, offsets, 2, None, 400, fitted(path, 2))
    assert positions[0, :, 0].tolist() == [333] * 3
    assert scores[0, :, 0].tolist() == [math.inf] * 3


def absent_as_brute_force(
    query: Tensor, keys: Tensor, rows: Tensor, offsets: Tensor, k: int, bias: Tensor
) -> list[list[list[int]]]:
    """Python's own sort over (NaN last, -score, position) of the behaviours whose row is in the table."""
    found = []
    for b in range(len(query)):
        history = rows[offsets[b] : offsets[b + 1]].tolist()
        for t in range(query.shape[1]):
            scored = []
            for position, row in enumerate(history):
                if 0 <= row < len(keys):
                    recency = min(len(history) - 1 - position, len(bias) - 1)
                    score = float(query[b, t] @ keys[row] + bias[recency])
                    scored.append((score != score, 0.0 if score != score else -score, position))
            best = [position for *_, position in sorted(scored)[:k]]
            found.append(best + [-1] * (k - len(best)))
    return torch.tensor(found).view(*query.shape[:2], k).tolist()


@pytest.mark.parametrize("path", every_path())
@pytest.mark.parametrize(
    "nan_share", [pytest.param(0.0, id="numbers"), pytest.param(0.97, id="mostly-nan", marks=pytest.mark.slow)]
)
def test_rows_outside_the_table_are_absent(path: SearchConfiguration, nan_share: float) -> None:
    generator = torch.Generator().manual_seed(5)
    keys = integers(-2, 3, (60, 4), generator)
    rows, offsets = ragged([700, 40, 300], 60, generator)
    keys[1:, 0] = torch.where(torch.rand(59, generator=generator).to(DEVICE) < nan_share, math.nan, keys[1:, 0])
    rows[::7] = -1
    rows[::11] = 60
    rows[::13] = 0x7FFFFFFFFF
    rows[:600] = -5  # whole groups, and before all others
    rows[740:1_030] = 60
    query, bias = integers(-2, 3, (3, 2, 4), generator), integers(-1, 2, (30,), generator)
    scores, positions = implementation.search(query, keys, rows, offsets, 6, bias, 700, fitted(path, 6))
    expected = absent_as_brute_force(query.cpu(), keys.cpu(), rows.cpu(), offsets.cpu(), 6, bias.cpu())
    assert positions.tolist() == expected
    assert torch.equal(scores == -math.inf, positions == -1)


@pytest.mark.parametrize("path", path_cases("one-pass", "tensor-cores", "few-targets"))
@pytest.mark.parametrize("dtype", every_table("float16", "bfloat16", "int8"))
def test_real_numbers_agree_to_rounding(dtype: str, path: SearchConfiguration) -> None:
    generator = torch.Generator().manual_seed(6)
    table = torch.randn(3_000, 24, generator=generator).to(DEVICE)
    keys = quantize_rows(table) if dtype == "int8" else table.to(getattr(torch, dtype))
    rows, offsets = ragged([1_300, 40, 900], 3_000, generator)
    query = torch.randn(3, 3, 24, generator=generator).to(DEVICE)
    query *= torch.tensor([1e-30, 1.0, 1e30], device=DEVICE).view(1, 3, 1)
    bias = torch.zeros(5, device=DEVICE)
    scores, positions = implementation.search(query, keys, rows, offsets, 20, bias, 1_300, fitted(path, 20))
    expected, expected_positions = reference.search(query, keys, rows, offsets, 20, bias)
    size = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(scores / size, expected / size, rtol=0, atol=2e-6)
    # Of two behaviours whose scores rounding decides between, either may come first.
    differ = positions != expected_positions
    gap = ((scores - expected) / size).abs()
    assert bool((gap[differ] < 2e-6).all())
    assert differ.float().mean() < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_maxima_on_tensor_cores_keep_all_bits_of_a_query(dtype: str) -> None:
    generator = torch.Generator().manual_seed(7)
    table = torch.randn(256, 16, generator=generator).to(DEVICE)
    keys = quantize_rows(table) if dtype == "int8" else table.to(getattr(torch, dtype))
    query = torch.randn(1, 4, 16, generator=generator).to(DEVICE)
    rows, offsets = torch.arange(256, device=DEVICE), torch.tensor([0, 256], device=DEVICE)
    call = implementation.prepare(query, keys, rows, offsets, 1, None, 256)
    maxima = implementation.group_maxima(call, GROUPED)[:, :16]
    products = query[0].double().unsqueeze(1) * gather_rows(keys, rows).double()  # [T, L, d]
    exact = products.sum(-1).view(4, 16, 16).amax(-1)
    size = products.abs().sum(-1).amax()
    # One product of 11 bits would be off by up to 2^-11 of that.
    assert float((maxima - exact).abs().max() / size) < 2**-20


@pytest.mark.parametrize("shift", [-9.0, 9.0], ids=["too-low", "too-high"])
def test_maxima_choose_groups_and_nothing_more(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be rounded otherwise than the scores; here they are all wrong, in the right order."""
    plain = implementation.group_maxima
    monkeypatch.setattr(implementation, "group_maxima", lambda call, chosen: plain(call, chosen) + shift)
    generator = torch.Generator().manual_seed(15)
    rows, offsets = ragged([1_200, 500], 300, generator)
    query, keys = integers(-4, 5, (2, 2, 6), generator), integers(-4, 5, (300, 6), generator)
    check(query, keys, rows, offsets, 20, None, replace(GROUPED, most=32))


def test_a_history_longer_than_promised_overruns_nothing() -> None:
    generator = torch.Generator().manual_seed(16)
    rows, offsets = ragged([40, 900], 30, generator)
    query, keys = integers(-2, 3, (2, 1, 4), generator), integers(-2, 3, (30, 4), generator)
    _, positions = implementation.search(query, keys, rows, offsets, 5, None, 128, PATHS["one-pass-in-chunks"])
    _, expected = reference.search(query, keys, rows[:168], torch.tensor([0, 40, 168], device=DEVICE), 5, None)
    assert torch.equal(positions, expected)


@compiler.jit
def _history_of_each(offsets, found, histories, EXTENT: tl.constexpr):  # type: ignore[no-untyped-def]
    piece = tl.program_id(0)
    b = history_of(offsets, piece, histories, EXTENT)
    tl.store(found + 2 * piece, b)
    tl.store(found + 2 * piece + 1, piece - first_piece(tl.load(offsets + b), b, EXTENT))


@pytest.mark.parametrize(
    "histories", [1, 2, 129, *(pytest.param(many, marks=pytest.mark.slow) for many in (127, 128, 300))]
)
def test_pieces_cover_every_history(histories: int) -> None:
    generator = torch.Generator().manual_seed(histories)
    lengths = torch.randint(0, 50, (histories,), generator=generator)
    lengths[torch.rand(histories, generator=generator) < 0.3] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(DEVICE)
    count = pieces(int(lengths.sum()), histories, 16)
    found = torch.full((count, 2), -1, device=DEVICE)
    _history_of_each[(count,)](offsets, found, histories, EXTENT=16)
    expected = {(b, i) for b, length in enumerate(lengths.tolist()) for i in range(-(-length // 16))}
    assert expected <= set(map(tuple, found.tolist()))
    assert len(set(map(tuple, found.tolist()))) == count, "no two programs do the same work"


@pytest.mark.slow
def test_more_histories_than_one_step_of_the_search_for_one() -> None:
    generator = torch.Generator().manual_seed(8)
    lengths = torch.randint(0, 20, (135,), generator=generator).tolist()
    rows, offsets = ragged(lengths, 30, generator)
    query, keys = integers(-2, 3, (135, 1, 4), generator), integers(-2, 3, (30, 4), generator)
    check(query, keys, rows, offsets, 3, None, replace(GROUPED, block_t=0, most=16))


@pytest.mark.parametrize(
    ("longest", "targets", "k"),
    [
        pytest.param(150, 1, 32, id="one-pass"),
        pytest.param(2_000, 2, 10, id="few-targets"),
        pytest.param(2_000, 9, 10, id="tensor-cores"),
    ],
)
def test_default_configurations_find_the_same(
    longest: int, targets: int, k: int, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("RECOLLECT_KERNELS_CACHE", str(tmp_path))
    generator = torch.Generator().manual_seed(9)
    rows, offsets = ragged([longest, 3], 40, generator)
    query, keys = integers(-2, 3, (2, targets, 16), generator), integers(-2, 3, (40, 16), generator)
    check(query, keys.half(), rows, offsets, k, integers(-1, 2, (20,), generator), None)


@pytest.mark.slow
def test_the_longest_history_with_the_largest_k(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("RECOLLECT_KERNELS_CACHE", str(tmp_path))
    generator = torch.Generator().manual_seed(10)
    rows, offsets = ragged([100_000], 5_000, generator)
    query, keys = integers(-4, 5, (1, 1, 16), generator), integers(-4, 5, (5_000, 16), generator)
    check(query, keys.half(), rows, offsets, 128, None, None)
    check(query, keys.half(), rows, offsets, 128, None, replace(GROUPED, group=128, block_l=128, most_groups=128))


def check_pooled(
    query: Tensor, keys: Table, values: Table, rows: Tensor, offsets: Tensor, k: int, bias: Tensor | None,
    recency_values: Tensor | None, path: SearchConfiguration | None,
) -> None:  # fmt: skip
    """The fused pair against the reference's search followed by its pooling."""
    longest = int(offsets.diff().max())
    output, scores, positions, weights = search_and_attend(
        query, keys, values, rows, offsets, k, bias, recency_values, longest, path and fitted(path, k)
    )
    expected_scores, expected_positions = reference.search(query, keys, rows, offsets, k, bias)
    assert torch.equal(positions, expected_positions)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=0, equal_nan=True)
    expected, expected_weights = attend_kept(
        query, keys, values, rows, offsets, expected_positions, bias, recency_values
    )
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("path", path_cases("one-pass", "tensor-cores", "few-targets"))
@pytest.mark.parametrize(
    ("e", "r"),
    [pytest.param(5, 0, id="narrow"), pytest.param(64, 3, id="recency-values"), pytest.param(256, 17, id="wide")],
)
def test_fused_pair_equals_search_then_pooling(e: int, r: int, path: SearchConfiguration) -> None:
    generator = torch.Generator().manual_seed(11)
    rows, offsets = ragged([300, 0, 7], 50, generator)
    values = torch.randn(50, e, generator=generator).to(DEVICE)
    recency_values = torch.randn(30, r, generator=generator).to(DEVICE) if r else None
    query, keys = integers(-1, 2, (3, 3, 13), generator) / 4, integers(-2, 3, (50, 13), generator)
    check_pooled(query, keys, values, rows, offsets, 20, integers(-1, 2, (30,), generator), recency_values, path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "float8_e4m3fn"])
def test_fused_pair_reads_every_table(dtype: str) -> None:
    generator = torch.Generator().manual_seed(12)
    rows, offsets = ragged([150, 40], 60, generator)
    keys = table_of(dtype, integers(-3, 4, (60, 16), generator), generator)
    values = table_of(dtype, integers(-3, 4, (60, 24), generator), generator)
    query = integers(-1, 2, (2, 2, 16), generator) / 8
    check_pooled(query, keys, values, rows.int(), offsets.int(), 32, None, None, PATHS["few-targets"])


@pytest.mark.parametrize("length", [5, 40], ids=["fewer-than-k", "more-than-k"])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param([math.nan, 1.0], id="nan"),
        pytest.param([math.inf, 1.0], id="inf"),
        pytest.param([-math.inf], id="all-minus-inf"),
        pytest.param([-math.inf, 2.0, -3e38], id="some-minus-inf"),
    ],
)
def test_fused_weights_of_special_scores_are_the_reference_s(values: list[float], length: int) -> None:
    keys = torch.tensor(values, device=DEVICE).repeat(40)[:length].unsqueeze(1)
    rows, offsets = torch.arange(length, device=DEVICE), torch.tensor([0, length], device=DEVICE)
    check_pooled(
        torch.ones(1, 1, 1, device=DEVICE),
        keys,
        torch.ones(length, 3, device=DEVICE),
        rows,
        offsets,
        20,
        None,
        None,
        WHOLE,
    )


class NothingRead(TorchDispatchMode):
    """Refuses whatever brings a value to the host, or the host to wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "equal", "_to_copy"), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("path", path_cases("one-pass", "tensor-cores", "few-targets"))
def test_no_value_is_read_on_the_host(path: SearchConfiguration, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(13)
    rows, offsets = ragged([100, 20], 30, generator)
    query, keys = integers(-2, 3, (2, 2, 8), generator), integers(-2, 3, (30, 8), generator)
    # The interpreter itself reads everything; what counts is what happens around it.
    kernels = {name: MagicMock() for name in ("maxima_kernel", "few_maxima_kernel", "select_kernel")}
    for name, kernel in kernels.items():
        monkeypatch.setattr(implementation, name, kernel)
    with NothingRead():
        implementation.search(query, keys, rows, offsets, 5, None, 100, path)
    launched = [name for name, kernel in kernels.items() if kernel.__getitem__.return_value.called]
    assert "select_kernel" in launched
    assert len(launched) == (2 if path.group else 1)


def test_no_targets_and_no_histories() -> None:
    keys, rows = torch.ones(3, 4, device=DEVICE), torch.zeros(0, dtype=torch.int64, device=DEVICE)
    for shape in ((0, 2, 4), (2, 0, 4)):
        offsets = torch.zeros(shape[0] + 1, dtype=torch.int64, device=DEVICE)
        scores, positions = implementation.search(torch.ones(shape, device=DEVICE), keys, rows, offsets, 5, None, 0)
        assert scores.shape == positions.shape == (*shape[:2], 5)


def test_a_history_too_long_for_one_program_is_refused() -> None:
    arguments = (torch.ones(1, 1, 4, device=DEVICE), torch.ones(3, 4, device=DEVICE))
    rows, offsets = torch.zeros(5, dtype=torch.int64, device=DEVICE), torch.tensor([0, 5], device=DEVICE)
    with pytest.raises(ValueError, match="histories of 65536 behaviours are more than 32768 groups of 1"):
        implementation.search(*arguments, rows, offsets, 5, None, 65_536, WHOLE)


@pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")
def test_a_cuda_graph_can_hold_the_pair() -> None:
    generator = torch.Generator().manual_seed(14)
    rows, offsets = ragged([3_000, 20], 30, generator)
    query, keys = integers(-2, 3, (2, 9, 16), generator), integers(-2, 3, (30, 16), generator)
    search_and_attend(query, keys, keys, rows, offsets, 5, None, None, 3_000)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, scores, positions, _ = search_and_attend(query, keys, keys, rows, offsets, 5, None, None, 3_000)
    query.copy_(integers(-2, 3, (2, 9, 16), generator))
    graph.replay()
    expected_scores, expected_positions = reference.search(query, keys, rows, offsets, 5, None)
    assert torch.equal(positions, expected_positions)
    assert torch.equal(scores, expected_scores)
    expected, _ = attend_kept(query, keys, keys, rows, offsets, expected_positions, None, None)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
