"""The pooling: outputs and all gradients against a loop and against finite differences."""

import math

import pytest
import torch

from recollect_kernels import Backend, behavior_search, target_attention

CASES = [
    pytest.param([1], 1, 20, id="one-behaviour"),
    pytest.param([0], 2, 4, id="empty-history"),
    pytest.param([63, 0, 5], 3, 7, id="ragged-with-empty"),
]


def inputs(lengths: list[int], targets: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    batch = len(lengths)
    return {
        "query": torch.randn(batch, targets, 4, generator=generator).requires_grad_(),
        "keys": torch.randn(30, 4, generator=generator).requires_grad_(),
        "values": torch.randn(30, 6, generator=generator).requires_grad_(),
        "recency_bias": torch.randn(10, generator=generator).requires_grad_(),
        "recency_values": torch.randn(10, 3, generator=generator).requires_grad_(),
        "rows": torch.randint(0, 30, (sum(lengths),), generator=generator),
        "offsets": torch.tensor([0, *lengths]).cumsum(0),
    }


def loop(given: dict[str, torch.Tensor], positions: list[list[list[int]]]) -> torch.Tensor:
    """One target at a time, one behaviour at a time."""
    out = []
    for b, of_history in enumerate(positions):
        begin, end = given["offsets"][b : b + 2].tolist()
        for t, kept in enumerate(of_history):
            if not kept:
                out.append(torch.zeros(9))
                continue
            scores, values = [], []
            for position in kept:
                row, recency = given["rows"][begin + position], min(end - begin - 1 - position, 9)
                scores.append(given["query"][b, t] @ given["keys"][row] + given["recency_bias"][recency])
                values.append(torch.cat([given["values"][row], given["recency_values"][recency]]))
            weights = torch.stack(scores).softmax(0)
            out.append(sum(w * v for w, v in zip(weights, values, strict=True)))  # type: ignore[arg-type]
    return torch.stack(out).view(*given["query"].shape[:2], 9)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize(("lengths", "targets", "k"), CASES)
def test_output_and_gradients_equal_the_loop(lengths: list[int], targets: int, k: int, pool: str) -> None:
    given = inputs(lengths, targets)
    if pool == "kept":
        positions = behavior_search(
            given["query"], given["keys"], given["rows"], given["offsets"], k=k, recency_bias=given["recency_bias"]
        ).positions
        of_target = [[[p for p in kept if p >= 0] for kept in history] for history in positions.tolist()]
    else:
        positions = None
        of_target = [[list(range(length))] * targets for length in lengths]
    output = target_attention(**given, positions=positions).output
    expected = loop(given, of_target)
    torch.testing.assert_close(output, expected)
    leaves = [given[name] for name in ("query", "keys", "values", "recency_bias", "recency_values")]
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(6))
    ours = torch.autograd.grad((output * direction).sum(), leaves, allow_unused=True, materialize_grads=True)
    if expected.requires_grad:
        theirs = torch.autograd.grad((expected * direction).sum(), leaves, allow_unused=True, materialize_grads=True)
    else:
        theirs = tuple(torch.zeros_like(leaf) for leaf in leaves)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference)


def test_weights_cover_the_kept_alone_and_add_up_to_one() -> None:
    keys = torch.tensor([[0.0], [1.0], [2.0]])
    result = target_attention(
        torch.ones(1, 1, 1),
        keys,
        torch.eye(3),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 3]),
        positions=torch.tensor([[[2, 0, -1]]]),
    )
    # softmax of (2, 0): e²/(e² + 1) = 0.880797
    assert result.weights[0, 0].tolist() == pytest.approx([0.8807971, 0.1192029, 0.0])
    assert result.output[0, 0].tolist() == pytest.approx([0.1192029, 0.0, 0.8807971])


def test_rows_outside_the_selection_receive_no_gradient() -> None:
    given = inputs([12], 1)
    given["rows"] = torch.arange(12)
    positions = torch.tensor([[[3, 8]]])
    target_attention(**given, positions=positions).output.sum().backward()
    touched = given["values"].grad
    assert touched is not None
    assert touched.abs().sum(1).nonzero().flatten().tolist() == [3, 8]


def test_positions_must_match_the_query() -> None:
    given = inputs([3], 2)
    for positions in (torch.zeros(1, 1, 2, dtype=torch.int64), torch.zeros(1, 2, 2), torch.zeros(2, 2).long()):
        with pytest.raises(
            ValueError, match=r"positions must be \[1, 2, K\] int64, as behavior_search gives them, got"
        ):
            target_attention(**given, positions=positions)


def test_values_must_match_the_keys() -> None:
    given = inputs([3], 2)
    given["values"] = torch.zeros(29, 6)
    with pytest.raises(ValueError, match=r"values must be \[30, e\]"):
        target_attention(**given)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_what_pads_a_short_history_adds_nothing(pool: str, backend: Backend) -> None:
    # Row 0, which stands in for what is not there, is infinite; the second history is shorter than the first.
    keys, values = torch.ones(3, 2), torch.tensor([[math.inf], [1.0], [2.0]])
    history = (torch.ones(2, 1, 2), keys, values, torch.tensor([1, 2, 2]), torch.tensor([0, 2, 3]))
    positions = torch.tensor([[[0, 1]], [[0, -1]]]) if pool == "kept" else None
    output = target_attention(*history, positions=positions, backend=backend).output
    assert output.flatten().tolist() == [1.5, 2.0]


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("stored", ["fp32", "fp16"])
def test_positions_beyond_a_history_are_left_out(stored: str, backend: Backend) -> None:
    values = torch.eye(4).to(torch.float16 if stored == "fp16" else torch.float32)
    rows, offsets = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2, 4])
    positions = torch.tensor([[[0, 2]], [[1, 9]]])
    pooled = target_attention(torch.ones(2, 1, 4), values, values, rows, offsets, positions=positions, backend=backend)
    assert pooled.weights is not None
    assert pooled.weights.tolist() == [[[1.0, 0.0]], [[1.0, 0.0]]]
    assert pooled.output.tolist() == [[[1.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]]


def test_positions_beyond_a_history_have_no_gradient() -> None:
    given = inputs([3, 3], 1)
    given["rows"] = torch.arange(6)
    positions = torch.tensor([[[1, 4]], [[0, 5]]])
    target_attention(**given, positions=positions).output.sum().backward()
    for name in ("keys", "values"):
        touched = given[name].grad
        assert touched is not None
        assert set(touched.abs().sum(1).nonzero().flatten().tolist()) <= {1, 3}


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("name", ["recency_values", "recency_bias"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_what_depends_on_recency_is_taken_in_any_precision(
    dtype: torch.dtype, name: str, pool: str, backend: Backend
) -> None:
    given = inputs([5, 2], 2)
    positions = torch.tensor([[[0, 4]] * 2, [[1, -1]] * 2]) if pool == "kept" else None
    rounded = given[name].detach().to(dtype)
    found = target_attention(**{**given, name: rounded}, positions=positions, backend=backend).output
    expected = target_attention(**{**given, name: rounded.float()}, positions=positions, backend=backend).output
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["keys", "values"])
def test_fp64_beside_fp32_is_refused(name: str) -> None:
    given = inputs([3], 2)
    given[name] = given[name].double()
    with pytest.raises(ValueError, match=f"{name} and query must both be float64 or neither, got torch.float64"):
        target_attention(**given)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_a_caller_s_autocast_changes_nothing(pool: str, backend: Backend) -> None:
    given = inputs([40, 3], 2)
    positions = torch.tensor([[[0, 30]] * 2, [[1, 2]] * 2]) if pool == "kept" else None
    alone = target_attention(**given, positions=positions, backend=backend).output
    with torch.autocast("cpu", torch.bfloat16):
        within = target_attention(**given, positions=positions, backend=backend).output
    assert torch.equal(within, alone)
