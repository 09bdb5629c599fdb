"""Show where a query looks: attention over the reference picture as a small PNG."""

import io

import numpy as np
from PIL import Image

from retrieval.composed.geometry import Floats

SIDE = 224
"""Pixels of a map's longer side at most."""
_PALE = 0.35
"""What is left of the picture's light where nothing is looked at."""


def attention_picture(attention: Floats, square: Image.Image) -> Image.Image:
    """The picture, bright where attention [rows, columns] is high, relative to its highest.

    `square` is the picture as the encoder sees it (`ImageGeometry.fitted`), so that each value lies on its patch.
    """
    size = (min(square.width, SIDE), min(square.height, SIDE))
    highest = float(attention.max())
    share = attention / highest if highest > 0 else np.zeros_like(attention)
    light = Image.fromarray((share * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    weight = _PALE + (1 - _PALE) * np.asarray(light, dtype=np.float32)[:, :, None] / 255
    pixels = np.asarray(square.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    strength = np.asarray(light, dtype=np.float32)[:, :, None] / 255
    return Image.fromarray((weight * (strength * pixels + (1 - strength) * grey)).clip(0, 255).astype(np.uint8))


def attention_png(attention: Floats, square: Image.Image) -> bytes:
    """`attention_picture` as the bytes of a PNG."""
    buffer = io.BytesIO()
    attention_picture(attention, square).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
