"""Seeds of runs: how many there are, and what each step draws from."""

SEEDS = 2**63
"""Seeds are at least 0 and below this; torch takes few others."""


def seed_of_step(seed: int, at: int) -> int:
    """What torch draws from in a step, or in a worker's share of it, numbered `at`."""
    return (seed * 1_000_003 + at) % SEEDS
