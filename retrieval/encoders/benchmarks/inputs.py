"""What is embedded and classified while it is timed, the same on every run."""

import numpy as np

from retrieval.descriptors.classifier import Classifier
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Floats

WORDS = (
    *("a", "photo", "of", "which", "has", "is", "with", "and", "the", "on", "wide", "narrow", "round", "small", "long"),
    *("red", "green", "blue", "wooden", "metal", "glass", "handle", "neck", "shade", "foot", "lamp", "bowl", "vase"),
)
CLASSES, DESCRIPTORS = 1_000, 10
"""Classes of the set that is classified by, and descriptors of each."""


def texts(number: int) -> list[str]:
    """Composed descriptor texts of 8 to 14 words."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(5, 12, number)
    return [f"a {WORDS[-1 - at % 3]}, which has {' '.join(generator.choice(WORDS, n))}" for at, n in enumerate(lengths)]


def pixels(preprocessing: Preprocessing, number: int) -> Floats:
    """Preprocessed images [n, 3, height, width]."""
    shape = (number, 3, preprocessing.height, preprocessing.width)
    return np.random.default_rng(2).standard_normal(shape, dtype=np.float32)


def classifier(dimension: int) -> Classifier:
    """A classifier by CLASSES × DESCRIPTORS texts, whose embeddings are random."""
    described = {f"class {c}": [f"feature {c} {d}" for d in range(DESCRIPTORS)] for c in range(CLASSES)}
    generator = np.random.default_rng(3)
    return Classifier.prepare(
        DescriptorSet.from_mapping("benchmark", described),
        lambda composed: generator.standard_normal((len(composed), dimension), dtype=np.float32),
        logit_scale=100.0,
    )


def image_embeddings(dimension: int) -> Floats:
    """Embedding of one image [1, d], of unit length."""
    embedding = np.random.default_rng(4).standard_normal((1, dimension), dtype=np.float32)
    unit: Floats = embedding / np.linalg.norm(embedding)
    return unit
