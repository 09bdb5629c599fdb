"""When two names or two descriptors say the same, and which texts are none: one answer for all of descriptor sets."""

import re
from collections.abc import Sequence

from retrieval.errors import DescriptorError

_NOT_ALLOWED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line and paragraph separators, halves of surrogate pairs."""


def spelling_aside(name: str) -> str:
    """What spellings of one class name have in common: case, hyphens, underscores and spacing don't count."""
    return spacing_aside(name.replace("-", " ").replace("_", " "))


def spacing_aside(text: str) -> str:
    """What spellings of one descriptor have in common: case and spacing don't count; "" for an empty one."""
    return " ".join(text.casefold().split())


def distinct(descriptors: Sequence[str]) -> tuple[str, ...]:
    """The first of each that say the same, in order, without empty ones."""
    first: dict[str, str] = {}
    for descriptor in descriptors:
        first.setdefault(spacing_aside(descriptor), descriptor)
    first.pop("", None)
    return tuple(first.values())


def check_text(what: str, text: str, limit: int) -> None:
    """Raise DescriptorError for a text longer than `limit` characters or with a control character."""
    if len(text) > limit:
        raise DescriptorError(f"{what} has {len(text)} characters, at most {limit} are allowed: {text[:60]!r}…")
    wrong = _NOT_ALLOWED.search(text)
    if wrong:
        raise DescriptorError(f"{what} has the control character {wrong.group()!r}; remove it from {text[:60]!r}")
