"""Which weights shrink by themselves, and that the groups lose none."""

import torch
from torch import nn

from retrieval.runs.optimizer import groups


def test_matrices_are_decayed_and_the_rest_is_not():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv1d(3, 1, 1))
    decayed, plain = groups(model.parameters(), 0.25, lr=0.5)
    assert decayed["params"] == [model[0].weight, model[2].weight]
    assert plain["params"] == [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    assert decayed["lr"] == plain["lr"] == 0.5


def test_an_optimizer_decays_as_told():
    matrix, scale = nn.Parameter(torch.full((1, 1), 2.0)), nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.AdamW(groups(iter([scale, matrix]), 0.25), lr=0.5)
    for parameter in (matrix, scale):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert matrix.item() == 2.0 * (1 - 0.5 * 0.25)
    assert scale.item() == 2.0


def test_a_group_of_nothing_is_left_out():
    (only,) = groups([nn.Parameter(torch.zeros(3))], 0.25)
    assert only["weight_decay"] == 0.0
    assert groups([], 0.25) == []
