"""A scene: a place at a time, objects in it; and its picture, with a box round each object."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from retrieval.composed.world.drawing import draw
from retrieval.composed.world.instances import Instance
from retrieval.composed.world.places import place

TIMES: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.1, 0.84, 0.64),
    "night": (0.42, 0.48, 0.72),
}
"""Time → what its light makes of red, green and blue."""
TIME_WORDS: dict[str, str] = {"day": "by day", "sunset": "at sunset", "night": "at night"}
_VIEWS = 4
"""Drawings of each object, from other points of view, that scenes take from."""
_LEAST_SEEN = 0.6
"""Share of an object that others may not hide."""
_ATTEMPTS = 12
Sides = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows."""

    kind: str
    """Kind of the place."""
    place: int
    """Which place of that kind."""
    time: str
    """One of TIMES."""
    objects: tuple[str, ...]
    """Names of instances, two to four; the first is what the picture is about."""

    @property
    def anchor(self) -> str:
        """What the picture is about."""
        return self.objects[0]


def render(scene: Scene, instances: dict[str, Instance], seed: int, size: int) -> tuple[Image.Image, list[Sides]]:
    """The picture, `size` pixels square, and a box x1, y1, x2, y2 round what is seen of each object, in order.

    Another `seed` is another photograph: positions, sizes, points of view, exposure. Most of each object is seen.
    """
    rng = np.random.default_rng([seed, size])
    empty, horizon = _empty(scene.kind, scene.place, size)
    views = [_view(instances[name], int(rng.integers(_VIEWS))) for name in scene.objects]
    for attempt in range(_ATTEMPTS):
        image = empty.copy()
        seen = _arranged(image, views, horizon, rng)
        if min(seen.shares) >= _LEAST_SEEN or attempt == _ATTEMPTS - 1:
            break
    return _photographed(image, scene.time, rng), [_box(seen.owner == at) for at in range(len(views))]


@dataclass(frozen=True, slots=True)
class _Arrangement:
    owner: npt.NDArray[np.int8]
    """Which object each pixel shows; −1 for none."""
    shares: list[float]
    """How much is seen of each."""


def _arranged(image: Image.Image, views: list[Image.Image], horizon: float, rng: np.random.Generator) -> _Arrangement:
    """Put the objects somewhere on the ground, nearer ones before farther ones."""
    size, count = image.width, len(views)
    owner = np.full((size, size), -1, dtype=np.int8)
    areas = [0] * count
    slots = (rng.permutation(count) + 0.5) / count
    feet = rng.uniform(max(horizon + 0.2, 0.66), 0.97, count)
    for at in np.argsort(feet).tolist():
        longest = size * rng.uniform(0.34, 0.44) * (1.0 if count < 4 else 0.84)
        scale = longest / max(views[at].size)
        small = views[at].resize(
            (round(views[at].width * scale), round(views[at].height * scale)), Image.Resampling.LANCZOS
        )
        if rng.random() < 0.2:
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left = round(size * (slots[at] + rng.normal(0, 0.02)) - small.width / 2)
        left = min(max(left, 0), size - small.width)
        top = min(max(round(size * feet[at]) - small.height, 0), size - small.height)
        _shadow(image, left, top, small)
        image.paste(small, (left, top), small)
        seen = np.asarray(small.getchannel("A")) > 127
        areas[at] = int(seen.sum())
        owner[top : top + small.height, left : left + small.width][seen] = at
    return _Arrangement(owner, [float((owner == at).sum()) / max(1, areas[at]) for at in range(count)])


@lru_cache(maxsize=4096)
def _view(instance: Instance, view: int) -> Image.Image:
    """One drawing of an object; scenes share them, since an object is drawn more slowly than it is pasted."""
    return draw(instance, np.random.default_rng([view, *instance.name.encode()]))


@lru_cache(maxsize=64)
def _empty(kind: str, number: int, size: int) -> tuple[Image.Image, float]:
    return place(kind, number, size)


def _shadow(image: Image.Image, left: int, top: int, drawn: Image.Image) -> None:
    wide, high = drawn.width, max(3, round(drawn.height * 0.1))
    shade = Image.new("L", (wide, high * 2))
    shade.paste(90, (wide // 10, high // 2, wide - wide // 10, high * 3 // 2))
    shade = shade.filter(ImageFilter.GaussianBlur(high / 3))
    image.paste((16, 14, 18), (left, top + drawn.height - high), shade)


def _photographed(image: Image.Image, time: str, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    light = np.array(TIMES[time], dtype=np.float32) * rng.normal(1, 0.04)
    grain = rng.normal(0, 3.5, pixels.shape).astype(np.float32)
    return Image.fromarray((pixels * light + grain).clip(0, 255).astype(np.uint8))


def _box(seen: np.ndarray) -> Sides:
    """Round what is seen of an object."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
