"""Put a drawn item somewhere: background, shadow, light and the grain of a camera."""

from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from retrieval.shop.materials import MATERIALS, Colour, shaded, surface
from retrieval.shop.pen import Layer
from retrieval.shop.product import Placement

_GRAIN = 512
_WALLS: tuple[Colour, ...] = (
    (236, 234, 228), (222, 226, 230), (206, 214, 206), (226, 214, 200), (190, 198, 206), (244, 244, 244),
    (212, 200, 206), (168, 178, 178), (232, 224, 208), (150, 156, 164),
)  # fmt: skip
_GROUNDS = ("oak", "walnut", "larch", "linen", "cotton", "cork")


def placed(layer: Layer, size: int, placement: Placement, ground: float, rng: np.random.Generator) -> Image.Image:
    """The picture, `size` pixels square, of what is on `layer`.

    `ground` is the height, 0 … 1 from the top, of what a standing item stands on.
    """
    colour, coverage = layer.colour, layer.coverage
    if layer.side != size:
        factor = layer.side // size
        colour, coverage = colour.reduce(factor), coverage.reduce(factor)
    scene = _background(size, placement, ground, rng)
    _cast_shadow(scene, coverage, placement, ground, rng)
    behind = ImageChops.invert(coverage)
    scene = ImageChops.add(ImageChops.multiply(scene, Image.merge("RGB", (behind,) * 3)), colour)
    return _photographed(scene, rng)


def _background(size: int, placement: Placement, ground: float, rng: np.random.Generator) -> Image.Image:
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    scene = _gradient(size, wall, rng)
    style = rng.random()
    if placement is Placement.LIES:
        if style < 0.4:
            _cover(scene, (0, 0, size, size), rng)
    else:
        if style < 0.3:
            _wall_lines(scene, wall, rng)
        elif style < 0.55:
            _clutter(scene, ground, rng)
        if placement is Placement.STANDS and rng.random() < 0.75:
            _table(scene, ground, rng)
    return scene


def _gradient(size: int, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """The colour, lighter on one side."""
    corners = np.array(colour) + rng.normal(0, 9, (2, 2, 1)) + rng.normal(0, 3, (2, 2, 3))
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BILINEAR)


def _table(scene: Image.Image, ground: float, rng: np.random.Generator) -> None:
    """A surface under the item, its far edge somewhere behind."""
    size = scene.size[0]
    far = round(size * (ground - rng.uniform(0.04, 0.26)))
    box = (0, max(1, far), size, size)
    if rng.random() < 0.5:
        _cover(scene, box, rng)
    else:
        shade = shaded(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.6, 0.95)))
        scene.paste(shade, box)
    ImageDraw.Draw(scene).line([0, far, size, far], fill=(110, 104, 98), width=1)


def _cover(scene: Image.Image, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    """Wood, cloth or cork in `box`, paler than an item's own."""
    name = _GROUNDS[int(rng.integers(len(_GROUNDS)))]
    sheet = surface(MATERIALS[name], scene.size[0], rng, zoom=1.3).sheet
    assert isinstance(sheet, Image.Image)
    piece = sheet.crop((0, 0, box[2] - box[0], box[3] - box[1]))
    pale = Image.new("RGB", piece.size, (214, 210, 204))
    scene.paste(Image.blend(piece, pale, float(rng.uniform(0.35, 0.65))), box)


def _wall_lines(scene: Image.Image, wall: Colour, rng: np.random.Generator) -> None:
    """Tiles, panels or boards."""
    size = scene.size[0]
    draw, line = ImageDraw.Draw(scene), shaded(wall, float(rng.uniform(0.82, 0.93)))
    step = round(size * rng.uniform(0.14, 0.3))
    kind = int(rng.integers(3))
    for at in range(int(rng.integers(step)), size, step):
        if kind != 1:
            draw.line([at, 0, at, size], fill=line, width=max(1, size // 96))
        if kind != 0:
            draw.line([0, at, size, at], fill=line, width=max(1, size // 96))


def _clutter(scene: Image.Image, ground: float, rng: np.random.Generator) -> None:
    """A few things far out of focus."""
    size = scene.size[0]
    small = scene.resize((32, 32))
    draw = ImageDraw.Draw(small)
    for _ in range(int(rng.integers(1, 4))):
        x, wide, tall = rng.uniform(0, 32), rng.uniform(3, 9), rng.uniform(5, 18)
        bottom = 32 * ground - rng.uniform(2, 7)
        fill = shaded(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.55, 0.9)))
        shape = draw.rectangle if rng.random() < 0.6 else draw.ellipse
        shape([x - wide / 2, bottom - tall, x + wide / 2, bottom], fill=fill)
    scene.paste(small.filter(ImageFilter.GaussianBlur(1.0)).resize((size, size), Image.Resampling.BICUBIC))


def _cast_shadow(
    scene: Image.Image, coverage: Image.Image, placement: Placement, ground: float, rng: np.random.Generator
) -> None:
    """Darken the scene where the item keeps the light away."""
    size = coverage.size[0]
    lean = float(rng.uniform(-0.9, 0.9))
    strength = float(rng.uniform(0.2, 0.45))
    if placement is Placement.STANDS:
        # The item's shape, laid down: y is squashed towards the ground and x leans away from the light.
        base, squash = ground * size, float(rng.uniform(0.14, 0.3))
        taken = (1, -lean / squash * 0.5, lean / squash * 0.5 * base, 0, 1 / squash, base - base / squash)
        shadow = coverage.transform((size, size), Image.Transform.AFFINE, taken)
    else:
        shadow = ImageChops.offset(coverage, round(lean * size * 0.05), round(size * 0.03))
    shadow = shadow.reduce(2).filter(ImageFilter.GaussianBlur(size / 80)).resize((size, size))
    scene.paste((24, 20, 22), (0, 0), shadow.point([round(value * strength) for value in range(256)]))


def _photographed(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, white balance, contrast and sensor noise."""
    exposure, contrast = rng.normal(1.0, 0.07), rng.normal(1.0, 0.07)
    balance = rng.normal(0, 0.025, 3) * (1, 0.4, 1) + exposure
    values = np.arange(256)
    table = [np.clip((values - 128) * contrast + 128, 0, 255) * gain for gain in balance]
    scene = scene.point(np.clip(np.concatenate(table), 0, 255).astype(int).tolist())
    if rng.random() < 0.25:
        scene = scene.filter(ImageFilter.GaussianBlur(scene.size[0] / 128 * rng.uniform(0.3, 0.9)))
    size = scene.size[0]
    left, top = (int(rng.integers(0, max(1, _GRAIN - size))) for _ in range(2))
    grain = _film_grain().crop((left, top, left + size, top + size))
    # Noise about 128, of which a varying share is added.
    return Image.blend(scene, ImageChops.add(scene, grain, offset=-128), float(rng.uniform(0.2, 1.0)))


@cache
def _film_grain() -> Image.Image:
    noise = np.random.default_rng(0).normal(128, 6, (_GRAIN, _GRAIN, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
