"""Plan a split: which scenes each object is seen in, and what is asked of them in which words."""

from dataclasses import dataclass, replace

import numpy as np

from retrieval.composed.world.config import SPLITS, WorldConfig
from retrieval.composed.world.instances import ASKED_FOR, Instance, family, indefinite
from retrieval.composed.world.places import KINDS, WORDS
from retrieval.composed.world.scenes import TIME_WORDS, TIMES, Scene

KEEP, REPLACE, COMPANION = "keep", "replace", "companion"
"""What a text asks for: the reference's scene with a change, another scene altogether, or one with company named."""
_PLACES = 1_000_000
_MOST_OBJECTS = 4
_FEWEST = 12
"""Strangers of a split at least, so that some are called differently."""


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
    strangers = [family(f"{split}-company{number:04d}", rng)[0] for number in range(max(_FEWEST, len(families)))]
    instances = {member.name: member for members in (*families, strangers) for member in members}
    planner = _Planner(config, instances, strangers, rng)
    for members in families:
        for member in members[:ASKED_FOR]:
            planner.add(member, members[ASKED_FOR:])
    return Plan(instances, tuple(planner.pictures), tuple(planner.queries))


class _Planner:
    """Adds one object after the other.

    Company is made of doubles and of strangers, which no query asks for: a picture shows an object that is asked for
    only where it counts as a picture of that object.
    """

    def __init__(
        self,
        config: WorldConfig,
        instances: dict[str, Instance],
        strangers: list[Instance],
        rng: np.random.Generator,
    ) -> None:
        self.pictures: list[Scene] = []
        self.queries: list[Asked] = []
        self._config, self._instances, self._strangers, self._rng = config, instances, strangers, rng

    def add(self, member: Instance, doubles: list[Instance]) -> None:
        """The pictures of `member`, those of a double in its stead, and what is asked of them."""
        rng = self._rng
        kinds = rng.choice(list(KINDS), self._config.places_an_instance, replace=False)
        firsts = []
        for kind in kinds.tolist():
            beside, instead = rng.permutation(np.array([double.name for double in doubles])).tolist()
            scene = Scene(kind, int(rng.integers(_PLACES)), self._time(), self._company(member, beside))
            firsts.append(self._place(scene, instead))
        for reference in firsts:
            for target in firsts:
                if reference != target:
                    self._replace(reference, target)

    def _place(self, scene: Scene, double: str) -> int:
        """A scene and the same place changed, asked for both ways, each again with a double; returns the first."""
        rng = self._rng
        first = self._picture(scene)
        exchanged, time = scene, scene.time
        added: tuple[str, ...] = ()
        if rng.random() < self._config.exchange_share:
            exchanged = replace(scene, objects=(*scene.objects[:-1], self._stranger(scene.objects)))
        if rng.random() < 0.6 or len(scene.objects) == _MOST_OBJECTS:
            time = self._time(but=scene.time)
            there, back = self._at_time(time), self._at_time(scene.time)
        else:
            stranger = self._stranger((*scene.objects, *exchanged.objects))
            added, noun = (stranger,), self._instances[stranger].noun
            a_noun = indefinite(noun)
            there = self._one_of(f"in this place, with {a_noun} added", f"here, and {a_noun} as well", f"add {a_noun}")
            back = self._one_of(f"here, without the {noun}", f"take the {noun} away", f"the same place, no {noun}")
        second = self._picture(replace(exchanged, time=time, objects=(*exchanged.objects, *added)))
        self.queries += [Asked(first, second, there, KEEP), Asked(second, first, back, KEEP)]
        # The doubles' company is that of the reference, so that nothing but the object in the box is missing there.
        in_stead = [
            replace(scene, objects=(double, *exchanged.objects[1:])),
            replace(scene, time=time, objects=(double, *scene.objects[1:], *added)),
        ]
        for other in in_stead:
            if rng.random() < self._config.double_share:
                self._picture(other)
        return first

    def _replace(self, reference: int, target: int) -> None:
        scene = self.pictures[target]
        where, when = WORDS[scene.kind], TIME_WORDS[scene.time]
        family = self._instances[scene.anchor].family
        strangers = [name for name in scene.objects[1:] if self._instances[name].family != family]
        if strangers and self._rng.random() < 0.3:
            noun = indefinite(self._instances[strangers[0]].noun)
            text = self._one_of(f"with {noun} beside it, {where} {when}", f"{where} {when}, next to {noun}")
            self.queries.append(Asked(reference, target, text, COMPANION))
            return
        text = self._one_of(f"{where} {when}", f"it stands {where}, {when}", f"now {where} {when}", f"{when} {where}")
        self.queries.append(Asked(reference, target, text, REPLACE))

    def _picture(self, scene: Scene) -> int:
        self.pictures.append(scene)
        return len(self.pictures) - 1

    def _company(self, member: Instance, double: str) -> tuple[str, ...]:
        """The object with one to three others, now and then one that looks like it."""
        names = [member.name]
        if self._rng.random() < 0.35:
            names.append(double)
        wanted = int(self._rng.integers(2, _MOST_OBJECTS + 1))
        while len(names) < wanted:
            names.append(self._stranger(tuple(names)))
        return tuple(names)

    def _stranger(self, taken: tuple[str, ...]) -> str:
        """One that is not called as what is there already, unless there is no other."""
        nouns = {self._instances[name].noun for name in taken}
        for _ in range(100):
            stranger = self._strangers[int(self._rng.integers(len(self._strangers)))]
            if stranger.noun not in nouns:
                return stranger.name
        return next(stranger.name for stranger in self._strangers if stranger.name not in taken)

    def _time(self, but: str | None = None) -> str:
        return str(self._rng.choice([time for time in TIMES if time != but]))

    def _at_time(self, time: str) -> str:
        when = TIME_WORDS[time]
        return self._one_of(f"the same place {when}", f"here, but {when}", f"keep the scene, but {when}")

    def _one_of(self, *texts: str) -> str:
        return texts[int(self._rng.integers(len(texts)))]
