"""Two processes that share a step: their gradients, statistics and losses become one, worked out by hand."""

import json
import subprocess
import sys

import torch
from torch import nn

from retrieval.runs.workers import ALONE, Worker, average, wait_for

TOGETHER = """
import json, sys
import torch
import torch.distributed as dist
from torch import nn
from retrieval.runs.workers import Worker, average, wait_for

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
worker = Worker(rank=rank, world_size=2)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Parameter(torch.zeros(2, 1))
        self.first = nn.Parameter(torch.zeros(2))
        self.neither = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.register_buffer("mean", torch.tensor([1.0, 5.0]) * (rank + 1))
        self.register_buffer("seen", torch.tensor(7 + rank))


model = Part()
model.both.grad = torch.tensor([[1.0], [3.0]]) * (1 + 2 * rank)
if rank == 0:
    model.first.grad = torch.tensor([4.0, -2.0])
loss = torch.tensor(0.5 + rank)
average(model, loss, worker)
wait_for(worker)
grads = {name: None if each.grad is None else each.grad.tolist() for name, each in model.named_parameters()}
buffers = {name: each.tolist() for name, each in model.named_buffers()}
print(json.dumps({"grads": grads, "buffers": buffers, "loss": loss.item()}))
dist.destroy_process_group()
"""


def test_two_workers_leave_with_the_same_means(tmp_path):
    commands = [[sys.executable, "-c", TOGETHER, str(rank), str(tmp_path)] for rank in (0, 1)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    first, second = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert first["grads"] == {
        "both": [[2.0], [6.0]],  # means of 1 and 3, 3 and 9
        "first": [2.0, -1.0],  # the second worker's share is zero
        "neither": [0.0],
        "frozen": None,
    }
    assert first["buffers"] == {"mean": [1.5, 7.5], "seen": 7}
    assert first["loss"] == 1.0
    assert second == {**first, "buffers": {"mean": [1.5, 7.5], "seen": 8}}  # counters are left alone


def test_a_worker_by_itself_changes_nothing():
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[1.0, 2.0]])
    loss = torch.tensor(3.0)
    # Without a process group there is nobody to wait for, whatever the worker was told.
    for worker in (ALONE, Worker(rank=1, world_size=2)):
        average(model, loss, worker)
        wait_for(worker)
    assert model.weight.grad.tolist() == [[1.0, 2.0]]
    assert model.bias.grad is None
    assert loss.item() == 3.0
