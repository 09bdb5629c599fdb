"""Read the header of a BMP and check that its pixels are there."""

import struct

from retrieval.image_formats.header import Header, damaged, not_allowed, truncated

_CORE = 12
_SIZES = (_CORE, 40, 52, 56, 64, 108, 124)
_UNCOMPRESSED = (0, 3, 6)
"""Plain, and two kinds of bit fields. Run lengths would let a few bytes stand for many pixels."""


def read_bmp(data: bytes) -> Header:
    """Size of an uncompressed BMP with all its rows."""
    offset, size = struct.unpack_from("<II", data, 10)
    if size not in _SIZES:
        damaged("BMP", f"its header has {size} bytes")
    if size == _CORE:
        width, height, planes, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, planes, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative where rows run from the top
    if width <= 0 or height == 0 or planes != 1 or bits not in (1, 4, 8, 16, 24, 32):
        damaged("BMP", f"its header cannot be: {width} by {height}, {planes} planes, {bits} bits")
    if compression not in _UNCOMPRESSED:
        not_allowed("BMP must not be compressed", f"method {compression}")
    end = max(offset, 14 + size) + (width * bits + 31) // 32 * 4 * height
    if end > len(data):
        truncated("BMP", f"{width} by {height} pixels end at byte {end:,} of {len(data):,}")
    return Header(format="BMP", width=width, height=height, data=data[:end])
