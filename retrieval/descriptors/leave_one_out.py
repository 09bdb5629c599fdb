"""What each descriptor is worth: which images turn right, and which wrong, when it alone is taken out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.descriptors.classifier import ClassTexts, EmbedTexts
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.protocol import Floats

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class DescriptorEffect:
    """What happens when one descriptor is taken out and all others stay."""

    class_name: str
    """Whose it is."""
    descriptor: str
    """As its author wrote it."""
    turn_right: tuple[int, ...]
    """Images (their numbers) that are right only without it."""
    turn_wrong: tuple[int, ...]
    """Images that are right only with it."""

    @property
    def change(self) -> int:
        """Right images without it less those with it: negative for a descriptor that helps."""
        return len(self.turn_right) - len(self.turn_wrong)


def descriptor_effects(
    descriptors: DescriptorSet, texts: ClassTexts, images: Floats, labels: Indices, embed_texts: EmbedTexts
) -> list[DescriptorEffect]:
    """The effect of every descriptor on images [n, d] of unit length with the classes `labels` [n].

    In the order of the set. Taking out a descriptor changes one column of the scores, which follows from the
    similarities; only the bare names of classes that would be left without descriptors have to be embedded.
    """
    scores = texts.scores(images)  # [n, C]
    right = scores.argmax(axis=1) == labels
    bare = _bare_names(descriptors, texts, embed_texts)
    effects = []
    for at, described in enumerate(descriptors.classes):
        if not described.scored:
            continue
        without = bare[at].scores(images) if at in bare else texts.scores_without_each(images, at)  # [n, n_c]
        effects += [
            DescriptorEffect(
                class_name=described.name,
                descriptor=descriptor,
                turn_right=tuple(np.flatnonzero(after & ~right).tolist()),
                turn_wrong=tuple(np.flatnonzero(right & ~after).tolist()),
            )
            for descriptor, after in zip(described.scored, _right_with(scores, at, without, labels).T, strict=True)
        ]
    return effects


def _bare_names(descriptors: DescriptorSet, texts: ClassTexts, embed_texts: EmbedTexts) -> dict[int, ClassTexts]:
    """The bare names, embedded, of the classes that have one descriptor."""
    alone = [at for at, described in enumerate(descriptors.classes) if len(described.scored) == 1]
    if not alone:
        return {}
    names = [descriptors.bare_name(at) for at in alone]
    embedded = embed_texts(names)
    return {at: ClassTexts(embedded[row : row + 1], [1], texts.scoring) for row, at in enumerate(alone)}


def _right_with(scores: Floats, at: int, columns: Floats, labels: Indices) -> Bools:
    """Which images are right, [n, m], when the scores of class `at` are one of `columns` [n, m] instead."""
    others = scores.copy()
    others[:, at] = -np.inf
    rival = others.argmax(axis=1)  # [n]
    highest = others[np.arange(len(others)), rival]
    # Equal scores go to the class that stands first in the set.
    wins = (columns > highest[:, None]) | ((columns == highest[:, None]) & (at < rival)[:, None])
    predicted = np.where(wins, at, rival[:, None])
    right: Bools = predicted == labels[:, None]
    return right
