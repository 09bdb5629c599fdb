"""Where scenes happen: a dozen kinds of place, each place of a kind with a layout of its own that can be recognised."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from retrieval.shop.materials import Colour, shaded

Pencil = ImageDraw.ImageDraw
_SUPERSAMPLED = 2


def place(kind: str, seed: int, side: int) -> tuple[Image.Image, float]:
    """The empty place number `seed` of a kind, by day, and the height of its horizon, 0 … 1 from the top."""
    generator = np.random.default_rng([seed, *kind.encode()])
    size = side * _SUPERSAMPLED
    image = Image.new("RGB", (size, size))
    horizon = float(generator.uniform(0.38, 0.52))
    KINDS[kind](ImageDraw.Draw(image), size, horizon, generator)
    soft = image.filter(ImageFilter.GaussianBlur(_SUPERSAMPLED * 0.6))
    return soft.resize((side, side), Image.Resampling.BOX), horizon


def _bands(draw: Pencil, size: int, horizon: float, above: Colour, below: Colour, rng: np.random.Generator) -> int:
    """Sky and ground, each lighter towards the horizon; returns the horizon's row."""
    row = round(size * horizon)
    sky, ground = (_tinted(colour, rng) for colour in (above, below))
    for y in range(size):
        near = 1 - abs(y - row) / size
        draw.line([0, y, size, y], fill=shaded(sky if y < row else ground, 0.78 + 0.3 * near))
    return row


def _tinted(colour: Colour, rng: np.random.Generator, spread: float = 12.0) -> Colour:
    red, green, blue = (int(np.clip(channel + rng.normal(0, spread), 0, 255)) for channel in colour)
    return red, green, blue


def _any(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(channel) for channel in rng.integers(60, 236, 3))
    return red, green, blue


def _tree(draw: Pencil, x: float, foot: float, tall: float, crown: Colour, *, pointed: bool) -> None:
    draw.rectangle([x - tall * 0.05, foot - tall * 0.35, x + tall * 0.05, foot], fill=(92, 64, 44))
    if pointed:
        for step in range(3):
            top, wide = foot - tall + step * tall * 0.24, tall * (0.2 + 0.1 * step)
            draw.polygon([(x, top), (x - wide, top + tall * 0.36), (x + wide, top + tall * 0.36)], fill=crown)
    else:
        draw.ellipse([x - tall * 0.32, foot - tall, x + tall * 0.32, foot - tall * 0.3], fill=crown)


def _spread(rng: np.random.Generator, size: int, low: int, high: int) -> list[float]:
    """Some places from left to right."""
    return sorted((rng.random(int(rng.integers(low, high))) * size).tolist())


def _beach(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (150, 206, 244), (236, 214, 160), rng)
    draw.rectangle([0, row - size * 0.1, size, row + size * 0.03], fill=_tinted((46, 140, 188), rng))
    for x in _spread(rng, size, 1, 4):
        canopy = _any(rng)
        draw.line([x, row - size * 0.2, x, row + size * 0.16], fill=(120, 100, 80), width=4)
        draw.pieslice([x - size * 0.16, row - size * 0.3, x + size * 0.16, row - size * 0.04], 180, 360, fill=canopy)
    if rng.random() < 0.6:
        x = rng.uniform(0.1, 0.9) * size
        draw.polygon(
            [(x, row - size * 0.28), (x, row - size * 0.07), (x + size * 0.13, row - size * 0.07)], fill=_any(rng)
        )


def _forest(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (176, 206, 196), (84, 104, 54), rng)
    pointed = bool(rng.random() < 0.5)
    for x in _spread(rng, size, 6, 11):
        tall = size * rng.uniform(0.3, 0.62)
        _tree(draw, x, row + size * rng.uniform(0.0, 0.08), tall, _tinted((40, 96, 52), rng, 18), pointed=pointed)


def _snow(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (196, 214, 232), (240, 244, 250), rng)
    for x in _spread(rng, size, 2, 6):
        _tree(draw, x, row + size * 0.04, size * rng.uniform(0.2, 0.42), _tinted((70, 108, 104), rng), pointed=True)
    if rng.random() < 0.7:
        x, wall = rng.uniform(0.1, 0.8) * size, _any(rng)
        draw.rectangle([x, row - size * 0.12, x + size * 0.2, row + size * 0.03], fill=wall)
        roof = [
            (x - size * 0.03, row - size * 0.12),
            (x + size * 0.1, row - size * 0.26),
            (x + size * 0.23, row - size * 0.12),
        ]
        draw.polygon(roof, fill=(250, 250, 252))


def _street(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (178, 196, 214), (120, 120, 124), rng)
    x = -rng.uniform(0, 0.1) * size
    while x < size:
        wide, tall, wall = size * rng.uniform(0.14, 0.3), size * rng.uniform(0.2, 0.42), _any(rng)
        draw.rectangle([x, row - tall, x + wide, row + size * 0.02], fill=wall)
        pane = shaded(wall, 0.5) if rng.random() < 0.6 else (250, 240, 190)
        for left in np.arange(x + size * 0.03, x + wide - size * 0.04, size * 0.075):
            for top in np.arange(row - tall + size * 0.04, row - size * 0.06, size * 0.1):
                draw.rectangle([left, top, left + size * 0.035, top + size * 0.055], fill=pane)
        x += wide + 2
    draw.line([0, size * 0.97, size, size * 0.9], fill=(226, 222, 200), width=5)


def _kitchen(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    wall, top = _any(rng), _tinted((176, 132, 90), rng, 25)
    row = _bands(draw, size, horizon + 0.06, wall, top, rng)
    step = round(size * rng.uniform(0.09, 0.16))
    for at in range(0, size, step):
        draw.line([at, 0, at, row], fill=shaded(wall, 0.88), width=2)
        if at < row:
            draw.line([0, at, size, at], fill=shaded(wall, 0.88), width=2)
    for x in _spread(rng, size, 2, 4):
        door = _any(rng)
        draw.rectangle([x, 0, x + size * 0.24, size * 0.2], fill=door, outline=shaded(door, 0.6), width=3)
        draw.ellipse([x + size * 0.19, size * 0.14, x + size * 0.22, size * 0.17], fill=shaded(door, 0.4))
    if rng.random() < 0.5:
        x = rng.uniform(0.2, 0.7) * size
        draw.rectangle(
            [x, row - size * 0.22, x + size * 0.2, row - size * 0.04],
            fill=(196, 228, 250),
            outline=(250, 250, 250),
            width=5,
        )


def _desert(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (244, 214, 170), (222, 160, 92), rng)
    for x in _spread(rng, size, 2, 4):
        wide, dune = size * rng.uniform(0.25, 0.5), _tinted((206, 140, 80), rng)
        draw.polygon([(x - wide, row), (x, row - size * rng.uniform(0.06, 0.2)), (x + wide, row)], fill=dune)
    for x in _spread(rng, size, 1, 5):
        tall, green = size * rng.uniform(0.12, 0.28), _tinted((74, 124, 66), rng)
        foot = row + size * 0.05
        draw.line([x, foot, x, foot - tall], fill=green, width=round(size * 0.035))
        side = size * 0.06 * rng.choice((-1, 1))
        draw.line(
            [x, foot - tall * 0.4, x + side, foot - tall * 0.4, x + side, foot - tall * 0.75],
            fill=green,
            width=round(size * 0.022),
        )


def _meadow(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (160, 212, 250), (116, 180, 74), rng)
    for x in _spread(rng, size, 1, 4):
        _tree(
            draw, x, row + size * 0.03, size * rng.uniform(0.18, 0.36), _tinted((70, 140, 60), rng, 20), pointed=False
        )
    for _ in range(int(rng.integers(20, 60))):
        x, y = rng.random() * size, rng.uniform(horizon + 0.06, 1) * size
        petal = [(250, 90, 90), (250, 230, 90), (250, 250, 250), (200, 120, 230)][int(rng.integers(4))]
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=petal)


def _library(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon + 0.08, (112, 76, 52), (150, 104, 66), rng)
    shelf = row / int(rng.integers(2, 4))
    for top in np.arange(0, row - 4, shelf):
        x = 2.0
        while x < size:
            wide, tall = size * rng.uniform(0.025, 0.07), shelf * rng.uniform(0.6, 0.9)
            if rng.random() < 0.88:
                draw.rectangle([x, top + shelf - tall, x + wide - 1, top + shelf - 3], fill=_any(rng))
            x += wide
        draw.line([0, top + shelf - 1, size, top + shelf - 1], fill=(70, 44, 28), width=5)


def _harbour(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (190, 210, 226), (140, 128, 112), rng)
    draw.rectangle([0, row - size * 0.07, size, row + size * 0.04], fill=_tinted((58, 96, 124), rng))
    for x in _spread(rng, size, 2, 5):
        hull, long = _any(rng), size * rng.uniform(0.12, 0.24)
        draw.polygon(
            [
                (x, row - size * 0.05),
                (x + long, row - size * 0.05),
                (x + long * 0.8, row + size * 0.02),
                (x + long * 0.15, row + size * 0.02),
            ],
            fill=hull,
        )
        draw.line([x + long / 2, row - size * 0.05, x + long / 2, row - size * 0.3], fill=(70, 60, 50), width=4)
        draw.polygon(
            [(x + long / 2, row - size * 0.3), (x + long / 2, row - size * 0.08), (x + long * 0.95, row - size * 0.08)],
            fill=(246, 242, 232),
        )
    for y in np.arange(row + size * 0.08, size, size * 0.07):
        draw.line([0, y, size, y], fill=(108, 96, 82), width=2)


def _mountains(draw: Pencil, size: int, horizon: float, rng: np.random.Generator) -> None:
    row = _bands(draw, size, horizon, (172, 204, 240), (130, 140, 104), rng)
    for x in _spread(rng, size, 3, 6):
        tall, wide, rock = (
            size * rng.uniform(0.16, 0.4),
            size * rng.uniform(0.18, 0.36),
            _tinted((112, 116, 128), rng, 16),
        )
        draw.polygon([(x - wide, row), (x, row - tall), (x + wide, row)], fill=rock)
        draw.polygon(
            [(x - wide * 0.28, row - tall * 0.72), (x, row - tall), (x + wide * 0.28, row - tall * 0.72)],
            fill=(246, 248, 252),
        )


KINDS: dict[str, Callable[[Pencil, int, float, np.random.Generator], None]] = {
    "beach": _beach,
    "forest": _forest,
    "snow": _snow,
    "street": _street,
    "kitchen": _kitchen,
    "desert": _desert,
    "meadow": _meadow,
    "library": _library,
    "harbour": _harbour,
    "mountains": _mountains,
}
"""Every kind of place."""
WORDS: dict[str, str] = {
    "beach": "on a beach",
    "forest": "in a forest",
    "snow": "in the snow",
    "street": "on a street",
    "kitchen": "in a kitchen",
    "desert": "in the desert",
    "meadow": "on a meadow",
    "library": "in a library",
    "harbour": "at a harbour",
    "mountains": "in the mountains",
}
"""Kind → how a text says where."""
