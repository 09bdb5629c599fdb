"""Read the header of a JPEG (ISO 10918-1, annex B) and count what its scans make a decoder do."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from retrieval.image_formats.exif import orientation as orientation_in
from retrieval.image_formats.header import MOST_PARTS, Header, damaged, not_allowed, truncated

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Within a scan FF 00 is data, FF D0 to FF D7 are restarts, FF FF is filling; none of them is a marker here."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE_TO_PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE, _SOI, _EOI, _SOS, _TEM, _EXIF = 0xC2, 0xD8, 0xD9, 0xDA, 0x01, 0xE1
_NEEDED = _BASELINE_TO_PROGRESSIVE | {_SOS, 0xC4, 0xDB, 0xDD, 0xEE}
"""With Huffman tables, quantisation, restart interval, and Adobe's segment, which says how colours are stored."""
_MOST_SCANS = 20
"""Each may cost a few bytes and takes the decoder through the whole picture; writers make about ten."""


class _Segment(NamedTuple):
    marker: int
    body: memoryview
    whole: memoryview
    scanned: memoryview
    """What of a scan stands before it."""


class _Frame(NamedTuple):
    width: int
    height: int
    components: int
    coefficients: int


def read_jpeg(data: bytes) -> Header:
    """Size, orientation and cost of a JPEG whose every segment is there."""
    frame: _Frame | None = None
    orientation, scans, scanned, several_passes = 1, 0, 0, False
    kept = [memoryview(data)[:2]]
    for segment in _segments(data):
        kept.append(segment.scanned)
        scanned += len(segment.scanned)
        if segment.marker in _FRAMES:
            if frame is not None:
                damaged("JPEG", "it has two frame headers")
            frame = _frame(segment)
            several_passes = segment.marker == _PROGRESSIVE
        elif segment.marker == _SOS:
            if frame is None:
                damaged("JPEG", "a scan stands before the frame header")
            scans += 1
            several_passes |= segment.body[0] < frame.components
            if scans > _MOST_SCANS:
                damaged("JPEG", f"it has more than {_MOST_SCANS} scans")
        elif segment.marker == _EXIF and bytes(segment.body[:6]) == b"Exif\0\0":
            orientation = orientation_in(bytes(segment.body[6:]))
        if segment.marker in _NEEDED:
            kept.append(segment.whole)
    if frame is None or scans == 0:
        damaged("JPEG", "it has no picture")
    # A block of 64 coefficients takes at least one bit, however its tables are made.
    if 8 * scanned < frame.coefficients // 64:
        truncated("JPEG", f"{scanned:,} bytes of picture cannot hold {frame.width} by {frame.height} pixels")
    return Header(
        format="JPEG",
        width=frame.width,
        height=frame.height,
        data=b"".join((*kept, b"\xff\xd9")),
        orientation=orientation,
        coefficients=frame.coefficients if several_passes else 0,
    )


def _segments(data: bytes) -> Iterator[_Segment]:
    """All segments up to the end of the picture, which comes last."""
    view, at, in_scan = memoryview(data), 2, False
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            truncated("JPEG", f"no end of the picture within {len(data):,} bytes")
        start, marker = found.start(), data[found.start() + 1]
        scanned = view[at:start] if in_scan else view[:0]
        if marker == _SOI:
            damaged("JPEG", "a second image starts within it")
        length = 0 if marker in (_EOI, _TEM) else struct.unpack_from(">H", data, start + 2)[0]
        if length < 2 and marker not in (_EOI, _TEM):
            damaged("JPEG", f"a segment of {length} bytes is shorter than its own length")
        at = start + 2 + length
        if at > len(data):
            truncated("JPEG", f"a segment does not end within {len(data):,} bytes")
        yield _Segment(marker, view[start + 4 : at], view[start:at], scanned)
        if marker == _EOI:
            return
        in_scan = marker == _SOS
    damaged("JPEG", f"it has more than {MOST_PARTS:,} segments")


def _frame(segment: _Segment) -> _Frame:
    if segment.marker not in _BASELINE_TO_PROGRESSIVE:
        not_allowed("JPEG must be baseline or progressive", f"process {segment.marker - 0xC0} of the standard")
    precision, height, width, components = struct.unpack_from(">BHHB", segment.body)
    if precision != 8:
        not_allowed("JPEG must have 8 bits a sample", str(precision))
    if components not in (1, 3, 4) or len(segment.body) != 6 + 3 * components:
        damaged("JPEG", f"its frame header has {len(segment.body)} bytes for {components} components")
    if width == 0 or height == 0:
        damaged("JPEG", f"its size is {width} by {height}")
    sampling = [(factors >> 4, factors & 15) for factors in segment.body[7::3]]
    if not all(1 <= factor <= 4 for factors in sampling for factor in factors):
        damaged("JPEG", f"its sampling factors are {sampling}")
    widest, tallest = (max(factors) for factors in zip(*sampling, strict=True))
    coefficients = sum(width * height * across * down // (widest * tallest) for across, down in sampling)
    return _Frame(width, height, components, coefficients)
