"""Draw the parts of an item onto one layer: outline, surface, shade, so that a drawing only says what is where."""

from enum import StrEnum
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from retrieval.shop import outlines
from retrieval.shop.materials import MATERIALS, Colour, Surface, plain, surface
from retrieval.shop.outlines import Outline

Matrix = npt.NDArray[np.float64]
_RAMP = 48


class Shade(StrEnum):
    """How light falls off over a part."""

    FLAT = "flat"
    ROUND = "round"
    """An upright cylinder."""
    BALL = "ball"
    DOWN = "down"
    """Darker towards the bottom."""


class Layer:
    """An item without its background: what it adds to each pixel, and how much of the background it hides."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.colour = Image.new("RGB", (side, side))
        """Premultiplied by `coverage`."""
        self.coverage = Image.new("L", (side, side))
        self.on_colour = ImageDraw.Draw(self.colour)
        self.on_coverage = ImageDraw.Draw(self.coverage)


class Pen:
    """Draws on a layer in an item's own coordinates (see `outlines`)."""

    def __init__(
        self,
        layer: Layer,
        matrix: Matrix,
        main: Surface,
        *,
        styles: frozenset[str] = frozenset(),
        tilt: float,
        light_from_right: bool,
        rng: np.random.Generator,
    ) -> None:
        """`matrix` [2, 3] takes the item's coordinates to pixels; `tilt` is how high a circle seems, over its width."""
        self.main = main
        """What the item is made of."""
        self.styles = styles
        """The style words of the item's name."""
        self.tilt = tilt
        self.rng = rng
        self._layer = layer
        self._matrix = matrix
        self._unit = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        self._light_from_right = light_from_right

    def at(self, x: float, y: float, *, scale: float = 1.0, turn: float = 0.0, mirror: bool = False) -> "Pen":
        """A pen whose origin is (x, y): smaller, turned by degrees clockwise, or mirrored."""
        cos, sin = np.cos(np.radians(turn)) * scale, np.sin(np.radians(turn)) * scale
        flip = -1.0 if mirror else 1.0
        inner = np.array([[cos * flip, -sin, x], [sin * flip, cos, y], [0, 0, 1]])
        return Pen(
            self._layer,
            self._matrix @ inner,
            self.main,
            styles=self.styles,
            tilt=self.tilt,
            light_from_right=self._light_from_right,
            rng=self.rng,
        )

    def material(self, name: str, colour: Colour | None = None) -> Surface:
        """A piece of another material, for a blade, a buckle, a handle."""
        return surface(MATERIALS[name], self._layer.side, self.rng, colour=colour)

    def fill(
        self,
        outline: Outline,
        of: Surface | Colour | None = None,
        *,
        shade: Shade = Shade.FLAT,
        tone: float = 0.0,
        edge: bool = True,
    ) -> None:
        """Paint a part; None: of the main surface. `tone` darkens it (towards -1) or lightens it (towards 1)."""
        chosen = self._surface(of)
        pixels = self._placed(outline)
        box = self._box(pixels, 0)
        if box is None:
            return
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon((pixels - box[:2]).ravel().tolist(), fill=chosen.alpha)
        self._paint(mask, box, chosen, shade, tone)
        if edge:
            closed = np.concatenate([pixels, pixels[:2]])
            self._trace(closed, max(1, round(0.018 * self._unit)), chosen.edge)

    def stroke(
        self, path: Outline, width: float, of: Surface | Colour | None = None, *, tone: float = 0.0, edge: bool = True
    ) -> None:
        """Paint a band along `path`: a handle, a strap, a leg."""
        chosen = self._surface(of)
        pixels = self._placed(path)
        thick = max(2, round(width * self._unit))
        box = self._box(pixels, thick)
        if box is None:
            return
        if edge:
            self._trace(pixels, thick + max(2, round(0.03 * self._unit)), chosen.edge)
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        inside = pixels - box[:2]
        draw = ImageDraw.Draw(mask)
        draw.line(inside.ravel().tolist(), fill=255, width=thick, joint="curve")
        for x, y in (inside[0], inside[-1]):
            draw.ellipse([x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2], fill=255)
        self._paint(mask, box, chosen, Shade.FLAT, tone)
        if thick >= 6:
            self._shine(inside, thick, mask, box, chosen.gloss)

    def line(self, path: Outline, width: float, colour: Colour) -> None:
        """A thin line of one colour."""
        self._trace(self._placed(path), max(1, round(width * self._unit)), colour)

    def dashes(self, path: Outline, width: float, colour: Colour) -> None:
        """A seam: every second piece of `path`, which is cut finely first."""
        lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        at = np.arange(0, lengths[-1], 0.045)
        fine = np.stack([np.interp(at, lengths, path[:, axis]) for axis in range(2)], axis=1)
        for begin in range(0, len(fine) - 1, 2):
            self.line(fine[begin : begin + 2], width, colour)

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        of: Surface | Colour | None = None,
        *,
        shade: Shade = Shade.FLAT,
        edge: bool = True,
    ) -> None:
        """A circle that faces the viewer."""
        self.fill(outlines.ellipse(x, y, radius, radius, steps=28), of, shade=shade, edge=edge)

    def level(
        self,
        y: float,
        radius: float,
        of: Surface | Colour | None = None,
        *,
        tone: float = 0.0,
        edge: bool = True,
    ) -> None:
        """A horizontal circle at height `y`: a rim, a lid, what a cup holds."""
        self.fill(outlines.ellipse(0, y, radius, radius * self.tilt), of, tone=tone, edge=edge)

    def turned(self, profile: Outline, of: Surface | Colour | None = None, *, shade: Shade = Shade.ROUND) -> None:
        """A body of revolution round x = 0, closed at the top; `profile` is (radius, y) from top to bottom."""
        self.fill(outlines.lathe(profile, self.tilt), of, shade=shade)

    def vessel(
        self,
        profile: Outline,
        of: Surface | Colour | None = None,
        *,
        wall: float = 0.05,
        holds: Surface | Colour | None = None,
        full: float = 0.7,
    ) -> None:
        """A body of revolution that is open at the top; `holds` is what it is `full` of, 0 … 1."""
        self.turned(profile, of)
        radius, top = float(profile[0, 0]), float(profile[0, 1])
        self.level(top, radius, of, tone=0.18)
        inner = radius - wall
        self.level(top, inner, of, tone=-0.42)
        rim = self._surface(of).rim
        if rim is not None:
            self.line(outlines.ellipse(0, top, radius, radius * self.tilt), 0.055, rim)
        if holds is not None:
            # What is low in a vessel is hidden at the front by the rim: its ellipse touches the inner one there.
            held = inner * (0.7 + 0.3 * full)
            self.fill(outlines.ellipse(0, top + (inner - held) * self.tilt, held, held * self.tilt), holds, edge=False)

    def front(self, profile: Outline, of: Surface | Colour | None = None) -> None:
        """The near wall of a `vessel` again, over what was drawn as standing in it."""
        self.fill(outlines.lathe(profile, self.tilt, near_rim=True), of, shade=Shade.ROUND)

    def block(
        self, left: float, top: float, right: float, bottom: float, depth: float, of: Surface | Colour | None = None
    ) -> None:
        """A box seen from the front, a little from above and from the right; the corners given are the front's."""
        dx, dy = depth * 0.45, -depth * self.tilt
        self.fill(
            outlines.path((left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)), of, tone=0.22
        )
        self.fill(
            outlines.path((right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)),
            of,
            tone=-0.35,
        )
        self.fill(outlines.box(left, top, right, bottom), of)

    def glow(self, x: float, y: float, radius: float, colour: Colour = (255, 232, 170), strength: float = 0.7) -> None:
        """Light that spreads from a lamp or a flame."""
        centre = self._placed(np.array([[x, y]]))[0]
        reach = radius * self._unit
        box = self._box(np.array([centre - reach, centre + reach]), 0)
        if box is None:
            return
        ramp = _halo().resize((round(2 * reach), round(2 * reach)))
        left, top = (round(float(at)) for at in box[:2] - (centre - reach))
        mask = ramp.crop((left, top, left + box[2] - box[0], top + box[3] - box[1]))
        mask = mask.point([round(value * strength) for value in range(256)])
        self._layer.colour.paste(colour, box, mask)
        self._layer.coverage.paste(255, box, mask)

    def _surface(self, of: Surface | Colour | None) -> Surface:
        if of is None:
            return self.main
        return plain(of) if isinstance(of, tuple) else of

    def _placed(self, outline: Outline) -> Outline:
        return outline @ self._matrix[:, :2].T + self._matrix[:, 2]

    def _box(self, pixels: Outline, margin: float) -> tuple[int, int, int, int] | None:
        """Whole pixels round the outline and on the layer; None where nothing of it is."""
        low = np.maximum(np.floor(pixels.min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(pixels.max(axis=0) + margin) + 1, self._layer.side).astype(int)
        if (high <= low).any():
            return None
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _trace(self, pixels: Outline, width: int, colour: Colour) -> None:
        points = pixels.ravel().tolist()
        self._layer.on_colour.line(points, fill=colour, width=width, joint="curve")
        self._layer.on_coverage.line(points, fill=255, width=width, joint="curve")

    def _paint(self, mask: Image.Image, box: tuple[int, int, int, int], of: Surface, shade: Shade, tone: float) -> None:
        colour = self._layer.colour
        colour.paste(of.sheet if isinstance(of.sheet, tuple) else of.sheet.crop(box), box, mask)
        self._layer.coverage.paste(255, box, mask)
        if tone:
            ground = (255, 255, 255) if tone > 0 else (0, 0, 0)
            strength = abs(tone)
            colour.paste(ground, box, mask.point([round(value * strength) for value in range(256)]))
        if shade is not Shade.FLAT:
            dark, light = _ramps(shade, of.gloss, self._light_from_right)
            colour.paste((0, 0, 0), box, ImageChops.multiply(mask, dark.resize(mask.size)))
            bright = ImageChops.multiply(mask, light.resize(mask.size))
            colour.paste((255, 255, 255), box, bright)
            if of.alpha < 255:
                self._layer.coverage.paste(255, box, bright)

    def _shine(
        self, inside: Outline, thick: int, mask: Image.Image, box: tuple[int, int, int, int], gloss: float
    ) -> None:
        """A light line along a band, off its middle."""
        shine = Image.new("L", mask.size)
        side = 0.18 if self._light_from_right else -0.18
        along = outlines.moved(inside, side * thick, -0.18 * thick).ravel().tolist()
        ImageDraw.Draw(shine).line(along, fill=round(60 + 120 * gloss), width=max(1, thick // 4), joint="curve")
        self._layer.colour.paste((255, 255, 255), box, ImageChops.multiply(shine, mask))


@cache
def _ramps(shade: Shade, gloss: float, light_from_right: bool) -> tuple[Image.Image, Image.Image]:
    """How much black and how much white a shade adds, each "L"."""
    v, u = np.mgrid[-1 : 1 : _RAMP * 1j, -1 : 1 : _RAMP * 1j]
    if light_from_right:
        u = -u
    if shade is Shade.ROUND:
        dark = 0.55 * np.clip(u, 0, 1) ** 1.6 + 0.3 * np.clip(-u - 0.55, 0, 1)
        light = (0.12 + 0.75 * gloss) * np.exp(-(((u + 0.45) / 0.14) ** 2)) + 0.12 * np.exp(-(((u + 0.4) / 0.4) ** 2))
    elif shade is Shade.BALL:
        away = np.hypot(u + 0.4, v + 0.45)
        dark = 0.55 * np.clip(away - 0.55, 0, 1) ** 1.3
        light = (0.15 + 0.75 * gloss) * np.exp(-((away / 0.22) ** 2)) + 0.14 * np.exp(-((away / 0.6) ** 2))
    else:
        dark = 0.4 * np.clip((v + 0.6) / 1.6, 0, 1)
        light = (0.1 + 0.3 * gloss) * np.exp(-(((v + 0.9) / 0.35) ** 2))
    as_mask = [Image.fromarray(np.clip(ramp * 255, 0, 255).astype(np.uint8)) for ramp in (dark, light)]
    return as_mask[0], as_mask[1]


@cache
def _halo() -> Image.Image:
    v, u = np.mgrid[-1:1:64j, -1:1:64j]
    return Image.fromarray((255 * np.clip(1 - np.hypot(u, v), 0, 1) ** 1.7).astype(np.uint8))
