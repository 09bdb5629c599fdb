"""Write the descriptors of new classes with a language model, without ever touching what a person wrote."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from retrieval.descriptors.descriptor_set import (
    DescribedClass,
    DescriptorSet,
    load_descriptor_set,
    save_descriptor_set,
)
from retrieval.descriptors.language_model import Answer, EndpointError, LanguageModel
from retrieval.descriptors.wording import distinct, spelling_aside
from retrieval.errors import DescriptorError, GenerationError

_ASK = "Q: What are useful features for distinguishing a {name} in a photo?"
_LEAD = "A: There are several useful visual features to tell there is a {name} in a photo:"
_TASK = (
    "Answer the last question as the ones before it are answered: a list of short phrases, each about one thing that "
    'can be seen, each on a line of its own that begins with "- ".'
)
_EXAMPLES = {
    "kingfisher": (
        "a small stocky bird",
        "bright blue back and wings",
        "orange breast",
        "long dagger-like bill",
        "white patch on the side of the neck",
        "often sits on a branch above water",
    ),
    "rowing boat": (
        "a small open boat",
        "long narrow hull",
        "pointed bow",
        "pair of wooden oars",
        "bench seats from side to side",
        "may lie tied to a jetty",
    ),
}
_BULLET = re.compile(r"\s*(?:[-–•*]|\d{1,2}[.)])\s+(\S.*)")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_EMPHASIS = re.compile(r"\*\*|__|`")
_ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """What is asked for, and what counts as an answer."""

    in_flight: int = 4
    """Questions under way at once."""
    asks: int = 2
    """How often a class is asked about while answers hold too little."""
    fewest: int = 3
    """Descriptors that a class needs."""
    most: int = 20
    """Descriptors that a class keeps; later ones are dropped."""
    longest: int = 12
    """Words of a descriptor; longer ones are dropped, for a text encoder reads a phrase, not a paragraph."""

    def __post_init__(self) -> None:
        if min(self.in_flight, self.asks, self.fewest, self.longest) < 1 or self.most < self.fewest:
            raise GenerationError(f"every figure must be at least 1, and most at least fewest, got {self}")


class Standing(StrEnum):
    """Who wrote the descriptors that a class has."""

    MISSING = "missing"
    GENERATED = "generated"
    HAND_MADE = "hand-made"


class Outcome(StrEnum):
    """What became of a class."""

    GENERATED = "generated"
    KEPT = "kept"
    HAND_MADE = "hand-made"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """What became of every class, in the order that they were given in."""

    outcomes: Mapping[str, Outcome]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why, for those that failed."""

    def those(self, outcome: Outcome) -> list[str]:
        """The classes with that outcome."""
        return [name for name, reached in self.outcomes.items() if reached is outcome]


def prompt_for(class_name: str) -> str:
    """Two worked examples and the question, after arXiv 2210.07183, with examples of our own."""
    worked = ["\n".join([_question(name), *(f"- {each}" for each in features)]) for name, features in _EXAMPLES.items()]
    readable = " ".join(class_name.replace("-", " ").replace("_", " ").split())
    return "\n\n".join([_TASK, *worked, _question(readable)])


def _question(name: str) -> str:
    return f"{_ASK}\n{_LEAD}".format(name=name)


def descriptors_in(answer: Answer, class_name: str, config: GenerationConfig) -> tuple[str, ...]:
    """The descriptors that an answer lists, each once, in order.

    Left out: the last line of an answer that was cut off, whatever is no list entry, the class's own name, and what is
    longer than `config.longest` words.
    """
    lines = _THOUGHT.sub("", answer.text).split("\n")
    if not answer.complete:
        lines.pop()
    entries = [_plain(found.group(1)) for line in lines if (found := _BULLET.match(line))]
    own_name = spelling_aside(class_name)
    telling = (
        entry
        for entry in entries
        if spelling_aside(_ARTICLE.sub("", entry, count=1)) != own_name and len(entry.split()) <= config.longest
    )
    return distinct(tuple(telling))[: config.most]


def _plain(entry: str) -> str:
    """An entry without the marks of a markdown list, control characters or the full stop of a sentence."""
    printable = "".join(character if character.isprintable() else " " for character in _EMPHASIS.sub("", entry))
    return " ".join(printable.split()).rstrip(" .,;:")


def digest_of(descriptors: Sequence[str]) -> str:
    """SHA-256 of a list of descriptors, hex: any edit changes it."""
    return hashlib.sha256(json.dumps(list(descriptors), ensure_ascii=False).encode()).hexdigest()


def standings_of(descriptors: DescriptorSet | None, class_names: Sequence[str]) -> list[Standing]:
    """Who wrote what `descriptors` has for each class, whichever way its name is spelled.

    Generated is what still has the digest that was recorded when it was; everything else is a person's work.
    """
    if descriptors is None:
        return [Standing.MISSING] * len(class_names)
    return [
        Standing.MISSING if at is None else _author_of(descriptors.classes[at], descriptors.generated)
        for at in descriptors.match(class_names).classes
    ]


def _author_of(described: DescribedClass, records: Mapping[str, object]) -> Standing:
    record = records.get(described.name)
    untouched = isinstance(record, Mapping) and record.get("digest") == digest_of(described.descriptors)
    return Standing.GENERATED if untouched else Standing.HAND_MADE


async def generate_descriptors(
    class_names: Sequence[str],
    path: Path,
    language_model: LanguageModel,
    *,
    config: GenerationConfig | None = None,
    refresh: bool = False,
    on_class: Callable[[str, Outcome], None] = lambda *_: None,
) -> GenerationReport:
    """Fill the descriptor set at `path` with the classes that it lacks.

    The file is written whole after every class, so that a run that was stopped goes on where it was. `refresh` asks
    again about classes that were generated; those written or changed by a person are never touched. The file follows
    the order of `class_names`; classes of its own come after, in their order. A class that fails does not stop the
    others. Raises EndpointError where no class can succeed, and DescriptorError for a file that is no descriptor set.
    """
    config = config or GenerationConfig()
    _check_names(class_names)
    if not os.access(path.parent, os.W_OK):
        raise DescriptorError(
            f"{path.parent} is no directory that can be written to; make it or choose another for {path}"
        )
    standings = dict(zip(class_names, standings_of(_load(path), class_names), strict=True))
    outcomes: dict[str, Outcome] = {}
    reasons: dict[str, str] = {}
    free = asyncio.Semaphore(config.in_flight)

    def settle(name: str, outcome: Outcome) -> None:
        outcomes[name] = outcome
        on_class(name, outcome)

    async def write(name: str) -> None:
        async with free:
            try:
                descriptors = await _ask(name, language_model, config)
            except EndpointError:
                raise
            except GenerationError as error:
                reasons[name] = str(error)
                settle(name, Outcome.FAILED)
                return
            settle(name, _keep(path, name, descriptors, language_model.model, class_names))

    try:
        async with asyncio.TaskGroup() as group:
            for name, standing in standings.items():
                if standing is Standing.HAND_MADE:
                    settle(name, Outcome.HAND_MADE)
                elif standing is Standing.GENERATED and not refresh:
                    settle(name, Outcome.KEPT)
                else:
                    group.create_task(write(name))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return GenerationReport({name: outcomes[name] for name in class_names}, reasons)


async def _ask(name: str, language_model: LanguageModel, config: GenerationConfig) -> tuple[str, ...]:
    best: tuple[str, ...] = ()
    cut_off = False
    for _ in range(config.asks):
        answer = await language_model.complete(prompt_for(name))
        best = max(best, descriptors_in(answer, name, config), key=len)
        cut_off = cut_off or not answer.complete
        if len(best) >= config.fewest:
            return best
    raise GenerationError(
        f"{language_model.model} listed {len(best)} descriptors of {name!r} in {config.asks} answers"
        + (", cut off at its limit of length" if cut_off else "")
        + f"; {config.fewest} are needed: run again, ask another model or write them by hand"
    )


def _keep(path: Path, name: str, descriptors: tuple[str, ...], model: str, class_names: Sequence[str]) -> Outcome:
    """Put a class into the file as the file is now, which a person may have edited since the question was sent."""
    found = _load(path)
    if standings_of(found, [name]) == [Standing.HAND_MADE]:
        return Outcome.HAND_MADE
    at = found.match([name]).classes[0] if found else None
    known = found.classes[at].name if found and at is not None else name
    classes = {each.name: each for each in found.classes} if found else {}
    classes[known] = DescribedClass(name=known, descriptors=descriptors)
    rank = {spelling_aside(each): place for place, each in enumerate(class_names)}
    in_order = sorted(classes.values(), key=lambda each: rank.get(spelling_aside(each.name), len(rank)))
    records = {**(found.generated if found else {}), known: {"model": model, "digest": digest_of(descriptors)}}
    written = replace(
        found or DescriptorSet(name=path.name.split(".")[0], classes=tuple(in_order)),
        classes=tuple(in_order),
        generated={each.name: records[each.name] for each in in_order if each.name in records},
    )
    try:
        save_descriptor_set(written, path)
    except OSError as error:
        raise DescriptorError(f"descriptor set {path} cannot be written: {error}; choose another file") from error
    return Outcome.GENERATED


def _load(path: Path) -> DescriptorSet | None:
    # Asked for a path that is no file, load_descriptor_set looks among the shipped sets.
    return load_descriptor_set(path) if path.is_file() else None


def _check_names(class_names: Sequence[str]) -> None:
    if not class_names:
        raise DescriptorError("the list names no class; give at least one")
    first: dict[str, str] = {}
    for name in class_names:
        DescribedClass(name=name, descriptors=())
        spelling = spelling_aside(name)
        if spelling in first:
            raise DescriptorError(f"the list has {first[spelling]!r} and {name!r}, which are one class; remove one")
        first[spelling] = name


def read_class_names(path: Path) -> list[str]:
    """Class names from a file: one a line without blank lines and lines that begin with #, or a JSON list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptorError(f"list of classes {path} cannot be read: {error}") from error
    if not text.lstrip().startswith("["):
        stripped = (line.strip() for line in text.splitlines())
        return [line for line in stripped if line and not line.startswith("#")]
    try:
        names = json.loads(text)
    except ValueError as error:
        raise DescriptorError(f"list of classes {path} begins like a JSON list but is none: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise DescriptorError(f"list of classes {path} must hold texts only, got {names!r:.200}")
    return [name.strip() for name in names]
