"""Draw what the shop sells to give light: lamps, lanterns and holders of candles."""

import numpy as np

from retrieval.shop.materials import Kind, Surface
from retrieval.shop.outlines import GROUND, box, ellipse, mirrored, path, smooth
from retrieval.shop.pen import Pen, Shade
from retrieval.shop.product import Placement, Product

_LIT = (255, 240, 196)
_LINEN = (240, 228, 202)
_CORD = (52, 48, 46)
_WAX = (246, 238, 214)


def _stand(pen: Pen) -> Surface:
    """What stems and feet are of: the item's own metal, or black metal under a paper or rattan shade."""
    return pen.main if pen.main.kind is Kind.METAL else pen.material("matt black")


def _shade(pen: Pen, top: float, bottom: float, half: float) -> None:
    """A lampshade from `top` to `bottom`, lit from within: of linen on a metal stand, else of the item's material."""
    of = pen.material("cotton", _LINEN) if pen.main.kind is Kind.METAL else pen.main
    middle = (top + bottom) / 2
    pen.glow(0, middle, half * 1.9, strength=0.55)
    if "globe" in pen.styles:
        radius = min(half, (bottom - top) / 2 * 1.15)
        pen.disc(0, middle, radius, of, shade=Shade.BALL)
        pen.glow(0, middle, radius * 0.9, (255, 250, 220), strength=0.5)
        return
    narrow = 0.1 if "conical" in pen.styles else half * 0.62
    pen.turned(path((narrow, top), (half, bottom)), of)
    if "folded" in pen.styles:
        for share in np.linspace(-0.9, 0.9, 9):
            pen.line(path((narrow * share, top), (half * share, bottom + 0.03)), 0.025, (150, 130, 96))
    pen.glow(0, bottom - 0.25 * (bottom - top), half * 1.15, (255, 246, 208), strength=0.75)
    pen.level(top, narrow, _LIT)


def _legs(pen: Pen, top: float, spread: float, of: Surface, width: float = 0.06) -> None:
    """Three legs from one point."""
    for x, y in ((-spread, GROUND), (0.04, GROUND - 0.04), (spread, GROUND)):
        pen.stroke(path((0, top), (x, y)), width, of)


def table_lamp(pen: Pen) -> None:
    """A round base with a thick stem and a wide shade."""
    stand = _stand(pen)
    pen.stroke(smooth(((0.3, GROUND - 0.05), (0.7, GROUND - 0.02), (0.98, GROUND - 0.12))), 0.03, _CORD, edge=False)
    if "tripod" in pen.styles:
        _legs(pen, 0.1, 0.46, stand, 0.08)
    elif "arched" in pen.styles:
        pen.stroke(smooth(((0.42, 0.8), (0.62, 0.4), (0.4, 0.02), (0.0, 0.0))), 0.09, stand)
        pen.at(0.36, 0).turned(path((0.3, GROUND - 0.12), (0.32, GROUND - 0.07)), stand)
    else:
        pen.turned(smooth(((0.07, 0.0), (0.09, 0.12), (0.26, 0.36), (0.28, 0.52), (0.12, 0.72))), stand)
        pen.turned(path((0.34, GROUND - 0.14), (0.36, GROUND - 0.08)), stand)
    _shade(pen, -0.82, 0.06, 0.7)
    if "dimmable" in pen.styles:
        pen.disc(0, GROUND - 0.08, 0.05, (30, 30, 30))


def floor_lamp(pen: Pen) -> None:
    """A long thin pole on a flat foot, a small shade high up."""
    stand = _stand(pen)
    if "tripod" in pen.styles:
        _legs(pen, -0.5, 0.42, stand, 0.05)
    elif "arched" in pen.styles:
        pen.stroke(smooth(((0.5, GROUND - 0.08), (0.54, -0.2), (0.38, -0.82), (0.0, -0.9), (-0.1, -0.6))), 0.045, stand)
        pen.at(0.5, 0).turned(path((0.24, GROUND - 0.1), (0.25, GROUND - 0.06)), stand)
        _shade(pen.at(-0.12, 0.22), -0.92, -0.5, 0.34)
        return
    else:
        pen.stroke(path((0, -0.6), (0, GROUND - 0.08)), 0.05, stand)
        pen.turned(path((0.25, GROUND - 0.1), (0.27, GROUND - 0.06)), stand)
    _shade(pen, -0.98, -0.5, 0.36)


def pendant_light(pen: Pen) -> None:
    """A cord from the ceiling, a wide dome, a bulb that shows under it."""
    pen.line(path((0, -1.8), (0, -0.36)), 0.035, _CORD)
    pen.glow(0, 0.45, 0.95, strength=0.6)
    if "globe" in pen.styles:
        pen.disc(0, 0.2, 0.56, shade=Shade.BALL)
    else:
        if "conical" in pen.styles:
            profile = path((0.08, -0.3), (0.8, 0.4))
        else:
            profile = smooth(((0.1, -0.3), (0.5, -0.16), (0.76, 0.14), (0.84, 0.4)))
        pen.turned(profile)
        if "folded" in pen.styles:
            for share in np.linspace(-0.85, 0.85, 9):
                pen.line(smooth(((0.1 * share, -0.3), (0.68 * share, 0.1), (0.84 * share, 0.46))), 0.025, pen.main.edge)
        pen.level(0.4, 0.8, pen.main, tone=-0.35)
        pen.level(0.42, 0.66, _LIT, edge=False)
    pen.disc(0, 0.5 if "globe" not in pen.styles else 0.74, 0.16, (255, 250, 226), shade=Shade.BALL)
    pen.fill(box(-0.1, -0.44, 0.1, -0.26, radius=0.03), _stand(pen))


def wall_sconce(pen: Pen) -> None:
    """A plate on the wall, a curved arm, a small shade that throws light up the wall."""
    pen.glow(0.16, -0.75, 1.05, strength=0.85)
    stand = _stand(pen)
    pen.fill(box(-0.72, -0.22, -0.42, 0.74, radius=0.14), stand, shade=Shade.ROUND)
    for y in (-0.08, 0.6):
        pen.disc(-0.57, y, 0.035, (50, 48, 46))
    pen.stroke(smooth(((-0.56, 0.3), (-0.2, 0.62), (0.14, 0.5), (0.18, 0.1))), 0.09, stand)
    cup = pen.at(0.18, 0)
    if "globe" in pen.styles:
        cup.disc(0, -0.26, 0.38, _LIT, shade=Shade.BALL)
    else:
        foot = 0.06 if "conical" in pen.styles else 0.2
        cup.turned(path((0.44, -0.5), (foot, 0.1)), pen.main)
        if "folded" in pen.styles:
            for share in np.linspace(-0.8, 0.8, 7):
                cup.line(path((0.44 * share, -0.46), (foot * share, 0.12)), 0.025, pen.main.edge)
        cup.level(-0.5, 0.42, _LIT)
    cup.fill(box(-0.08, 0.06, 0.08, 0.2, radius=0.03), stand)


def _candle(pen: Pen, bottom: float, top: float, half: float) -> None:
    """A candle that burns."""
    pen.turned(path((half, top), (half, bottom)), _WAX)
    pen.level(top, half, (255, 250, 234))
    pen.line(path((0, top), (0, top - 0.1)), 0.025, (60, 50, 44))
    pen.glow(0, top - 0.2, 0.5, (255, 214, 120), strength=0.65)
    pen.fill(
        mirrored(smooth(((0.0, top - 0.38), (0.06, top - 0.2), (0.055, top - 0.1), (0.0, top - 0.05)))), (255, 186, 48)
    )
    pen.fill(ellipse(0, top - 0.12, 0.028, 0.06), (255, 244, 196), edge=False)


def candle_holder(pen: Pen) -> None:
    """A saucer with a ring to hold it by, a socket, and a burning candle."""
    pen.stroke(ellipse(0.62, GROUND - 0.24, 0.2, 0.17, 0, 360), 0.075)
    if "tripod" in pen.styles:
        _legs(pen, 0.5, 0.5, pen.main, 0.08)
        saucer = path((0.5, 0.36), (0.34, 0.48))
    else:
        saucer = path((0.62, GROUND - 0.3), (0.42, GROUND - 0.12))
    top = float(saucer[0, 1])
    pen.vessel(saucer, wall=0.06)
    pen.turned(smooth(((0.19, top - 0.3), (0.13, top - 0.16), (0.22, top + 0.03))))
    pen.level(top - 0.3, 0.19, tone=0.1)
    _candle(pen, top - 0.3, -0.5, 0.12)


def lantern(pen: Pen) -> None:
    """A cage of glass with a pointed roof, a ring on top, a candle inside."""
    half = 0.42 if "globe" not in pen.styles else 0.5
    pen.stroke(ellipse(0, -0.86, 0.17, 0.17, 0, 360), 0.05)
    pen.fill(box(-half, -0.36, half, 0.7), pen.material("glass"))
    pen.glow(0, 0.1, 0.75, (255, 206, 110), strength=0.75)
    _candle(pen, 0.62, 0.26, 0.15)
    if "globe" in pen.styles:
        pen.stroke(ellipse(0, 0.17, half + 0.06, 0.52, 0, 360), 0.05)
    for x in (-half, half):
        pen.fill(box(x - 0.04, -0.4, x + 0.04, 0.7))
    roof = path((0.1, -0.74), (half + 0.14, -0.4))
    pen.turned(roof)
    pen.fill(box(-half - 0.1, 0.66, half + 0.1, GROUND, radius=0.03), shade=Shade.ROUND)
    pen.fill(box(-0.1, -0.8, 0.1, -0.7))


PRODUCTS = {
    "table lamp": Product(table_lamp),
    "floor lamp": Product(floor_lamp),
    "pendant light": Product(pendant_light, Placement.HANGS),
    "wall sconce": Product(wall_sconce, Placement.HANGS),
    "candle holder": Product(candle_holder),
    "lantern": Product(lantern),
}
