"""Plan a split: which scenes each object is seen in, and what is asked of them in which words."""

from dataclasses import dataclass, replace

import numpy as np

from retrieval.composed.world.config import SPLITS, WorldConfig
from retrieval.composed.world.instances import Instance, family
from retrieval.composed.world.places import KINDS, WORDS
from retrieval.composed.world.scenes import TIME_WORDS, TIMES, Scene

KEEP, REPLACE, COMPANION = "keep", "replace", "companion"
"""What a text asks for: the reference's scene with a change, another scene altogether, or one with company named."""
_PLACES = 1_000_000
_MOST_OBJECTS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, by positions in the plan's pictures."""

    reference: int
    target: int
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One split."""

    instances: dict[str, Instance]
    pictures: tuple[Scene, ...]
    queries: tuple[Asked, ...]


def plan(config: WorldConfig, split: str) -> Plan:
    """The split's objects, scenes and queries; the same for the same configuration."""
    rng = np.random.default_rng([config.seed, SPLITS.index(split)])
    families = [family(f"{split}-{number:04d}", rng) for number in range(config.families(split))]
    instances = {member.name: member for members in families for member in members}
    planner = _Planner(config, instances, rng)
    for members in families:
        for member in members:
            planner.add(member, [other for other in members if other is not member])
    return Plan(instances, tuple(planner.pictures), tuple(planner.queries))


class _Planner:
    """Adds one object after the other."""

    def __init__(self, config: WorldConfig, instances: dict[str, Instance], rng: np.random.Generator) -> None:
        self.pictures: list[Scene] = []
        self.queries: list[Asked] = []
        self._config, self._instances, self._rng = config, instances, rng
        self._names = list(instances)

    def add(self, member: Instance, look_alikes: list[Instance]) -> None:
        """The pictures of `member`, those of look-alikes in its scenes, and what is asked of them."""
        rng = self._rng
        kinds = rng.choice(list(KINDS), self._config.places_an_instance, replace=False)
        firsts = []
        for kind in kinds.tolist():
            scene = Scene(kind, int(rng.integers(_PLACES)), self._time(), self._company(member, look_alikes))
            first = self._picture(scene)
            firsts.append(first)
            self._keep(first, member, look_alikes)
        for reference in firsts:
            for target in firsts:
                if reference != target:
                    self._replace(reference, target)

    def _keep(self, first: int, member: Instance, look_alikes: list[Instance]) -> None:
        """The same place again, changed; asked for both ways."""
        rng, scene = self._rng, self.pictures[first]
        if rng.random() < 0.6 or len(scene.objects) == _MOST_OBJECTS:
            changed = replace(scene, time=self._time(but=scene.time))
            there, back = self._at_time(changed.time), self._at_time(scene.time)
        else:
            added = self._stranger(member, scene.objects)
            changed = replace(scene, objects=(*scene.objects, added))
            noun = self._instances[added].noun
            there = self._one_of(f"in this place, with a {noun} added", f"here, and a {noun} as well", f"add a {noun}")
            back = self._one_of(f"here, without the {noun}", f"take the {noun} away", f"the same place, no {noun}")
        second = self._picture(changed)
        self.queries += [Asked(first, second, there, KEEP), Asked(second, first, back, KEEP)]
        if rng.random() < self._config.look_alike_share:
            other = look_alikes[int(rng.integers(len(look_alikes)))].name
            self._picture(replace(changed, objects=(other, *(each for each in changed.objects[1:] if each != other))))

    def _replace(self, reference: int, target: int) -> None:
        scene = self.pictures[target]
        where, when = WORDS[scene.kind], TIME_WORDS[scene.time]
        strangers = [name for name in scene.objects[1:] if self._instances[name].family != self._family(scene)]
        if strangers and self._rng.random() < 0.3:
            noun = self._instances[strangers[0]].noun
            text = self._one_of(f"with a {noun} beside it, {where} {when}", f"{where} {when}, next to a {noun}")
            self.queries.append(Asked(reference, target, text, COMPANION))
            return
        text = self._one_of(f"{where} {when}", f"it stands {where}, {when}", f"now {where} {when}", f"{when} {where}")
        self.queries.append(Asked(reference, target, text, REPLACE))

    def _picture(self, scene: Scene) -> int:
        self.pictures.append(scene)
        return len(self.pictures) - 1

    def _company(self, member: Instance, look_alikes: list[Instance]) -> tuple[str, ...]:
        """The object with one to three others, now and then one that looks like it."""
        names = [member.name]
        if self._rng.random() < 0.35:
            names.append(look_alikes[int(self._rng.integers(len(look_alikes)))].name)
        wanted = int(self._rng.integers(2, _MOST_OBJECTS + 1))
        while len(names) < wanted:
            names.append(self._stranger(member, tuple(names)))
        return tuple(names)

    def _stranger(self, member: Instance, taken: tuple[str, ...]) -> str:
        """An object of another family, and not called as one that is there already."""
        nouns = {self._instances[name].noun for name in taken}
        for _ in range(100):
            name = self._names[int(self._rng.integers(len(self._names)))]
            if self._instances[name].family != member.family and self._instances[name].noun not in nouns:
                return name
        return next(name for name in self._names if self._instances[name].family != member.family and name not in taken)

    def _time(self, but: str | None = None) -> str:
        return str(self._rng.choice([time for time in TIMES if time != but]))

    def _at_time(self, time: str) -> str:
        when = TIME_WORDS[time]
        return self._one_of(f"the same place {when}", f"here, but {when}", f"keep the scene, but {when}")

    def _one_of(self, *texts: str) -> str:
        return texts[int(self._rng.integers(len(texts)))]

    def _family(self, scene: Scene) -> str:
        return self._instances[scene.anchor].family
