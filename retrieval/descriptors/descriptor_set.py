"""Descriptor sets: classes with what tells them apart in a picture, read from files, checked, and matched by name."""

import difflib
import hashlib
import json
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from retrieval.descriptors.composition import compose
from retrieval.descriptors.problems import Problem, find_problems
from retrieval.descriptors.wording import check_text, distinct, spacing_aside, spelling_aside
from retrieval.errors import DescriptorError
from retrieval.files import write_whole

FORMAT = "recollect-descriptors/1"

MAX_CLASSES = 10_000
MAX_DESCRIPTORS_OF_CLASS = 200
MAX_DESCRIPTORS = 100_000
"""Of all classes together."""
MAX_DESCRIPTOR_LENGTH = 500
"""Characters."""
MAX_NAME_LENGTH = 200
"""Characters of a class name, of the set's name, of the prefix and of the suffix."""
MAX_FILE_BYTES = 64 << 20
_SHIPPED = resources.files("retrieval.descriptors") / "sets"
_FIELDS = ("format", "name", "prefix", "suffix", "classes", "generated")


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedClass:
    """A class with its descriptors as their author wrote them."""

    name: str
    """What is shown, and what the texts begin with."""
    descriptors: tuple[str, ...]
    """In the author's order; empty and repeated ones are kept here and reported."""

    def __post_init__(self) -> None:
        check_text("class name", self.name, MAX_NAME_LENGTH)
        if not self.name.strip():
            raise DescriptorError(f"a class name must not be blank, got {self.name!r}; name the class")
        if len(self.descriptors) > MAX_DESCRIPTORS_OF_CLASS:
            raise DescriptorError(
                f"class {self.name!r} has {len(self.descriptors)} descriptors, at most {MAX_DESCRIPTORS_OF_CLASS} are "
                "allowed; keep the most telling ones"
            )
        for descriptor in self.descriptors:
            check_text(f"a descriptor of {self.name!r}", descriptor, MAX_DESCRIPTOR_LENGTH)

    @property
    def scored(self) -> tuple[str, ...]:
        """The descriptors that count: not the empty ones, and only the first of equal ones."""
        return distinct(self.descriptors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """Labels of a data set brought together with the classes of a descriptor set, by name."""

    classes: tuple[int | None, ...]
    """For each label the index of its class, None where the set has none."""
    missing: tuple[str, ...]
    """Labels that the set has no class for."""
    extra: tuple[str, ...]
    """Classes of the set that no label asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DescriptorSet:
    """Classes and their descriptors; immutable, and within the limits at the top of this file."""

    name: str
    """What the set is called."""
    classes: tuple[DescribedClass, ...]
    """At least one; no two have the same name. Their order decides ties."""
    prefix: str = ""
    """Put before each text, "a photo of a " for instance."""
    suffix: str = ""
    """Put after each text."""
    generated: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """How descriptors came about, kept with the set by whoever generated them; no part of its texts or its digest."""
    repeated: tuple[str, ...] = field(default=(), compare=False)
    """Classes that a file named more than once; their descriptors were joined."""

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("prefix", self.prefix), ("suffix", self.suffix)):
            check_text(f"the set's {what}", text, MAX_NAME_LENGTH)
        if not self.name.strip():
            raise DescriptorError(f"a descriptor set's name must not be blank, got {self.name!r}; name it")
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise DescriptorError(
                f"descriptor set {self.name!r} must have 1 to {MAX_CLASSES} classes, got {len(self.classes)}"
            )
        total = sum(len(described.descriptors) for described in self.classes)
        if total > MAX_DESCRIPTORS:
            raise DescriptorError(
                f"descriptor set {self.name!r} has {total} descriptors, at most {MAX_DESCRIPTORS} are allowed; split it"
            )
        seen: set[str] = set()
        for described in self.classes:
            if described.name in seen:
                raise DescriptorError(
                    f"descriptor set {self.name!r} has class {described.name!r} twice; join the two or rename one"
                )
            seen.add(described.name)
        try:
            json.dumps(dict(self.generated), indent=2, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise DescriptorError(f"'generated' of descriptor set {self.name!r} must be plain JSON: {error}") from error

    @classmethod
    def from_mapping(
        cls, name: str, classes: Mapping[str, Sequence[str]], *, prefix: str = "", suffix: str = ""
    ) -> "DescriptorSet":
        """A set of class name → descriptors, in the order of the mapping."""
        for class_name, descriptors in classes.items():
            if isinstance(descriptors, str):
                raise DescriptorError(f"class {class_name!r} must have a list of descriptors, got text {descriptors!r}")
        described = tuple(DescribedClass(name=each, descriptors=tuple(classes[each])) for each in classes)
        return cls(name=name, classes=described, prefix=prefix, suffix=suffix)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(described.name for described in self.classes)

    @property
    def digest(self) -> str:
        """SHA-256 of the set's name, prefix, suffix and classes, hex: equal for sets that say the same."""
        return hashlib.sha256(json.dumps(self.content(), ensure_ascii=False).encode()).hexdigest()

    def content(self) -> dict[str, Any]:
        """What the set says, as JSON keeps it, without how it came about."""
        return {
            "name": self.name,
            "prefix": self.prefix,
            "suffix": self.suffix,
            "classes": {described.name: list(described.descriptors) for described in self.classes},
        }

    def bare_name(self, at: int) -> str:
        """The text of class number `at` where it has no descriptors."""
        return compose(self.classes[at].name, "", prefix=self.prefix, suffix=self.suffix)

    def texts_by_class(self) -> list[list[str]]:
        """The composed texts of each class, at least one each: a class without descriptors goes by its bare name."""
        return [
            [
                compose(described.name, descriptor, prefix=self.prefix, suffix=self.suffix)
                for descriptor in described.scored
            ]
            or [self.bare_name(at)]
            for at, described in enumerate(self.classes)
        ]

    def texts(self) -> list[str]:
        """The composed texts of all classes, one class after the other."""
        return [text for texts in self.texts_by_class() for text in texts]

    def index_of(self, class_name: str) -> int:
        """Where a class stands; its exact name is preferred, then one that differs in case, hyphens or spaces only.

        Raises DescriptorError with the names that come close, or that all fit.
        """
        at = self._finder()(class_name)
        if at is not None:
            return at
        close = difflib.get_close_matches(class_name, self.class_names, n=3) or list(self.class_names[:3])
        raise DescriptorError(
            f"descriptor set {self.name!r} has no class {class_name!r}; it has {', '.join(map(repr, close))}"
            + (f" and {len(self.classes) - len(close)} more" if len(self.classes) > len(close) else "")
        )

    def match(self, class_names: Sequence[str]) -> Matching:
        """Bring labels together with classes by name, never by order; case, '-', '_' and spaces don't count.

        Raises DescriptorError for a label that fits several classes and none exactly.
        """
        found = list(map(self._finder(), class_names))
        used = set(found)
        return Matching(
            classes=tuple(found),
            missing=tuple(name for name, at in zip(class_names, found, strict=True) if at is None),
            extra=tuple(described.name for at, described in enumerate(self.classes) if at not in used),
        )

    def without_descriptor(self, class_name: str, descriptor: str) -> "DescriptorSet":
        """The set without one descriptor, however it was spaced or capitalised; DescriptorError if it isn't there."""
        at = self.index_of(class_name)
        described, unwanted = self.classes[at], spacing_aside(descriptor)
        kept = tuple(known for known in described.descriptors if spacing_aside(known) != unwanted)
        if len(kept) == len(described.descriptors):
            raise DescriptorError(
                f"class {described.name!r} has no descriptor {descriptor!r}; it has "
                + (", ".join(map(repr, described.descriptors)) or "none")
            )
        classes = (*self.classes[:at], replace(described, descriptors=kept), *self.classes[at + 1 :])
        return replace(self, classes=classes)

    def problems(self) -> list[Problem]:
        """What the author should mend, class by class; nothing of it keeps the set from being used."""
        return find_problems([(described.name, described.descriptors) for described in self.classes], self.repeated)

    def _finder(self) -> Callable[[str], int | None]:
        exact = {described.name: at for at, described in enumerate(self.classes)}
        spelled: dict[str, list[int]] = defaultdict(list)
        for at, described in enumerate(self.classes):
            spelled[spelling_aside(described.name)].append(at)

        def find(class_name: str) -> int | None:
            found = [exact[class_name]] if class_name in exact else spelled.get(spelling_aside(class_name), [])
            if len(found) > 1:
                fitting = ", ".join(repr(self.classes[at].name) for at in found)
                raise DescriptorError(
                    f"class {class_name!r} may be any of {fitting} of {self.name!r}; use an exact name"
                )
            return found[0] if found else None

        return find


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys came more than once, and with what."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs

    @property
    def repeated(self) -> tuple[str, ...]:
        times = Counter(key for key, _ in self.pairs)
        return tuple(key for key, count in times.items() if count > 1)


def parse_descriptor_set(text: str, *, name: str) -> DescriptorSet:
    """Read a set from JSON: our own format, or the published class → list of descriptors.

    `name` is for a file that gives none. A class without a list (null, "") has no descriptors, a class that comes twice
    gets both lists; `problems` reports either. Raises DescriptorError that says where the file is not a descriptor set.
    """
    try:
        found = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise DescriptorError(f"descriptor set {name!r} is not JSON: {error}") from error
    if not isinstance(found, _Object):
        raise DescriptorError(
            f"descriptor set {name!r} must be a JSON object, class name to list of descriptors; got {_kind(found)}"
        )
    if not isinstance(found.get("format"), str):
        return _from_published(name, found)
    described = _from_our_format(name, found)
    return replace(described, generated=json.loads(text)["generated"]) if "generated" in found else described


def _from_our_format(name: str, found: _Object) -> DescriptorSet:
    if found["format"] != FORMAT:
        raise DescriptorError(f"descriptor set {name!r} has format {found['format']!r}, this release reads {FORMAT!r}")
    unknown = sorted(set(found) - set(_FIELDS))
    if unknown or found.repeated:
        raise DescriptorError(
            f"descriptor set {name!r} must have {', '.join(_FIELDS)} once each; got "
            f"{', '.join(map(repr, unknown or found.repeated))}" + ("" if unknown else " more than once")
        )
    words = {"name": name, "prefix": "", "suffix": ""} | {key: found[key] for key in _FIELDS[1:4] if key in found}
    for key, word in words.items():
        if not isinstance(word, str):
            raise DescriptorError(f"{key!r} of descriptor set {name!r} must be a text, got {_kind(word)}")
    classes, generated = found.get("classes"), found.get("generated", _Object([]))
    if not isinstance(classes, _Object) or not isinstance(generated, _Object):
        wrong = generated if isinstance(classes, _Object) else classes
        raise DescriptorError(f"'classes' and 'generated' of {name!r} must be objects, got {_kind(wrong)}")
    plain = _from_published(words["name"], classes)
    return replace(plain, prefix=words["prefix"], suffix=words["suffix"])


def _from_published(name: str, classes: _Object) -> DescriptorSet:
    joined: dict[str, list[str]] = {}
    for class_name, descriptors in classes.pairs:
        listed = [] if descriptors in (None, "") else descriptors
        if not isinstance(listed, list) or not all(each is None or isinstance(each, str) for each in listed):
            raise DescriptorError(
                f"class {class_name[:60]!r} of descriptor set {name!r} must have a list of texts, "
                f"got {_kind(descriptors)}"
            )
        joined.setdefault(class_name, []).extend(each or "" for each in listed)
    return replace(DescriptorSet.from_mapping(name, joined), repeated=classes.repeated)


def _kind(value: object) -> str:
    return f"{'object' if isinstance(value, _Object) else type(value).__name__} {reprlib.repr(value)}"


def dump_descriptor_set(descriptors: DescriptorSet) -> str:
    """The set in our format, the same text for the same set; ends in a newline."""
    payload = {"format": FORMAT, **descriptors.content()}
    if descriptors.generated:
        payload["generated"] = dict(descriptors.generated)
    return json.dumps(payload, indent=2, ensure_ascii=False) + "\n"


def save_descriptor_set(descriptors: DescriptorSet, path: Path) -> None:
    """Write the set in our format; a reader finds the old file or the new one, never half of it."""
    write_whole(path, dump_descriptor_set(descriptors))


def load_descriptor_set(path_or_name: str | Path) -> DescriptorSet:
    """Read a file, or one of `shipped_sets` by its name; DescriptorError says which there are."""
    path = Path(path_or_name)
    if path.is_file():
        return parse_descriptor_set(_read(path), name=path.stem)
    shipped = shipped_sets()
    if str(path_or_name) in shipped:
        text = (_SHIPPED / f"{path_or_name}.json").read_text(encoding="utf-8")
        return parse_descriptor_set(text, name=str(path_or_name))
    raise DescriptorError(
        f"no descriptor set {str(path_or_name)!r}: expected a JSON file or one that is shipped: {', '.join(shipped)}"
    )


def shipped_sets() -> tuple[str, ...]:
    """Names of the sets that come with Recollect."""
    return tuple(sorted(file.name.removesuffix(".json") for file in _SHIPPED.iterdir() if file.name.endswith(".json")))


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DescriptorError(f"{path} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read; split the set")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptorError(f"descriptor set {path} cannot be read: {error}") from error
