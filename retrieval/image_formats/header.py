"""What is known of an image file before it is decoded, and how each format's reader says no."""

from dataclasses import dataclass
from typing import NoReturn

from retrieval.errors import ImageRefused, Refusal

MOST_PARTS = 20_000
"""Chunks or segments of a file; writers make a few thousand of the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file says of its picture."""

    format: str
    """Pillow's name of it."""
    width: int
    """Pixels, as stored."""
    height: int
    """Pixels, as stored."""
    data: bytes
    """The file without what pixels do not need: comments, profiles, metadata, whatever follows the picture."""
    orientation: int = 1
    """How the picture is to be turned, 1 to 8 as in EXIF; 1 is not at all."""
    coefficients: int = 0
    """Numbers of 2 bytes that a JPEG of several passes makes the decoder hold at once."""


def damaged(what: str, why: str) -> NoReturn:
    """Refuse a file that breaks the rules of its format."""
    raise ImageRefused(Refusal.DAMAGED, f"{what} is damaged: {why}; save it again")


def truncated(what: str, why: str) -> NoReturn:
    """Refuse a file whose picture is not all there."""
    raise ImageRefused(Refusal.TRUNCATED, f"{what} is cut short: {why}; send the whole file")


def animated(what: str) -> NoReturn:
    """Refuse a file of several frames."""
    raise ImageRefused(Refusal.ANIMATED, f"{what} must be one picture, got an animation; send one frame of it")


def not_allowed(wanted: str, found: str) -> NoReturn:
    """Refuse a kind of file that is not decoded here."""
    raise ImageRefused(Refusal.FORMAT_NOT_ALLOWED, f"{wanted}, got {found}; convert it")
