"""Read the header of a PNG and check its chunks, without inflating the picture."""

import struct
import zlib
from collections.abc import Iterator

from retrieval.image_formats.exif import orientation as orientation_in
from retrieval.image_formats.header import MOST_PARTS, Header, animated, damaged, truncated

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type → samples a pixel."""
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
"""Colour type → bits a sample."""
_MOST_TEXT = 8 << 20
"""Bytes that the compressed texts and profiles of a file may inflate to."""
_MOST_OF_ONE_BYTE = 1_100
"""Deflate makes at most 1,032 bytes of one."""
_MOST_EXIF = 1 << 16


def read_png(data: bytes) -> Header:
    """Size and orientation of a PNG whose every chunk is there and whose needed chunks have the right checksum."""
    if not data.startswith(_SIGNATURE):
        damaged("PNG", "its first 8 bytes are not those of a PNG, as after a transfer as text")
    view, orientation, text = memoryview(data), 1, 0
    kept, compressed, palette = [view[: len(_SIGNATURE)]], 0, False
    for kind, start, end in _chunks(data):
        body = view[start + 8 : end - 4]
        if (kind == b"IHDR") != (start == len(_SIGNATURE)):
            damaged("PNG", f"its header is not the first chunk alone: {kind!r} at byte {start}")
        if kind in _NEEDED:
            if zlib.crc32(view[start + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                damaged("PNG", f"the checksum of its {kind.decode()} does not match")
            compressed += len(body) if kind == b"IDAT" else 0
            palette |= kind == b"PLTE"
            kept.append(view[start:end])
        elif kind == b"acTL" and struct.unpack_from(">I", body)[0] > 1:
            animated("PNG")
        elif kind == b"eXIf":
            orientation = orientation_in(bytes(body[:_MOST_EXIF]))
        elif kind in (b"zTXt", b"iTXt", b"iCCP"):
            text += _inflated(kind, bytes(body), _MOST_TEXT - text)
        elif kind[0] & 32 == 0 and kind != b"IEND":
            damaged("PNG", f"it needs the unknown chunk {kind!r}")
    width, height = _size(data, compressed=compressed, palette=palette)
    return Header(format="PNG", width=width, height=height, data=b"".join((*kept, _END)), orientation=orientation)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and end of each chunk; the last is IEND."""
    at = len(_SIGNATURE)
    for _ in range(MOST_PARTS):
        if at + 12 > len(data):
            truncated("PNG", f"no end of the picture within {len(data):,} bytes")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            truncated("PNG", f"a chunk of {length:,} bytes does not end within {len(data):,}")
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    damaged("PNG", f"it has more than {MOST_PARTS:,} chunks")


def _size(data: bytes, *, compressed: int, palette: bool) -> tuple[int, int]:
    length, _, width, height, depth, colour, *methods, interlace = struct.unpack_from(
        ">I4sIIBBBBB", data, len(_SIGNATURE)
    )
    if length != 13 or depth not in _DEPTHS.get(colour, ()) or any(methods) or interlace > 1 or 0 in (width, height):
        damaged("PNG", f"its header cannot be: {width} by {height}, depth {depth}, colour type {colour}")
    if colour == 3 and not palette:
        damaged("PNG", "it has no palette")
    raw = height * (1 + (width * depth * _SAMPLES[colour] + 7) // 8)
    if raw > _MOST_OF_ONE_BYTE * compressed:
        truncated("PNG", f"{compressed:,} bytes of picture cannot hold {width} by {height} pixels")
    return width, height


def _inflated(kind: bytes, body: bytes, most: int) -> int:
    """Bytes that a compressed text or profile inflates to; refuses what is more than `most`."""
    keyword, _, rest = body.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        rest = rest[1:]
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(rest, most + 1))
    except zlib.error:
        return 0  # it is not handed on, so what is wrong with it does not matter
    if size > most:
        damaged("PNG", f"its texts and profiles inflate to more than {_MOST_TEXT:,} bytes, {keyword[:79]!r} the last")
    return size
