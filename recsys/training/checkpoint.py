"""Keep what a killed training run needs to go on as if nothing had happened.

A checkpoint is a directory `step-00000150` of the run directory, written beside and renamed into place, so that one
that exists is whole. Everything random follows from (seed, epoch, step), so no generator state is kept.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.errors import StoreError

STATE_FILE, MODEL_FILE, OPTIMIZER_FILE, BEST_FILE = (
    "state.json",
    "model.safetensors",
    "optimizer.safetensors",
    "best.safetensors",
)


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    """Steps taken."""
    best_auc: float = float("-inf")
    """Highest validation AUC so far."""
    best_step: int = 0
    """Step of that validation."""
    validations: list[dict[str, Any]] = field(default_factory=list)
    """Step and metrics of every validation."""


def save_checkpoint(
    run: Path, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> None:
    """Write the checkpoint of `progress.step` and remove the ones before it."""
    final = run / f"step-{progress.step:08d}"
    partial = run / f"{final.name}.partial"
    for cut_off in run.glob("step-*.partial"):
        shutil.rmtree(cut_off)
    partial.mkdir(parents=True)
    save_file(_contiguous(model.state_dict()), partial / MODEL_FILE)
    save_file(_contiguous(_optimizer_tensors(model, optimizer)), partial / OPTIMIZER_FILE)
    save_file(_contiguous(best), partial / BEST_FILE)
    (partial / STATE_FILE).write_text(json.dumps(asdict(progress)))
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for other in _checkpoints(run):
        if other != final:
            shutil.rmtree(other)


def load_checkpoint(
    run: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]]:
    """Bring `model` and `optimizer` to the newest checkpoint; a run without one starts at step 0 with no best
    weights."""
    found = _checkpoints(run)
    if not found:
        return Progress(), {}
    newest = found[-1]
    try:
        progress = Progress(**json.loads((newest / STATE_FILE).read_text()))
        model.load_state_dict(load_file(newest / MODEL_FILE))
        _restore_optimizer(model, optimizer, load_file(newest / OPTIMIZER_FILE))
        return progress, load_file(newest / BEST_FILE)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise StoreError(f"checkpoint {newest} cannot be read ({error}); remove it to start over") from error


def remove_checkpoints(run: Path) -> None:
    """Remove what a finished run needs no more."""
    for path in run.glob("step-*"):
        shutil.rmtree(path)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state that further training leaves alone."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _checkpoints(run: Path) -> list[Path]:
    return sorted(path for path in run.glob("step-*") if path.suffix != ".partial")


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state by parameter name: "head.1.weight/exp_avg" and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        name, key = full_name.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][key] = value.to(parameter.device)
