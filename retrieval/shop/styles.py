"""What a style word changes about any item: its proportions, its colour, its pattern, how many there are."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from retrieval.shop.materials import Colour, Kind, Surface, shaded
from retrieval.shop.outlines import Outline, ellipse, moved, path
from retrieval.shop.pen import Matrix

COLOURS: dict[str, Colour] = {
    "navy": (34, 44, 92),
    "cream": (240, 226, 192),
    "rust": (184, 78, 38),
    "moss": (96, 114, 52),
    "grey": (140, 142, 144),
    "white": (240, 240, 236),
    "indigo": (60, 58, 150),
    "sage": (154, 178, 140),
    "blue": (60, 124, 206),
    "brown": (112, 66, 36),
    "black": (34, 34, 36),
    "tan": (208, 158, 102),
    "olive": (112, 112, 48),
    "green": (48, 128, 68),
    "red": (200, 42, 38),
    "painted": (128, 190, 206),
}
STRETCHES: dict[str, tuple[float, float]] = {
    "large": (1.16, 1.16),
    "small": (0.74, 0.74),
    "mini": (0.68, 0.68),
    "compact": (0.78, 0.78),
    "slim": (0.74, 1.0),
    "slender": (0.78, 1.06),
    "tall": (0.86, 1.22),
    "deep": (0.96, 1.16),
    "wide": (1.22, 0.95),
    "low": (1.08, 0.74),
    "long": (1.24, 0.9),
    "sturdy": (1.12, 0.94),
    "travel": (0.9, 0.9),
}
"""Factors of width and height."""
ZOOMS = {"chunky": 1.9, "fine": 0.67, "cable-knit": 1.2}
"""How much larger the texture is."""
FORMS = frozenset(
    {
        *("round", "square", "arched", "globe", "tripod", "folded", "folding", "twin", "conical"),
        *("footed", "double", "curved", "corner", "hanging", "dimmable"),
    }
)
"""Styles that a drawing itself, or the composition of the picture, follows."""
FINISHES = frozenset({"matt", "oiled", "light", "galvanised"})
"""Styles that change shine, tone or metal."""
UNSEEN = frozenset({"plain", "everyday", "classic", "soft"})
"""Styles that a picture does not show."""


def stretch(styles: frozenset[str]) -> tuple[float, float]:
    """Factors of width and height that the styles ask for together."""
    across, down = 1.0, 1.0
    for style in sorted(styles & STRETCHES.keys()):
        across, down = across * STRETCHES[style][0], down * STRETCHES[style][1]
    return min(across, 1.3), min(down, 1.3)


def colour(styles: frozenset[str]) -> Colour | None:
    """The colour that the styles name; None: the material's own."""
    named = sorted(styles & COLOURS.keys())
    return COLOURS[named[0]] if named else None


def zoom(styles: frozenset[str]) -> float:
    """How much larger than usual the texture is."""
    return next((ZOOMS[style] for style in sorted(styles & ZOOMS.keys())), 1.0)


def dressed(surface: Surface, styles: frozenset[str], matrix: Matrix, rng: np.random.Generator) -> Surface:
    """The surface with the patterns of `styles` on it, laid out in the item's coordinates (`matrix` [2, 3])."""
    if isinstance(surface.sheet, tuple):
        return surface
    sheet = surface.sheet
    for style in sorted(styles & PATTERNS.keys()):
        PATTERNS[style](_Cloth(sheet, surface, matrix, rng))
    gloss = surface.gloss
    if "matt" in styles:
        gloss = 0.0
    if "oiled" in styles:
        gloss = 0.7
        sheet = sheet.point([round(value * 0.84) for value in range(256)] * 3)
    if "light" in styles:
        sheet = sheet.point([round(255 - (255 - value) * 0.72) for value in range(256)] * 3)
    return replace(surface, sheet=sheet, gloss=gloss)


class _Cloth:
    """A sheet that a pattern draws on, in an item's coordinates."""

    def __init__(self, sheet: Image.Image, surface: Surface, matrix: Matrix, rng: np.random.Generator) -> None:
        self.rng = rng
        self.glazed = surface.kind in (Kind.CERAMIC, Kind.GLASS)
        red, green, blue = np.asarray(sheet.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist()
        self.mean: Colour = (red, green, blue)
        self.sheet = sheet
        self._matrix = matrix
        self._unit = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    @property
    def contrast(self) -> Colour:
        """A colour that shows on this one."""
        return shaded(self.mean, 0.42) if sum(self.mean) > 330 else (235, 228, 212)

    def fill(self, outline: Outline, colour: Colour, strength: float = 1.0) -> None:
        """Paint an outline, `strength` of 1 hiding what is below."""
        if strength < 1:
            mask = Image.new("L", self.sheet.size)
            ImageDraw.Draw(mask).polygon(self._placed(outline), fill=round(255 * strength))
            self.sheet.paste(colour, (0, 0), mask)
        else:
            ImageDraw.Draw(self.sheet).polygon(self._placed(outline), fill=colour)

    def line(self, points: Outline, width: float, colour: Colour) -> None:
        """Draw a line."""
        ImageDraw.Draw(self.sheet).line(
            self._placed(points), fill=colour, width=max(1, round(width * self._unit)), joint="curve"
        )

    def below(self, y: float) -> None:
        """Give everything below `y` the contrasting colour."""
        waves = np.linspace(-1.6, 1.6, 24)
        edge = np.stack([waves, y + 0.03 * np.sin(waves * 7 + self.rng.uniform(0, 6))], axis=1)
        self.fill(np.concatenate([edge, path((1.6, 2.0), (-1.6, 2.0))]), self.contrast, 0.88)

    def _placed(self, outline: Outline) -> list[float]:
        placed: list[float] = (outline @ self._matrix[:, :2].T + self._matrix[:, 2]).ravel().tolist()
        return placed


def _striped(cloth: _Cloth) -> None:
    for y in np.arange(-1.5 + cloth.rng.uniform(0, 0.2), 1.5, 0.26):
        cloth.fill(path((-2, y), (2, y), (2, y + 0.11), (-2, y + 0.11)), cloth.contrast, 0.85)


def _checked(cloth: _Cloth) -> None:
    begin = cloth.rng.uniform(0, 0.2)
    for at in np.arange(-1.5 + begin, 1.5, 0.34):
        cloth.fill(path((-2, at), (2, at), (2, at + 0.16), (-2, at + 0.16)), cloth.contrast, 0.5)
        cloth.fill(path((at, -2), (at + 0.16, -2), (at + 0.16, 2), (at, 2)), cloth.contrast, 0.5)


def _ribbed(cloth: _Cloth) -> None:
    dark, light = shaded(cloth.mean, 0.6), shaded(cloth.mean, 1.2)
    for x in np.arange(-1.5, 1.5, 0.12):
        cloth.line(path((x, -2), (x, 2)), 0.035, dark)
        cloth.line(path((x + 0.05, -2), (x + 0.05, 2)), 0.02, light)


def _cabled(cloth: _Cloth) -> None:
    y = np.linspace(-1.5, 1.5, 90)
    dark, light = shaded(cloth.mean, 0.5), shaded(cloth.mean, 1.3)
    for x in np.arange(-1.2, 1.21, 0.34):
        for phase in (0.0, np.pi):
            strand = np.stack([x + 0.075 * np.sin(y * 13 + phase), y], axis=1)
            cloth.line(strand, 0.075, dark)
            cloth.line(strand, 0.035, light)
        for side in (-0.14, 0.14):
            cloth.line(path((x + side, -2), (x + side, 2)), 0.025, dark)


def _speckled(cloth: _Cloth) -> None:
    dark = shaded(cloth.mean, 0.35) if sum(cloth.mean) > 200 else (230, 224, 210)
    for x, y in cloth.rng.uniform(-1.3, 1.3, (190, 2)):
        radius = cloth.rng.uniform(0.012, 0.04)
        cloth.fill(ellipse(x, y, radius, radius, steps=9), dark)


def _hand_painted(cloth: _Cloth) -> None:
    """Flowers of five dabs, in blue and ochre, with a leaf."""
    for row, y in enumerate(np.arange(-1.0, 1.1, 0.42)):
        for x in np.arange(-1.2 + 0.21 * (row % 2), 1.3, 0.42):
            x, y_here = x + cloth.rng.normal(0, 0.02), y + cloth.rng.normal(0, 0.02)
            petal = (38, 76, 170) if (row + round(x * 3)) % 2 else (204, 92, 40)
            for angle in np.arange(5) * 2 * np.pi / 5 + cloth.rng.uniform(0, 1):
                at = (x + 0.075 * np.cos(angle), y_here + 0.075 * np.sin(angle))
                cloth.fill(ellipse(*at, 0.045, 0.045, steps=10), petal)
            cloth.fill(ellipse(x, y_here, 0.035, 0.035, steps=9), (238, 196, 66))
            cloth.line(path((x + 0.09, y_here + 0.1), (x + 0.17, y_here + 0.17)), 0.035, (64, 122, 62))


def _dipped(cloth: _Cloth) -> None:
    cloth.below(0.22)


def _two_tone(cloth: _Cloth) -> None:
    cloth.below(0.3)


def _carved(cloth: _Cloth) -> None:
    dark, light = shaded(cloth.mean, 0.45), shaded(cloth.mean, 1.3)
    for y in np.arange(-1.2, 1.3, 0.36):
        x = np.linspace(-1.5, 1.5, 41)
        zigzag = np.stack([x, y + 0.07 * (-1.0) ** np.arange(41)], axis=1)
        cloth.line(zigzag, 0.05, dark)
        cloth.line(moved(zigzag, 0, 0.04), 0.02, light)
        for edge in (-0.14, 0.14):
            cloth.line(path((-2, y + edge), (2, y + edge)), 0.03, dark)


def _rustic(cloth: _Cloth) -> None:
    dark = shaded(cloth.mean, 0.32)
    for x, y in cloth.rng.uniform(-1.2, 1.2, (26, 2)):
        rx = cloth.rng.uniform(0.02, 0.09)
        cloth.fill(ellipse(x, y, rx, rx * 0.6, steps=12), dark)
    for x, y in cloth.rng.uniform(-1.1, 1.1, (12, 2)):
        steps = np.cumsum(cloth.rng.normal((0.09, 0.0), (0.02, 0.02), (5, 2)), axis=0)
        cloth.line(moved(steps, x, y), 0.02, dark)


def _braided(cloth: _Cloth) -> None:
    dark, light = shaded(cloth.mean, 0.5), shaded(cloth.mean, 1.35)
    for at in np.arange(-4, 4, 0.17):
        cloth.line(path((at, -2), (at + 4, 2)), 0.075, light)
    for at in np.arange(-4, 4, 0.17):
        cloth.line(path((at + 4, -2), (at, 2)), 0.045, dark)


def _stitched(cloth: _Cloth) -> None:
    thread = (246, 232, 196) if sum(cloth.mean) < 480 else (96, 60, 36)
    for at in np.arange(-1.4, 1.5, 0.3):
        for begin in np.arange(-1.5, 1.5, 0.13):
            cloth.line(path((begin, at), (begin + 0.075, at)), 0.032, thread)


def _vintage(cloth: _Cloth) -> None:
    for x, y in cloth.rng.uniform(-1.1, 1.1, (34, 2)):
        rx, ry = cloth.rng.uniform(0.04, 0.17, 2)
        stain = (84, 124, 104) if cloth.rng.random() < 0.6 else shaded(cloth.mean, 0.5)
        cloth.fill(ellipse(x, y, rx, ry, steps=12), stain, 0.32)


PATTERNS: dict[str, Callable[[_Cloth], None]] = {
    "striped": _striped,
    "checked": _checked,
    "ribbed": _ribbed,
    "cable-knit": _cabled,
    "speckled": _speckled,
    "hand-painted": _hand_painted,
    "dipped": _dipped,
    "two-tone": _two_tone,
    "carved": _carved,
    "rustic": _rustic,
    "braided": _braided,
    "stitched": _stitched,
    "vintage": _vintage,
}
STYLES = frozenset().union(COLOURS, STRETCHES, ZOOMS, PATTERNS, FORMS, FINISHES, UNSEEN)
"""Every style word that the shop uses."""
