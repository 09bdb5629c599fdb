"""Copy what a finished run logged to an experiment tracker, for who looks at runs there."""

import json
import shutil
from pathlib import Path
from typing import Any

from recsys.errors import ConfigError
from recsys.training.loop import LOG_FILE

TRACKERS = ("tensorboard",)


def require_tracker(tracker: str) -> None:
    """Raise ConfigError for a tracker that is unknown or not installed, before anything is trained for it."""
    if tracker not in TRACKERS:
        raise ConfigError(f"no tracker {tracker!r}; there are {', '.join(TRACKERS)}")
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"tracker {tracker} is not installed ({error}); `pip install tensorboard`") from error


def track(run: Path, directory: Path) -> None:
    """Write the log of `run` as TensorBoard's events to `directory`, unless it is there: loss by step, and every metric
    of validations and of the test, at the times when they were logged."""
    if directory.exists():
        return
    from torch.utils.tensorboard import SummaryWriter

    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with SummaryWriter(str(partial)) as writer:
        for line in (run / LOG_FILE).read_text().splitlines():
            entry = json.loads(line)
            for name, value in _scalars(entry).items():
                writer.add_scalar(name, value, entry["step"], walltime=entry["time"])
    partial.rename(directory)


def _scalars(entry: dict[str, Any]) -> dict[str, float]:
    if "loss" in entry:
        return {"train/loss": entry["loss"]}
    return {
        f"{part}/{name}": value
        for part in ("validation", "test")
        for name, value in entry.get(part, {}).items()
        if name in ("auc", "gauc", "logloss")
    }
