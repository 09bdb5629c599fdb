"""How every plot is drawn and written, without a display."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (7.0, 4.5)
"""Inches of a plot that stands alone."""


def new_figure(x: str, y: str) -> "tuple[Figure, Axes]":
    """A figure with one plot; `x` and `y` say what its axes show."""
    figure, panels = new_panels(1, 1, size=_PANEL)
    axes: Axes = panels[0, 0]
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def new_panels(
    rows: int, columns: int, *, size: tuple[float, float], share_y: bool = False
) -> "tuple[Figure, npt.NDArray[np.object_]]":
    """A figure with [rows, columns] plots of `size` inches each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    return figure, panels


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)
