"""What Recollect needs of an image–text encoder, whoever trained it and whatever runs it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval.encoders.preprocessing import Preprocessing

Floats = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Two towers into one space: an image and a text that belong together have a high cosine.

    Implementations may be called from several threads at once.
    """

    @property
    def name(self) -> str:
        """What it is, for people: kind and directory or hub name."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides an embedding: weights, tokenizer, preprocessing, runtime."""
        ...

    @property
    def dimension(self) -> int:
        """Size d of an embedding."""
        ...

    @property
    def logit_scale(self) -> float:
        """What cosines were multiplied by before the softmax (or sigmoid) of training; about 100 for CLIP."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes pixels."""
        ...

    def embed_pixels(self, pixels: Floats) -> Floats:
        """Embed preprocessed images [n, 3, height, width]; returns [n, d] of unit length. n = 0 is fine."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Embed texts, padded to the longest of a batch; returns [n, d] of unit length. No texts give [0, d]."""
        ...


def embed_images(encoder: Encoder, images: Sequence[Image.Image]) -> Floats:
    """Embed decoded images (see `retrieval.images.decode_image`); returns [n, d] of unit length."""
    return encoder.embed_pixels(encoder.preprocessing.apply_all(images))
