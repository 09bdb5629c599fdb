"""Turn reference pictures into what the model asks of them: decoded once, their features remembered."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from PIL import Image

from retrieval.composed.encoder import ComposedEncoder, Tokens
from retrieval.composed.geometry import Box, Floats
from retrieval.image_formats.sniff import read_header
from retrieval.images import ImageLimits, decode_image

_TURNED = 5
"""EXIF orientations from here on swap width and height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSize:
    """How large a picture is."""

    width: int
    """Pixels of the file, turned as its orientation says: what boxes count in."""
    height: int
    decoded: tuple[int, int]
    """Width and height at which the encoder was shown it; a large JPEG is decoded at a fraction of its size."""

    def seen(self, box: Box) -> Box:
        """`box` in pixels of the picture as decoded."""
        across, down = self.decoded[0] / self.width, self.decoded[1] / self.height
        return Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A picture as queries refer to it."""

    tokens: Tokens
    """Frozen features [P, C]."""
    size: PictureSize
    square: Image.Image | None = None
    """The picture as the encoder sees it; None where only its features were needed so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPicture:
    """A decoded picture."""

    pixels: Floats
    """[3, S, S]."""
    size: PictureSize
    square: Image.Image


def read_picture(data: bytes, encoder: ComposedEncoder, limits: ImageLimits) -> ReadPicture:
    """Decode and resize for `encoder`; ImageRefused says why not. Blocking."""
    geometry = encoder.geometry
    # Twice the square: resizing has then as much to choose from as the eye can tell.
    image = decode_image(data, limits, target=(2 * geometry.size, 2 * geometry.size))
    header = read_header(data)
    turned = header.orientation >= _TURNED
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    return ReadPicture(
        pixels=geometry.pixels(image),
        size=PictureSize(width=width, height=height, decoded=image.size),
        square=geometry.fitted(image),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedBox:
    """What became of a box."""

    mask: Floats
    """M [P]; zeros where there is no box or nothing of it is seen."""
    clipped: bool = False
    """A part of it is outside the picture."""
    seen: bool = True
    """False where the middle square has nothing of it."""


def masked(box: Box | None, size: PictureSize, encoder: ComposedEncoder) -> MaskedBox:
    """Which tokens `box` covers; BoxError where it marks nothing of the picture."""
    geometry = encoder.geometry
    if box is None:
        return MaskedBox(mask=geometry.mask(None))
    inside = box.checked(size.width, size.height)
    moved = geometry.moved(size.seen(inside), *size.decoded)
    return MaskedBox(mask=geometry.mask(moved), clipped=inside != box, seen=moved is not None)


class RememberedReferences:
    """The references used last. Use it in one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, Reference] = OrderedDict()

    def get(self, key: str) -> Reference | None:
        """What was kept under `key`."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: str, reference: Reference) -> None:
        """Remember `reference`, and forget the one used least recently where there are too many."""
        # A row of a batch must not hold the whole batch.
        self._kept[key] = replace(reference, tokens=reference.tokens.copy())
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
