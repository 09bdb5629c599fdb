"""Draw one object without its surroundings, marks and all, large enough to be shrunk into a scene."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from retrieval.composed.world.instances import CLASSES, COLOURS, MARK_COLOURS, PATTERNS, Instance, Mark
from retrieval.shop import styles
from retrieval.shop.materials import MATERIALS, surface
from retrieval.shop.names import PRODUCTS
from retrieval.shop.outlines import GROUND
from retrieval.shop.pen import Layer, Matrix, Pen

SIDE = 128
"""Pixels of the square that an object is drawn on."""
_UNIT = 0.42
"""One of the item's coordinates by the side."""
_RADIUS = {1: 0.3, 2: 0.22}
"""Of marks, by how many there are."""


def draw(instance: Instance, generator: np.random.Generator) -> Image.Image:
    """The object [RGBA, cut to what there is of it]; `generator` decides viewpoint, light and texture."""
    product, _, middle = CLASSES[instance.word]
    words = frozenset({COLOURS[instance.colour], PATTERNS[instance.pattern], instance.stretch} - {""})
    across, down = styles.stretch(words)
    scale = SIDE * min(_UNIT, 0.47 / across, 0.9 / (2.1 * down))
    matrix: Matrix = np.array([[scale * across, 0, SIDE / 2], [0, scale * down, SIDE * 0.95 - scale * down * GROUND]])
    layer = Layer(SIDE)
    main = surface(MATERIALS[instance.material], SIDE, generator, colour=styles.colour(words), zoom=styles.zoom(words))
    pen = Pen(
        layer,
        matrix,
        styles.dressed(main, words, matrix, generator),
        styles=words,
        tilt=float(generator.uniform(0.2, 0.3)),
        light_from_right=bool(generator.random() < 0.5),
        rng=generator,
    )
    PRODUCTS[product].draw(pen)
    for mark in instance.marks:
        _paint(layer, matrix, mark, middle, _RADIUS[len(instance.marks)])
    whole = layer.colour.convert("RGBA")
    whole.putalpha(layer.coverage)
    return whole.crop(whole.getbbox())


def _paint(layer: Layer, matrix: Matrix, mark: Mark, middle: float, radius: float) -> None:
    """Paint a mark where the object is."""
    mask = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(mask)
    x, y = (matrix[:, :2] @ (mark.x, middle + mark.y) + matrix[:, 2]).tolist()
    r = radius * float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    thick = max(4, round(r * 0.46))
    if mark.shape == "dot":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=255)
    elif mark.shape == "ring":
        pen.ellipse([x - r, y - r, x + r, y + r], outline=255, width=thick)
    elif mark.shape == "cross":
        pen.line([x - r, y - r, x + r, y + r], fill=255, width=thick)
        pen.line([x - r, y + r, x + r, y - r], fill=255, width=thick)
    elif mark.shape == "square":
        pen.rectangle([x - r * 0.85, y - r * 0.85, x + r * 0.85, y + r * 0.85], fill=255)
    elif mark.shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)], fill=255)
    elif mark.shape == "bar":
        pen.rectangle([x - r * 1.25, y - r * 0.36, x + r * 1.25, y + r * 0.36], fill=255)
    elif mark.shape == "zigzag":
        steps = [(x + r * (step / 2 - 1) * 1.2, y + r * (0.6 if step % 2 else -0.6)) for step in range(5)]
        pen.line(steps, fill=255, width=thick, joint="curve")
    else:
        spokes = [(r if step % 2 == 0 else r * 0.42, step * np.pi / 5 - np.pi / 2) for step in range(10)]
        pen.polygon([(x + long * np.cos(turn), y + long * np.sin(turn)) for long, turn in spokes], fill=255)
    layer.colour.paste(MARK_COLOURS[mark.colour], (0, 0), ImageChops.multiply(mask, layer.coverage))
