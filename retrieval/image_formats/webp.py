"""Read the header of a WebP (RFC 9649) and keep its one picture."""

import struct
from collections.abc import Iterator

from retrieval.image_formats.exif import orientation as orientation_in
from retrieval.image_formats.header import MOST_PARTS, Header, animated, damaged, truncated

_ANIMATION, _ALPHA = 0x02, 0x10
_MOST_EXIF = 1 << 16


def read_webp(data: bytes) -> Header:
    """Size and orientation of a WebP of one picture; canvas and picture must agree."""
    canvas: tuple[int, int] | None = None
    picture: tuple[int, int] | None = None
    orientation = 1
    kept: list[bytes] = []
    for kind, body in _chunks(data):
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and body[0] & _ANIMATION):
            animated("WebP")
        if kind == b"VP8X":
            canvas = _three_bytes(body, 4) + 1, _three_bytes(body, 7) + 1
            kept.append(_chunk(kind, bytes([body[0] & _ALPHA]) + bytes(body[1:10])))
        elif kind == b"ALPH":
            kept.append(_chunk(kind, body))
        elif kind in (b"VP8 ", b"VP8L"):
            if picture is not None:
                damaged("WebP", "it has two pictures")
            picture = _lossy_size(body) if kind == b"VP8 " else _lossless_size(body)
            kept.append(_chunk(kind, body))
        elif kind == b"EXIF":
            exif = bytes(body[:_MOST_EXIF])
            orientation = orientation_in(exif.removeprefix(b"Exif\0\0"))
    if picture is None:
        damaged("WebP", "it has no picture")
    if canvas not in (None, picture):
        damaged("WebP", f"its canvas is {canvas} and its picture {picture}")
    body_of_all = b"WEBP" + b"".join(kept)
    riff = b"RIFF" + struct.pack("<I", len(body_of_all)) + body_of_all
    return Header(format="WEBP", width=picture[0], height=picture[1], data=riff, orientation=orientation)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        truncated("WebP", f"it should have {end:,} bytes and has {len(data):,}")
    at = 12
    for _ in range(MOST_PARTS):
        if at >= end:
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            truncated("WebP", f"a chunk of {length:,} bytes does not end within {end:,}")
        yield kind, memoryview(data)[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    damaged("WebP", f"it has more than {MOST_PARTS:,} chunks")


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _three_bytes(body: memoryview, at: int) -> int:
    return int.from_bytes(body[at : at + 3], "little")


def _lossy_size(body: memoryview) -> tuple[int, int]:
    (tag,) = struct.unpack_from("<H", body)
    start, width, height = struct.unpack_from("<3sHH", body, 3)
    width, height = width & 0x3FFF, height & 0x3FFF
    if tag & 1 or start != b"\x9d\x01\x2a" or 0 in (width, height):
        damaged("WebP", "its picture does not start with a key frame")
    return width, height


def _lossless_size(body: memoryview) -> tuple[int, int]:
    signature, bits = struct.unpack_from("<BI", body)
    if signature != 0x2F or bits >> 29:
        damaged("WebP", "its picture does not start as a lossless one")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
