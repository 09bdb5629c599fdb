"""A trained model as serving and evaluation call it: pictures, boxes and texts in, numpy arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from retrieval.composed.directory import MODEL_TYPE, StoredModel, load_model, read_config
from retrieval.composed.geometry import Box, Floats
from retrieval.composed.model import AdaFocal, similarity
from retrieval.composed.text import TextTokenizer
from retrieval.errors import ComposedError

Tokens = npt.NDArray[np.float16]
"""Frozen image features [n, P, C]; halves are what the cache holds."""
SHIPPED = Path(__file__).parent / "shipped"
"""Models that come with Recollect, each by the name of its directory."""
_PICTURES = 16
"""Pictures that are embedded at once."""
_QUERIES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A picture as the model takes it."""

    pixels: Floats
    """[3, S, S]."""
    mask: Floats
    """M [P]: 1 for the tokens that the box covers."""
    box_kept: bool
    """False where a box was given and the middle square of the picture has nothing of it; the mask is then 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryEmbeddings:
    """n queries."""

    vectors: Floats
    """[n, d], of unit length."""
    beta: Floats
    """How strongly each looked at its box: [n, 1], or [n, V] for a vector modulator."""
    truncated: npt.NDArray[np.bool_]
    """[n]: whose text was longer than the model takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMaps:
    """Where a query looks in its reference, as shares of all attention; both maps leave CLS out."""

    base: Floats
    """[rows, columns] with β = 0."""
    modulated: Floats
    """[rows, columns] with the query's β."""
    beta: Floats
    """[1], or [V] for a vector modulator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordImportance:
    """What a word of the text does for a hit."""

    word: str
    importance: float
    """By how much the similarity falls without the word; below 0 where it rises."""


class ComposedEncoder:
    """Embeds galleries and queries. May be called from several threads at once."""

    def __init__(self, model: AdaFocal, tokenizer: TextTokenizer, *, name: str, fingerprint: str) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self.geometry = model.config.geometry
        self.dimension = model.config.qformer.dimension
        self.vectors = model.config.qformer.query_tokens
        self.text_tokens = model.config.qformer.text_tokens

    def prepare(self, image: Image.Image, box: Box | None = None) -> Prepared:
        """Bring a decoded picture, and the box in its pixels, to the encoder's square.

        BoxError where the box marks nothing of the picture.
        """
        moved = None
        if box is not None:
            moved = self.geometry.moved(box.checked(*image.size), *image.size)
        return Prepared(
            pixels=self.geometry.pixels(image),
            mask=self.geometry.mask(moved),
            box_kept=box is None or moved is not None,
        )

    @torch.inference_mode()
    def image_tokens(self, pixels: Floats) -> Tokens:
        """The frozen features [n, P, C] of pictures [n, 3, S, S]."""
        tokens = np.empty((len(pixels), self.geometry.tokens, self.model.config.vision.hidden_size), dtype=np.float16)
        for begin in range(0, len(pixels), _PICTURES):
            batch = self._tensor(pixels[begin : begin + _PICTURES]).contiguous(memory_format=torch.channels_last)
            tokens[begin : begin + _PICTURES] = self.model.image_tokens(batch).half().cpu().numpy()
        return tokens

    @torch.inference_mode()
    def embed_gallery(self, tokens: Tokens) -> Floats:
        """The V vectors of each picture [n, V, d], of unit length."""
        vectors = np.empty((len(tokens), self.vectors, self.dimension), dtype=np.float32)
        for begin in range(0, len(tokens), _QUERIES):
            batch = self._tensor(tokens[begin : begin + _QUERIES])
            vectors[begin : begin + _QUERIES] = self.model.embed_gallery(batch).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def embed_queries(
        self, tokens: Tokens, masks: Floats, texts: Sequence[str], *, beta: float | None = None
    ) -> QueryEmbeddings:
        """Embed n queries from reference features [n, P, C], masks [n, P] and texts; `beta` overrules the model.

        ComposedError for a `beta` that is no finite number of at least 0.
        """
        if beta is not None and not 0 <= beta < float("inf"):
            raise ComposedError(f"beta must be a finite number of at least 0, got {beta}; 0 looks away from the box")
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        betas, cut = [], []
        for begin in range(0, len(texts), _QUERIES):
            part = slice(begin, begin + _QUERIES)
            rows = self.tokenizer.rows(texts[part]).to(self._device)
            given = None if beta is None else torch.full((len(rows.ids), 1), beta, device=self._device)
            embedded, used = self.model.embed_queries(
                self._tensor(tokens[part]), self._tensor(masks[part]), rows, beta=given
            )
            vectors[part] = embedded.cpu().numpy()
            betas.append(used.cpu().numpy())
            cut.append(rows.truncated.cpu().numpy())
        return QueryEmbeddings(
            vectors=vectors,
            beta=np.concatenate(betas) if betas else np.empty((0, 1), dtype=np.float32),
            truncated=np.concatenate(cut) if cut else np.empty(0, dtype=np.bool_),
        )

    @torch.inference_mode()
    def explain(self, tokens: Tokens, mask: Floats, text: str, *, beta: float | None = None) -> AttentionMaps:
        """Where one query, of features [P, C] and mask [P], looks: without its box and with it."""
        rows = self.tokenizer.rows([text]).to(self._device)
        seen, covered = self._tensor(tokens[None]), self._tensor(mask[None])
        used = self.model.beta(seen, rows) if beta is None else torch.full((1, 1), beta, device=self._device)
        maps = [
            self.model.cross_attention(seen, covered, rows, each)[0, 1:].reshape(self.geometry.side, -1).cpu().numpy()
            for each in (torch.zeros_like(used), used)
        ]
        return AttentionMaps(base=maps[0], modulated=maps[1], beta=used[0].cpu().numpy())

    @torch.inference_mode()
    def word_importance(
        self, tokens: Tokens, mask: Floats, text: str, target: Floats, *, beta: float | None = None
    ) -> list[WordImportance]:
        """What each word of `text` does for the similarity with a hit's vectors [V, d], by leaving it out."""
        words = text.split()
        texts = [text, *(" ".join(words[:at] + words[at + 1 :]) for at in range(len(words)))]
        queries = self.embed_queries(
            np.repeat(tokens[None], len(texts), axis=0), np.repeat(mask[None], len(texts), axis=0), texts, beta=beta
        )
        scores = similarity(torch.from_numpy(queries.vectors), torch.from_numpy(target[None])).numpy()[:, 0]
        return [
            WordImportance(word=word, importance=float(scores[0] - score))
            for word, score in zip(words, scores[1:], strict=True)
        ]

    @property
    def _device(self) -> torch.device:
        return self.model.query_tokens.device

    def _tensor(self, array: Floats | Tokens) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(self._device).float()


def load_composed(reference: str | Path, *, device: str = "cpu", allow_download: bool = True) -> ComposedEncoder:
    """The model that `load_stored` finds, ready to answer."""
    stored = load_stored(reference, allow_download=allow_download)
    return ComposedEncoder(
        stored.model.to(device), stored.tokenizer, name=str(reference), fingerprint=stored.fingerprint
    )


def load_stored(reference: str | Path, *, allow_download: bool = True) -> StoredModel:
    """The model in a directory of ours or in a published BLIP-2 directory or, where none exists, a shipped or hub name.

    A published BLIP-2 checkpoint knows no boxes: its β is 0. ComposedError says what is missing or wrong.
    """
    from retrieval.composed.blip2 import fetched, load_blip2

    directory = Path(reference)
    if not directory.is_dir():
        shipped = SHIPPED / str(reference)
        directory = shipped if shipped.is_dir() else fetched(str(reference), allow_download=allow_download)
    ours = read_config(directory).get("model_type") == MODEL_TYPE
    stored = load_model(directory) if ours else load_blip2(directory)
    # Several times as fast on a CPU where the image encoder is a residual network, and changes no result.
    stored.model.vision_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return stored
