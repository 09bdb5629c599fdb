"""Say which described class an image shows, how sure that is, and which descriptors made it so (arXiv 2210.07183)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.protocol import Floats
from retrieval.errors import EncoderError

EmbedTexts = Callable[[Sequence[str]], Floats]
"""n texts to [n, d], as `Encoder.embed_texts`."""
_NO_DIRECTION = 1e-6
"""A mean of unit vectors shorter than this is rounding."""


class Scoring(StrEnum):
    """How the similarities of a class's texts become its score."""

    MEAN = "mean"
    """Mean of the cosines: a dot with the mean of the texts' unit vectors, as it is."""
    RENORMALISED = "renormalised"
    """Cosine with that mean, as prompt ensembles have it; ranks differently where texts of a class disagree."""
    MAX = "max"
    """The highest cosine alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """What one descriptor did for its class."""

    descriptor: str
    """As its author wrote it; the class's name where the class has no descriptors."""
    similarity: float
    """Cosine between the image and the composed text."""
    contribution: float
    """Its part in the score: those of a class add up to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassHit:
    """A class that an image may show."""

    name: str
    """Of the class."""
    score: float
    """By the classifier's scoring, from -1 to 1."""
    probability: float
    """Softmax of score x logit scale over all classes, those not shown as well."""
    reasons: tuple[Reason, ...] = ()
    """Highest similarity first; empty unless asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastTerm:
    """What one descriptor did for the winner against the rival."""

    class_name: str
    """Winner or rival."""
    descriptor: str
    """As in `Reason`."""
    contribution: float
    """As in `Reason` where the class is the winner, negated where it is the rival."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Why one class scores higher than another."""

    winner: str
    """The class asked about."""
    rival: str
    """The class it is held against."""
    difference: float
    """The winner's score less the rival's; negative where the "winner" lost."""
    terms: tuple[ContrastTerm, ...]
    """Largest first, whatever the sign; their contributions add up to the difference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """What one image shows."""

    hits: tuple[ClassHit, ...]
    """Highest score first; equal scores in the order of the set."""
    contrast: Contrast | None = None
    """The best class against the one that was named; None unless asked for, and where that class is the best."""


class ClassTexts:
    """The texts of C classes, embedded: the arithmetic of scores, for any texts and without names. Immutable."""

    def __init__(self, embeddings: Floats, sizes: Sequence[int], scoring: Scoring) -> None:
        """`embeddings` [T, d] of the texts of one class after the other; `sizes` says how many each class has."""
        if embeddings.ndim != 2 or len(embeddings) != sum(sizes):
            raise EncoderError(f"{sum(sizes)} texts must become [{sum(sizes)}, d], got {list(embeddings.shape)}")
        self.scoring = scoring
        self.texts = _unit("text embeddings", embeddings)  # [T, d]
        self.sizes = np.asarray(sizes, dtype=np.int64)  # [C]
        self.starts = np.cumsum(self.sizes) - self.sizes  # [C]
        mean = np.add.reduceat(self.texts, self.starts, axis=0, dtype=np.float64) / self.sizes[:, None]  # [C, d]
        self.mean_norms = np.linalg.norm(mean, axis=1)  # [C]
        if scoring is Scoring.RENORMALISED:
            if self.mean_norms.min() < _NO_DIRECTION:
                raise EncoderError(
                    f"the texts of class {int(self.mean_norms.argmin())} cancel out, so their mean has no direction; "
                    f"use scoring {Scoring.MEAN.value!r}"
                )
            mean /= self.mean_norms[:, None]
        self._columns = mean.astype(np.float32)  # [C, d]
        for array in (self.texts, self.sizes, self.starts, self.mean_norms, self._columns):
            array.flags.writeable = False

    @classmethod
    def embed(cls, texts: Sequence[Sequence[str]], embed_texts: EmbedTexts, scoring: Scoring) -> "ClassTexts":
        """Embed the texts of each class, at least one each, in one call."""
        flat = [text for of_class in texts for text in of_class]
        return cls(embed_texts(flat), [len(of_class) for of_class in texts], scoring)

    def unit(self, images: Floats) -> Floats:
        """`images` [n, d] at unit length; EncoderError where the shape, the numbers or the length are wrong."""
        dimension = self.texts.shape[1]
        if images.ndim != 2 or images.shape[1] != dimension:
            raise EncoderError(
                f"image embeddings must be [n, {dimension}] like the texts', got {list(images.shape)}; "
                "use the encoder that embedded the texts"
            )
        return _unit("image embeddings", images)

    def scores(self, images: Floats) -> Floats:
        """Scores [n, C] of images [n, d] of unit length."""
        if self.scoring is Scoring.MAX:
            best: Floats = np.maximum.reduceat(_cosines(images, self.texts), self.starts, axis=1)
            return best
        return _cosines(images, self._columns)

    def similarities(self, images: Floats, at: int) -> Floats:
        """Cosines [n, n_c] of images [n, d] of unit length with the texts of class `at`."""
        return _cosines(images, self.texts[self.starts[at] : self.starts[at] + self.sizes[at]])

    def scores_without_each(self, images: Floats, at: int) -> Floats:
        """Scores [n, n_c] that class `at`, of two texts or more, would have without its first text, its second, …"""
        similarities = self.similarities(images, at)
        if self.scoring is Scoring.MAX:
            best_two = np.sort(similarities, axis=1)[:, -2:]  # [n, 2]
            first = np.arange(similarities.shape[1]) == similarities.argmax(axis=1)[:, None]
            highest: Floats = np.where(first, best_two[:, :1], best_two[:, 1:])
            return highest
        rest = similarities.sum(axis=1, keepdims=True, dtype=np.float64) - similarities  # [n, n_c]
        divisor = np.float64(self.sizes[at] - 1)
        if self.scoring is Scoring.RENORMALISED:
            of_class = self.texts[self.starts[at] : self.starts[at] + self.sizes[at]]
            lengths = np.linalg.norm(of_class.sum(axis=0, dtype=np.float64) - of_class, axis=1)  # [n_c]
            divisor = np.maximum(lengths, _NO_DIRECTION)
        scores: Floats = (rest / divisor).astype(np.float32)
        return scores

    def contributions(self, similarities: npt.NDArray[np.float64], at: int) -> npt.NDArray[np.float64]:
        """What each of the similarities [n_c] adds to the score of class `at`; their sum is the score."""
        if self.scoring is Scoring.MAX:
            best = np.arange(len(similarities)) == similarities.argmax()
            return np.where(best, similarities, 0.0)
        norm = self.mean_norms[at] if self.scoring is Scoring.RENORMALISED else 1.0
        return similarities / (len(similarities) * norm)


class Classifier:
    """A descriptor set with its texts embedded; immutable, so that any number of readers can share it."""

    def __init__(self, descriptors: DescriptorSet, texts: ClassTexts, *, logit_scale: float) -> None:
        if not (np.isfinite(logit_scale) and logit_scale > 0):
            raise EncoderError(f"logit_scale must be positive and finite, got {logit_scale}")
        self.descriptors = descriptors
        self.class_names = descriptors.class_names
        self.scoring = texts.scoring
        self.logit_scale = logit_scale
        self._texts = texts
        self._positions = {name: at for at, name in enumerate(self.class_names)}
        # A class without descriptors was scored by its bare name, which is then its reason.
        self._shown = [described.scored or (described.name,) for described in descriptors.classes]

    @classmethod
    def prepare(
        cls,
        descriptors: DescriptorSet,
        embed_texts: EmbedTexts,
        *,
        logit_scale: float,
        scoring: Scoring = Scoring.MEAN,
    ) -> "Classifier":
        """Embed all texts of the set. After an edit only what changed costs anything if `embed_texts` keeps what it
        has embedded, as `retrieval.encoders.text_cache.CachedTexts` does. Raises EncoderError for unusable embeddings.
        """
        texts = ClassTexts.embed(descriptors.texts_by_class(), embed_texts, scoring)
        return cls(descriptors, texts, logit_scale=logit_scale)

    def scores(self, images: Floats) -> Floats:
        """Scores [n, C] of image embeddings [n, d] of any length but zero; EncoderError for unusable ones."""
        return self._texts.scores(self._texts.unit(images))

    def classify(
        self, images: Floats, *, top_k: int = 5, explain: bool = False, contrast_with: str | None = None
    ) -> list[Classification]:
        """The `top_k` best classes of each of n images [n, d], with reasons where `explain`.

        `contrast_with` names a class that the best one is held against. Raises EncoderError for unusable embeddings,
        DescriptorError for a class that the set does not have.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        rival = None if contrast_with is None else self._position(contrast_with)
        images = self._texts.unit(images)
        scores = self._texts.scores(images)  # [n, C]
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # [n, k]
        return [
            Classification(
                hits=self._hits(image, of_image, best, explain=explain),
                contrast=None if rival is None or rival == best[0] else self._contrast(image, int(best[0]), rival),
            )
            for image, of_image, best in zip(images, scores, order, strict=True)
        ]

    def contrast(self, image: Floats, winner: str, rival: str) -> Contrast:
        """What set `winner` apart from `rival` for one image [d]; errors as in `classify`."""
        unit = self._texts.unit(image[None])[0]
        return self._contrast(unit, self._position(winner), self._position(rival))

    def _position(self, class_name: str) -> int:
        at = self._positions.get(class_name)
        return self.descriptors.index_of(class_name) if at is None else at

    def _hits(
        self, image: Floats, scores: Floats, best: npt.NDArray[np.int64], *, explain: bool
    ) -> tuple[ClassHit, ...]:
        logits = scores.astype(np.float64) * self.logit_scale  # [C]
        powers = np.exp(logits - logits[best[0]])
        probabilities = powers[best] / powers.sum()  # [k]
        return tuple(
            ClassHit(
                name=self.class_names[at],
                score=float(scores[at]),
                probability=float(probability),
                reasons=self._reasons(image, at) if explain else (),
            )
            for at, probability in zip(best.tolist(), probabilities, strict=True)
        )

    def _reasons(self, image: Floats, at: int) -> tuple[Reason, ...]:
        similarities = self._texts.similarities(image[None], at)[0].astype(np.float64)
        parts = zip(
            self._shown[at], similarities.tolist(), self._texts.contributions(similarities, at).tolist(), strict=True
        )
        reasons = (Reason(descriptor=text, similarity=cosine, contribution=part) for text, cosine, part in parts)
        return tuple(sorted(reasons, key=lambda reason: -reason.similarity))

    def _contrast(self, image: Floats, winner: int, rival: int) -> Contrast:
        terms = [
            ContrastTerm(
                class_name=self.class_names[at], descriptor=reason.descriptor, contribution=sign * reason.contribution
            )
            for at, sign in ((winner, 1), (rival, -1))
            for reason in self._reasons(image, at)
        ]
        return Contrast(
            winner=self.class_names[winner],
            rival=self.class_names[rival],
            difference=sum(term.contribution for term in terms),
            terms=tuple(sorted(terms, key=lambda term: -abs(term.contribution))),
        )


def _cosines(images: Floats, vectors: Floats) -> Floats:
    """Dots [n, m] of [n, d] and [m, d].

    Each is summed on its own, so that equal texts tie and neither the other classes nor the other images change a
    bit of it. A matrix product rounds by its shape, and wakes threads that outlast the work where cores are shared.
    """
    cosines: Floats = np.vecdot(images[:, None], vectors[None])
    return cosines


def _unit(what: str, embeddings: Floats) -> Floats:
    """`embeddings` [n, d], each divided by its length; EncoderError names the first that has none."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64)).astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(wrong):
        raise EncoderError(
            f"{what} must be finite and not zero, number {int(wrong[0])} is not (length {lengths[wrong[0]]}); "
            "check the encoder's weights"
        )
    unit: Floats = (embeddings / lengths[:, None]).astype(np.float32, copy=False)
    return unit
