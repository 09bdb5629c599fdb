"""Bring a picture to the encoder's square, and take the box of an object along, so that attention knows where it is."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval.errors import BoxError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Floats = npt.NDArray[np.float32]

_DIGITS = 6
"""Digits that places on the square are told to, pixels: floats err by less, and nobody draws boxes so finely."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of its picture, the left upper corner of which is (0, 0)."""

    x1: float
    y1: float
    x2: float
    y2: float

    def checked_alone(self) -> "Box":
        """The box; BoxError where a side is not finite or it has no area."""
        sides = (self.x1, self.y1, self.x2, self.y2)
        if not all(math.isfinite(side) for side in sides):
            raise BoxError(f"box must be four finite numbers, got {sides}; give x1, y1, x2, y2 in pixels")
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise BoxError(f"box must have x1 < x2 and y1 < y2, got {sides}; give the left upper corner first")
        return self

    def checked(self, width: int, height: int) -> "Box":
        """The part of the box within a picture of `width` × `height`.

        BoxError as `checked_alone`, and where the box lies outside the picture.
        """
        self.checked_alone()
        inside = Box(max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, float(width)), min(self.y2, float(height)))
        if inside.x1 >= inside.x2 or inside.y1 >= inside.y2:
            raise BoxError(
                f"box must lie in the picture of {width} by {height} pixels, got "
                f"{(self.x1, self.y1, self.x2, self.y2)}; give pixels of the picture as it is stored, not of a "
                "thumbnail, and no shares of its sides"
            )
        return inside


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageGeometry:
    """How a picture becomes the pixels of an encoder, and which of the encoder's tokens a box covers.

    Padded to a proportion of sides of at most `most_aspect`, the shorter side resized to `size`, the middle cut out.
    """

    size: int = 224
    """Side of the square, pixels."""
    patch: int = 14
    """Side of what one token sees, pixels."""
    most_aspect: float = 1.25
    """Longer side by shorter from which on a picture is padded."""
    mean: tuple[float, ...] = CLIP_MEAN
    """Subtracted from each channel of [0, 1]."""
    std: tuple[float, ...] = CLIP_STD
    """What each channel is then divided by."""

    def __post_init__(self) -> None:
        if self.patch < 1 or self.size < self.patch:
            raise ValueError(f"size must be at least one patch, got size {self.size} and patch {self.patch}")
        if self.most_aspect < 1:
            raise ValueError(f"most_aspect must be at least 1, got {self.most_aspect}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must be three numbers, std above 0; got {self.mean} and {self.std}")

    @property
    def side(self) -> int:
        """Tokens along a side of the grid."""
        return self.size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens P of a picture: the CLS token and the grid."""
        return 1 + self.side * self.side

    def fitted(self, image: Image.Image) -> Image.Image:
        """The picture as a square of `size` pixels."""
        across, down, resized, (left, top) = self._steps(*image.size)
        if across or down:
            padded = Image.new("RGB", (image.width + 2 * across, image.height + 2 * down))
            padded.paste(image, (across, down))
            image = padded
        image = image.resize(resized, Image.Resampling.BICUBIC)
        return image.crop((left, top, left + self.size, top + self.size))

    def pixels(self, image: Image.Image) -> Floats:
        """The encoder's pixels [3, size, size] of a picture."""
        values = np.asarray(self.fitted(image), dtype=np.float32) / 255
        mean, std = (np.array(each, dtype=np.float32) for each in (self.mean, self.std))
        normalised = (values - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def moved(self, box: Box, width: int, height: int) -> Box | None:
        """Where `box` of a picture of `width` × `height` lies on the square; None where it was cut away."""
        across, down, resized, (left, top) = self._steps(width, height)
        scales = resized[0] / (width + 2 * across), resized[1] / (height + 2 * down)
        x1, x2 = (self._within((x + across) * scales[0] - left) for x in (box.x1, box.x2))
        y1, y2 = (self._within((y + down) * scales[1] - top) for y in (box.y1, box.y2))
        return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None

    def mask(self, box: Box | None) -> Floats:
        """M [tokens] of a box on the square: 1 for the patches that it overlaps, 0 for others and for CLS.

        No box, no token: zeros.
        """
        grid = np.zeros((self.side, self.side), dtype=np.float32)
        if box is not None:
            columns = slice(math.floor(box.x1 / self.patch), math.ceil(box.x2 / self.patch))
            rows = slice(math.floor(box.y1 / self.patch), math.ceil(box.y2 / self.patch))
            grid[rows, columns] = 1
        return np.concatenate([np.zeros(1, dtype=np.float32), grid.reshape(-1)])

    def _within(self, at: float) -> float:
        """A place on the square's side; without the error of floats, which would take a box into the next patch."""
        return min(max(round(at, _DIGITS), 0.0), float(self.size))

    def _steps(self, width: int, height: int) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
        """Padding on each side across and down, size after resizing, left upper corner of the crop."""
        longest = max(width, height) / self.most_aspect
        across, down = (max(int((longest - side) / 2), 0) for side in (width, height))
        padded = (width + 2 * across, height + 2 * down)
        shorter = min(padded)
        # Multiplied before it is divided, and the longer side cut off, not rounded: as published.
        resized = (self.size * padded[0] // shorter, self.size * padded[1] // shorter)
        left, top = (round((side - self.size) / 2) for side in resized)
        return across, down, resized, (left, top)
