"""A run's log, as a tracker has it."""

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import ConfigError
from recsys.training.tracking import require_tracker, track

LOG = [
    {"time": 100.5, "step": 5, "of": 10, "epoch": 0, "loss": 1.25, "cpu_s": 3.0},
    {"time": 101.0, "step": 10, "of": 10, "validation": {"auc": 0.75, "gauc": 0.5, "logloss": 0.25, "n_samples": 9}},
    {"time": 102.0, "step": 10, "test": {"auc": 0.875, "gauc": 0.5, "logloss": 0.5, "n_samples": 9}},
]


def test_tensorboard_has_loss_and_metrics_at_their_steps_and_times(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in LOG))
    for _ in range(2):  # the second time it is there
        track(tmp_path, tmp_path / "tensorboard" / "run")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "run"))
    events.Reload()
    found: dict[str, Any] = {
        name: [(event.step, event.wall_time, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert found["train/loss"] == [(5, 100.5, 1.25)]
    assert found["validation/auc"] == [(10, 101.0, 0.75)]
    assert found["test/auc"] == [(10, 102.0, 0.875)]
    assert len(found) == 7


def test_a_tracker_that_is_not_installed_says_how_to_come_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("tensorboard") or name == "torch.utils.tensorboard":
            raise ImportError("No module named 'tensorboard'")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"tracker tensorboard is not installed .*; `pip install tensorboard`"):
        require_tracker("tensorboard")
