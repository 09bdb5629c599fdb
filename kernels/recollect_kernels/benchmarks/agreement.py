"""Hold a result to the reference's: nothing is timed that is not right."""

import torch
from torch import Tensor

from recollect_kernels.benchmarks.inputs import Inputs
from recollect_kernels.tables import gather_rows

SCORE_TOLERANCE = 2e-5
"""Of scores, whose size is about 1: fp32 sums in another order."""
POOLED_TOLERANCE = 1e-4
"""Of outputs, weights and gradients: sums over pooled scores."""


class NotMeasuredError(Exception):
    """An op has no row at a shape; the text says why.

    NotMeasuredError
    └── WrongResultError   its result is not the reference's
    """


class WrongResultError(NotMeasuredError):
    """A result is not the reference's; the text says where and by how much."""


def check_search(inputs: Inputs, found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Raise WrongResultError unless scores [B, T, k] and positions [B, T, k] of the first set of histories are right.

    Positions are the reference's, but for behaviours whose scores are equal within the tolerance.
    """
    check_close("scores", found[0], expected[0], SCORE_TOLERANCE)
    positions, wanted = found[1], expected[1]
    if positions.shape != wanted.shape or positions.dtype != wanted.dtype:
        raise WrongResultError(f"positions are {_kind(positions)}, expected {_kind(wanted)}")
    ordered = positions.sort(-1).values
    if bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        raise WrongResultError("a position was returned twice for one target")
    for b, t, place in (positions != wanted).nonzero().tolist():
        position, score = int(positions[b, t, place]), float(expected[0][b, t, place])
        its_score = _score(inputs, b, t, position)
        if its_score is None or abs(its_score - score) > SCORE_TOLERANCE * (1 + abs(score)):
            raise WrongResultError(
                f"place {place} of target [{b}, {t}] has position {position}, expected {int(wanted[b, t, place])}: "
                f"the scores are {its_score} and {score}"
            )


def check_attention(found: tuple[Tensor, Tensor | None], expected: tuple[Tensor, Tensor | None]) -> None:
    """Raise WrongResultError unless weights [B, T, k] and output [B, T, e] are right."""
    if found[1] is None or expected[1] is None:
        raise WrongResultError("there are no weights beside the output, as there must be where positions are given")
    check_close("weights", found[1], expected[1], POOLED_TOLERANCE)
    check_close("output", found[0], expected[0], POOLED_TOLERANCE)


def check_close(name: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise WrongResultError unless |found - expected| <= tolerance · (1 + |expected|) everywhere; NaN is wrong."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise WrongResultError(f"{name} are {_kind(found)}, expected {_kind(expected)}")
    difference = (found - expected).abs()
    wrong = ~(difference <= tolerance * (1 + expected.abs()))
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        raise WrongResultError(
            f"{name}: {int(wrong.sum())} of {wrong.numel()} differ by up to {float(difference[wrong].max()):.3g} "
            f"(tolerance {tolerance:g}), the first at {place}: {float(found[tuple(place)]):.6g}, expected "
            f"{float(expected[tuple(place)]):.6g}"
        )


def _score(inputs: Inputs, b: int, t: int, position: int) -> float | None:
    """The score of one behaviour in fp64; None for a position outside the history."""
    length = inputs.shape.length
    if not 0 <= position < length:
        return None
    row = inputs.rows[0][b * length + position].long()
    product = torch.dot(inputs.query[b, t].double(), gather_rows(inputs.keys, row).double())
    return float(product + inputs.recency_bias[inputs.recency[position]].double())


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"
