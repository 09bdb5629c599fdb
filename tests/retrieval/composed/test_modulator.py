"""The modulator by itself: β from the outputs of its probes, and the sizes that were published."""

import math

import pytest
import torch

from retrieval.composed.modulator import Modulation, Modulator, ModulatorConfig


@pytest.fixture
def outputs():
    return torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5))


def modulator(modulation, **sizes):
    config = ModulatorConfig(modulation=Modulation(modulation), probes=3, layers=1, heads=2, hidden=8, **sizes)
    return Modulator(config, width=16, query_tokens=4).eval()


@pytest.mark.parametrize(("modulation", "size"), [("scalar", 1), ("vector", 4)])
@pytest.mark.parametrize(
    ("bias", "beta"),
    [
        pytest.param(0.0, math.log(2), id="undecided"),
        pytest.param(3.0, math.log(1 + math.exp(3)), id="look at the box"),
        pytest.param(-40.0, 0.0, id="never below 0"),
    ],
)
def test_beta_is_the_softplus_of_the_judge(outputs, modulation, size, bias, beta):
    made = modulator(modulation)
    torch.nn.init.zeros_(made.judge[2].weight)
    torch.nn.init.constant_(made.judge[2].bias, bias)
    torch.testing.assert_close(made(outputs), torch.full((2, size), beta), atol=1e-6, rtol=0)


def test_every_output_of_the_probes_counts_in_any_order(outputs):
    made = modulator("scalar")
    beta = made(outputs)
    torch.testing.assert_close(made(outputs.flip(1)), beta)
    changed = outputs.clone()
    changed[0, 2] *= -1
    difference = (made(changed) - beta).abs()[:, 0]
    assert difference[0] > 1e-3
    assert difference[1] == 0


@pytest.mark.parametrize(("inner", "rows"), [(None, 64), (20, 20)])
def test_the_feed_forward_width_is_four_times_the_models_unless_given(inner, rows):
    assert modulator("scalar", inner=inner).encoder.layers[0].linear1.weight.shape == (rows, 16)


@pytest.mark.parametrize(
    "sizes",
    [{"probes": 0}, {"heads": 0}, {"inner": 0}, {"fixed": -1.0}, {"fixed": math.nan}, {"fixed": math.inf}],
    ids=str,
)
def test_impossible_sizes_are_refused_by_name(sizes):
    with pytest.raises(ValueError, match=f"^{next(iter(sizes))} must be"):
        ModulatorConfig(**sizes)
