"""The pair for serving gives what its two halves give."""

import math

import pytest
import torch

from recollect_kernels import behavior_search, loops, search_and_attend, target_attention


@pytest.fixture(params=["reference", "loops", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way on a CPU: the reference, and the CPU backend with numba and without."""
    if request.param == "torch":
        monkeypatch.setattr(loops, "compiled", lambda: None)
    return "reference" if request.param == "reference" else "cpu"


@pytest.mark.parametrize(
    ("lengths", "targets", "k", "beside"),
    [
        pytest.param([1], 1, 1, 0, id="one-behaviour"),
        pytest.param([0], 2, 4, 3, id="empty-history"),
        pytest.param([63, 0, 5, 700], 3, 20, 3, id="ragged-with-empty"),
        pytest.param([300], 7, 128, 5, id="k-of-128"),
    ],
)
def test_equals_search_then_attention(lengths: list[int], targets: int, k: int, beside: int, backend: str) -> None:
    generator = torch.Generator().manual_seed(31)
    keys, values = (torch.randn(80, width, generator=generator) for width in (12, 9))
    query = torch.randn(len(lengths), targets, 12, generator=generator)
    rows, offsets = torch.randint(0, 80, (sum(lengths),), generator=generator), torch.tensor([0, *lengths]).cumsum(0)
    bias = torch.randn(40, generator=generator)
    recency_values = torch.randn(15, beside, generator=generator) if beside else None
    history = (query, keys, values, rows, offsets)
    both = search_and_attend(*history, k=k, recency_bias=bias, recency_values=recency_values, backend=backend)
    search = behavior_search(query, keys, rows, offsets, k=k, recency_bias=bias, backend="reference")
    pooled = target_attention(
        *history, positions=search.positions, recency_bias=bias, recency_values=recency_values, backend="reference"
    )
    assert torch.equal(both.positions, search.positions)
    torch.testing.assert_close(both.scores, search.scores)
    torch.testing.assert_close(both.output, pooled.output)
    torch.testing.assert_close(both.weights, pooled.weights)
    assert both.output.shape == (len(lengths), targets, 9 + beside)


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param([1.0, math.nan, 0.5], id="nan-among-the-kept"),
        pytest.param([-math.inf, -math.inf, -math.inf], id="all-minus-infinity"),
        pytest.param([-math.inf, 2.0, 1.0], id="minus-infinity"),
        pytest.param([math.inf, 2.0, 1.0], id="infinity"),
    ],
)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_special_scores_weigh_as_in_the_reference(scores: list[float], k: int, backend: str) -> None:
    keys, values = torch.tensor(scores).unsqueeze(1), torch.eye(3)
    history = (torch.ones(1, 1, 1), keys, values, torch.arange(3), torch.tensor([0, 3]))
    found, expected = (search_and_attend(*history, k=k, backend=way) for way in (backend, "reference"))
    assert torch.equal(found.positions, expected.positions)
    torch.testing.assert_close(found.weights, expected.weights, equal_nan=True)
    torch.testing.assert_close(found.output, expected.output, equal_nan=True)


def test_no_gradient_is_kept() -> None:
    keys = torch.randn(5, 4).requires_grad_()
    found = search_and_attend(torch.ones(1, 1, 4), keys, keys, torch.arange(5), torch.tensor([0, 5]), k=2)
    assert not found.output.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"values": torch.zeros(4, 2)}, r"values must be \[5, e\]", id="values"),
        pytest.param({"values": torch.zeros(5)}, r"values must be \[V, d\]", id="values-rank"),
        pytest.param({"recency_values": torch.zeros(3)}, r"recency_values must be \[P, r\]", id="recency-values"),
        pytest.param({"k": 0}, "k must be at least 1", id="k"),
        pytest.param({"longest": 2, "backend": "reference"}, "longest must be at least 3", id="longest"),
        pytest.param({"offsets": torch.tensor([0, 4])}, "offsets must ascend from 0 to 3", id="offsets-beyond"),
        pytest.param({"rows": torch.tensor([1, 2, 5]), "backend": "triton"}, "rows must lie in", id="rows-for-triton"),
        pytest.param({"backend": "triton", "k": 129}, "keeps at most 128", id="k-for-triton"),
    ],
)
def test_says_what_does_not_fit(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "query": torch.zeros(1, 1, 4),
        "keys": torch.zeros(5, 4),
        "values": torch.zeros(5, 2),
        "rows": torch.tensor([1, 2, 3]),
        "offsets": torch.tensor([0, 3]),
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        search_and_attend(**{**arguments, **change})  # type: ignore[arg-type]
