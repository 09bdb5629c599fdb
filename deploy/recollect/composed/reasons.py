"""Say why a query found what it found: where it looked, and which words brought the first hit."""

import numpy as np
from PIL import Image

from recollect.composed.calls import SearchReasons
from recollect.composed.references import Reference
from retrieval.composed.encoder import ComposedEncoder
from retrieval.composed.explanation import attention_png
from retrieval.composed.geometry import Floats

_GREY = (128, 128, 128)


def reasons_of(
    encoder: ComposedEncoder,
    reference: Reference,
    mask: Floats,
    text: str,
    *,
    beta: float | None,
    first_hit: Floats | None,
) -> SearchReasons:
    """Of one query with box `mask` [P]; `first_hit` are that picture's vectors [V, d]. Blocking, a pass a word."""
    maps = encoder.explain(reference.tokens, mask, text, beta=beta)
    # Without the picture the map still shows on a plain square where on it was looked.
    side = encoder.geometry.size
    square = reference.square or Image.new("RGB", (side, side), _GREY)
    words = []
    if first_hit is not None:
        words = encoder.word_importance(reference.tokens, mask, text, first_hit, beta=beta)
    return SearchReasons(
        base_attention=attention_png(maps.base, square),
        modulated_attention=attention_png(maps.modulated, square),
        base_box_share=_share(maps.base, mask),
        modulated_box_share=_share(maps.modulated, mask),
        words=tuple((each.word, each.importance) for each in words),
    )


def _share(attention: Floats, mask: Floats) -> float:
    """How much of attention [rows, columns], as shares of all, is on the box; CLS comes first in `mask` [P]."""
    return float(np.sum(attention * mask[1:].reshape(attention.shape)))
