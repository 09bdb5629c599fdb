"""Feed the towers in batches of like lengths, whichever runtime they run on."""

from collections.abc import Callable, Sequence

import numpy as np

from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Floats
from retrieval.encoders.tokenization import Rows, Tokenizer

IMAGES_A_BATCH = 32
TEXTS_A_BATCH = 64


def embed_pixels_in_batches(
    pixels: Floats, preprocessing: Preprocessing, dimension: int, run: Callable[[Floats], Floats]
) -> Floats:
    """Embeddings [n, d] of preprocessed images [n, 3, height, width]; ValueError where they have another shape."""
    wanted = (3, preprocessing.height, preprocessing.width)
    if pixels.ndim != 4 or pixels.shape[1:] != wanted or pixels.dtype != np.float32:
        raise ValueError(
            f"pixels must be [n, {', '.join(map(str, wanted))}] float32, got {list(pixels.shape)} {pixels.dtype}; "
            "prepare them with the encoder's preprocessing"
        )
    embeddings = np.empty((len(pixels), dimension), dtype=np.float32)
    for start in range(0, len(pixels), IMAGES_A_BATCH):
        embeddings[start : start + IMAGES_A_BATCH] = run(pixels[start : start + IMAGES_A_BATCH])
    return embeddings


def embed_texts_in_batches(
    texts: Sequence[str], tokenizer: Tokenizer, dimension: int, run: Callable[[Rows], Floats]
) -> Floats:
    """Embeddings [n, d] of `texts`, each padded no further than its batch needs."""
    ids = tokenizer.ids(texts)
    embeddings = np.empty((len(texts), dimension), dtype=np.float32)
    by_length = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    for start in range(0, len(by_length), TEXTS_A_BATCH):
        batch = by_length[start : start + TEXTS_A_BATCH]
        embeddings[batch] = run(tokenizer.padding.apply([ids[at] for at in batch]))
    return embeddings
