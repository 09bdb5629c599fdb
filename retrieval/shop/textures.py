"""What a material's surface looks like from near: grain, weave, knit, glaze; light and dark, no colour yet."""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIDE = 384
"""Pixels of a sheet of texture."""
VARIANTS = 4
"""Sheets kept of each texture."""

Field = npt.NDArray[np.float64]
_X: Field = np.tile(np.arange(SIDE, dtype=np.float64), (SIDE, 1))
_Y: Field = _X.T.copy()


@cache
def sheet(texture: str, variant: int) -> Image.Image:
    """Sheet `variant` (0 … VARIANTS - 1) of a texture of `TEXTURES`, "L", 128 on average; the same on every machine."""
    rng = np.random.default_rng([variant, *texture.encode()])
    field = TEXTURES[texture](rng)
    return Image.fromarray(np.clip(128 + 90 * (field - field.mean()), 0, 255).astype(np.uint8))


def _noise(rng: np.random.Generator, across: int, down: int) -> Field:
    """Smooth noise, about -1 … 1, with so many bumps across and down."""
    grid = Image.fromarray(rng.uniform(-1, 1, (down + 1, across + 1)).astype(np.float32))
    return np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)


def _drawn(paint: Callable[[ImageDraw.ImageDraw], None], ground: int = 128, blur: float = 0.0) -> Field:
    """What `paint` draws on `ground`, as values about -1 … 1."""
    image = Image.new("L", (SIDE, SIDE), ground)
    paint(ImageDraw.Draw(image))
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, dtype=np.float64) / 128 - 1


def _grain(rings: float, swirl: float, contrast: float) -> Callable[[np.random.Generator], Field]:
    def field(rng: np.random.Generator) -> Field:
        bent = _Y / SIDE * rings + swirl * _noise(rng, 2, 5) + 0.25 * _noise(rng, 4, 24)
        ring = bent % 1.0
        pores = _noise(rng, 12, SIDE // 2)
        wood: Field = contrast * (ring**2 - 0.33) + 0.22 * pores + 0.2 * _noise(rng, 2, 4)
        return wood

    return field


def _laminated(rng: np.random.Generator) -> Field:
    """Strips glued side by side, each with the nodes of its stalk: bamboo."""
    width = 24
    count = SIDE // width
    strip = (_Y // width).astype(int)
    tone = rng.uniform(-0.35, 0.35, count)[strip]
    node = (np.abs((_X + rng.uniform(0, SIDE, count)[strip]) % 130 - 65) < 3.0) * -0.75
    seam = (_Y % width < 1.6) * -0.6
    strips: Field = tone + node + seam + 0.12 * _noise(rng, 8, SIDE // 2)
    return strips


def _knotted(rng: np.random.Generator) -> Field:
    """Straight grain that flows round dark knots: larch and cedar."""
    bend, knots = np.zeros_like(_X), np.zeros_like(_X)
    for x, y in rng.uniform(20, SIDE - 20, (9, 2)):
        squared = ((_X - x) / 26) ** 2 + ((_Y - y) / 13) ** 2
        bend += 0.8 * np.exp(-squared)
        knots -= 1.3 * np.exp(-squared * 4)
    ring = (_Y / SIDE * 22 + bend + 0.3 * _noise(rng, 2, 4)) % 1.0
    return 0.6 * (ring - 0.5) + knots + 0.12 * _noise(rng, 8, SIDE // 2)


def _knit(stitch: float, hair: float) -> Callable[[np.random.Generator], Field]:
    def field(rng: np.random.Generator) -> Field:
        slope = np.abs((_X % stitch) - stitch / 2)
        vee = (_Y + slope * 1.1) % stitch / stitch
        column = np.cos(_X / stitch * 2 * np.pi)
        return 0.8 * (np.sin(vee * np.pi) - 0.6) + 0.3 * column + hair * _noise(rng, 90, 90)

    return field


def _weave(thread: float, uneven: float) -> Callable[[np.random.Generator], Field]:
    def field(rng: np.random.Generator) -> Field:
        across, down = np.sin(_X * np.pi / thread), np.sin(_Y * np.pi / thread)
        over = np.where(across * down > 0, np.abs(across), np.abs(down))
        slubs = _noise(rng, 6, SIDE // 3) + _noise(rng, SIDE // 3, 6)
        return 0.7 * (over - 0.6) + uneven * slubs

    return field


def _fuzz(length: float, hairs: int, blur: float) -> Callable[[np.random.Generator], Field]:
    def field(rng: np.random.Generator) -> Field:
        def paint(draw: ImageDraw.ImageDraw) -> None:
            begins = rng.uniform(-10, SIDE + 10, (hairs, 2))
            angles = rng.normal(1.2, 0.9, hairs)
            ends = begins + length * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            for begin, end, tone in zip(begins, ends, rng.integers(30, 250, hairs), strict=True):
                draw.line([*begin.tolist(), *end.tolist()], fill=int(tone), width=1)

        return 1.2 * _drawn(paint, blur=blur) + 0.25 * _noise(rng, 10, 10)

    return field


def _smooth(rng: np.random.Generator) -> Field:
    return 0.12 * _noise(rng, 5, 5)


def _brushed(rng: np.random.Generator) -> Field:
    """Fine lines and broad bands of sheen: polished metal."""
    sheen = np.sin((_X * 0.8 + _Y * 0.35) / 34 + 1.2 * _noise(rng, 2, 2))
    return 0.55 * sheen + 0.16 * _noise(rng, 5, SIDE // 2)


def _rough(cells: int, depth: float) -> Callable[[np.random.Generator], Field]:
    def field(rng: np.random.Generator) -> Field:
        return depth * _noise(rng, cells, cells) + 0.25 * _noise(rng, 7, 7)

    return field


def _dots(count: int, largest: float) -> Callable[[np.random.Generator], Field]:
    """A quiet ground with dark specks: stoneware."""

    def field(rng: np.random.Generator) -> Field:
        def paint(draw: ImageDraw.ImageDraw) -> None:
            for x, y in rng.uniform(0, SIDE, (count, 2)):
                r = rng.uniform(0.4, largest)
                draw.ellipse([x - r, y - r, x + r, y + r], fill=int(rng.integers(0, 70)))

        return 1.1 * _drawn(paint, ground=150, blur=0.5) + 0.14 * _noise(rng, 8, 8)

    return field


def _running(rng: np.random.Generator) -> Field:
    """A glaze that ran down in the kiln: earthenware."""
    edge = 40 * _noise(rng, 14, 1) + 18 * _noise(rng, 40, 1)
    return 0.55 * np.sin((_Y + edge) / 46) + 0.2 * _noise(rng, 60, 8)


def _patches(rng: np.random.Generator) -> Field:
    """Angular crystals: galvanised zinc."""

    def paint(draw: ImageDraw.ImageDraw) -> None:
        for x, y in rng.uniform(0, SIDE, (900, 2)):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
            reach = rng.uniform(7, 20)
            corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
            draw.polygon(corners.ravel().tolist(), fill=int(rng.integers(70, 190)))

    return _drawn(paint, blur=0.7) + 0.1 * _noise(rng, 5, 5)


def _crumbs(rng: np.random.Generator) -> Field:
    """Light and dark granules pressed together: cork."""

    def paint(draw: ImageDraw.ImageDraw) -> None:
        for x, y in rng.uniform(0, SIDE, (3800, 2)):
            rx, ry = rng.uniform(1.5, 6.5, 2)
            tone = int(rng.integers(95, 190)) if rng.random() < 0.85 else int(rng.integers(0, 60))
            draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=tone)

    return 1.1 * _drawn(paint, blur=0.5)


def _pebbled(rng: np.random.Generator) -> Field:
    """Pores and creases: leather."""
    cells = _noise(rng, 85, 85)
    return -0.5 * np.exp(-((cells / 0.14) ** 2)) + 0.35 * _noise(rng, 6, 6)


def _ripstop(rng: np.random.Generator) -> Field:
    """A thin cloth with a grid of thicker threads, and sheen: nylon."""
    grid = ((_X % 16 < 2.2) | (_Y % 16 < 2.2)) * 0.5
    return grid + 0.55 * np.sin((_X * 0.6 - _Y) / 40 + 1.5 * _noise(rng, 3, 3))


def _creased(rng: np.random.Generator) -> Field:
    """Light lines where a waxed cloth was folded."""
    ridge = np.exp(-((_noise(rng, 7, 7) / 0.06) ** 2)) + 0.7 * np.exp(-((_noise(rng, 11, 11) / 0.06) ** 2))
    return 0.7 * ridge + 0.15 * _noise(rng, SIDE // 3, SIDE // 3) + 0.3 * _noise(rng, 4, 4)


def _basket(rng: np.random.Generator) -> Field:
    """Canes that go over and under each other, with dark gaps: rattan."""
    cane = 15.0
    turn = ((_X // cane + _Y // cane) % 2).astype(bool)
    along = np.where(turn, _X % cane, _Y % cane) / cane
    over = np.where(turn, _Y % cane, _X % cane) / cane
    return 1.5 * (np.sin(along * np.pi) ** 0.6 * np.sin(over * np.pi) ** 0.4 - 0.7) + 0.15 * _noise(rng, 40, 40)


def _ribs(rng: np.random.Generator) -> Field:
    """Thin paper over hoops."""
    return 0.35 * (np.abs((_Y % 22) / 11 - 1) - 0.5) + 0.14 * _noise(rng, 60, 60)


TEXTURES: dict[str, Callable[[np.random.Generator], Field]] = {
    "broad grain": _grain(rings=9, swirl=0.7, contrast=0.8),
    "straight grain": _grain(rings=20, swirl=0.25, contrast=0.7),
    "swirling grain": _grain(rings=7, swirl=2.2, contrast=1.3),
    "quiet grain": _grain(rings=6, swirl=0.5, contrast=0.35),
    "streaked grain": _grain(rings=5, swirl=0.9, contrast=1.8),
    "laminated": _laminated,
    "knotted": _knotted,
    "fine knit": _knit(stitch=7.5, hair=0.1),
    "wide knit": _knit(stitch=13, hair=0.35),
    "tight weave": _weave(thread=3.2, uneven=0.08),
    "open weave": _weave(thread=5.0, uneven=0.3),
    "heavy weave": _weave(thread=7.0, uneven=0.12),
    "nap": _fuzz(length=7, hairs=9000, blur=1.6),
    "halo of hairs": _fuzz(length=26, hairs=5200, blur=0.4),
    "smooth": _smooth,
    "brushed": _brushed,
    "fine-grained": _rough(cells=150, depth=0.22),
    "coarse": _rough(cells=110, depth=0.6),
    "specked": _dots(count=420, largest=1.9),
    "running glaze": _running,
    "crystals": _patches,
    "crumbs": _crumbs,
    "pebbled": _pebbled,
    "ripstop": _ripstop,
    "creased": _creased,
    "basket": _basket,
    "ribs": _ribs,
}
