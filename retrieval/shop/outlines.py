"""Outlines in the plane that an item is drawn in, because a silhouette is what makes it recognisable.

x runs to the right and y downwards; an item fills about [-1, 1] × [-1, 1]. An outline is [n, 2].
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Outline = npt.NDArray[np.float64]
GROUND = 0.85
"""y of what an item stands on."""


def path(*points: tuple[float, float]) -> Outline:
    """The points as they are, [n, 2]."""
    return np.array(points, dtype=np.float64)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Outline:
    """An upright rectangle, its corners rounded by `radius`."""
    if radius <= 0:
        return path((left, top), (right, top), (right, bottom), (left, bottom))
    r = min(radius, (right - left) / 2, (bottom - top) / 2)
    corners = (
        (right - r, top + r, -90.0),
        (right - r, bottom - r, 0.0),
        (left + r, bottom - r, 90.0),
        (left + r, top + r, 180.0),
    )
    return np.concatenate([ellipse(x, y, r, r, begin, begin + 90, steps=6) for x, y, begin in corners])


def ellipse(
    x: float, y: float, rx: float, ry: float, begin: float = 0.0, end: float = 360.0, steps: int = 36
) -> Outline:
    """An ellipse round (x, y), or its arc between two angles in degrees, clockwise from the right."""
    angle = np.linspace(np.radians(begin), np.radians(end), steps)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def smooth(points: Sequence[tuple[float, float]] | Outline, *, closed: bool = False, steps: int = 7) -> Outline:
    """A curve through all `points` (Catmull–Rom)."""
    given = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([given[-1:], given, given[:2]])
    else:
        padded = np.concatenate([2 * given[:1] - given[1:2], given, 2 * given[-1:] - given[-2:-1]])
    before, begin, end, after = (padded[shift : len(padded) - 3 + shift, None] for shift in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * begin
        + (end - before) * t
        + (2 * before - 5 * begin + 4 * end - after) * t**2
        + (3 * begin - before - 3 * end + after) * t**3
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, given[-1:]])


def lathe(profile: Sequence[tuple[float, float]] | Outline, tilt: float, *, near_rim: bool = False) -> Outline:
    """A body of revolution round x = 0, seen from a little above.

    `profile` is its (radius, y) from top to bottom; a circle is seen `tilt` times as high as wide. With `near_rim` it
    ends at the near side of its rim: the part of an open vessel that hides what stands in it.
    """
    side = np.asarray(profile, dtype=np.float64)
    (top_radius, top), (bottom_radius, bottom) = side[0], side[-1]
    return np.concatenate(
        [
            side,
            ellipse(0, bottom, bottom_radius, bottom_radius * tilt, 0, 180, steps=16),
            side[::-1] * (-1, 1),
            ellipse(0, top, top_radius, top_radius * tilt, 180, 0 if near_rim else 360, steps=16),
        ]
    )


def mirrored(right_half: Sequence[tuple[float, float]] | Outline) -> Outline:
    """The closed outline whose right half, from top to bottom, is given."""
    half = np.asarray(right_half, dtype=np.float64)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def moved(outline: Outline, x: float, y: float) -> Outline:
    """The outline, shifted."""
    shifted: Outline = outline + np.array([x, y])
    return shifted
