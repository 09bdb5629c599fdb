"""Keep what a killed training run needs to go on as if nothing had happened.

A run directory holds `config.json`, `log.jsonl` (one line a few steps and one an epoch), the newest checkpoint and,
when it is done, `model/`. Everything random follows from (seed, step), so no generator state is kept.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from retrieval.errors import RunError
from retrieval.files import write_whole

CONFIG_FILE, LOG_FILE, MODEL_DIRECTORY = "config.json", "log.jsonl", "model"
_CHECKPOINT_FILE = "checkpoint.safetensors"
_MODEL, _OPTIMIZER = "model/", "optimizer/"


def claim(run: Path, identity: Mapping[str, Any], *, files: Mapping[str, str] | None = None) -> None:
    """Mark a new run directory as that of `identity`, or make sure that it is; RunError where it is another's.

    `identity` is JSON, with what is trained on under "data". `files` are written into a new directory before the mark.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / CONFIG_FILE
    mine = json.loads(json.dumps(identity))
    if not path.exists():
        for name, content in (files or {}).items():
            write_whole(run / name, content)
        write_whole(path, json.dumps(mine, indent=2) + "\n")
        return
    theirs = read_claim(run)
    if mine != theirs:
        other = "data" if mine.get("data") != theirs.get("data") else "options"
        raise RunError(
            f"run directory {run} was started with other {other}; give the same, start fresh, or choose another name"
        )


def read_claim(run: Path) -> dict[str, Any]:
    """What `claim` was told, for a worker of another process."""
    path = run / CONFIG_FILE
    try:
        identity: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"run directory {run} has an unreadable {path.name}: {error}; choose another") from error
    return identity


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold `run` against other processes while the block runs; the system lets go of it when this one dies."""
    with (run / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is training in {run}; wait for it or choose another run name") from None
        yield


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the checkpoint by one of `step`."""
    tensors = {f"{_MODEL}{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}/{key}"] = value
    partial = run / f"{_CHECKPOINT_FILE}.partial"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata={"step": str(step)})
    partial.replace(run / _CHECKPOINT_FILE)


def load_checkpoint(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bring `model` and `optimizer` to the checkpoint and return its step; 0 where there is none."""
    path = run / _CHECKPOINT_FILE
    if not path.exists():
        return 0
    parameters = dict(model.named_parameters())
    weights = {}
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
            for name in file.keys():  # noqa: SIM118 - it is not a mapping
                if name.startswith(_MODEL):
                    weights[name.removeprefix(_MODEL)] = file.get_tensor(name)
                else:
                    parameter, key = name.removeprefix(_OPTIMIZER).rsplit("/", 1)
                    value, trained = file.get_tensor(name), parameters[parameter]
                    # AdamW counts its steps on the CPU.
                    optimizer.state[trained][key] = value if key == "step" else value.to(trained.device)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise RunError(f"checkpoint {path} cannot be read ({error}); remove it to start over") from error
    return step


def remove_checkpoint(run: Path) -> None:
    """Remove what a finished run needs no more."""
    (run / _CHECKPOINT_FILE).unlink(missing_ok=True)


def log(run: Path, line: dict[str, Any]) -> None:
    """Add a line to the log."""
    with (run / LOG_FILE).open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")


def trim_log(run: Path, step: int) -> None:
    """Drop the lines after the checkpoint that the run goes on from, and one torn by a kill."""
    path = run / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
        except (ValueError, KeyError):
            continue
    write_whole(path, "".join(kept))
