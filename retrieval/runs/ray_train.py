"""Run a training loop through Ray Train: the same code on one worker and on many."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from retrieval.errors import RetrievalError, RunError
from retrieval.runs.directory import MODEL_DIRECTORY
from retrieval.runs.workers import Worker

RAY_DIRECTORY = "ray"
"""Ray Train's own state within the run directory."""
_MISTAKE_FILE = "error.txt"
"""How a worker tells the caller of a mistake in data or configuration."""
_WORKER_RESTARTS = 3
"""How often a lost worker is replaced before the run gives up; the new group goes on from the last checkpoint."""

Train = Callable[[Path, Worker], object]
"""Trains what a run directory was claimed for, as one of its workers; a function of a module, since it travels."""


def fit(train: Train, run: Path, *, workers: int = 1, cpus_per_worker: int = 1, gpu_per_worker: bool = False) -> Path:
    """Have `workers` processes train in `run`, which the caller has claimed; returns the model directory.

    With `gpu_per_worker` each has a GPU of its own, which torch in it knows as "cuda", and none otherwise. Ray must be
    initialised. Raises RunError for data or a configuration that cannot be trained on. On several nodes `run` and the
    pictures must be on storage that all of them see. Calling this again after a kill goes on from the last checkpoint.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _worker,
        train_loop_config={"train": train, "run": str(run.resolve()), "threads": cpus_per_worker},
        torch_config=TorchConfig(backend="nccl" if gpu_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, resources_per_worker={"CPU": cpus_per_worker}, use_gpu=gpu_per_worker
        ),
        run_config=RunConfig(
            name=f"attempt-{os.getpid()}",
            storage_path=str((run / RAY_DIRECTORY).resolve()),
            failure_config=FailureConfig(max_failures=_WORKER_RESTARTS),
        ),
    )
    mistake = run / _MISTAKE_FILE
    mistake.unlink(missing_ok=True)
    trainer.fit()
    if mistake.exists():
        raise RunError(mistake.read_text())
    return run / MODEL_DIRECTORY


def _worker(settings: dict[str, Any]) -> None:
    import ray.train

    torch.set_num_threads(settings["threads"])
    context = ray.train.get_context()
    run, train = Path(settings["run"]), settings["train"]
    try:
        train(run, Worker(rank=context.get_world_rank(), world_size=context.get_world_size()))
    except RetrievalError as error:
        # Raised here it would be taken for a lost worker and tried again, to fail the same way.
        (run / _MISTAKE_FILE).write_text(str(error))
        if dist.is_initialized():
            dist.destroy_process_group()  # lets those go who would wait for this worker's share
    except RuntimeError:
        if not (run / _MISTAKE_FILE).exists():
            raise
