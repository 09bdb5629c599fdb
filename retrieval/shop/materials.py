"""What items are made of: the colour, texture and shine that tell walnut from oak and brass from nickel."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps

from retrieval.shop.textures import SIDE, VARIANTS, sheet

Colour = tuple[int, int, int]


class Kind(StrEnum):
    """What a material behaves like: a drawing chooses the parts of other materials by it."""

    WOOD = "wood"
    CLOTH = "cloth"
    METAL = "metal"
    CERAMIC = "ceramic"
    GLASS = "glass"
    HIDE = "hide"
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Material:
    """A material as the renderer sees it."""

    kind: Kind
    texture: str
    """Its name in `textures.TEXTURES`."""
    dark: Colour
    """Of the darkest parts of the texture."""
    light: Colour
    """Of the lightest."""
    gloss: float = 0.0
    """How bright a reflection is, 0 … 1."""
    alpha: int = 255
    """How much of what lies behind is hidden, 0 … 255."""
    rim: Colour | None = None
    """Of the rim of a vessel where it has another colour."""


MATERIALS: dict[str, Material] = {
    "walnut": Material(Kind.WOOD, "broad grain", (44, 26, 16), (134, 92, 62), 0.15),
    "oak": Material(Kind.WOOD, "straight grain", (142, 104, 58), (226, 192, 140), 0.1),
    "bamboo": Material(Kind.WOOD, "laminated", (178, 146, 66), (250, 232, 166), 0.2),
    "olive wood": Material(Kind.WOOD, "swirling grain", (84, 56, 22), (232, 194, 112), 0.2),
    "cherry wood": Material(Kind.WOOD, "quiet grain", (104, 36, 20), (206, 108, 72), 0.25),
    "acacia": Material(Kind.WOOD, "streaked grain", (50, 26, 12), (216, 150, 84), 0.15),
    "merino": Material(Kind.CLOTH, "fine knit", (72, 84, 104), (168, 182, 202)),
    "cotton": Material(Kind.CLOTH, "tight weave", (188, 186, 180), (254, 252, 246)),
    "cashmere": Material(Kind.CLOTH, "nap", (158, 122, 88), (226, 198, 164)),
    "linen": Material(Kind.CLOTH, "open weave", (122, 112, 80), (226, 216, 180)),
    "alpaca": Material(Kind.CLOTH, "wide knit", (62, 44, 34), (160, 126, 100)),
    "mohair": Material(Kind.CLOTH, "halo of hairs", (140, 84, 116), (248, 206, 224)),
    "brass": Material(Kind.METAL, "brushed", (118, 84, 20), (252, 220, 122), 0.9),
    "copper": Material(Kind.METAL, "brushed", (122, 48, 24), (250, 168, 126), 0.9),
    "matt black": Material(Kind.METAL, "smooth", (16, 16, 18), (66, 66, 70), 0.15),
    "nickel": Material(Kind.METAL, "brushed", (98, 100, 106), (242, 244, 248), 1.0),
    "rattan": Material(Kind.WOOD, "basket", (92, 58, 24), (232, 188, 122), 0.1),
    "paper": Material(Kind.PAPER, "ribs", (204, 200, 188), (255, 254, 246)),
    "stoneware": Material(Kind.CERAMIC, "specked", (92, 84, 74), (212, 204, 190), 0.3),
    "porcelain": Material(Kind.CERAMIC, "smooth", (212, 218, 230), (255, 255, 255), 1.0),
    "terracotta": Material(Kind.CERAMIC, "fine-grained", (150, 70, 40), (222, 130, 88), 0.0),
    "enamel": Material(Kind.CERAMIC, "smooth", (206, 200, 176), (252, 248, 228), 0.8, rim=(34, 52, 110)),
    "glass": Material(Kind.GLASS, "smooth", (146, 194, 196), (226, 248, 248), 1.0, 105),
    "earthenware": Material(Kind.CERAMIC, "running glaze", (70, 38, 18), (194, 128, 62), 0.7),
    "leather": Material(Kind.HIDE, "pebbled", (76, 34, 14), (176, 98, 52), 0.35),
    "canvas": Material(Kind.CLOTH, "heavy weave", (146, 132, 96), (232, 220, 186)),
    "suede": Material(Kind.HIDE, "nap", (128, 92, 64), (196, 156, 120)),
    "waxed cotton": Material(Kind.CLOTH, "creased", (38, 44, 32), (130, 134, 98), 0.25),
    "cork": Material(Kind.HIDE, "crumbs", (110, 68, 34), (226, 180, 124)),
    "nylon": Material(Kind.CLOTH, "ripstop", (18, 28, 58), (98, 122, 178), 0.4),
    "steel": Material(Kind.METAL, "brushed", (120, 128, 138), (236, 240, 246), 0.9),
    "cedar": Material(Kind.WOOD, "knotted", (112, 48, 28), (206, 126, 88), 0.05),
    "zinc": Material(Kind.METAL, "crystals", (94, 104, 112), (182, 192, 198), 0.3),
    "teak": Material(Kind.WOOD, "straight grain", (112, 66, 24), (202, 142, 72), 0.15),
    "cast iron": Material(Kind.METAL, "coarse", (18, 18, 20), (84, 82, 82), 0.15),
    "larch": Material(Kind.WOOD, "knotted", (170, 110, 50), (246, 208, 140), 0.05),
}


@dataclass(frozen=True, slots=True)
class Surface:
    """A material ready to be painted with: as large as the canvas, in its colour."""

    sheet: Image.Image | Colour
    """RGB texture, canvas-sized, or one colour."""
    edge: Colour
    """Of the line round a part."""
    gloss: float = 0.0
    """How bright a reflection is, 0 … 1."""
    alpha: int = 255
    """How much of what lies behind is hidden, 0 … 255."""
    kind: Kind | None = None
    """What the material behaves like; None for a plain colour."""
    rim: Colour | None = None
    """Of the rim of a vessel where it has another colour."""

    def turned(self) -> "Surface":
        """The same with its texture turned by a quarter, for upright parts."""
        if isinstance(self.sheet, tuple):
            return self
        turned = self.sheet.transpose(Image.Transpose.TRANSPOSE)
        return replace(self, sheet=turned)


def plain(colour: Colour, *, gloss: float = 0.0, alpha: int = 255) -> Surface:
    """A surface of one colour."""
    return Surface(colour, shaded(colour, 0.5), gloss, alpha)


def surface(
    material: Material, canvas: int, rng: np.random.Generator, *, colour: Colour | None = None, zoom: float = 1.0
) -> Surface:
    """A piece of `material`, in `colour` where it is dyed or painted, its texture enlarged by `zoom`."""
    dark, light = (material.dark, material.light) if colour is None else (shaded(colour, 0.6), shaded(colour, 1.2))
    warmth = rng.normal(0, 2.5, 3) + rng.normal(0, 6)
    dark, light = _added(dark, warmth), _added(light, warmth)
    # A sheet is cut so that its texture is as fine on a small picture as on a large one.
    side = min(SIDE, round(256 / zoom))
    left, top = (int(rng.integers(0, SIDE - side + 1)) for _ in range(2))
    piece = sheet(material.texture, int(rng.integers(VARIANTS))).crop((left, top, left + side, top + side))
    if side != canvas:
        piece = piece.resize((canvas, canvas), Image.Resampling.BILINEAR)
    edge = shaded(dark, 0.55) if material.kind is not Kind.GLASS else shaded(dark, 0.8)
    return Surface(
        ImageOps.colorize(piece, dark, light), edge, material.gloss, material.alpha, material.kind, material.rim
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour, so many times as bright."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def _added(colour: Colour, change: np.ndarray) -> Colour:
    red, green, blue = (int(np.clip(channel + step, 0, 255)) for channel, step in zip(colour, change, strict=True))
    return red, green, blue
