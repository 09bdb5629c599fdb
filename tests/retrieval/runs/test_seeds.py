"""Seeds of steps: unlike each other, and such as torch takes, whatever the run's."""

import pytest
import torch

from retrieval.runs.seeds import SEEDS, seed_of_step


@pytest.mark.parametrize("seed", [pytest.param(0, id="the first"), pytest.param(SEEDS - 1, id="the last")])
def test_torch_takes_the_seed_of_every_step(seed):
    steps = [seed_of_step(seed, at) for at in range(1_000)]
    assert len(set(steps)) == 1_000
    for step in steps:
        torch.Generator().manual_seed(step)


def test_seeds_of_steps_are_what_they_were():
    assert seed_of_step(3, 5) == 3_000_014
