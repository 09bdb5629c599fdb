"""Find what the author of a descriptor set should mend."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from retrieval.descriptors.wording import distinct, spacing_aside, spelling_aside

Described = tuple[str, Sequence[str]]
"""A class name and its descriptors as they were written."""


class ProblemKind(StrEnum):
    """What is wrong in a descriptor set; the set can be used all the same."""

    EMPTY_DESCRIPTOR = "empty descriptor"
    REPEATED_DESCRIPTOR = "repeated descriptor"
    NO_DESCRIPTORS = "no descriptors"
    SIMILAR_NAMES = "similar names"
    REPEATED_CLASS = "repeated class"
    SHARED_BY_ALL = "shared by all classes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that the author of a set should mend."""

    kind: ProblemKind
    """What is wrong."""
    message: str
    """The same in a sentence, with what is done about it."""
    class_name: str = ""
    """Where; empty for what concerns all classes."""
    descriptor: str = ""
    """Which; empty for what concerns the class."""


def find_problems(classes: Sequence[Described], repeated: Sequence[str] = ()) -> list[Problem]:
    """The problems within each class, then `repeated` (names that a file gave twice), then those between classes."""
    found = [problem for name, descriptors in classes for problem in _within(name, descriptors)]
    found += [
        Problem(
            kind=ProblemKind.REPEATED_CLASS,
            class_name=name,
            message=f"class {name!r} is in the file more than once; its descriptors were joined",
        )
        for name in repeated
    ]
    return found + _similar_names([name for name, _ in classes]) + _shared_by_all(classes)


def _within(name: str, descriptors: Sequence[str]) -> list[Problem]:
    found: list[Problem] = []
    seen: set[str] = set()
    for descriptor in descriptors:
        key = spacing_aside(descriptor)
        if not key:
            message = f"class {name!r} has an empty descriptor; it is left out"
            found.append(Problem(kind=ProblemKind.EMPTY_DESCRIPTOR, class_name=name, message=message))
        elif key in seen:
            kind, message = ProblemKind.REPEATED_DESCRIPTOR, f"class {name!r} repeats {descriptor!r}; it counts once"
            found.append(Problem(kind=kind, class_name=name, descriptor=descriptor, message=message))
        seen.add(key)
    if not distinct(descriptors):
        message = f"class {name!r} has no descriptors; it is scored by its bare name"
        found.append(Problem(kind=ProblemKind.NO_DESCRIPTORS, class_name=name, message=message))
    return found


def _similar_names(names: Sequence[str]) -> list[Problem]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[spelling_aside(name)].append(name)
    return [
        Problem(
            kind=ProblemKind.SIMILAR_NAMES,
            class_name=other,
            message=f"classes {first!r} and {other!r} differ in case, hyphens or spaces only; both are scored",
        )
        for first, *others in spellings.values()
        for other in others
    ]


def _shared_by_all(classes: Sequence[Described]) -> list[Problem]:
    if len(classes) < 2:
        return []
    first, *others = ({spacing_aside(each): each for each in distinct(descriptors)} for _, descriptors in classes)
    return [
        Problem(
            kind=ProblemKind.SHARED_BY_ALL,
            descriptor=descriptor,
            message=f"all classes have {descriptor!r}, which tells none apart; it is scored all the same",
        )
        for key, descriptor in first.items()
        if all(key in other for other in others)
    ]
