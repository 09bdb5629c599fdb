"""Turn a decoded image into the pixels that an encoder was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image


class Fit(StrEnum):
    """How an image of any shape becomes the rectangle that the encoder takes."""

    CROP = "crop"
    """Shortest side to the size, the middle kept: CLIP."""
    STRETCH = "stretch"
    """Both sides to the size: SigLIP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Resize, crop, scale to [0, 1], normalise."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    fit: Fit = Fit.CROP
    """How the shape is changed."""
    shortest: int | None = None
    """Length of the shortest side before the crop, pixels; None: the larger of height and width."""
    resample: int = int(Image.Resampling.BICUBIC)
    """Pillow's number of the resampling filter."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of each channel, subtracted after scaling to [0, 1]."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of each channel, divided by."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"height and width must be at least 1, got {self.height} and {self.width}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def shrinks_to(self) -> tuple[int, int]:
        """(width, height) below which a picture would have to be enlarged: the `target` of `decode_image`."""
        if self.fit is Fit.STRETCH:
            return self.width, self.height
        return self._shortest, self._shortest

    @property
    def _shortest(self) -> int:
        return self.shortest or max(self.height, self.width)

    def apply(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """The pixels of one RGB image, [3, height, width]."""
        if image.mode != "RGB":
            raise ValueError(f"image must be RGB, got {image.mode}; decode it with retrieval.images.decode_image")
        pixels = np.asarray(self.fitted(image), dtype=np.float32)  # [H, W, 3]
        # One multiplication and one addition a value: (x / 255 - mean) / std.
        scale = (1 / (255 * np.asarray(self.std))).astype(np.float32)
        shift = (np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        return np.ascontiguousarray((pixels * scale - shift).transpose(2, 0, 1))

    def apply_all(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """The pixels of n RGB images, [n, 3, height, width]."""
        pixels = np.empty((len(images), 3, self.height, self.width), dtype=np.float32)
        for at, image in enumerate(images):
            pixels[at] = self.apply(image)
        return pixels

    def fitted(self, image: Image.Image) -> Image.Image:
        """The image brought to height and width."""
        filter_ = Image.Resampling(self.resample)
        if self.fit is Fit.STRETCH:
            return image.resize((self.width, self.height), filter_)
        # Multiplied before it is divided, and the longer side cut off, not rounded: as published.
        width, height = (int(self._shortest * side / min(image.size)) for side in image.size)
        left, top = (width - self.width) // 2, (height - self.height) // 2
        resized = image.resize((width, height), filter_)
        return resized.crop((left, top, left + self.width, top + self.height))
