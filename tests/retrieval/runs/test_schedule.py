"""The step size of a run, worked out by hand."""

import math

import pytest

from retrieval.runs.schedule import learning_rate


def test_up_in_a_straight_line_and_down_along_a_cosine():
    # Ten steps, four of which rise; six are left to fall over: cos(π k / 7) for k = 1 … 6.
    rates = [learning_rate(2.0, 0.4, step, 10) for step in range(10)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * k / 7) for k in range(1, 7)])
    assert min(rates) > 0, "no step is without effect"


@pytest.mark.parametrize(
    ("share", "steps", "rising"),
    [
        pytest.param(0.0, 5, 1, id="no warmup"),
        pytest.param(0.05, 10, 1, id="less than a step"),
        pytest.param(0.25, 10, 2, id="half a step, to even"),
        pytest.param(0.5, 1, 1, id="a single step"),
    ],
)
def test_the_highest_is_reached_when_the_warmup_ends(share, steps, rising):
    rates = [learning_rate(3.0, share, step, steps) for step in range(steps)]
    assert rates.index(max(rates)) == rising - 1
    assert max(rates) == 3.0
