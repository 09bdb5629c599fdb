"""Decode images that anyone may have sent: what is not allowed, damaged or too large is refused while it is cheap."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, WebPImagePlugin

from retrieval.errors import ImageRefused, Refusal
from retrieval.image_formats.header import Header
from retrieval.image_formats.sniff import read_header

ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Pillow's names of what is decoded; GIF, PNG and WebP where they hold one picture."""

Image.preinit()
Image.register_open(WebPImagePlugin.WebPImageFile.format, WebPImagePlugin.WebPImageFile)

_WHITE = (255, 255, 255)
_BYTES_A_PIXEL = 4
"""What the buffers of Pillow and libwebp take."""
_BYTES_A_COEFFICIENT = 2
_JPEG_SCALES = (8, 4, 2, 1)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what puts it right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """What is accepted; the defaults hold what any file costs until it is refused under 64 MB and 100 ms."""

    max_bytes: int = 10 << 20
    """Bytes of the file."""
    max_pixels: int = 40_000_000
    """Width × height, as the header declares them."""
    max_memory: int = 40 << 20
    """Bytes that the decoder may hold before it knows whether the file is sound, by what the header declares: 4 a
    pixel, of which a JPEG at a reduced scale has few, and for a progressive JPEG up to 8 more a pixel of the file."""
    min_side: int = 8
    """Pixels of the shorter side; less shows nothing."""
    max_aspect: float = 20.0
    """Longer side by shorter; encoders enlarge the shorter one to hundreds of pixels."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def decode_image(
    data: bytes | Path, limits: ImageLimits = ImageLimits(), *, target: tuple[int, int] | None = None
) -> Image.Image:
    """The RGB picture in `data`, turned as its EXIF orientation says, transparency on white.

    `target` is the (width, height) that the caller shrinks to: a JPEG is then decoded at the smallest of the scales
    1/8, 1/4, 1/2 and 1 that is not below it, which takes a fraction of the time and memory. Bytes after the end of the
    picture are not read. ImageRefused says why; OSError where a path cannot be read. Safe in several threads.
    """
    header = read_header(_bytes_of(data, limits))
    scale = _scale(header, target)
    _check_size(header, limits)
    _check_memory(header, scale, limits)
    try:
        return _decoded(header, scale)
    except (ImageRefused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageRefused(Refusal.TOO_MANY_PIXELS, f"{header.format} is refused by Pillow: {error}") from error
    except Exception as error:  # whatever a parser raises on what it does not expect
        reason = Refusal.TRUNCATED if "truncated" in str(error) else Refusal.DAMAGED
        raise ImageRefused(
            reason, f"{header.format} cannot be decoded: {error or repr(error)}; save it again"
        ) from error


def _bytes_of(data: bytes | Path, limits: ImageLimits) -> bytes:
    if isinstance(data, Path):
        with data.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    if not data:
        raise ImageRefused(Refusal.EMPTY, "image must have bytes, got none; was the file uploaded?")
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            Refusal.TOO_MANY_BYTES, f"image must have at most {limits.max_bytes:,} bytes, got more; send a smaller one"
        )
    return data


def _check_size(header: Header, limits: ImageLimits) -> None:
    shorter, longer = sorted((header.width, header.height))
    size = f"{header.width} by {header.height}"
    most = min(limits.max_pixels, Image.MAX_IMAGE_PIXELS or limits.max_pixels)
    if shorter * longer > most:
        raise ImageRefused(
            Refusal.TOO_MANY_PIXELS,
            f"{header.format} must have at most {most:,} pixels, got {size}; send a smaller one",
        )
    if shorter < limits.min_side:
        raise ImageRefused(
            Refusal.TOO_SMALL,
            f"{header.format} must have sides of at least {limits.min_side} pixels, got {size}; send a larger one",
        )
    if longer > limits.max_aspect * shorter:
        raise ImageRefused(
            Refusal.TOO_ELONGATED,
            f"{header.format} must be at most {limits.max_aspect:g} times as long as wide, got {size}; crop it",
        )


def _check_memory(header: Header, scale: int, limits: ImageLimits) -> None:
    pixels = -(-header.width // scale) * -(-header.height // scale)
    needed = _BYTES_A_PIXEL * pixels + _BYTES_A_COEFFICIENT * header.coefficients
    if needed > limits.max_memory:
        raise ImageRefused(
            Refusal.TOO_MANY_PIXELS,
            f"{header.format} of {header.width} by {header.height} takes {needed >> 20} MiB to decode, "
            f"at most {limits.max_memory >> 20} MiB are allowed; send a smaller one",
        )


def _scale(header: Header, target: tuple[int, int] | None) -> int:
    """The whole number by which a JPEG's sides are divided while it is decoded."""
    if target is None or header.format != "JPEG":
        return 1
    width, height = reversed(target) if header.orientation >= 5 else target
    room = min(header.width // width, header.height // height)
    return next((scale for scale in _JPEG_SCALES if scale <= room), 1)


def _decoded(header: Header, scale: int) -> Image.Image:
    with Image.open(io.BytesIO(header.data), formats=(header.format,)) as opened:
        if opened.size != (header.width, header.height):
            raise ImageRefused(
                Refusal.DAMAGED,
                f"{header.format} is damaged: it is {header.width} by {header.height} and {opened.size}; save it again",
            )
        if scale > 1:
            opened.draft(None, (header.width // scale, header.height // scale))
        opened.load()
        image = _on_white(opened)
    turn = _TURNS.get(header.orientation)
    return image.transpose(turn) if turn is not None else image


def _on_white(image: Image.Image) -> Image.Image:
    """RGB of any mode that the allowed formats decode to."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGB", image.size, _WHITE)
        white.paste(over, mask=over.getchannel("A"))
        return white
    return image.convert("RGB")
