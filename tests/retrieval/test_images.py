"""Images that anyone may have sent: what is refused and why, and that what is decoded is what was stored."""

import io
import json
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.benchmarks.hostile_files import HostileFile, good_file, hostile_files
from retrieval.errors import ImageRefused, Refusal
from retrieval.images import ALLOWED_FORMATS, ImageLimits, decode_image

SERVED = (224, 224)
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}}


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def one_colour(mode: str, colour: object, size: tuple[int, int] = (16, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def with_corner(size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Black, with a red square at the top left."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, 8, 8))
    return image


def exif(orientation: int, order: str = "<") -> bytes:
    start = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return start + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def refusal(content: bytes, **options: object) -> Refusal:
    with pytest.raises(ImageRefused) as refused:
        decode_image(content, **options)
    return refused.value.reason


@pytest.mark.parametrize("file", hostile_files(), ids=lambda file: file.name)
def test_a_hostile_file_is_refused_for_its_reason(file: HostileFile) -> None:
    with pytest.raises(ImageRefused) as refused:
        decode_image(file.make(), target=SERVED)
    assert refused.value.reason is file.reason
    found, _, remedy = str(refused.value).rpartition("; ")
    assert found
    assert remedy


@pytest.mark.parametrize("name", ["GIF in blocks of one byte", "GIF of 3,000,000 empty extensions"])
def test_a_gif_is_not_walked_without_end(name: str) -> None:
    (file,) = (file for file in hostile_files() if file.name == name)
    with pytest.raises(ImageRefused, match="more than 100,000 blocks"):
        decode_image(file.make())


def test_there_are_more_than_fifty_hostile_files_for_every_reason() -> None:
    files = hostile_files()
    assert len({file.name for file in files}) == len(files) > 50
    assert {file.reason for file in files} == set(Refusal)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_no_hostile_file_takes_64_megabytes() -> None:
    command = [sys.executable, "-m", "retrieval.benchmarks.hostile_images", "--json", "--repeat", "1"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(hostile_files())
    assert {row["file"]: row["mb"] for row in rows if row["mb"] >= 64} == {}
    assert [row["file"] for row in rows if row["reason"] == "ACCEPTED"] == []


@pytest.mark.parametrize("format_", ALLOWED_FORMATS)
def test_a_good_image_beside_decodes(format_: str) -> None:
    image = decode_image(good_file(format_), target=SERVED)
    assert (image.mode, image.size) == ("RGB", (48, 48))
    wanted = np.asarray(Image.open(io.BytesIO(good_file(format_))).convert("RGB"), dtype=int)
    np.testing.assert_array_equal(np.asarray(image), wanted)


@pytest.mark.parametrize("format_", LOSSLESS)
def test_what_is_stored_without_loss_comes_back(format_: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    content = saved(Image.fromarray(pixels), format_, **LOSSLESS[format_])
    np.testing.assert_array_equal(np.asarray(decode_image(content)), pixels)


@pytest.mark.parametrize(
    ("image", "format_", "wanted"),
    [
        pytest.param(one_colour("L", 77), "PNG", (77, 77, 77), id="grey"),
        pytest.param(one_colour("1", 1), "PNG", (255, 255, 255), id="one bit"),
        pytest.param(one_colour("1", 1), "BMP", (255, 255, 255), id="one bit in a BMP"),
        # 0x8001 >> 8 = 128
        pytest.param(one_colour("I;16", 0x8001), "PNG", (128, 128, 128), id="16 bits"),
        # 60 * 51 / 255 + 255 * 204 / 255 = 216
        pytest.param(one_colour("LA", (60, 51)), "PNG", (216, 216, 216), id="grey with alpha"),
        # (0, 100, 200) * 0.2 + 255 * 0.8 = (204, 224, 244)
        pytest.param(one_colour("RGBA", (0, 100, 200, 51)), "PNG", (204, 224, 244), id="alpha on white"),
        pytest.param(one_colour("RGBA", (0, 100, 200, 51)), "WEBP", (204, 224, 244), id="alpha in a WebP"),
        pytest.param(one_colour("RGBA", (9, 9, 9, 0)), "PNG", (255, 255, 255), id="all transparent"),
        pytest.param(one_colour("RGB", (1, 2, 3)).quantize(2), "PNG", (1, 2, 3), id="palette"),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, format_: str, wanted: tuple[int, int, int]) -> None:
    decoded = decode_image(saved(image, format_, **({"lossless": True} if format_ == "WEBP" else {})))
    assert decoded.mode == "RGB"
    assert np.unique(np.asarray(decoded).reshape(-1, 3), axis=0).tolist() == [list(wanted)]


@pytest.mark.parametrize("format_", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_becomes_white(format_: str) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([9, 9, 9, 40, 50, 60])
    image.paste(0, (0, 0, 8, 8))
    decoded = decode_image(saved(image, format_, transparency=0))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((15, 15)) == (40, 50, 60)


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (7, 8, 9))])
def test_a_transparent_colour_becomes_white(mode: str, clear: object) -> None:
    decoded = decode_image(saved(one_colour(mode, clear), "PNG", transparency=clear))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_is_stored_inverted_by_adobe_and_comes_out_right() -> None:
    # No cyan, all magenta, all yellow, no black: red.
    decoded = decode_image(saved(one_colour("CMYK", (0, 255, 255, 0)), "JPEG", quality=100))
    np.testing.assert_allclose(decoded.getpixel((3, 3)), (255, 0, 0), atol=3)


def test_ycck_is_told_from_cmyk_by_adobes_segment() -> None:
    # The file holds 255 - (179, 170, 0, 0) = Y 76, Cb 85, Cr 255, K 255. As YCC that is red (254, 0, 0); Adobe inverts
    # cyan, magenta and yellow before the transform, so what is red there is all cyan: (0, 255, 255) in RGB.
    content = bytearray(saved(one_colour("CMYK", (179, 170, 0, 0)), "JPEG", quality=100))
    content[content.index(b"Adobe") + 11] = 2
    np.testing.assert_allclose(decode_image(bytes(content)).getpixel((3, 3)), (0, 255, 255), atol=4)


# Where the top-left corner of the stored picture is to be seen, and whether width and height change places.
TURNS = {
    1: ("top left", False),
    2: ("top right", False),
    3: ("bottom right", False),
    4: ("bottom left", False),
    5: ("top left", True),
    6: ("top right", True),
    7: ("bottom right", True),
    8: ("bottom left", True),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("order", ["<", ">"], ids=["Intel", "Motorola"])
def test_a_picture_is_turned_as_its_exif_says(orientation: int, order: str) -> None:
    decoded = decode_image(saved(with_corner(), "PNG", exif=exif(orientation, order)))
    corner, swapped = TURNS[orientation]
    assert decoded.size == ((16, 32) if swapped else (32, 16))
    place = {"top": 0, "bottom": decoded.height - 1, "left": 0, "right": decoded.width - 1}
    down, across = corner.split()
    assert decoded.getpixel((place[across], place[down])) == (255, 0, 0)
    assert np.count_nonzero(np.asarray(decoded)) == 64


@pytest.mark.parametrize(("format_", "options"), [("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})])
def test_other_formats_carry_an_orientation_too(format_: str, options: dict[str, object]) -> None:
    decoded = decode_image(saved(with_corner(), format_, exif=b"Exif\0\0" + exif(6), **options))
    assert decoded.size == (16, 32)
    np.testing.assert_allclose(decoded.getpixel((14, 1)), (255, 0, 0), atol=5)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(exif(9), id="no such orientation"),
        pytest.param(exif(6)[:16], id="cut short"),
        pytest.param(b"II*\0" + struct.pack("<I", 2**32 - 1), id="directory nowhere"),
        pytest.param(b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(60_000), id="65,535 entries"),
        pytest.param(b"not EXIF", id="noise"),
    ],
)
def test_an_exif_block_that_cannot_be_read_turns_nothing(block: bytes) -> None:
    plain, marked = (saved(with_corner(), "JPEG", **options) for options in ({}, {"exif": b"Exif\0\0" + block}))
    np.testing.assert_array_equal(np.asarray(decode_image(marked)), np.asarray(decode_image(plain)))


@pytest.mark.parametrize(
    ("target", "size"),
    [
        pytest.param(None, (1_600, 1_200), id="none"),
        pytest.param((224, 224), (400, 300), id="a quarter, as an eighth has too few rows"),
        pytest.param((200, 150), (200, 150), id="an eighth exactly"),
        pytest.param((201, 150), (400, 300), id="an eighth is one column short"),
        pytest.param((900, 100), (1_600, 1_200), id="half is too narrow"),
        pytest.param((5_000, 5_000), (1_600, 1_200), id="more than there is"),
    ],
)
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_enough(
    target: tuple[int, int] | None, size: tuple[int, int], progressive: bool
) -> None:
    content = saved(Image.new("RGB", (1_600, 1_200), (9, 99, 199)), "JPEG", progressive=progressive)
    decoded = decode_image(content, target=target)
    assert decoded.size == size
    np.testing.assert_allclose(decoded.getpixel((size[0] - 1, size[1] - 1)), (9, 99, 199), atol=3)


def test_the_target_is_that_of_the_turned_picture() -> None:
    content = saved(Image.new("RGB", (1_600, 800)), "JPEG", exif=b"Exif\0\0" + exif(6))
    assert decode_image(content, target=(200, 200)).size == (200, 400)
    assert decode_image(content, target=(100, 800)).size == (400, 800)


def test_other_formats_are_decoded_whole() -> None:
    assert decode_image(saved(Image.new("RGB", (800, 800)), "PNG"), target=(100, 100)).size == (800, 800)


def test_a_large_jpeg_is_decoded_for_a_small_target_alone() -> None:
    content = saved(Image.new("L", (5_000, 5_000), 50), "JPEG")
    assert decode_image(content, target=SERVED).size == (625, 625)
    assert refusal(content) is Refusal.TOO_MANY_PIXELS


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda jpeg: jpeg + b"PK\3\4" + bytes(99), id="an archive after the picture"),
        pytest.param(
            lambda jpeg: jpeg[:2] + b"\xff\xe2\0\x0aMPF\0\xff\xff\xff\xff" + jpeg[2:], id="a broken list of pictures"
        ),
        pytest.param(lambda jpeg: jpeg[:2] + b"\xff\xfe\xff\xff" + bytes(65_533) + jpeg[2:], id="a long comment"),
        pytest.param(lambda jpeg: jpeg[:2] + b"\xff\xed\0\x10Photoshop 3.0\0" + jpeg[2:], id="a cut Photoshop block"),
        pytest.param(lambda jpeg: jpeg[:2] + b"\xff" * 9 + jpeg[2:], id="filling before a segment"),
        pytest.param(lambda jpeg: jpeg[:20] + b"junk" + jpeg[20:], id="junk before a segment"),
    ],
)
def test_what_pixels_do_not_need_is_not_read(change: object) -> None:
    jpeg = good_file()
    np.testing.assert_array_equal(np.asarray(decode_image(change(jpeg))), np.asarray(decode_image(jpeg)))


def test_broken_notes_of_a_png_are_not_read() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    png = good_file("PNG")
    notes = chunk(b"iCCP", b"a\0\0not deflated") + chunk(b"zTXt", b"a\0\0") + chunk(b"iTXt", b"a\0\0\0\0\0\xff\xff")
    single = chunk(b"acTL", struct.pack(">II", 1, 0))
    decoded = decode_image(png[:33] + notes + single + png[33:] + b"and more")
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(decode_image(png)))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        pytest.param({"max_pixels": 48 * 48 - 1}, Refusal.TOO_MANY_PIXELS, id="pixels"),
        pytest.param({"max_memory": 4 * 48 * 48 - 1}, Refusal.TOO_MANY_PIXELS, id="memory"),
        pytest.param({"max_bytes": 121}, Refusal.TOO_MANY_BYTES, id="bytes"),
        pytest.param({"min_side": 49}, Refusal.TOO_SMALL, id="sides"),
    ],
)
def test_limits_are_kept_to_the_last_one(limits: dict[str, int], reason: Refusal) -> None:
    png = good_file("PNG")
    assert len(png) == 122
    assert refusal(png, limits=ImageLimits(**limits)) is reason
    ((name, value),) = limits.items()
    just = value - 1 if name == "min_side" else value + 1
    assert decode_image(png, ImageLimits(**{name: just})).size == (48, 48)


def test_elongation_is_a_ratio() -> None:
    png = saved(Image.new("RGB", (80, 10)), "PNG")
    assert decode_image(png, ImageLimits(max_aspect=8)).size == (80, 10)
    assert refusal(png, limits=ImageLimits(max_aspect=7.9)) is Refusal.TOO_ELONGATED


def test_pillows_own_limit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 48 - 1)
    assert refusal(good_file("PNG")) is Refusal.TOO_MANY_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image(good_file("PNG")).size == (48, 48)


def test_a_limit_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="max_bytes must be at least 1, got 0"):
        ImageLimits(max_bytes=0)


def test_a_path_is_read_up_to_the_limit_and_its_name_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.gif"
    path.write_bytes(good_file("PNG"))
    assert decode_image(path).size == (48, 48)
    with pytest.raises(ImageRefused, match="at most 100 bytes"):
        decode_image(path, ImageLimits(max_bytes=100))
    with pytest.raises(FileNotFoundError):
        decode_image(tmp_path / "none.png")


def test_threads_do_not_disturb_each_other() -> None:
    contents = [good_file(format_) for format_ in ALLOWED_FORMATS] + [file.make() for file in hostile_files()[:60]]

    def outcome(content: bytes) -> object:
        try:
            return decode_image(content, target=SERVED).tobytes()
        except ImageRefused as error:
            return error.reason

    alone = [outcome(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, contents * 4)) == alone * 4


@pytest.mark.parametrize("format_", ALLOWED_FORMATS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_changed_anywhere_are_decoded_or_refused(format_: str, data: st.DataObject) -> None:
    content = bytearray(good_file(format_))
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        at = data.draw(st.integers(0, len(content) - 1), label="at")
        content[at] = data.draw(st.integers(0, 255), label="value")
    with suppress(ImageRefused):  # and no other error, nor a warning
        assert decode_image(bytes(content)).mode == "RGB"
