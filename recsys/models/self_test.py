"""Keep what a model answered when it was saved, and ask it again before it answers anybody.

Hashes say that a model's files are those that were written. They do not say that its numbers are numbers, nor that what
is served computes what was trained: serving has tables of another form, perhaps of another type, and loops that were
compiled on another machine.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.errors import StoreError
from recsys.models.model import Model, Scorer, score_by

SELF_TEST_FILE = "self_test.json"
LENGTHS = (0, 1, 20, 300)
"""Behaviours of each history that is asked about."""
CANDIDATES = 16
"""Candidates of each; the first is unknown."""
TOLERANCE = 1e-3
"""How far a score may lie from what it was where tables are kept as they were trained."""
COARSE_TOLERANCE = 0.05
"""The same where they are rounded."""

Rows = npt.NDArray[np.int32]


def save_self_test(directory: Path, model: Model, catalogue: Catalogue) -> None:
    """Write what `model` answers now, in evaluation mode."""
    device, training = model.category_of_item.device, model.training
    try:
        scores, _ = score_by(model.eval(), *(part.to(device) for part in _asked(catalogue)))
    finally:
        model.train(training)
    _file(directory).write_text(json.dumps({"scores": scores.double().tolist()}) + "\n")


def require_self_test(directory: Path, scorer: Scorer, catalogue: Catalogue, *, rounded: bool = False) -> None:
    """Raise StoreError where what `scorer` answers now is no probability, or not what the model of `directory` answered
    when it was saved. A directory of an earlier release has no record, and only the former is looked at.

    `rounded` is whether the scorer's tables are kept in a type that rounds them.
    """
    scores, _ = scorer.score(*(part.to(scorer.device) for part in _asked(catalogue)))
    now = scores.double().cpu().numpy()
    bad = int((~((now >= 0) & (now <= 1))).sum())
    if bad:
        raise StoreError(
            f"the model in {directory} fails its self-test: {bad} of {now.size} scores are no probabilities; it must "
            "not answer anybody, train it again"
        )
    file = _file(directory)
    if not file.exists():
        return
    saved = _saved(file, now.shape)
    # A score that was no number then lies nowhere near one: ~(… <= …) counts it.
    tolerance = COARSE_TOLERANCE if rounded else TOLERANCE
    apart = np.abs(now - saved)
    far = int((~(apart <= tolerance)).sum())
    if far:
        raise StoreError(
            f"the model in {directory} fails its self-test: {far} of {now.size} scores lie more than {tolerance} from "
            f"what they were when it was saved (the farthest {np.nanmax(apart, initial=0.0):.3g}); it must not answer "
            "anybody here: look at the machine, and at the release that saved it"
        )


def _asked(catalogue: Catalogue) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Histories, their offsets and candidates [B, T]: of every part of the vocabulary, and the same for ever."""
    n_items = max(1, catalogue.n_items)
    spread = np.arange(1, sum(LENGTHS) + len(LENGTHS) * CANDIDATES + 1, dtype=np.int64) * 7_919
    rows = (1 + spread % n_items if catalogue.n_items else np.full(len(spread), UNKNOWN_ROW)).astype(np.int32)
    histories, targets = rows[: sum(LENGTHS)], rows[sum(LENGTHS) :].reshape(len(LENGTHS), CANDIDATES)
    targets[:, 0] = UNKNOWN_ROW
    return (
        torch.from_numpy(histories),
        torch.from_numpy(np.cumsum([0, *LENGTHS])),
        torch.from_numpy(targets),
    )


def _saved(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    try:
        record: Any = json.loads(file.read_text())
        scores = np.array(record["scores"], dtype=np.float64)
        if scores.shape != shape:
            raise ValueError(f"it holds {scores.shape} scores, expected {shape}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{file} cannot be read ({error}); publish the model anew, or activate another version"
        ) from error
    return scores


def _file(directory: Path) -> Path:
    return directory / SELF_TEST_FILE
