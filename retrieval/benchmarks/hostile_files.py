"""Image files that mean harm or cannot be decoded, made from nothing, each with the reason it has to be refused for."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image

from retrieval.errors import Refusal

_SIDE = 48
"""Pixels of the small pictures that are damaged here."""
_HEAVY = 3_230
"""Pixels of a side that the limits just allow: what is found damaged only at its end costs the most."""
_BLOCK = 1 << 20


class HostileFile(NamedTuple):
    """A file and the reason it is refused for."""

    name: str
    reason: Refusal
    make: Callable[[], bytes]


def good_file(format_: str = "JPEG", **options: object) -> bytes:
    """A small sound picture in `format_`."""
    return _saved(_picture(), format_, **options)


def hostile_files() -> list[HostileFile]:
    """All of them; names are distinct."""
    makers = (
        _of_other_kinds,
        _cut_short,
        _animated,
        _jpeg_files,
        _png_files,
        _gif_files,
        _webp_files,
        _bmp_files,
        _shapes,
    )
    return list(chain.from_iterable(make() for make in makers))


def _given(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _picture(width: int = _SIDE, height: int = _SIDE) -> Image.Image:
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([5 * across, 5 * down, 3 * (across + down)], -1).astype(np.uint8))


def _saved(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _of_other_kinds() -> Iterator[HostileFile]:
    tail = bytes(64)
    jpeg = good_file()
    laughs = b'\xef\xbb\xbf<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "&c;&c;">]><svg>&b;</svg>'
    for name, start in {
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "SVG of entities that expand": laughs,
        "HTML": b"\n <html><script>alert(1)</script></html>",
        "PDF with a JPEG in it": b"%PDF-1.7\n" + jpeg,
        "ZIP": b"PK\x03\x04" + tail,
        "gzip": b"\x1f\x8b\x08" + tail,
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "PostScript with a DOS header": b"\xc5\xd0\xd3\xc6" + tail,
        "TIFF": b"II*\0" + tail,
        "TIFF, high bytes first": b"MM\0*" + tail,
        "BigTIFF": b"II+\0" + tail,
        "icon": b"\0\0\1\0\1\0" + tail,
        "cursor": b"\0\0\2\0\1\0" + tail,
        "Photoshop document": b"8BPS\0\1" + tail,
        "AVIF": b"\0\0\0\x20ftypavif" + tail,
        "HEIC": b"\0\0\0\x20ftypheic" + tail,
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + tail,
        "JPEG XL": b"\xff\x0a" + tail,
        "QOI": b"qoif" + tail,
        "Netpbm": b"P6 99999 99999 255\n" + tail,
        "AVI": b"RIFF\x40\0\0\0AVI " + tail,
    }.items():
        yield HostileFile(name, Refusal.FORMAT_NOT_ALLOWED, _given(start))
    noise = np.random.default_rng(5).bytes(4_096)
    yield HostileFile("nothing", Refusal.EMPTY, lambda: b"")
    for name, content in {
        "noise": b"\x07" + noise,
        "zeros": bytes(4_096),
        "ten megabytes of spaces": b" " * (10 << 20),
        "half a JPEG magic": b"\xff\xd8",
        "plain text": b"not an image\n",
        "GIF of no known version": b"GIF88a" + tail,
    }.items():
        yield HostileFile(name, Refusal.UNKNOWN_FORMAT, _given(content))
    yield HostileFile("noise after a JPEG magic", Refusal.DAMAGED, lambda: b"\xff\xd8\xff\xc0\0\0" + noise)
    yield HostileFile("noise after a PNG magic", Refusal.TRUNCATED, lambda: b"\x89PNG\r\n\x1a\n" + noise)
    yield HostileFile("noise after a BMP magic", Refusal.DAMAGED, lambda: b"BM" + noise)
    yield HostileFile("more bytes than allowed", Refusal.TOO_MANY_BYTES, lambda: good_file("PNG") + bytes(10 << 20))


def _cut_short() -> Iterator[HostileFile]:
    wholes = {
        "JPEG": good_file(),
        "progressive JPEG": good_file(progressive=True),
        "PNG": good_file("PNG"),
        "WebP": good_file("WEBP"),
        "lossless WebP": good_file("WEBP", lossless=True),
        "GIF": good_file("GIF"),
        "BMP": good_file("BMP"),
    }
    for name, whole in wholes.items():
        for kept in (16, len(whole) // 4, len(whole) // 2, len(whole) - 1):
            yield HostileFile(f"{name} cut after {kept} bytes", Refusal.TRUNCATED, _given(whole[:kept]))


def _animated() -> Iterator[HostileFile]:
    frames = [_picture(), _picture().transpose(Image.Transpose.ROTATE_90)]
    for name, format_ in {"PNG": "PNG", "GIF": "GIF", "WebP": "WEBP"}.items():
        animation = _saved(frames[0], format_, save_all=True, append_images=frames[1:])
        yield HostileFile(f"animated {name}", Refusal.ANIMATED, _given(animation))


def _shapes() -> Iterator[HostileFile]:
    yield HostileFile("one pixel", Refusal.TOO_SMALL, lambda: _saved(_picture(1, 1), "PNG"))
    yield HostileFile("two pixels high", Refusal.TOO_SMALL, lambda: _saved(_picture(400, 2), "JPEG"))
    yield HostileFile("a ribbon", Refusal.TOO_ELONGATED, lambda: _saved(_picture(2_000, 8), "PNG"))
    yield HostileFile("a tall ribbon", Refusal.TOO_ELONGATED, lambda: _saved(_picture(8, 2_000), "GIF"))


# JPEG


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _frame(
    marker: int, width: int, height: int, *, precision: int = 8, sampling: int = 0x11, components: int = 3
) -> bytes:
    each = b"".join(bytes([number + 1, sampling, 0]) for number in range(components))
    return _segment(marker, struct.pack(">BHHB", precision, height, width, components) + each)


def _with_frame(frame: bytes, *, scanned: int = 4_000, progressive: bool = False) -> bytes:
    """A sound JPEG whose frame header is another and whose scan has `scanned` bytes."""
    whole = good_file(progressive=progressive, subsampling=0)
    at = whole.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    scan = whole.index(b"\xff\xda")
    tables, start = whole[at + 19 : scan], whole[scan : scan + 14]
    return whole[:at] + frame + tables + start + bytes(scanned) + b"\xff\xd9"


def _jpeg_files() -> Iterator[HostileFile]:
    whole, end = good_file(), b"\xff\xd9"
    scan = whole.index(b"\xff\xda")
    waves = good_file(progressive=True)
    last_scan = waves[waves.rindex(b"\xff\xda") : -2]
    tables = whole.index(b"\xff\xc4")
    impossible = _segment(0xC4, b"\0" + bytes([255] * 16) + bytes(4_080))
    for name, reason, content in (
        ("JPEG of 65,500 by 65,500", Refusal.TRUNCATED, _with_frame(_frame(0xC0, 65_500, 65_500))),
        ("JPEG of 9,000 by 9,000", Refusal.TOO_MANY_PIXELS, _with_frame(_frame(0xC0, 9_000, 9_000), scanned=500_000)),
        ("JPEG of no height", Refusal.DAMAGED, _with_frame(_frame(0xC0, 48, 0))),
        ("JPEG of no sampling", Refusal.DAMAGED, _with_frame(_frame(0xC0, 48, 48, sampling=0))),
        ("JPEG of five components", Refusal.DAMAGED, _with_frame(_frame(0xC0, 48, 48, components=5))),
        ("JPEG of 12 bits", Refusal.FORMAT_NOT_ALLOWED, _with_frame(_frame(0xC1, 48, 48, precision=12))),
        ("lossless JPEG", Refusal.FORMAT_NOT_ALLOWED, _with_frame(_frame(0xC3, 48, 48))),
        ("arithmetic JPEG", Refusal.FORMAT_NOT_ALLOWED, _with_frame(_frame(0xC9, 48, 48))),
        ("JPEG with two frame headers", Refusal.DAMAGED, whole[:scan] + _frame(0xC0, 9, 9) + whole[scan:]),
        ("JPEG whose scan comes first", Refusal.DAMAGED, whole[:2] + whole[scan:]),
        ("JPEG within a JPEG", Refusal.DAMAGED, whole[:scan] + whole),
        ("JPEG without a scan", Refusal.DAMAGED, whole[:scan] + end),
        ("JPEG with a segment of no length", Refusal.DAMAGED, whole[:scan] + b"\xff\xe5\0\0" + whole[scan:]),
        ("JPEG with a segment beyond its end", Refusal.TRUNCATED, whole[:scan] + b"\xff\xe5\xff\xff" + whole[scan:]),
        ("JPEG of 300,000 segments", Refusal.DAMAGED, whole[:scan] + b"\xff\xe5\0\x02" * 300_000 + whole[scan:]),
        ("JPEG with impossible tables", Refusal.DAMAGED, whole[:tables] + impossible + whole[tables:]),
        ("JPEG of filling", Refusal.TRUNCATED, whole[:-2] + b"\xff" * 9_000_000),
        ("JPEG of 5,000 scans", Refusal.DAMAGED, waves[:-2] + last_scan * 5_000 + end),
        (
            "progressive JPEG of 6,000 by 6,000",
            Refusal.TOO_MANY_PIXELS,
            _with_frame(_frame(0xC2, 6_000, 6_000), scanned=250_000, progressive=True),
        ),
        (
            "progressive JPEG of 2,600 by 2,600, damaged after its first scan",
            Refusal.DAMAGED,
            _with_frame(_frame(0xC2, 2_600, 2_600), scanned=250_000, progressive=True)[:-2]
            + impossible
            + last_scan
            + end,
        ),
    ):
        yield HostileFile(name, reason, _given(content))


# PNG


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def _png(*chunks: bytes) -> bytes:
    return b"".join((b"\x89PNG\r\n\x1a\n", *chunks, _chunk(b"IEND", b"")))


def _deflated(size: int, pattern: bytes = b"\0") -> bytes:
    """A zlib stream of `size` bytes or more, one block of `pattern` again and again; its checksum is wrong."""
    deflater = zlib.compressobj(9, wbits=-15)
    plain = (pattern * (_BLOCK // len(pattern) + 1))[:_BLOCK]
    block = deflater.compress(plain) + deflater.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + block * -(-size // _BLOCK) + b"\x03\0" + bytes(4)


def _png_files() -> Iterator[HostileFile]:
    whole = good_file("PNG")
    at = whole.index(b"IDAT") - 4
    header, rest = whole[8:33], whole[33:-12]
    small, pixels = _header(48, 48), _chunk(b"IDAT", zlib.compress(bytes(48 * 145)))
    bomb = _deflated(64 << 20)
    filters = np.random.default_rng(5).integers(0, 5, 8_192, dtype=np.uint8).tobytes()  # any may start a row
    heavy = _chunk(b"IDAT", _deflated(_HEAVY * _HEAVY * 3 * 9 // 10, filters)[:-6])
    for name, reason, content in (
        ("PNG of 50,000 by 50,000", Refusal.TOO_MANY_PIXELS, lambda: _flat_png(50_000, 50_000, 1, 0)),
        ("interlaced PNG of 12,000 by 12,000", Refusal.TOO_MANY_PIXELS, lambda: _flat_png(12_000, 12_000, 8, 2, 1)),
        ("PNG of 6,000 by 6,000", Refusal.TOO_MANY_PIXELS, lambda: _flat_png(6_000, 6_000, 1, 0)),
        ("PNG that promises the most it can", Refusal.TRUNCATED, lambda: _png(_header(2**31 - 1, 2**31 - 1), pixels)),
        ("PNG that promises 3,000 by 3,000", Refusal.TRUNCATED, lambda: _png(_header(3_000, 3_000), pixels)),
        ("PNG of no width", Refusal.DAMAGED, lambda: _png(_header(0, 48), pixels)),
        ("PNG of an unknown colour type", Refusal.DAMAGED, lambda: _png(_header(48, 48, 8, 5), pixels)),
        ("PNG of 3 bits", Refusal.DAMAGED, lambda: _png(_header(48, 48, 3, 0), pixels)),
        ("PNG without its palette", Refusal.DAMAGED, lambda: _png(_header(48, 48, 8, 3), pixels)),
        ("PNG without pixels", Refusal.TRUNCATED, lambda: _png(small)),
        ("PNG with two headers", Refusal.DAMAGED, lambda: _png(small, small, pixels)),
        ("PNG that starts with its pixels", Refusal.DAMAGED, lambda: _png(pixels, small)),
        ("PNG that needs an unknown chunk", Refusal.DAMAGED, lambda: _png(small, _chunk(b"CgBI", bytes(4)), pixels)),
        ("PNG of 300,000 chunks", Refusal.DAMAGED, lambda: _png(small, _chunk(b"tEXt", b"") * 300_000, pixels)),
        ("PNG whose text explodes", Refusal.DAMAGED, lambda: _png(small, _chunk(b"zTXt", b"a\0\0" + bomb), pixels)),
        (
            "PNG whose note explodes",
            Refusal.DAMAGED,
            lambda: _png(small, _chunk(b"iTXt", b"a\0\1\0\0\0" + bomb), pixels),
        ),
        ("PNG whose profile explodes", Refusal.DAMAGED, lambda: _png(small, _chunk(b"iCCP", b"a\0\0" + bomb), pixels)),
        (
            "PNG with a chunk beyond its end",
            Refusal.TRUNCATED,
            lambda: whole[:at] + b"\x7f\xff\xff\xff" + whole[at + 4 :],
        ),
        ("PNG with a wrong header checksum", Refusal.DAMAGED, lambda: _flipped(whole, 30)),
        ("PNG with a wrong pixel checksum", Refusal.DAMAGED, lambda: _flipped(whole, at + 20)),
        ("PNG sent as text", Refusal.DAMAGED, lambda: whole.replace(b"\r\n", b"\n")),
        ("PNG without an end", Refusal.TRUNCATED, lambda: whole[:8] + header + rest),
        (
            "PNG whose pixels are noise",
            Refusal.DAMAGED,
            lambda: _png(small, _chunk(b"IDAT", b"\x78\xda" + b"\xee" * 99)),
        ),
        (
            "large PNG whose pixels end early",
            Refusal.TRUNCATED,
            lambda: _png(_header(_HEAVY, _HEAVY), heavy),
        ),
        (
            "large interlaced PNG whose pixels end early",
            Refusal.TRUNCATED,
            lambda: _png(_header(_HEAVY, _HEAVY, interlace=1), heavy),
        ),
    ):
        yield HostileFile(name, reason, content)


def _flat_png(width: int, height: int, depth: int, colour: int, interlace: int = 0) -> bytes:
    row = 1 + (width * depth * (3 if colour == 2 else 1) + 7) // 8
    return _png(_header(width, height, depth, colour, interlace), _chunk(b"IDAT", _deflated(row * height)))


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


# GIF, WebP, BMP


def _gif(screen: tuple[int, int], frame: tuple[int, int], *, code: int = 2, pixels: bytes = b"\x02\x4c\x01\0") -> bytes:
    start = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return start + struct.pack("<BHHHHBB", 0x2C, 0, 0, *frame, 0, code) + pixels + b";"


def _gif_files() -> Iterator[HostileFile]:
    whole = good_file("GIF")
    for name, reason, content in (
        ("GIF of 65,535 by 65,535", Refusal.TOO_MANY_PIXELS, _gif((65_535, 65_535), (65_535, 65_535))),
        ("GIF with a huge screen", Refusal.TOO_MANY_PIXELS, _gif((65_535, 65_535), (9, 9))),
        ("GIF with a picture off its screen", Refusal.DAMAGED, _gif((48, 48), (60_000, 60_000))),
        ("GIF of no size", Refusal.DAMAGED, _gif((0, 0), (0, 0))),
        ("GIF without a picture", Refusal.DAMAGED, whole[:781] + b";"),
        ("GIF of 3,000,000 empty extensions", Refusal.DAMAGED, whole[:781] + b"!\xff\0" * 3_000_000 + whole[781:]),
        ("GIF with an unknown block", Refusal.DAMAGED, whole[:-1] + b"\x99\0;"),
        ("GIF with too long codes", Refusal.DAMAGED, _gif((48, 48), (48, 48), code=200)),
        ("GIF of few pixels", Refusal.TRUNCATED, _gif((3_200, 3_200), (3_200, 3_200))),
        ("GIF in blocks of one byte", Refusal.DAMAGED, _gif((48, 48), (48, 48), pixels=b"\1\0" * 1_000_000 + b"\0")),
    ):
        yield HostileFile(name, reason, _given(content))


def _webp(*chunks: tuple[bytes, bytes], beyond: int = 0) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + beyond) + body


def _webp_files() -> Iterator[HostileFile]:
    lossy = good_file("WEBP")[20:]
    lossless = good_file("WEBP", lossless=True)[20:]
    most = struct.pack("<BI", 0x2F, 0x3FFF | 0x3FFF << 14) + bytes(40)
    canvas = (b"VP8X", bytes(4) + b"\xff" * 6)
    heavy = struct.pack("<BI", 0x2F, (_HEAVY - 1) | (_HEAVY - 1) << 14) + lossless[5:]
    for name, reason, content in (
        ("WebP of 16,384 by 16,384", Refusal.TOO_MANY_PIXELS, _webp((b"VP8L", most))),
        ("WebP with a canvas that lies", Refusal.DAMAGED, _webp(canvas, (b"VP8 ", lossy))),
        ("WebP with two pictures", Refusal.DAMAGED, _webp((b"VP8 ", lossy), (b"VP8L", lossless))),
        ("WebP without a picture", Refusal.DAMAGED, _webp((b"ICCP", bytes(9)))),
        ("WebP that does not start with a key frame", Refusal.DAMAGED, _webp((b"VP8 ", _flipped(lossy, 0)))),
        ("lossless WebP of a wrong signature", Refusal.DAMAGED, _webp((b"VP8L", _flipped(lossless, 0)))),
        ("lossless WebP whose pixels end early", Refusal.DAMAGED, _webp((b"VP8L", lossless[:40]))),
        ("large lossless WebP of few bytes", Refusal.DAMAGED, _webp((b"VP8L", heavy))),
        ("WebP that promises more bytes", Refusal.TRUNCATED, _webp((b"VP8 ", lossy), beyond=1_000)),
        ("WebP of 300,000 chunks", Refusal.DAMAGED, _webp(*[(b"junk", b"")] * 300_000, (b"VP8 ", lossy))),
    ):
        yield HostileFile(name, reason, _given(content))


def _bmp(
    width: int, height: int, *, planes: int = 1, bits: int = 24, method: int = 0, header: int = 40, data: int = 8_000
) -> bytes:
    start = b"BM" + struct.pack("<IIIIiiHHI", 54 + data, 0, 54, header, width, height, planes, bits, method)
    return start + bytes(20 + data)


def _bmp_files() -> Iterator[HostileFile]:
    for name, reason, content in (
        ("BMP of 100,000 by 100,000", Refusal.TRUNCATED, lambda: _bmp(100_000, 100_000)),
        ("BMP of the most negative height", Refusal.TRUNCATED, lambda: _bmp(48, -(2**31))),
        ("BMP of 8,000 by 8,000", Refusal.TOO_MANY_PIXELS, lambda: _bmp(8_000, 8_000, bits=1, data=8_000_000)),
        ("BMP of negative width", Refusal.DAMAGED, lambda: _bmp(-48, 48)),
        ("BMP of no planes", Refusal.DAMAGED, lambda: _bmp(48, 48, planes=0)),
        ("BMP of 7 bits", Refusal.DAMAGED, lambda: _bmp(48, 48, bits=7)),
        ("BMP of an endless header", Refusal.DAMAGED, lambda: _bmp(48, 48, header=2**32 - 1)),
        ("BMP of run lengths", Refusal.FORMAT_NOT_ALLOWED, lambda: _bmp(48, 48, bits=8, method=1)),
        ("BMP with a JPEG in it", Refusal.FORMAT_NOT_ALLOWED, lambda: _bmp(48, 48, method=4)),
    ):
        yield HostileFile(name, reason, content)
