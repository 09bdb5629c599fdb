"""Draw which classes are taken for which, large enough that every class can be read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

_INCHES_A_CLASS = 0.16
_DOTS_AN_INCH = 120
_MAX_CLASSES = 300
"""More would make a picture of more than 50 inches, which nobody opens."""


def draw_confusion(class_names: Sequence[str], counts: npt.NDArray[np.int64], path: Path) -> bool:
    """Write a PNG of `counts` [C, C] (rows shown, columns taken for) in the order of `class_names`.

    A cell's colour is its share of the row. Only classes that some image shows or is taken for are drawn; beyond 300 of
    these there is no picture, and False is returned.
    """
    drawn = np.flatnonzero(counts.any(axis=1) | counts.any(axis=0))
    if len(drawn) > _MAX_CLASSES:
        return False
    shown = counts[np.ix_(drawn, drawn)]
    shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    names = [class_names[at] for at in drawn.tolist()]
    side = max(3.0, _INCHES_A_CLASS * len(names))
    figure = Figure(figsize=(side + 3.5, side + 2.5), layout="constrained")
    axes = figure.add_subplot()
    # The root makes a single confused image visible beside rows that are all right.
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("shown")
    figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the images of a class")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=_DOTS_AN_INCH)
    partial.replace(path)
    return True
