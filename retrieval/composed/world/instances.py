"""Objects that are each one of a kind: a product, its make, the marks painted on it; and their look-alikes."""

from dataclasses import dataclass, replace

import numpy as np

from retrieval.shop.materials import Colour

CLASSES: dict[str, tuple[str, tuple[str, ...], float]] = {
    "mug": ("coffee mug", ("stoneware", "enamel", "porcelain"), 0.3),
    "teapot": ("teapot", ("stoneware", "porcelain", "cast iron"), 0.22),
    "vase": ("vase", ("earthenware", "porcelain", "terracotta"), 0.4),
    "jug": ("milk jug", ("stoneware", "enamel", "porcelain"), 0.25),
    "flower pot": ("plant pot", ("terracotta", "stoneware", "zinc"), 0.42),
    "bowl": ("cereal bowl", ("stoneware", "porcelain", "earthenware"), 0.34),
    "watering can": ("watering can", ("zinc", "enamel", "steel"), 0.36),
    "bread box": ("bread box", ("oak", "walnut", "steel"), 0.3),
    "bag": ("tote bag", ("canvas", "leather", "cork"), 0.3),
    "backpack": ("backpack", ("canvas", "nylon", "waxed cotton"), 0.3),
}
"""Word of a text → (product of the shop, materials, height of its front's middle in the item's coordinates)."""
COLOURS: dict[str, str] = {
    "red": "red",
    "blue": "blue",
    "green": "green",
    "white": "white",
    "black": "black",
    "brown": "brown",
    "beige": "tan",
    "purple": "indigo",
    "orange": "rust",
    "turquoise": "painted",
}
"""Word of a text → style word of the shop."""
PATTERNS: dict[str, str] = {"plain": "", "striped": "striped", "checked": "checked", "speckled": "speckled"}
STRETCHES = ("", "slim", "tall", "wide", "low")
MARKS = ("dot", "ring", "cross", "star", "triangle", "square", "zigzag", "bar")
MARK_COLOURS: dict[str, Colour] = {
    "yellow": (252, 214, 30),
    "pink": (246, 96, 168),
    "cyan": (40, 206, 230),
    "lime": (150, 224, 40),
    "scarlet": (230, 34, 34),
    "ultramarine": (36, 60, 214),
    "snow-white": (252, 252, 252),
    "jet": (14, 14, 18),
}
ASKED_FOR, DOUBLES = 3, 2
"""Members of a family that queries ask for, and further look-alikes that no query does."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something painted on an object's front."""

    shape: str
    colour: str
    x: float
    """Off the front's middle, in the item's coordinates."""
    y: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One object."""

    name: str
    """Unlike that of any other; the first part is its family's."""
    family: str
    word: str
    """What texts call it."""
    material: str
    colour: str
    pattern: str
    stretch: str
    marks: tuple[Mark, ...]

    @property
    def noun(self) -> str:
        """Colour and kind, as a text names a thing that stands beside another."""
        return f"{self.colour} {self.word}"

    @property
    def described(self) -> str:
        """Everything that tells it apart, in words."""
        pattern = "" if self.pattern == "plain" else f" {self.pattern}"
        marks = " and ".join(indefinite(f"{mark.colour} {mark.shape}") for mark in self.marks)
        return f"{indefinite(self.colour)}{pattern} {self.word} with {marks}"


def indefinite(words: str) -> str:
    """The words with their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def family(name: str, generator: np.random.Generator) -> list[Instance]:
    """Look-alikes: one object, and others that differ from it in one or two things, a mark's shape or colour mostly.

    The first ASKED_FOR are asked for; the DOUBLES after them only stand in their way.
    """
    word = str(generator.choice(list(CLASSES)))
    first = Instance(
        name=f"{name}-0",
        family=name,
        word=word,
        material=str(generator.choice(CLASSES[word][1])),
        colour=str(generator.choice(list(COLOURS))),
        pattern=str(generator.choice(list(PATTERNS), p=[0.55, 0.15, 0.15, 0.15])),
        stretch=str(generator.choice(STRETCHES)),
        marks=_marks(generator),
    )
    members = [first]
    while len(members) < ASKED_FOR + DOUBLES:
        other = _altered(first, generator)
        if generator.random() < 0.3:
            other = _altered(other, generator)
        other = replace(other, name=f"{name}-{len(members)}")
        if all(_look(other) != _look(member) for member in members):
            members.append(other)
    return members


def _look(instance: Instance) -> Instance:
    return replace(instance, name="")


def _altered(instance: Instance, generator: np.random.Generator) -> Instance:
    what = generator.random()
    if what < 0.25:
        return replace(instance, colour=_other(list(COLOURS), instance.colour, generator))
    at = int(generator.integers(len(instance.marks)))
    mark = instance.marks[at]
    if what < 0.65:
        changed = replace(mark, shape=_other(MARKS, mark.shape, generator))
    else:
        changed = replace(mark, colour=_other(list(MARK_COLOURS), mark.colour, generator))
    return replace(instance, marks=(*instance.marks[:at], changed, *instance.marks[at + 1 :]))


def _marks(generator: np.random.Generator) -> tuple[Mark, ...]:
    count = 1 if generator.random() < 0.5 else 2
    places = [(generator.uniform(-0.1, 0.1),)] if count == 1 else [(-0.24,), (0.24,)]
    colours = generator.choice(list(MARK_COLOURS), count, replace=False)
    return tuple(
        Mark(str(generator.choice(MARKS)), str(colour), float(x), float(generator.uniform(-0.08, 0.08)))
        for colour, (x,) in zip(colours, places, strict=True)
    )


def _other(known: "list[str] | tuple[str, ...]", but: str, generator: np.random.Generator) -> str:
    return str(generator.choice([each for each in known if each != but]))
