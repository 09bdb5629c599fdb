"""Render a picture of an item of the demo shop from its name: the shop has images without anyone's photographs."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrieval.shop import styles
from retrieval.shop.materials import MATERIALS, Kind, Surface, surface
from retrieval.shop.names import PRODUCTS, ItemLook, parse
from retrieval.shop.outlines import GROUND, path
from retrieval.shop.pen import Layer, Matrix, Pen
from retrieval.shop.product import Placement, Product
from retrieval.shop.scene import placed

SIZES = (16, 512)
"""Smallest and largest side of a picture, pixels."""
_SUPERSAMPLED = 2


@dataclass(frozen=True, slots=True)
class _Shot:
    """Where the camera and the lamp stand."""

    matrix: Matrix
    """[2, 3] from the item's coordinates to the picture's, 0 … 1."""
    ground: float
    """Height of what the item stands on, 0 … 1 from the top."""
    tilt: float
    """How high a horizontal circle seems, over its width."""
    light_from_right: bool


def render(name: str, *, seed: int, size: int = 128) -> Image.Image:
    """A picture [size × size, RGB] of the item called `name`, as `parse` reads it.

    The same name, seed and size give the same pixels; another seed gives another photograph: position, viewpoint,
    light, background, and what else is in the picture. DatasetError where the name holds no known product.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, got {size}; resize the picture afterwards")
    look = parse(name)
    product = PRODUCTS[look.product]
    rng = np.random.default_rng([seed, *name.encode()])
    shot = _take(product.placement, look.styles, rng)
    layer = Layer(size * _SUPERSAMPLED)
    matrix = shot.matrix * layer.side
    main = styles.dressed(_surface(look, layer.side, rng), look.styles, matrix, rng)
    pen = Pen(
        layer,
        matrix,
        main,
        styles=look.styles,
        tilt=shot.tilt,
        light_from_right=shot.light_from_right,
        rng=rng,
    )
    _draw(product, pen)
    return placed(layer, size, product.placement, shot.ground, rng)


def _take(placement: Placement, words: frozenset[str], rng: np.random.Generator) -> _Shot:
    across, down = styles.stretch(words)
    scale = rng.uniform(0.35, 0.45)
    turn = {Placement.STANDS: 2.5, Placement.LIES: 11.0, Placement.HANGS: 2.0}[placement]
    angle = np.radians(rng.normal(0, turn))
    flip = rng.choice((-1.0, 1.0))
    if placement is Placement.STANDS:
        fixed, x, y = (0.0, GROUND), rng.normal(0.5, 0.04), rng.uniform(0.8, 0.9)
        # An item that the styles make tall or wide is photographed from farther away.
        scale = min(scale, (y - 0.02) / (1.85 * down), 0.49 / across)
    else:
        fixed, x, y = (0.0, 0.0), rng.normal(0.5, 0.04), rng.normal(0.5, 0.04)
        scale = min(scale, 0.49 / max(across, down))
        if placement is Placement.LIES:
            down *= rng.uniform(0.86, 1.0)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turned @ np.diag([across * flip, down])
    shift = np.array([x, y]) - linear @ np.array(fixed)
    return _Shot(
        matrix=np.concatenate([linear, shift[:, None]], axis=1),
        ground=float(y),
        tilt=float(rng.uniform(0.15, 0.34)),
        light_from_right=bool(rng.random() < 0.5),
    )


def _surface(look: ItemLook, canvas: int, rng: np.random.Generator) -> Surface:
    """What the item is made of, in its colour; any material where the name gives none."""
    material = MATERIALS[look.material or str(rng.choice(list(MATERIALS)))]
    if "galvanised" in look.styles and material.kind is Kind.METAL:
        material = MATERIALS["zinc"]
    return surface(material, canvas, rng, colour=styles.colour(look.styles), zoom=styles.zoom(look.styles))


def _draw(product: Product, pen: Pen) -> None:
    """Draw the item: once, or twice where it is a twin or double, on ropes where it hangs."""
    if "hanging" in pen.styles and product.placement is Placement.STANDS:
        pen.line(path((0, -3), (0, -0.95)), 0.035, (70, 62, 52))
        for x in (-0.72, 0.72):
            pen.line(path((0, -0.98), (x, 0.2)), 0.035, (70, 62, 52))
        pen = pen.at(0, 0.02, scale=0.82)
    if "twin" in pen.styles:
        for x in (-0.52, 0.52):
            product.draw(pen.at(x, GROUND * 0.38, scale=0.62))
    elif "double" in pen.styles:
        product.draw(pen.at(0.24, -0.12, scale=0.82))
        product.draw(pen.at(-0.14, GROUND * 0.18, scale=0.82))
    else:
        product.draw(pen)
