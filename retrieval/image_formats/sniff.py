"""Tell a file's format by its first bytes, never by its name, and have its header read."""

import re
import struct
from collections.abc import Callable

from retrieval.errors import ImageRefused, Refusal
from retrieval.image_formats.bmp import read_bmp
from retrieval.image_formats.gif import read_gif
from retrieval.image_formats.header import Header, not_allowed, truncated
from retrieval.image_formats.jpeg import read_jpeg
from retrieval.image_formats.png import read_png
from retrieval.image_formats.webp import read_webp

_READERS: dict[re.Pattern[bytes], Callable[[bytes], Header]] = {
    re.compile(rb"\xff\xd8\xff"): read_jpeg,
    re.compile(rb"\x89PNG"): read_png,
    re.compile(rb"RIFF....WEBP", re.DOTALL): read_webp,
    re.compile(rb"GIF8[79]a"): read_gif,
    re.compile(rb"BM"): read_bmp,
}
_OTHERS = {
    re.compile(pattern, re.DOTALL): name
    for pattern, name in {
        rb"II[*+]\0|MM\0[*+]": "a TIFF image",
        rb"\0\0[\x01\x02]\0": "a Windows icon or cursor",
        rb"8BPS": "a Photoshop document",
        rb"%PDF": "a PDF document",
        rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript document",
        rb"PK\x03\x04": "a ZIP archive",
        rb"\x1f\x8b": "a gzip archive",
        rb"....ftyp": "an AVIF or HEIC image, or a video",
        rb"....jP  |\xff\x4f\xff\x51": "a JPEG 2000 image",
        rb"....JXL |\xff\x0a": "a JPEG XL image",
        rb"qoif": "a QOI image",
        rb"DDS ": "a DirectDraw surface",
        rb"icns": "an Apple icon",
        rb"P[1-7]\s": "a Netpbm image",
        rb"RIFF": "a RIFF file that is not WebP",
        rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z]": "SVG, HTML or other markup",
    }.items()
}
_HEAD = 1_024
"""Bytes in which a format has to show itself."""
_WANTED = "image must be JPEG, PNG, WebP, GIF or BMP"


def read_header(data: bytes) -> Header:
    """What `data` says of itself, its structure checked to the end of the picture; ImageRefused says what is wrong."""
    for pattern, reader in _READERS.items():
        if pattern.match(data):
            try:
                return reader(data)
            except (struct.error, IndexError):
                truncated("image", f"its structure goes on beyond its {len(data):,} bytes")
    head = data[:_HEAD]
    for pattern, name in _OTHERS.items():
        if pattern.match(head):
            not_allowed(_WANTED, name)
    raise ImageRefused(
        Refusal.UNKNOWN_FORMAT, f"{_WANTED}, got bytes that start with {data[:8].hex(' ')}; send an image file"
    )
