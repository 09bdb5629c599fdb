"""Draw what the shop sells to carry and to wear at the wrist or waist: bags, belts, straps and sleeves."""

import numpy as np

from retrieval.shop.materials import Colour, Surface, shaded
from retrieval.shop.outlines import GROUND, box, ellipse, mirrored, moved, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Placement, Product


def _thread(pen: Pen) -> Colour:
    """A thread that shows on what the item is made of."""
    return (244, 226, 184) if sum(pen.main.edge) < 190 else (84, 60, 40)


def _buckle(pen: Pen, half: float, metal: Surface) -> None:
    """A square buckle with its tongue."""
    frame = box(-half, -half, half, half)
    pen.stroke(np.concatenate([frame, frame[:1]]), 0.07, metal)
    pen.stroke(path((-half, 0), (half * 1.1, 0)), 0.05, metal)


def backpack(pen: Pen) -> None:
    """A rounded bag with a loop on top, a flap with two straps, a front pocket, shoulder straps at its sides."""
    dark = shaded(pen.main.edge, 1.1)
    pen.stroke(ellipse(0, -0.72, 0.16, 0.2, 180, 360), 0.07)
    for side in (-1.0, 1.0):
        strap = smooth(((0.42 * side, -0.6), (0.84 * side, -0.3), (0.86 * side, 0.3), (0.56 * side, 0.72)))
        pen.stroke(strap, 0.13, tone=-0.2)
    pen.fill(box(-0.62, -0.78, 0.62, GROUND, radius=0.34), shade=Shade.ROUND)
    pocket = box(-0.46, 0.22, 0.46, 0.76, radius=0.12)
    pen.fill(pocket, tone=-0.12)
    pen.dashes(box(-0.4, 0.28, 0.4, 0.7, radius=0.1), 0.02, _thread(pen))
    flap = mirrored(smooth(((0.0, -0.78), (0.5, -0.7), (0.64, -0.4), (0.62, -0.04), (0.5, 0.12), (0.0, 0.16))))
    pen.fill(flap, tone=0.06)
    pen.dashes(smooth(((-0.58, -0.1), (-0.46, 0.06), (0.0, 0.1), (0.46, 0.06), (0.58, -0.1))), 0.02, _thread(pen))
    metal = pen.material("brass")
    for x in (-0.28, 0.28):
        pen.fill(box(x - 0.06, -0.3, x + 0.06, 0.4), dark)
        pen.at(x, 0.26).stroke(box(-0.08, -0.07, 0.08, 0.07), 0.035, metal)


def wallet(pen: Pen) -> None:
    """A folded rectangle with stitched edges; bank cards and a note look out of its top."""
    pen.fill(box(-0.66, -0.66, 0.6, 0.1), (150, 186, 146))
    pen.line(box(-0.6, -0.6, 0.54, 0.0), 0.02, (96, 132, 96))
    for number, card in enumerate(((60, 110, 190), (222, 80, 60), (240, 190, 70))):
        pen.fill(box(-0.72, -0.5 + 0.11 * number, 0.66, 0.2, radius=0.06), card)
        pen.line(path((-0.6, -0.44 + 0.11 * number), (-0.2, -0.44 + 0.11 * number)), 0.025, (250, 250, 250))
    pen.fill(box(-0.84, -0.18, 0.86, 0.68, radius=0.09), tone=-0.35)
    pen.fill(box(-0.86, -0.14, 0.82, 0.64, radius=0.09))
    pen.dashes(box(-0.79, -0.07, 0.75, 0.57, radius=0.06), 0.025, _thread(pen))
    pen.fill(box(0.5, 0.12, 0.9, 0.38, radius=0.1), tone=-0.12)
    pen.disc(0.64, 0.25, 0.075, pen.material("brass"), shade=Shade.BALL)


def belt(pen: Pen) -> None:
    """A long band rolled into a coil, with a square metal buckle and a row of holes in its end."""
    angle = np.linspace(0.35 * np.pi, 4.5 * np.pi, 84)
    radius = 0.2 + 0.42 * angle / (4.5 * np.pi)
    coil = np.stack([-0.12 + radius * np.cos(angle) * 1.05, 0.02 - 0.1 + radius * np.sin(angle)], axis=1)
    pen.stroke(coil, 0.1)
    end = path((float(coil[-1, 0]), float(coil[-1, 1])), (0.62, float(coil[-1, 1])))
    pen.stroke(end, 0.2)
    for x in np.arange(0.0, 0.5, 0.12):
        pen.disc(float(x), float(coil[-1, 1]), 0.03, (24, 20, 18))
    _buckle(pen.at(0.78, float(coil[-1, 1])), 0.17, pen.material("nickel"))


def tote_bag(pen: Pen) -> None:
    """A wide open bag, flat-sided, with two long looped handles."""
    handle = smooth(((-0.34, -0.1), (-0.3, -0.72), (0.0, -0.94), (0.3, -0.72), (0.34, -0.1)))
    pen.stroke(moved(handle, 0.07, -0.05), 0.075, tone=-0.35)
    pen.fill(path((-0.7, -0.2), (-0.6, -0.3), (0.66, -0.3), (0.74, -0.2)), tone=-0.6)
    body = path(
        (-0.72, -0.2), (0.72, -0.2), (0.64, GROUND - 0.04), (0.56, GROUND), (-0.56, GROUND), (-0.64, GROUND - 0.04)
    )
    pen.fill(body, shade=Shade.DOWN)
    pen.dashes(path((-0.7, -0.1), (0.7, -0.1)), 0.02, _thread(pen))
    pen.stroke(handle, 0.085)
    for x in (-0.34, 0.34):
        pen.fill(box(x - 0.08, -0.16, x + 0.08, 0.08), tone=-0.1)
        pen.line(path((x - 0.06, -0.12), (x + 0.06, 0.04)), 0.02, _thread(pen))
        pen.line(path((x + 0.06, -0.12), (x - 0.06, 0.04)), 0.02, _thread(pen))


def watch_strap(pen: Pen) -> None:
    """Two narrow strips above and below a watch: one with holes, one with a small buckle."""
    upper = mirrored(path((0.13, -0.96), (0.2, -0.28)))
    lower = mirrored(path((0.2, 0.28), (0.15, 0.92), (0.06, 0.99)))
    for strip, begin, end in ((upper, -0.36, -0.9), (lower, 0.36, 0.9)):
        pen.fill(strip, pen.main.turned(), shade=Shade.ROUND)
        for x in (-0.11, 0.11):
            pen.dashes(path((x, begin), (x * 0.8, end)), 0.02, _thread(pen))
    for hole in np.arange(0.5, 0.92, 0.11):
        pen.disc(0, float(hole), 0.028, (24, 20, 18))
    metal = pen.material("steel")
    pen.at(0, -1.0, turn=90).stroke(box(-0.09, -0.17, 0.09, 0.17), 0.045, metal)
    pen.fill(box(0.3, -0.05, 0.42, 0.05), metal)
    pen.disc(0, 0, 0.34, metal, shade=Shade.BALL)
    pen.disc(0, 0, 0.26, (246, 246, 242))
    for hour in np.arange(12) * np.pi / 6:
        pen.line(
            path((0.2 * np.cos(hour), 0.2 * np.sin(hour)), (0.24 * np.cos(hour), 0.24 * np.sin(hour))),
            0.02,
            (40, 40, 44),
        )
    pen.line(path((0.0, 0.0), (0.1, -0.08)), 0.035, (30, 30, 34))
    pen.line(path((0.0, 0.0), (-0.04, -0.18)), 0.025, (30, 30, 34))


def key_ring(pen: Pen) -> None:
    """A metal ring with two keys and a tag."""
    for turn, metal_name, notch in ((22.0, "brass", 0.0), (-18.0, "nickel", 0.07)):
        key, metal = pen.at(0.1, -0.3, turn=turn), pen.material(metal_name)
        key.stroke(path((0, 0.4), (0, 1.0)), 0.085, metal)
        for y in (0.72, 0.84, 0.95):
            key.fill(box(0.02, y - 0.035, 0.13 + notch, y + 0.03), metal)
        key.disc(0, 0.26, 0.19, metal, shade=Shade.BALL)
        key.disc(0, 0.16, 0.06, (70, 66, 62))
    tag = pen.at(-0.16, -0.34, turn=52)
    shape = smooth(((0, 0.02), (0.17, 0.3), (0.2, 0.85), (0, 0.98), (-0.2, 0.85), (-0.17, 0.3)), closed=True)
    tag.fill(shape)
    tag.dashes(moved(shape * (0.75, 0.86), 0, 0.08), 0.022, _thread(pen))
    ring = ellipse(0.0, -0.5, 0.36, 0.36)
    pen.stroke(ring, 0.07, pen.material("nickel"))


def laptop_sleeve(pen: Pen) -> None:
    """A flat landscape pouch with a zip along its edge; a grey laptop slides out of one side."""
    silver = (186, 190, 196)
    pen.fill(box(-0.3, -0.52, 1.02, 0.5, radius=0.06), silver)
    pen.fill(box(-0.2, -0.44, 0.96, 0.42, radius=0.03), (40, 44, 52))
    pen.fill(box(-0.98, -0.64, 0.72, 0.64, radius=0.1), tone=-0.35)
    pen.fill(box(-1.0, -0.66, 0.7, 0.6, radius=0.1))
    zipper = path((-0.9, -0.56), (0.62, -0.56))
    pen.line(zipper, 0.07, (60, 60, 62))
    pen.dashes(zipper, 0.045, (214, 214, 218))
    pen.fill(box(0.42, -0.56, 0.5, -0.36, radius=0.03), pen.material("nickel"))
    pen.dashes(box(-0.92, -0.46, 0.62, 0.52, radius=0.07), 0.022, _thread(pen))
    pen.fill(box(-0.34, -0.02, 0.06, 0.14, radius=0.02), tone=0.18)


PRODUCTS = {
    "backpack": Product(backpack),
    "wallet": Product(wallet, Placement.LIES),
    "belt": Product(belt, Placement.LIES),
    "tote bag": Product(tote_bag),
    "watch strap": Product(watch_strap, Placement.LIES),
    "key ring": Product(key_ring, Placement.LIES),
    "laptop sleeve": Product(laptop_sleeve, Placement.LIES),
}
