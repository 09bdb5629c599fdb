"""How the step size changes over a run."""

import math


def learning_rate(highest: float, warmup_share: float, step: int, steps: int) -> float:
    """Step size of step number `step` of `steps`: up in a straight line over the first share, down along a cosine."""
    rising = max(1, round(warmup_share * steps))
    if step < rising:
        return highest * (step + 1) / rising
    return highest * (1 + math.cos(math.pi * (step - rising + 1) / (steps - rising + 1))) / 2
