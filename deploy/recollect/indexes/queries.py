"""Ask an index by an id of its own, by a picture, or by a text, which are embedded with what its vectors were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recollect.composed.galleries import close_to
from recollect.encoders import encoder_path
from recollect.errors import RecollectError
from recollect.indexes.sources import GALLERY, one_vector, require_maker, shown_source
from recollect.settings import Settings
from retrieval.images import ImageLimits, decode_image
from retrieval.index.increment_input import usable_ids
from retrieval.index.search import Floats
from retrieval.index.vector_index import VectorIndex

Hit = tuple[Any, float]
"""An id and its similarity."""


def like_id(index: VectorIndex, given: str, k: int) -> list[Hit]:
    """The k most like an id of the index, itself left out, best first; RecollectError names ids that come close."""
    ids, _ = usable_ids([given], index)
    if not len(ids):
        near = close_to(given, [str(each) for each in index.ids])
        raise RecollectError(f"id {given!r} is not in the index; there is {near}")
    row = int(index.rows_of(ids.to_list())[0])
    return [hit for hit in like_vector(index, index.vectors_at(np.array([row])), k + 1) if hit[0] != ids[0]][:k]


def like_vector(index: VectorIndex, query: Floats, k: int) -> list[Hit]:
    """The k most like `query` [1, d], best first."""
    found = index.search(query, k)
    there = found.rows[0] >= 0
    ids = index.ids.gather(found.rows[0][there]).to_list()
    return list(zip(ids, found.scores[0][there].tolist(), strict=True))


def embed_image(settings: Settings, source: Mapping[str, Any], path: Path) -> Floats:
    """[1, d] of a picture, by what embedded the `source` of an index; RecollectError where nothing did that can.

    ImageRefused for a picture that is not decoded.
    """
    limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise RecollectError(f"{path} cannot be read: {error.strerror or error}") from error
    if source.get("kind") == GALLERY:
        return _as_in_a_gallery(settings, source, data, limits)
    from retrieval.encoders.protocol import embed_images

    encoder = _encoder(settings, source)
    return embed_images(encoder, [decode_image(data, limits, target=encoder.preprocessing.shrinks_to)])


def embed_text(settings: Settings, source: Mapping[str, Any], text: str) -> Floats:
    """[1, d] of a text; raises as `embed_image`, and where what embedded the pictures takes texts only with one."""
    if source.get("kind") == GALLERY:
        raise RecollectError(
            "the model of a gallery takes a text only beside a picture; give --image, or use `recollect composed "
            "search`"
        )
    embedded: Floats = _encoder(settings, source).embed_texts([text])
    return embedded


def _encoder(settings: Settings, source: Mapping[str, Any]) -> Any:
    from retrieval.encoders.load import load_encoder

    encoder = load_encoder(encoder_path(settings, _named(source)))
    require_maker(source, encoder.fingerprint)
    return encoder


def _as_in_a_gallery(settings: Settings, source: Mapping[str, Any], data: bytes, limits: ImageLimits) -> Floats:
    from recollect.composed.references import read_picture
    from recollect.composed_training import composed_path
    from retrieval.composed.encoder import load_composed

    encoder = load_composed(composed_path(settings, _named(source)))
    require_maker(source, encoder.fingerprint)
    picture = read_picture(data, encoder, limits)
    return one_vector(encoder.embed_gallery(encoder.image_tokens(picture.pixels[None])))


def _named(source: Mapping[str, Any]) -> str:
    if "encoder" not in source:
        raise RecollectError(
            f"the index was made of {shown_source(source)}, which embeds neither pictures nor texts; ask with --like"
        )
    return str(source["encoder"])
