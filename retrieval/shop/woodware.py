"""Draw what the shop sells of wood: bowls, boards, trays, racks and mills for the kitchen."""

import numpy as np

from retrieval.shop.materials import Colour, shaded
from retrieval.shop.outlines import GROUND, box, ellipse, moved, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Product

_SPICES: tuple[Colour, ...] = (
    (190, 60, 30), (220, 160, 40), (110, 70, 40), (90, 120, 50), (60, 50, 44), (200, 110, 50), (160, 140, 90),
)  # fmt: skip
_LEAVES: tuple[Colour, ...] = ((96, 160, 60), (130, 186, 80), (70, 130, 52), (160, 204, 104))


def _dark(pen: Pen) -> Colour:
    """A dark colour that goes with what the item is made of, for a knob."""
    return shaded(pen.main.edge, 1.2)


def salad_bowl(pen: Pen) -> None:
    """A wide open bowl of leaves, and two servers."""
    if "square" in pen.styles:
        profile = path((0.92, 0.0), (0.8, 0.5), (0.66, GROUND - 0.08))
    else:
        profile = smooth(((0.95, 0.0), (0.9, 0.3), (0.7, 0.62), (0.42, GROUND - 0.08)))
    pen.vessel(profile, wall=0.08)
    for side in (-1.0, 1.0):
        pen.stroke(path((0.15 * side, -0.02), (0.62 * side, -0.78)), 0.075, tone=0.1)
        pen.fill(ellipse(0.66 * side, -0.84, 0.1, 0.14), tone=0.1)
    for _ in range(16):
        x = pen.rng.uniform(-0.72, 0.72)
        y = pen.rng.uniform(-0.3, 0.1) * (1 - (x / 0.95) ** 2)
        leaf = _LEAVES[int(pen.rng.integers(len(_LEAVES)))]
        pen.fill(ellipse(x, y, pen.rng.uniform(0.13, 0.24), pen.rng.uniform(0.08, 0.15)), leaf)
    for x in (-0.35, 0.08, 0.42):
        pen.disc(x, -0.13 + pen.rng.normal(0, 0.03), 0.1, (206, 44, 34), shade=Shade.BALL)
    pen.front(profile)


def fruit_bowl(pen: Pen) -> None:
    """A shallow bowl on a foot, heaped with fruit."""
    stem = path((0.14, 0.3), (0.09, 0.5), (0.12, 0.66), (0.42, 0.78))
    pen.turned(stem)
    if "square" in pen.styles:
        profile = path((0.95, -0.05), (0.8, 0.2), (0.4, 0.34))
    else:
        profile = smooth(((0.98, -0.05), (0.85, 0.12), (0.55, 0.3), (0.16, 0.36)))
    pen.vessel(profile, wall=0.06)
    fruits = (
        (-0.5, -0.2, 0.25, (238, 140, 30)), (0.5, -0.2, 0.25, (196, 40, 36)), (0.0, -0.24, 0.26, (150, 184, 60)),
        (-0.26, -0.5, 0.24, (204, 54, 40)), (0.27, -0.5, 0.24, (244, 156, 36)),
    )  # fmt: skip
    for x, y, radius, colour in fruits:
        pen.disc(x, y, radius, colour, shade=Shade.BALL)
        pen.line(path((x, y - radius * 0.85), (x + 0.03, y - radius * 1.15)), 0.035, (70, 50, 30))
    banana = smooth(((-0.62, -0.5), (-0.3, -0.86), (0.2, -0.92), (0.62, -0.62)))
    pen.stroke(banana, 0.15, (246, 212, 62))
    pen.front(profile)


def cutting_board(pen: Pen) -> None:
    """A flat board with a handle that has a hole, upright against the wall."""
    if "round" in pen.styles:
        board = ellipse(0, 0.22, 0.66, 0.62)
    else:
        half = 0.62 if "square" in pen.styles else 0.52
        board = box(-half, -0.42, half, GROUND, radius=0.05 if "square" in pen.styles else 0.14)
    handle = box(-0.15, -0.92, 0.15, -0.2, radius=0.14)
    upright = pen.main.turned()
    for outline in (handle, board):
        pen.fill(moved(outline, 0.06, -0.02), upright, tone=-0.45)
    pen.fill(handle, upright)
    pen.fill(board, upright, shade=Shade.DOWN)
    pen.fill(box(-0.13, -0.5, 0.13, -0.3), upright, edge=False)
    pen.disc(0, -0.74, 0.07, shaded(pen.main.edge, 0.6))
    if "folding" in pen.styles:
        pen.line(path((-0.6, 0.22), (0.6, 0.22)), 0.04, pen.main.edge)


def serving_tray(pen: Pen) -> None:
    """A flat tray with a raised rim and a handle at each end, two cups on it."""
    if "round" in pen.styles:
        outer, inner = ellipse(0, 0.4, 1.0, 0.44), ellipse(0, 0.38, 0.86, 0.34)
    else:
        back = 0.95 if "square" in pen.styles else 0.8
        outer = path((-back, 0.02), (back, 0.02), (1.0, 0.76), (-1.0, 0.76))
        inner = path((-back + 0.1, 0.1), (back - 0.1, 0.1), (0.87, 0.68), (-0.87, 0.68))
    pen.fill(moved(outer, 0, GROUND - 0.76), tone=-0.45)
    pen.fill(outer, tone=0.12)
    pen.fill(inner, tone=-0.22)
    for side in (-1.0, 1.0):
        grip = smooth(((0.86 * side, 0.2), (1.04 * side, -0.1), (1.12 * side, 0.2), (1.0 * side, 0.56)))
        pen.stroke(grip, 0.09, tone=0.05)
    white = (244, 242, 236)
    for x, y in ((-0.34, 0.24), (0.3, 0.36)):
        cup = pen.at(x, y, scale=0.34)
        cup.stroke(ellipse(0.5, -0.3, 0.26, 0.24, -90, 90), 0.12, white)
        cup.vessel(path((0.5, -0.6), (0.44, 0.1), (0.26, 0.3)), white, holds=(196, 140, 60))


def spice_rack(pen: Pen) -> None:
    """A frame with two shelves of small jars."""
    half = 0.72 if "square" in pen.styles else 0.86
    pen.fill(box(-half, -0.84, half, GROUND), tone=-0.6)
    for shelf in (0.02, 0.76):
        count = 5
        for jar in range(count):
            x = -half + (jar + 0.5) * 2 * half / count
            spice = _SPICES[int(pen.rng.integers(len(_SPICES)))]
            wide = half / count * 0.78
            pen.fill(box(x - wide, shelf - 0.46, x + wide, shelf, radius=0.05), spice, shade=Shade.ROUND)
            pen.fill(box(x - wide, shelf - 0.46, x + wide, shelf - 0.34), (226, 232, 232), edge=False)
            pen.fill(box(x - wide * 0.9, shelf - 0.6, x + wide * 0.9, shelf - 0.46), (60, 58, 58))
            pen.fill(box(x - wide * 0.7, shelf - 0.26, x + wide * 0.7, shelf - 0.1), (246, 240, 224), edge=False)
        pen.fill(box(-half, shelf, half, shelf + 0.09))
        pen.fill(box(-half, shelf - 0.16, half, shelf - 0.1), tone=0.1)
    upright = pen.main.turned()
    for side in (-half, half):
        pen.fill(box(side - 0.07, -0.9, side + 0.07, GROUND), upright)
    pen.fill(box(-half, -0.9, half, -0.78))


def bread_box(pen: Pen) -> None:
    """A box with a slatted roll top, a knob, and a loaf that looks out."""
    square = "square" in pen.styles
    top = path((-0.9, -0.1), (-0.9, -0.5), (0.9, -0.5), (0.9, -0.1))
    curve = (
        top
        if square
        else smooth(((-0.92, 0.1), (-0.86, -0.3), (-0.55, -0.55), (0.55, -0.55), (0.86, -0.3), (0.92, 0.1)))
    )
    pen.fill(np.concatenate([curve, path((0.92, GROUND), (-0.92, GROUND))]))
    for y in np.arange(-0.4, 0.4, 0.115):
        wide = 0.9 if square else 0.9 - 0.28 * max(0.0, (-y - 0.2) / 0.35) ** 2
        pen.line(path((-wide, y), (wide, y)), 0.03, pen.main.edge)
    pen.fill(box(-0.8, 0.4, 0.8, 0.74), (40, 30, 24))
    loaf = smooth(((-0.62, 0.74), (-0.66, 0.56), (-0.4, 0.46), (0.4, 0.46), (0.66, 0.56), (0.62, 0.74)))
    pen.fill(loaf, (206, 146, 78), shade=Shade.DOWN)
    for x in (-0.36, -0.08, 0.2, 0.44):
        pen.line(path((x - 0.06, 0.62), (x + 0.06, 0.5)), 0.05, (242, 212, 156))
    pen.fill(box(-0.92, 0.72, 0.92, GROUND), tone=0.08)
    pen.disc(0, 0.3, 0.085, _dark(pen), shade=Shade.BALL)


def pepper_mill(pen: Pen) -> None:
    """A tall turned body with a waist, a round head and a metal knob."""
    upright = pen.main.turned()
    if "square" in pen.styles:
        body = path((0.26, -0.2), (0.26, 0.1), (0.34, GROUND - 0.06))
    else:
        body = smooth(((0.27, -0.22), (0.17, 0.0), (0.2, 0.25), (0.34, 0.6), (0.36, GROUND - 0.1)))
    pen.turned(body, upright)
    pen.turned(path((0.38, GROUND - 0.16), (0.38, GROUND - 0.08)), upright)
    steel = pen.material("steel")
    pen.turned(path((0.28, -0.28), (0.28, -0.22)), steel)
    head = smooth(((0.12, -0.78), (0.27, -0.66), (0.3, -0.5), (0.2, -0.3)))
    pen.turned(head, upright)
    pen.disc(0, -0.88, 0.1, steel, shade=Shade.BALL)
    for x, y in ((0.62, 0.8), (0.74, 0.72), (-0.6, 0.76), (0.52, 0.7), (-0.72, 0.84)):
        pen.disc(x, y, 0.035, (40, 34, 32))


def coaster_set(pen: Pen) -> None:
    """A stack of thin slabs with gaps between them, one leaning at the front."""
    tilt = pen.tilt
    for place in range(5):
        y = GROUND - 0.28 - 0.19 * place
        x = pen.rng.normal(0, 0.025) - 0.12
        slab = pen.at(x, 0)
        if "square" in pen.styles:
            rim = path((-0.74, y), (-0.1, y - 1.3 * tilt), (0.74, y - 0.25 * tilt), (0.1, y + 1.1 * tilt))
            slab.fill(moved(rim, 0, 0.1), tone=-0.4)
            slab.fill(rim, tone=0.06 * place - 0.1)
        else:
            slab.turned(path((0.72, y), (0.72, y + 0.1)), shade=Shade.ROUND)
            slab.level(y, 0.72, tone=0.06 * place - 0.1)
            slab.level(y, 0.6, tone=0.06 * place - 0.16)
    leaning = (
        box(0.3, 0.1, 0.98, GROUND - 0.02, radius=0.08) if "square" in pen.styles else ellipse(0.66, 0.42, 0.34, 0.42)
    )
    pen.fill(moved(leaning, 0.06, 0), tone=-0.5)
    pen.fill(leaning, tone=0.1)


PRODUCTS = {
    "salad bowl": Product(salad_bowl),
    "cutting board": Product(cutting_board),
    "serving tray": Product(serving_tray),
    "spice rack": Product(spice_rack),
    "fruit bowl": Product(fruit_bowl),
    "bread box": Product(bread_box),
    "pepper mill": Product(pepper_mill),
    "coaster set": Product(coaster_set),
}
