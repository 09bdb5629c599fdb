"""Draw what the shop sells of wool, cotton and linen: things to wear and to lie under."""

import numpy as np

from retrieval.shop.materials import shaded
from retrieval.shop.outlines import GROUND, Outline, box, ellipse, mirrored, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Placement, Product

_WOOD = (150, 108, 70)


def _fringe(pen: Pen, begin: tuple[float, float], end: tuple[float, float], length: float, count: int) -> None:
    """Threads that hang from the edge between two points, outwards to the right of its direction."""
    edge = np.linspace(begin, end, count)
    along = np.subtract(end, begin) / np.hypot(*np.subtract(end, begin))
    out = np.array([-along[1], along[0]]) * length
    for point in edge:
        to = point + out + pen.rng.normal(0, 0.02, 2)
        pen.stroke(np.array([point, to]), 0.04)


def _ribbing(pen: Pen, left: float, top: float, right: float, bottom: float, count: int) -> None:
    """A knitted cuff or hem: a band with upright ribs."""
    pen.fill(box(left, top, right, bottom, radius=0.03), tone=-0.12)
    for x in np.linspace(left, right, count + 2)[1:-1]:
        pen.line(path((float(x), top + 0.01), (float(x), bottom - 0.01)), 0.025, pen.main.edge)


def scarf(pen: Pen) -> None:
    """A long band laid in a loop, its two ends hanging side by side, fringed."""
    pen.stroke(ellipse(0, -0.52, 0.48, 0.32, 0, 360), 0.3)
    for x, lean, bottom in ((-0.24, -0.1, 0.62), (0.2, 0.14, 0.74)):
        tail = path((x - 0.17, -0.25), (x + 0.17, -0.25), (x + 0.19 + lean, bottom), (x - 0.19 + lean, bottom))
        pen.fill(tail, shade=Shade.ROUND)
        _fringe(pen, (x + 0.17 + lean, bottom), (x - 0.17 + lean, bottom), 0.2, 7)
    pen.fill(box(-0.32, -0.36, 0.3, -0.08, radius=0.1), tone=-0.1)


def _sleeves(pen: Pen, spread: float) -> None:
    """Both sleeves of a garment with their cuffs."""
    for mirror in (False, True):
        arm = pen.at(0, 0, mirror=mirror)
        sleeve = path((0.34, -0.74), (0.52, -0.64), (0.78 + spread, 0.42), (0.56 + spread, 0.5), (0.4, -0.1))
        arm.fill(sleeve, tone=-0.06)
        cuff = arm.at(0.68 + spread, 0.5, turn=-14)
        _ribbing(cuff, -0.125, -0.06, 0.125, 0.1, 4)


def cardigan(pen: Pen) -> None:
    """A knitted jacket, open at the front: V-neck, buttons down the middle, two pockets."""
    _sleeves(pen, 0.08)
    pen.fill(mirrored(path((0.2, -0.82), (0.42, -0.76), (0.52, -0.5), (0.54, 0.72))))
    pen.fill(path((-0.2, -0.84), (0.2, -0.84), (0.0, -0.08)), shaded(pen.main.edge, 0.7))
    _ribbing(pen, -0.54, 0.62, 0.54, 0.8, 14)
    for side in (-1.0, 1.0):
        band = path((0.21 * side, -0.84), (0.03 * side, -0.08), (0.03 * side, 0.8))
        pen.stroke(band, 0.075, tone=-0.14)
        pen.fill(box(0.29 * side - 0.15, 0.22, 0.29 * side + 0.15, 0.52, radius=0.03), tone=-0.08)
        pen.line(path((0.29 * side - 0.15, 0.28), (0.29 * side + 0.15, 0.28)), 0.03, pen.main.edge)
    pen.line(path((0.0, -0.06), (0.0, 0.8)), 0.025, pen.main.edge)
    for y in (0.02, 0.2, 0.38, 0.56, 0.72):
        pen.disc(0.045, y, 0.05, (238, 226, 200) if sum(pen.main.edge) < 200 else (70, 48, 34))


def pullover(pen: Pen) -> None:
    """A closed jumper: two sleeves spread wide, a round collar, ribbed cuffs and hem."""
    _sleeves(pen, 0.24)
    pen.fill(mirrored(path((0.24, -0.8), (0.46, -0.72), (0.56, -0.4), (0.56, 0.72))))
    _ribbing(pen, -0.56, 0.6, 0.56, 0.8, 14)
    pen.fill(ellipse(0, -0.79, 0.25, 0.12), shaded(pen.main.edge, 0.7))
    pen.stroke(ellipse(0, -0.79, 0.27, 0.15, 0, 180), 0.1, tone=-0.1)
    pen.stroke(ellipse(0, -0.79, 0.27, 0.1, 180, 360), 0.07, tone=-0.1)


def blanket(pen: Pen) -> None:
    """Folded into a thick stack: soft layers with rounded folds at one side."""
    folds = 4
    for fold in range(folds):
        bottom = GROUND - 0.29 * fold
        sag = pen.rng.normal(0, 0.02)
        layer = box(-0.9, bottom - 0.3, 0.88 + sag, bottom, radius=0.15)
        pen.fill(layer, shade=Shade.DOWN)
        for inner in (0.11, 0.19):
            pen.line(path((-0.86, bottom - inner), (0.7 + sag, bottom - inner)), 0.02, pen.main.edge)
    top = GROUND - 0.29 * folds + 0.02
    depth = 0.1 + pen.tilt * 0.8
    sheet = path(
        (-0.84, top), (-0.62, top - depth), (0.78, top - depth), (0.84, top), (0.8, top + 0.06), (-0.84, top + 0.06)
    )
    pen.fill(smooth(sheet, closed=True), tone=0.1)


def throw(pen: Pen) -> None:
    """Draped over the back of an armchair, its fringe hanging in front."""
    seat = (124, 134, 140)
    pen.fill(box(-0.74, -0.72, 0.74, 0.5, radius=0.2), seat, shade=Shade.DOWN)
    pen.fill(box(-0.62, 0.2, 0.62, 0.62, radius=0.1), shaded(seat, 1.1))
    for side in (-0.78, 0.78):
        pen.fill(box(side - 0.17, -0.06, side + 0.17, 0.68, radius=0.13), shaded(seat, 0.95), shade=Shade.DOWN)
        pen.fill(box(side - 0.08, 0.68, side + 0.08, GROUND), _WOOD)
    cloth = smooth(
        (
            (-0.52, -0.84),
            (0.0, -0.9),
            (0.44, -0.82),
            (0.5, -0.3),
            (0.46, 0.36),
            (0.0, 0.4),
            (-0.46, 0.34),
            (-0.5, -0.3),
        ),
        closed=True,
    )
    pen.fill(cloth)
    for x in (-0.25, 0.05, 0.3):
        fold = smooth(((x, -0.8), (x + 0.04, -0.3), (x - 0.03, 0.34)))
        pen.line(fold, 0.03, pen.main.edge)
    _fringe(pen, (0.44, 0.36), (-0.44, 0.36), 0.2, 13)


def beanie(pen: Pen) -> None:
    """A knitted cap: a dome, a ribbed brim turned up, a pompom on top."""
    for _ in range(26):
        x, y = pen.rng.normal((0.0, -0.68), (0.1, 0.1))
        pen.disc(float(x), float(y), 0.085, edge=False)
    pen.disc(0, -0.68, 0.2, shade=Shade.BALL)
    for angle in np.arange(0, 2 * np.pi, 0.35):
        begin = path(
            (0.1 * np.cos(angle), -0.68 + 0.1 * np.sin(angle)), (0.24 * np.cos(angle), -0.68 + 0.24 * np.sin(angle))
        )
        pen.line(begin, 0.03, pen.main.edge)
    dome = smooth(((-0.72, 0.42), (-0.7, 0.05), (-0.46, -0.4), (0.0, -0.54), (0.46, -0.4), (0.7, 0.05), (0.72, 0.42)))
    pen.fill(dome, shade=Shade.ROUND)
    for x in (-0.45, -0.22, 0.0, 0.22, 0.45):
        pen.line(smooth(((x * 0.3, -0.5), (x, -0.1), (x * 1.2, 0.4))), 0.02, pen.main.edge)
    _ribbing(pen, -0.78, 0.34, 0.78, 0.8, 17)


def _sock(pen: Pen) -> None:
    leg: Outline = smooth(
        (
            (-0.2, -0.8), (0.2, -0.8), (0.21, 0.1), (0.26, 0.36), (0.62, 0.5), (0.74, 0.68), (0.6, 0.82),
            (0.1, 0.8), (-0.2, 0.62), (-0.26, 0.36), (-0.2, 0.0),
        ),
        closed=True,
    )  # fmt: skip
    patch = shaded(pen.main.edge, 1.5)
    pen.fill(leg, shade=Shade.ROUND)
    pen.fill(ellipse(-0.1, 0.52, 0.19, 0.2), patch)
    pen.fill(smooth(((0.5, 0.47), (0.74, 0.62), (0.68, 0.8), (0.48, 0.82), (0.44, 0.64)), closed=True), patch)
    _ribbing(pen, -0.24, -0.88, 0.24, -0.58, 6)


def pair_of_socks(pen: Pen) -> None:
    """Two L-shaped socks side by side: ribbed cuffs, heels and toes in another colour."""
    _sock(pen.at(-0.5, -0.04, scale=0.98))
    _sock(pen.at(0.28, 0.06, scale=0.98))


def _glove(pen: Pen) -> None:
    for x, length, turn in ((-0.27, 0.48, -10.0), (-0.1, 0.6, -3.0), (0.08, 0.58, 4.0), (0.25, 0.44, 11.0)):
        pen.at(x, -0.1, turn=turn).fill(box(-0.088, -length, 0.088, 0.1, radius=0.088), shade=Shade.ROUND)
    pen.at(0.3, 0.24, turn=42).fill(box(-0.1, -0.46, 0.1, 0.1, radius=0.1), shade=Shade.ROUND)
    pen.fill(box(-0.36, -0.2, 0.35, 0.5, radius=0.12))
    pen.fill(box(-0.32, -0.24, 0.31, 0.0), edge=False)
    _ribbing(pen, -0.3, 0.44, 0.3, 0.86, 7)


def pair_of_gloves(pen: Pen) -> None:
    """Two hands with five fingers each, and ribbed cuffs."""
    _glove(pen.at(-0.48, 0.02, scale=0.92, turn=-6))
    _glove(pen.at(0.48, 0.02, scale=0.92, turn=6, mirror=True))


PRODUCTS = {
    "scarf": Product(scarf, Placement.LIES),
    "cardigan": Product(cardigan, Placement.LIES),
    "blanket": Product(blanket),
    "beanie": Product(beanie, Placement.LIES),
    "pair of socks": Product(pair_of_socks, Placement.LIES),
    "pullover": Product(pullover, Placement.LIES),
    "pair of gloves": Product(pair_of_gloves, Placement.LIES),
    "throw": Product(throw),
}
