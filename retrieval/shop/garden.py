"""Draw what the shop sells for the garden: tools, cans, benches and boxes."""

import numpy as np

from retrieval.shop.materials import Colour, Kind, Surface, shaded
from retrieval.shop.outlines import GROUND, box, ellipse, mirrored, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Placement, Product

_LEAF = (78, 142, 66)
_SOIL = (66, 46, 34)
_FLOWERS: tuple[Colour, ...] = ((230, 70, 90), (250, 200, 70), (244, 244, 240), (160, 100, 200), (240, 130, 60))


def _blade(pen: Pen) -> Surface:
    """What cuts or digs: the item's own metal, or steel on a handle of wood."""
    return pen.main if pen.main.kind is Kind.METAL else pen.material("steel")


def _grip(pen: Pen) -> Surface:
    """What a hand holds: the item's own wood, or wood on an item of metal."""
    return pen.main.turned() if pen.main.kind is Kind.WOOD else pen.material("oak").turned()


def _flower(pen: Pen, x: float, y: float, base: float) -> None:
    """A blossom on a stem that begins at `base`."""
    pen.line(path((x, base), (x + pen.rng.normal(0, 0.03), y)), 0.03, _LEAF)
    pen.fill(ellipse(x + 0.08, (y + base) / 2, 0.1, 0.045), _LEAF)
    colour = _FLOWERS[int(pen.rng.integers(len(_FLOWERS)))]
    for angle in np.arange(5) * 2 * np.pi / 5:
        pen.disc(x + 0.075 * np.cos(angle), y + 0.075 * np.sin(angle), 0.06, colour)
    pen.disc(x, y, 0.05, (240, 190, 50))


def hand_trowel(pen: Pen) -> None:
    """A pointed scoop on a thin neck with a short round handle."""
    tool = pen.at(0, 0, turn=34)
    blade = mirrored(smooth(((0.0, 0.98), (0.22, 0.62), (0.27, 0.2), (0.18, 0.06), (0.0, 0.04))))
    tool.stroke(smooth(((0, 0.1), (0.05, -0.1), (0, -0.26))), 0.085, _blade(pen))
    tool.fill(blade, _blade(pen), shade=Shade.ROUND)
    tool.line(path((0, 0.16), (0, 0.8)), 0.03, _blade(pen).edge)
    grip = mirrored(smooth(((0.0, -0.98), (0.11, -0.94), (0.13, -0.6), (0.1, -0.3), (0.0, -0.24))))
    tool.fill(grip, _grip(pen), shade=Shade.ROUND)
    tool.fill(box(-0.1, -0.34, 0.1, -0.22), _blade(pen))
    tool.disc(0, -0.88, 0.035, (40, 30, 24))


def watering_can(pen: Pen) -> None:
    """A round tank with a long spout that ends in a rose, a high handle, drops of water."""
    spout = path((-0.3, 0.6), (-0.9, -0.34), (-0.82, -0.42), (-0.24, 0.26))
    pen.fill(spout, shade=Shade.DOWN)
    rose = pen.at(-0.9, -0.44, turn=-36)
    rose.fill(path((-0.06, 0.08), (0.06, 0.08), (0.19, -0.1), (-0.19, -0.1)))
    rose.fill(ellipse(0, -0.1, 0.19, 0.06), tone=-0.3)
    pen.stroke(smooth(((0.42, 0.56), (0.9, 0.3), (0.84, -0.32), (0.3, -0.4))), 0.085)
    profile = path((0.36, -0.14), (0.48, 0.0), (0.48, GROUND - 0.12))
    body = pen.at(0.12, 0)
    body.vessel(profile, wall=0.06, holds=(126, 176, 206))
    body.stroke(smooth(((-0.36, -0.1), (-0.3, -0.5), (0.1, -0.58), (0.36, -0.1))), 0.075)
    for y in (0.16, 0.6):
        body.line(ellipse(0, y, 0.48, 0.48 * pen.tilt, 0, 180), 0.03, pen.main.edge)
    for x, y in ((-1.0, -0.1), (-0.92, 0.08), (-1.02, 0.26), (-0.86, 0.3)):
        pen.fill(ellipse(x, y, 0.028, 0.06), (110, 170, 220), edge=False)


def bird_feeder(pen: Pen) -> None:
    """A little house with a pitched roof on a wire, seeds on its floor, a bird on the perch."""
    pen.line(path((0, -1.6), (0, -0.84)), 0.03, (70, 66, 62))
    pen.fill(box(-0.42, -0.36, 0.42, 0.5), tone=-0.55)
    pen.fill(box(-0.34, -0.3, 0.34, 0.3), pen.material("glass"))
    seeds = smooth(((-0.4, 0.5), (-0.36, 0.16), (0.0, 0.02), (0.36, 0.14), (0.4, 0.5)))
    pen.fill(seeds, (206, 164, 92))
    for x, y in pen.rng.uniform((-0.32, 0.18), (0.32, 0.46), (26, 2)):
        pen.fill(ellipse(x, y, 0.026, 0.018, steps=8), (74, 56, 40), edge=False)
    upright = pen.main.turned()
    for x in (-0.42, 0.42):
        pen.fill(box(x - 0.05, -0.4, x + 0.05, 0.5), upright)
    pen.fill(box(-0.78, 0.5, 0.78, 0.64))
    pen.fill(path((0, -0.92), (0.8, -0.3), (0.7, -0.22), (0, -0.74), (-0.7, -0.22), (-0.8, -0.3)), tone=-0.1)
    pen.fill(path((0, -0.78), (0.5, -0.38), (-0.5, -0.38)))
    bird = pen.at(0.62, 0.32)
    bird.fill(path((0.1, 0.06), (0.42, 0.2), (0.38, 0.28), (0.06, 0.16)), (70, 110, 160))
    bird.fill(ellipse(0, 0.02, 0.17, 0.15), (236, 196, 74))
    bird.disc(-0.1, -0.14, 0.11, (70, 110, 160))
    bird.fill(path((-0.2, -0.16), (-0.31, -0.11), (-0.2, -0.09)), (60, 50, 44))
    bird.disc(-0.13, -0.16, 0.022, (10, 10, 10))


def garden_bench(pen: Pen) -> None:
    """A long seat of slats with a slatted back, four legs and two armrests."""
    upright = pen.main.turned()
    rise = 0.1 if "curved" in pen.styles else 0.0
    for x in (-0.86, 0.86):
        pen.fill(box(x - 0.05, -0.6, x + 0.05, GROUND - 0.08), upright, tone=-0.15)
    for y in (-0.56, -0.36, -0.16):
        slat = np.concatenate(
            [
                smooth(((-0.92, y), (0.0, y - rise), (0.92, y))),
                smooth(((0.92, y + 0.13), (0.0, y + 0.13 - rise), (-0.92, y + 0.13))),
            ]
        )
        pen.fill(slat)
    for number in range(3):
        y, half = 0.14 + 0.095 * number, 0.9 + 0.04 * number
        pen.fill(path((-half, y), (half, y), (half + 0.02, y + 0.085), (-half - 0.02, y + 0.085)), tone=0.1)
    for side in (-1.0, 1.0):
        pen.fill(box(0.96 * side - 0.055, 0.0, 0.96 * side + 0.055, GROUND), upright)
        pen.stroke(path((0.84 * side, -0.06), (1.0 * side, 0.02)), 0.09)
    pen.fill(box(-0.94, 0.42, 0.94, 0.5), tone=-0.25)
    if "corner" in pen.styles:
        pen.block(-0.2, 0.16, 0.1, 0.42, 0.5)


def seed_box(pen: Pen) -> None:
    """A shallow open box in compartments, with packets of seeds standing in them and a lid leaning behind."""
    pen.fill(path((-0.84, -0.78), (0.84, -0.78), (0.9, 0.1), (-0.9, 0.1)), tone=-0.22)
    pen.line(path((-0.74, -0.68), (0.74, -0.68), (0.79, 0.0), (-0.79, 0.0), (-0.74, -0.68)), 0.03, pen.main.edge)
    pen.fill(path((-0.92, 0.04), (0.92, 0.04), (0.98, 0.46), (-0.98, 0.46)), tone=-0.6)
    for number in range(5):
        x = -0.74 + 0.37 * number
        top = -0.36 + pen.rng.normal(0, 0.03)
        packet = _FLOWERS[int(pen.rng.integers(len(_FLOWERS)))]
        pen.fill(box(x - 0.145, top, x + 0.145, 0.5), (246, 240, 222))
        pen.fill(box(x - 0.145, top, x + 0.145, top + 0.15), packet, edge=False)
        pen.disc(x, top + 0.38, 0.1, packet)
        pen.line(path((x, top + 0.44), (x, top + 0.66)), 0.035, _LEAF)
        if number:
            pen.fill(box(x - 0.2, 0.0, x - 0.165, 0.5), pen.main.turned())
    pen.fill(box(-1.0, 0.38, 1.0, GROUND))
    pen.line(path((-1.0, 0.6), (1.0, 0.6)), 0.025, pen.main.edge)
    pen.fill(box(-0.26, 0.5, 0.26, 0.7, radius=0.02), (244, 238, 220))
    for y in (0.56, 0.63):
        pen.line(path((-0.18, y), (0.18, y)), 0.025, (110, 100, 90))


def planter(pen: Pen) -> None:
    """A long trough on short feet, a row of flowers growing in it."""
    for x in (-0.78, 0.78):
        pen.fill(box(x - 0.09, 0.6, x + 0.09, GROUND), pen.main.turned(), tone=-0.3)
    pen.block(-0.96, 0.1, 0.86, 0.74, 0.3)
    depth = 0.3 * pen.tilt
    pen.fill(path((-0.9, 0.08), (-0.78, 0.12 - depth), (0.94, 0.12 - depth), (0.84, 0.08)), _SOIL)
    for number in range(6):
        x = -0.78 + 0.31 * number
        _flower(pen, x + pen.rng.normal(0, 0.03), -0.46 + 0.16 * (number % 2) + pen.rng.normal(0, 0.05), 0.08)
    for x in np.linspace(-0.85, 0.8, 12):
        pen.fill(ellipse(float(x), 0.0, 0.11, 0.08), shaded(_LEAF, 0.85 + 0.3 * pen.rng.random()))
    pen.fill(box(-0.96, 0.08, 0.86, 0.74), shade=Shade.DOWN)
    pen.fill(box(-1.0, 0.04, 0.9, 0.14), tone=0.12)
    for y in (0.34, 0.54):
        pen.line(path((-0.96, y), (0.86, y)), 0.03, pen.main.edge)


def pair_of_shears(pen: Pen) -> None:
    """Two long pointed blades that cross at a screw, each with a handle."""
    steel = _blade(pen)
    for mirror in (False, True):
        half = pen.at(0, 0, mirror=mirror)
        half.stroke(smooth(((0.02, 0.12), (-0.16, 0.34), (-0.26, 0.52))), 0.09, steel)
        half.at(-0.26, 0.48, turn=14).fill(box(-0.085, 0.0, 0.085, 0.54, radius=0.08), _grip(pen), shade=Shade.ROUND)
        blade = smooth(
            ((-0.06, 0.14), (0.1, -0.1), (0.34, -0.92), (0.32, -0.98), (0.12, -0.5), (-0.08, -0.02)), closed=True
        )
        half.fill(blade, steel)
        half.line(path((0.06, -0.12), (0.3, -0.9)), 0.025, (244, 246, 250))
    pen.disc(0, 0.08, 0.075, (70, 72, 76), shade=Shade.BALL)


PRODUCTS = {
    "hand trowel": Product(hand_trowel, Placement.LIES),
    "watering can": Product(watering_can),
    "bird feeder": Product(bird_feeder, Placement.HANGS),
    "garden bench": Product(garden_bench),
    "seed box": Product(seed_box),
    "planter": Product(planter),
    "pair of shears": Product(pair_of_shears, Placement.LIES),
}
