"""Workers that share a step take the step that one would take, whatever the optimizer, and stay equal bit by bit."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from recsys.data.event_store import EventStore
from recsys.data.samples import make_samples
from recsys.models.batch import collate
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model
from recsys.training.step import make_optimizer, settle, train_step
from recsys.training.workers import AllWorkersBatchNorm, normalise_over_all_workers, rows_of_all_workers

STEPS = 5


def run_share(rank: int, world: int, store: EventStore, config: TrainConfig) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    model = new_model(store, config)
    normalise_over_all_workers(model)
    optimizer = make_optimizer(model, 0.01, config.optimizer)
    samples = make_samples(store, config.samples, "train")
    losses = []
    for step in range(STEPS):
        index = np.random.default_rng(step).choice(len(samples), 7, replace=False)  # shares of 4 and 3 groups
        batch = collate(store, samples.take(index[rank::world]))
        losses.append(
            train_step(model, optimizer, batch, l2=1e-3, samples_of_all_workers=7 * samples.targets_per_group)
        )
    settle(optimizer)
    return {**model.state_dict(), "losses": torch.stack(losses)}


def _worker(rank: int, world: int, port: int, store: str, config: str, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    rows = rows_of_all_workers(torch.tensor([1, 5, 9][: 2 + rank]) + rank, 100)
    assert rows is not None
    assert rows.tolist() == [1, 2, 5, 6, 10]
    assert rows_of_all_workers(None if rank == 1 else torch.tensor([1]), 100) is None
    state = run_share(rank, world, EventStore(store), TrainConfig.from_json(config))
    torch.save(state, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("optimizer", ["adam", "rowwise-adam"])
def test_two_workers_take_the_steps_of_one(
    wide_store: EventStore, wide_config: TrainConfig, tmp_path: Path, optimizer: str
) -> None:
    config = replace(wide_config, optimizer=optimizer)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (2, port, str(wide_store.directory), config.to_json(), str(tmp_path))
    mp.start_processes(_worker, args=arguments, nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = run_share(0, 1, wide_store, config)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(alone[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")
    assert alone["head.0.num_batches_tracked"] == STEPS


def test_one_worker_keeps_torchs_own_batch_norm() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    normalise_over_all_workers(model)
    assert type(model[0]) is nn.BatchNorm1d


def test_in_evaluation_it_is_torchs_batch_norm() -> None:
    plain, ours = nn.BatchNorm1d(3), AllWorkersBatchNorm(3)
    plain(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)))
    ours.load_state_dict(plain.state_dict())
    inputs = torch.randn(4, 3)
    torch.testing.assert_close(ours.eval()(inputs), plain.eval()(inputs), rtol=0, atol=0)
