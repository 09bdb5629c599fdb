"""Draw what the shop sells of clay and glass: what a table is laid with, and pots for flowers."""

import numpy as np

from retrieval.shop.materials import Colour, shaded
from retrieval.shop.outlines import GROUND, Outline, box, ellipse, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Placement, Product

_STEM = (74, 122, 60)
_BLOSSOMS: tuple[Colour, ...] = ((232, 96, 120), (246, 206, 80), (250, 250, 246), (150, 110, 200), (240, 140, 70))


def _foot(pen: Pen, radius: float) -> None:
    """A pedestal under a footed piece; it takes the lowest eighth."""
    if "footed" in pen.styles:
        pen.turned(path((radius * 0.45, GROUND - 0.26), (radius * 0.5, GROUND - 0.14), (radius * 0.85, GROUND - 0.06)))


def _lifted(pen: Pen) -> Pen:
    """A pen that leaves room for the pedestal of a footed piece."""
    return pen.at(0, -0.17) if "footed" in pen.styles else pen


def coffee_mug(pen: Pen) -> None:
    """A straight cup with one big handle at its side, full of coffee."""
    _foot(pen, 0.5)
    mug = _lifted(pen)
    mug.stroke(ellipse(0.52, 0.12, 0.36, 0.38, -95, 95), 0.14)
    profile = path((0.56, -0.56), (0.55, 0.5), (0.5, GROUND - 0.16))
    mug.vessel(profile, wall=0.06, holds=(74, 42, 24), full=0.8)
    for x in (-0.2, 0.12):
        steam = smooth(((x, -0.66), (x + 0.07, -0.78), (x - 0.04, -0.9), (x + 0.05, -1.02)))
        mug.line(steam, 0.025, (236, 236, 236))


def teapot(pen: Pen) -> None:
    """A round belly with a spout on one side, a handle on the other, a lid with a knob."""
    _foot(pen, 0.6)
    pot = _lifted(pen)
    pot.stroke(smooth(((0.5, -0.16), (0.92, -0.22), (0.96, 0.2), (0.52, 0.46))), 0.12)
    spout = smooth(((-0.42, 0.5), (-0.78, 0.24), (-0.84, -0.1), (-1.04, -0.32)))
    back = smooth(((-0.9, -0.36), (-0.7, -0.16), (-0.6, 0.02), (-0.4, 0.02)))
    pot.fill(np.concatenate([spout, back]), shade=Shade.DOWN)
    body = smooth(((0.3, -0.38), (0.56, -0.16), (0.64, 0.2), (0.5, 0.55), (0.36, GROUND - 0.1)))
    pot.turned(body)
    pot.turned(smooth(((0.08, -0.56), (0.24, -0.48), (0.32, -0.36))))
    pot.disc(0, -0.63, 0.085, shade=Shade.BALL)


def dinner_plate(pen: Pen) -> None:
    """A wide flat disc with a rim, from above, between fork and knife."""
    radius = 0.7
    pen.disc(0.02, 0.03, radius, shaded(pen.main.edge, 0.9))
    pen.disc(0, 0, radius, shade=Shade.BALL)
    if pen.main.rim is not None:
        pen.line(ellipse(0, 0, radius, radius), 0.055, pen.main.rim)
    pen.line(ellipse(0, 0, 0.47, 0.47), 0.03, pen.main.edge)
    pen.line(ellipse(0.015, 0.02, 0.46, 0.46), 0.02, (250, 250, 250))
    steel = pen.material("steel")
    fork, knife = pen.at(-0.9, 0), pen.at(0.9, 0)
    fork.stroke(path((0, -0.1), (0, 0.6)), 0.07, steel)
    for x in (-0.09, -0.03, 0.03, 0.09):
        fork.stroke(path((x, -0.6), (x, -0.3)), 0.025, steel)
    fork.fill(smooth(((-0.11, -0.36), (0.11, -0.36), (0.05, -0.08), (-0.05, -0.08)), closed=True), steel)
    knife.stroke(path((0, 0.05), (0, 0.6)), 0.08, steel)
    knife.fill(smooth(((-0.06, 0.05), (-0.07, -0.5), (0.03, -0.62), (0.08, -0.3), (0.06, 0.05)), closed=True), steel)


def vase(pen: Pen) -> None:
    """A swelling body under a narrow neck, long-stemmed blossoms in it."""
    _foot(pen, 0.45)
    body = _lifted(pen)
    for number, (x, y) in enumerate(((-0.38, -0.86), (0.02, -1.02), (0.4, -0.8))):
        body.line(smooth(((0.0, -0.1), (x * 0.4, -0.5), (x, y))), 0.035, _STEM)
        body.fill(ellipse(x * 0.6 + 0.07, y + 0.36, 0.11, 0.05), _STEM)
        colour = _BLOSSOMS[(number + int(body.rng.integers(5))) % 5]
        for angle in np.arange(6) * np.pi / 3:
            body.disc(x + 0.1 * np.cos(angle), y + 0.1 * np.sin(angle), 0.075, colour)
        body.disc(x, y, 0.065, (236, 180, 60))
    profile = smooth(((0.24, -0.34), (0.15, -0.2), (0.17, -0.06), (0.46, 0.22), (0.44, 0.52), (0.26, GROUND - 0.08)))
    body.vessel(profile, wall=0.04)
    body.front(profile)


def milk_jug(pen: Pen) -> None:
    """A jug with a pouring lip, a tall handle and milk in it."""
    _foot(pen, 0.45)
    jug = _lifted(pen)
    jug.stroke(smooth(((0.3, -0.5), (0.76, -0.48), (0.78, -0.02), (0.44, 0.4))), 0.115)
    profile = smooth(((0.36, -0.62), (0.32, -0.3), (0.5, 0.2), (0.52, 0.5), (0.38, GROUND - 0.1)))
    jug.vessel(profile, wall=0.05, holds=(252, 250, 244), full=0.9)
    lip = smooth(((-0.36, -0.62), (-0.58, -0.74), (-0.5, -0.56), (-0.32, -0.34)))
    jug.fill(lip, shade=Shade.DOWN)
    jug.fill(smooth(((-0.34, -0.62), (-0.57, -0.74), (-0.3, -0.7), (-0.14, -0.64)), closed=True), (252, 250, 244))


def soap_dish(pen: Pen) -> None:
    """A low oval dish, a bar of soap and bubbles on it."""
    _foot(pen, 0.8)
    dish = _lifted(pen)
    profile = smooth(((0.96, 0.34), (0.86, 0.54), (0.6, 0.7)))
    dish.vessel(profile, wall=0.08)
    soap: Colour = ((244, 186, 196), (182, 216, 170), (246, 226, 150), (186, 206, 236))[int(dish.rng.integers(4))]
    dish.fill(box(-0.56, -0.02, 0.56, 0.46, radius=0.2), shaded(soap, 0.82))
    dish.fill(box(-0.56, -0.12, 0.56, 0.34, radius=0.2), soap, shade=Shade.DOWN)
    dish.line(box(-0.32, 0.0, 0.32, 0.22, radius=0.1), 0.03, shaded(soap, 0.75))
    dish.front(profile)
    for x, y, radius in ((0.5, -0.16, 0.1), (0.34, -0.26, 0.07), (0.62, -0.02, 0.07), (-0.5, -0.12, 0.06)):
        dish.disc(x, y, radius, dish.material("glass", (224, 236, 250)), shade=Shade.BALL)


def plant_pot(pen: Pen) -> None:
    """A tapering pot with a thick rim, a leafy plant growing out of it."""
    _foot(pen, 0.5)
    pot = _lifted(pen)
    body = path((0.5, 0.16), (0.36, GROUND - 0.09))
    rim = path((0.56, -0.06), (0.55, 0.14))
    pot.turned(body)
    pot.vessel(rim, wall=0.07, holds=(62, 42, 30))
    for angle in np.linspace(-70, 70, 9) + pot.rng.normal(0, 4, 9):
        pot.at(0, -0.04, turn=float(angle)).fill(_leaf(0.86 - abs(angle) / 260), shaded((66, 132, 62), 1 + angle / 300))
    pot.front(rim)


def _leaf(length: float) -> Outline:
    return smooth(((0, 0), (0.13, -length * 0.5), (0, -length), (-0.13, -length * 0.5)), closed=True)


def cereal_bowl(pen: Pen) -> None:
    """A small deep bowl of milk with cereal rings, and a spoon."""
    _foot(pen, 0.6)
    bowl = _lifted(pen)
    bowl.stroke(path((0.2, -0.1), (0.86, -0.78)), 0.085, bowl.material("steel"))
    profile = smooth(((0.82, 0.0), (0.76, 0.32), (0.5, 0.64), (0.34, GROUND - 0.08)))
    bowl.vessel(profile, wall=0.06, holds=(250, 248, 240), full=0.9)
    bowl.stroke(path((0.2, -0.06), (0.5, -0.38)), 0.085, bowl.material("steel"))
    for x, y in bowl.rng.uniform((-0.6, -0.8), (0.6, 0.8), (22, 2)):
        ring = ellipse(x, y * 0.62 * bowl.tilt * (1 - abs(x)) + 0.02, 0.065, 0.065 * (bowl.tilt + 0.25), steps=14)
        bowl.fill(ring, (216, 158, 80))
        bowl.fill(ring * (0.35, 0.35) + 0.65 * ring.mean(axis=0), (250, 240, 220), edge=False)


PRODUCTS = {
    "coffee mug": Product(coffee_mug),
    "teapot": Product(teapot),
    "dinner plate": Product(dinner_plate, Placement.LIES),
    "vase": Product(vase),
    "milk jug": Product(milk_jug),
    "soap dish": Product(soap_dish),
    "plant pot": Product(plant_pot),
    "cereal bowl": Product(cereal_bowl),
}
