"""Measure a descriptor set on labelled images, against the controls that any claim must beat."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.descriptors.bootstrap import Interval, interval, resampled_means
from retrieval.descriptors.classifier import ClassTexts, EmbedTexts, Scoring
from retrieval.descriptors.controls import CLASS_NAME, controls_of
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.descriptors.leave_one_out import DescriptorEffect, Indices, descriptor_effects
from retrieval.encoders.protocol import Floats
from retrieval.errors import DatasetError

DESCRIPTORS = "descriptors"
"""What the set itself is called among the methods."""
EDITED = "descriptors, edited"
"""What the edited set is called among the methods."""
Progress = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done and how much there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodResult:
    """How often one way of describing the classes is right."""

    name: str
    """The set itself, or a control of `retrieval.descriptors.controls`."""
    top1: float
    """Share of images whose class scores highest; the mean over repetitions where texts are random."""
    top1_interval: Interval
    """Of `top1`, over other images that might have been taken."""
    top5: float
    """Share of images whose class is among the five highest."""
    difference: float
    """`top1` less that of the class names alone."""
    difference_interval: Interval
    """Of `difference`, over the same images for both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassResult:
    """How one class fares."""

    name: str
    """Of the class."""
    images: int
    """How many show it."""
    right: int
    """How many of these are recognised."""
    confused_with: str
    """What the others are most often taken for; empty where all are right."""
    confused: int
    """How often."""

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return self.right / self.images


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What another version of the set does to each image, by its number among those scored."""

    turn_right: tuple[int, ...]
    """Images that are right only with the edited set."""
    turn_wrong: tuple[int, ...]
    """Images that are right only with the set as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a descriptor set is worth on a data set."""

    name: str
    """Of the set."""
    digest: str
    """Of the set."""
    scoring: Scoring
    """How it was scored."""
    seed: int
    """Of random controls and of resampling."""
    scored: tuple[int, ...]
    """Which of the given images were scored: those whose label the set has a class for."""
    unknown: dict[str, int]
    """Labels that the set has no class for, with how many images were left out for each."""
    extra: tuple[str, ...]
    """Classes that no image shows; they take part in the scores."""
    methods: tuple[MethodResult, ...]
    """The set itself, then the edited one if there is one, then the controls."""
    classes: tuple[ClassResult, ...]
    """Those that images show, in the order of the set."""
    effects: tuple[DescriptorEffect, ...]
    """Of each descriptor, in the order of the set; images by their numbers among those scored."""
    class_names: tuple[str, ...]
    """Rows and columns of `confusion`."""
    confusion: npt.NDArray[np.int64]
    """[C, C] images of the row's class that were taken for the column's."""
    edit: Edit | None = None
    """What the edited set does, where one was given."""

    def as_dict(self, image_names: Sequence[str]) -> dict[str, Any]:
        """All of it as JSON keeps it; `image_names` are of the images given, and stand where the numbers stood.

        The confusion is [shown, taken for, images] by the classes' numbers, without zeros.
        """
        names = [image_names[image] for image in self.scored]
        plain = asdict(self) | {"scored": len(names), "scoring": self.scoring.value}
        shown, taken_for = np.nonzero(self.confusion)
        counts = self.confusion[shown, taken_for]
        plain["confusion"] = np.stack([shown, taken_for, counts], axis=1).tolist()
        for row, of_class in zip(plain["classes"], self.classes, strict=True):
            row["accuracy"] = of_class.accuracy
        for row in (*plain["effects"], *([plain["edit"]] if self.edit else [])):
            row["change"] = len(row["turn_right"]) - len(row["turn_wrong"])
            row |= {key: [names[image] for image in row[key]] for key in ("turn_right", "turn_wrong")}
        return plain


def evaluate(
    descriptors: DescriptorSet,
    embed_texts: EmbedTexts,
    images: Floats,
    labels: Sequence[str],
    *,
    scoring: Scoring = Scoring.MEAN,
    edited: DescriptorSet | None = None,
    seed: int = 0,
    repetitions: int = 5,
    resamples: int = 2_000,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate `descriptors` on image embeddings [n, d] with a label each, matched with the classes by name.

    `edited` is another version of the same classes, compared image by image. Random controls are drawn `repetitions`
    times, intervals come from `resamples`. Raises DatasetError where the set has a class for none of the images.
    """
    matching = descriptors.match(list(dict.fromkeys(labels)))
    class_of = dict(zip(dict.fromkeys(labels), matching.classes, strict=True))
    scored = [image for image, label in enumerate(labels) if class_of[label] is not None]
    if not scored:
        raise DatasetError(
            f"descriptor set {descriptors.name!r} has a class for none of the labels; labels are "
            f"{_some(matching.missing)}, classes {_some(descriptors.class_names)}"
        )
    truth = np.array([class_of[labels[image]] for image in scored], dtype=np.int64)
    generator = np.random.default_rng(seed)
    texts = ClassTexts.embed(descriptors.texts_by_class(), embed_texts, scoring)
    unit = texts.unit(images[scored])
    scores = texts.scores(unit)
    right, edit = {DESCRIPTORS: _right(scores, truth)}, None
    if edited is not None:
        after = ClassTexts.embed(edited.texts_by_class(), embed_texts, scoring)
        right[EDITED] = _right(after.scores(unit), truth)
        edit = _edit(right[DESCRIPTORS][:, 0], right[EDITED][:, 0])
    controls = controls_of(descriptors, scoring, generator, repetitions=repetitions)
    for done, control in enumerate(controls):
        if progress:
            progress(f"control: {control.name}", done, len(controls))
        runs = (ClassTexts.embed(each, embed_texts, control.scoring) for each in control.repetitions)
        right[control.name] = np.mean([_right(run.scores(unit), truth) for run in runs], axis=0)
    confusion = _confusion(scores, truth)
    return Evaluation(
        name=descriptors.name,
        digest=descriptors.digest,
        scoring=scoring,
        seed=seed,
        scored=tuple(scored),
        unknown={label: count for label, count in Counter(labels).items() if class_of[label] is None},
        extra=matching.extra,
        methods=_compared(right, generator, resamples),
        classes=_by_class(descriptors.class_names, confusion),
        effects=tuple(descriptor_effects(descriptors, texts, unit, truth, embed_texts)),
        class_names=descriptors.class_names,
        confusion=confusion,
        edit=edit,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + ("" if len(names) <= 5 else ", …")


def _right(scores: Floats, truth: Indices) -> npt.NDArray[np.float64]:
    """[n, 2]: 1 where the true class scores highest, and where it is among the five highest; ties by order."""
    own = scores[np.arange(len(scores)), truth][:, None]
    before = np.arange(scores.shape[1]) < truth[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return np.stack([rank < 1, rank < 5], axis=1).astype(np.float64)


def _edit(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Edit:
    return Edit(
        turn_right=tuple(np.flatnonzero(after > before).tolist()),
        turn_wrong=tuple(np.flatnonzero(after < before).tolist()),
    )


def _compared(
    right: Mapping[str, npt.NDArray[np.float64]], generator: np.random.Generator, resamples: int
) -> tuple[MethodResult, ...]:
    top1 = np.stack([of_method[:, 0] for of_method in right.values()], axis=1)  # [n, methods]
    differences = top1 - right[CLASS_NAME][:, :1]
    means = resampled_means(np.concatenate([top1, differences], axis=1), generator, resamples=resamples)
    return tuple(
        MethodResult(
            name=name,
            top1=float(top1[:, at].mean()),
            top1_interval=interval(means[:, at]),
            top5=float(right[name][:, 1].mean()),
            difference=float(differences[:, at].mean()),
            difference_interval=interval(means[:, len(right) + at]),
        )
        for at, name in enumerate(right)
    )


def _confusion(scores: Floats, truth: Indices) -> npt.NDArray[np.int64]:
    counts = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def _by_class(class_names: Sequence[str], confusion: npt.NDArray[np.int64]) -> tuple[ClassResult, ...]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rival = wrong.argmax(axis=1)
    return tuple(
        ClassResult(
            name=name,
            images=int(confusion[at].sum()),
            right=int(confusion[at, at]),
            confused_with=class_names[rival[at]] if wrong[at].any() else "",
            confused=int(wrong[at, rival[at]]),
        )
        for at, name in enumerate(class_names)
        if confusion[at].any()
    )
