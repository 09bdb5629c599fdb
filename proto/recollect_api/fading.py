"""How a client forgets what became of its calls: by half, again and again."""

HALF_LIFE_S = 0.5
"""After so long, what was seen counts half."""


def left_after(seconds: float) -> float:
    """What is left of 1 that was seen so long ago."""
    return float(0.5 ** (seconds / HALF_LIFE_S))
