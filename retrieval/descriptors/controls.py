"""What a descriptor set must beat before anything is claimed for it: names alone, prompt ensembles, random words."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.descriptors.classifier import Scoring
from retrieval.descriptors.descriptor_set import DescribedClass, DescriptorSet

CLASS_NAME = "class name"
PROMPT_ENSEMBLE = "prompt ensemble"
RANDOM_WORDS = "random words"
OTHERS_DESCRIPTORS = "descriptors of other classes"

PROMPTS = (
    "a photo of a {}.",
    "a picture of the {}.",
    "a close view of a {}.",
    "a {} seen from a distance.",
    "a bright photo of a {}.",
    "a dim photo of a {}.",
    "a sharp picture of one {}.",
    "a blurred picture of a {}.",
    "a plain photo of some {}.",
    "here is a {}.",
)
"""Ways to say that a photo shows a thing, which say nothing of the thing."""
_WORDS = (
    "abbey acre agenda alley anthem arcade audit banter barge basin bishop bureau cabin canal census chapel chorus "
    "citizen clerk colony comet compass cradle cruise debate decade delta depot detour diary dinner echo editor "
    "embassy engine errand estate exile fable factory fathom ferry fiddle forum freight galaxy garage gossip guitar "
    "hammock harbour hermit hobby holiday horizon hostel iceberg insect island jester journal jungle kennel kettle "
    "kingdom ladder lagoon lantern lecture legend library lottery magnet mansion marathon meadow melody merchant "
    "monsoon motel museum nephew notary oasis office opera orbit orchard outpost oxygen paddle pageant palace parade "
    "pardon pasture pilot planet pocket poem pony prairie puzzle quarry quartet radar railway ransom recipe referee "
    "rhythm river rocket rumour saddle sailor salary satire saviour scandal sermon shelter siege signal sonnet "
    "stable statue summit tavern temple tenant theatre thunder ticket tourist treaty trumpet tunnel tutor uncle "
    "valley verdict village violin volcano voyage wagon waltz warden whisper widow window wizard workshop yacht "
    "yeoman zodiac"
)
"""Ordinary words, chosen for saying nothing of how a thing looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """Texts of the same classes that know less of them than the descriptors claim to."""

    name: str
    """What it is called in tables."""
    scoring: Scoring
    """How its texts are scored."""
    repetitions: tuple[list[list[str]], ...]
    """Texts of each class, several times where they are drawn at random: its accuracy is their mean."""


def controls_of(
    descriptors: DescriptorSet, scoring: Scoring, generator: np.random.Generator, *, repetitions: int = 5
) -> list[Control]:
    """All controls of a set, the class-name baseline first; what is random is drawn `repetitions` times."""
    fixed = (class_name_baseline(descriptors).texts_by_class(),)
    waffles = tuple(random_words(descriptors, generator).texts_by_class() for _ in range(repetitions))
    others = tuple(others_descriptors(descriptors, generator).texts_by_class() for _ in range(repetitions))
    prompts = (prompt_ensemble(descriptors.class_names),)
    return [
        Control(name=CLASS_NAME, scoring=scoring, repetitions=fixed),
        Control(name=PROMPT_ENSEMBLE, scoring=Scoring.RENORMALISED, repetitions=prompts),
        Control(name=RANDOM_WORDS, scoring=scoring, repetitions=waffles),
        Control(name=OTHERS_DESCRIPTORS, scoring=scoring, repetitions=others),
    ]


def class_name_baseline(descriptors: DescriptorSet) -> DescriptorSet:
    """The same classes without descriptors: "a photo of a {class}."."""
    classes = tuple(DescribedClass(name=name, descriptors=()) for name in descriptors.class_names)
    return DescriptorSet(name=CLASS_NAME, classes=classes, prefix="a photo of a ", suffix=".")


def prompt_ensemble(class_names: Sequence[str]) -> list[list[str]]:
    """Every one of `PROMPTS` for each class, to be scored renormalised."""
    return [[prompt.format(name) for prompt in PROMPTS] for name in class_names]


def random_words(descriptors: DescriptorSet, generator: np.random.Generator) -> DescriptorSet:
    """Nonsense in place of the descriptors, the same for each class, after WaffleCLIP (arXiv 2306.07282).

    As many a class as the set has on average; every second is as many words as class names have on average, the others
    as many sequences of letters as long as the words of class names.
    """
    count = max(round(float(np.mean([len(described.scored) for described in descriptors.classes]))), 1)
    names = [name.replace("-", " ").replace("_", " ").split() or [name] for name in descriptors.class_names]
    width = max(round(float(np.mean([len(words) for words in names]))), 1)
    length = max(round(float(np.mean([len(word) for words in names for word in words]))), 2)
    known, rows = _WORDS.split(), (count + 1) // 2
    words = generator.choice(known, size=(rows, width), replace=rows * width > len(known))
    letters = generator.choice(list(string.ascii_lowercase), size=(count // 2, width, length))
    nonsense = [" ".join(row) for row in words.tolist()]
    nonsense += [" ".join("".join(word) for word in row) for row in letters.tolist()]
    classes = tuple(replace(described, descriptors=tuple(nonsense)) for described in descriptors.classes)
    return replace(descriptors, name=RANDOM_WORDS, classes=classes, generated={}, repeated=())


def others_descriptors(descriptors: DescriptorSet, generator: np.random.Generator) -> DescriptorSet:
    """Each class with the descriptors of another, drawn so that none keeps its own; a lone class does."""
    order = generator.permutation(len(descriptors.classes))
    giver = np.empty_like(order)
    giver[order] = np.roll(order, 1)  # one cycle through all classes
    classes = tuple(
        replace(described, descriptors=descriptors.classes[int(other)].descriptors)
        for described, other in zip(descriptors.classes, giver, strict=True)
    )
    return replace(descriptors, name=OTHERS_DESCRIPTORS, classes=classes, generated={}, repeated=())
