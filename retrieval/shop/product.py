"""What a product is to the renderer: how it is drawn, and how it stands in its scene."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from retrieval.shop.pen import Pen


class Placement(StrEnum):
    """How an item is seen."""

    STANDS = "stands"
    """On something, from the front and a little above; its lowest point is at `outlines.GROUND`."""
    LIES = "lies"
    """Flat, from above."""
    HANGS = "hangs"
    """From the ceiling or on a wall."""


@dataclass(frozen=True, slots=True)
class Product:
    """One category of the shop."""

    draw: Callable[[Pen], None]
    """Draws an item; its colour, pattern and proportions are seen to already."""
    placement: Placement = Placement.STANDS
