"""Read the header of a GIF and keep its one picture."""

import struct
from typing import NamedTuple

from retrieval.image_formats.header import Header, animated, damaged

_EXTENSION, _IMAGE, _TRAILER, _GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_MOST_BLOCKS = 100_000
"""Of up to 255 bytes each; writers fill them."""


class _Blocks(NamedTuple):
    end: int
    number: int


def read_gif(data: bytes) -> Header:
    """Size of a GIF of one picture; what says how to play it, and comments, are left out."""
    view = memoryview(data)
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table(flags)
    kept, pictures, blocks = [view[:at]], 0, 0
    while data[at] != _TRAILER:
        start, kind = at, data[at]
        if kind == _EXTENSION:
            at, number = _sub_blocks(data, at + 2)
            needed = data[start + 1] == _GRAPHIC_CONTROL
        elif kind == _IMAGE:
            _check_frame(data, start, width, height)
            at, number = _sub_blocks(data, at + 11 + _table(data[at + 9]))
            pictures += 1
            needed = True
        else:
            damaged("GIF", f"a block of kind 0x{kind:02x} stands in it")
        blocks += 1 + number
        if pictures > 1:
            animated("GIF")
        if blocks > _MOST_BLOCKS:
            damaged("GIF", f"it has more than {_MOST_BLOCKS:,} blocks")
        if needed:
            kept.append(view[start:at])
    if pictures == 0:
        damaged("GIF", "it has no picture")
    return Header(format="GIF", width=width, height=height, data=b"".join((*kept, b";")))


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _check_frame(data: bytes, at: int, width: int, height: int) -> None:
    left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
    if 0 in (width, height, across, down) or left + across > width or top + down > height:
        damaged(
            "GIF", f"a picture of {across} by {down} at {left}, {top} is not within its screen of {width} by {height}"
        )


def _sub_blocks(data: bytes, at: int) -> _Blocks:
    """Where the sub-blocks that begin at `at` end, and how many they are."""
    number = 0
    while (size := data[at]) and number <= _MOST_BLOCKS:
        at += 1 + size
        number += 1
    return _Blocks(at + 1, number)
