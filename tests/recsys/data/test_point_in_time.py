"""Point-in-time truth: what models see of a sample was known before its target, from every format of log to the batch.

What may be seen is computed here from the log itself, without the store. Two things are of the whole log by decision:
which items there are and of which category each is; and which items a user never touches, where negatives are drawn
from those as the published protocols have it.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data import protocols, samples
from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.data.protocols import SPLITS, LeaveLastOut, Split, TimeSplit
from recsys.data.samples import SampleConfig, SampleSet
from recsys.data.sources import SOURCES
from recsys.models.batch import collate

Event = tuple[int, int, int]
"""User, item and moment, the latter a small number; events of a log are in the order of its rows."""

MOMENTS, USERS, ITEMS = 10, 3, 12
VALIDATION, TEST = 6, 8
"""Moments that the periods of a time split begin with."""
NOBODY_ELSE = range(ITEMS, ITEMS + 8)
"""Items of one user alone, so that there are some that the others never touch."""
LATE = ITEMS + 20
"""An item that is new at the last moment."""
N = 7
"""Longest history."""


@dataclass(frozen=True)
class Written:
    """How a format writes a log."""

    header: str
    row: Callable[[int, int, int], str]
    broken: str
    time_ms: Callable[[int], int]
    name: Callable[[int], str]
    """What the catalogue calls an item."""


def _ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1_000)  # type: ignore[misc]


WRITTEN = {
    "taobao": Written(
        header="",
        row=lambda user, item, moment: f"{user},{item},{item % 4},pv,{1_511_544_000 + moment}",
        broken="1,2,3,pv,yesterday",
        time_ms=lambda moment: (1_511_544_000 + moment) * 1_000,
        name=str,
    ),
    "tmall": Written(
        header="user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n",
        row=lambda user, item, moment: f"{user},{item},{item % 4},1,1,03{moment + 1:02},0",
        broken="1,2,3,1,1,1340,0",
        time_ms=lambda moment: _ms(2015, 3, moment + 1),
        name=str,
    ),
    "online-retail": Written(
        header="InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n",
        row=lambda user, item, moment: f"1,a,THING {item} C{item % 4},2,2011-03-01 08:{moment:02}:00,1.5,{user},UK",
        broken="1,a,THING 1 C1,2,2011-13-13 08:00:00,1.5,1,UK",
        time_ms=lambda moment: _ms(2011, 3, 1, 8, moment),
        name=lambda item: f"THING {item} C{item % 4}",
    ),
    "columns": Written(
        header="user,item,category,time\n",
        row=lambda user, item, moment: f"{user},sku-{item},c{item % 4},2024-01-01T00:00:00.00{moment}Z",
        broken="1,sku-1,c1,noon",
        time_ms=lambda moment: _ms(2024, 1, 1) + moment,
        name=lambda item: f"sku-{item}",
    ),
}
FORMATS = list(SOURCES)
"""A format that has no entry in WRITTEN fails every test here."""
_NUMBERS = itertools.count()


def a_log(drawn: list[Event], order: np.random.Generator) -> list[Event]:
    """`drawn`, with enough beside it that every protocol has targets; rows in any order, so that most come late."""
    log = list(drawn)
    log += [(user, (5 * user + moment) % ITEMS, moment) for user in range(USERS) for moment in range(MOMENTS)]
    log += [(USERS, item, moment) for moment, item in enumerate(NOBODY_ELSE)]
    log += [(USERS, NOBODY_ELSE[0], moment) for moment in range(MOMENTS)]
    log += [(0, LATE, MOMENTS - 1)] * 3
    return [log[at] for at in order.permutation(len(log))]


def written(format: str, log: list[Event], directory: Path) -> EventStore:
    """`log` as a file of `format` with a row in its middle that cannot be used, imported."""
    how, directory = WRITTEN[format], directory / str(next(_NUMBERS))
    directory.mkdir()
    rows = [how.row(*event) for event in log]
    rows.insert(len(rows) // 2, how.broken)
    (directory / "log.csv").write_text(how.header + "\n".join(rows) + "\n")
    assert ingest(format, directory / "log.csv", directory / "store").rows_rejected == 1
    return EventStore(directory / "store")


def configs(format: str) -> list[SampleConfig]:
    """Every protocol with every option."""
    time_ms = WRITTEN[format].time_ms
    kinds = (
        LeaveLastOut(min_events=8, train_first=3, train_last=7, train_stride=1),
        TimeSplit(
            validation_from_ms=time_ms(VALIDATION),
            test_from_ms=time_ms(TEST),
            min_events=5,
            min_history=2,
            train_stride=1,
        ),
    )
    assert {type(kind) for kind in kinds} == set(SampleConfig.__annotations__["protocol"].__args__)
    return [
        SampleConfig(protocol=kind, max_history=N, negatives=4, negatives_of=of, same_time=same)  # type: ignore[arg-type]
        for kind in kinds
        for of in ("untouched", "all")
        for same in ("exclude", "order")
    ]


def require_truth(format: str, log: list[Event], store: EventStore, config: SampleConfig, split: Split) -> None:
    """AssertionError where a sample of `split` shows what was not known before its target."""
    how = WRITTEN[format]
    by_user: dict[str, list[tuple[int, str]]] = {}
    for user, item, moment in log:
        by_user.setdefault(str(user), []).append((how.time_ms(moment), how.name(item)))
    for own in by_user.values():
        own.sort(key=lambda event: event[0])  # a stable sort: what has one time stays in the order of the rows
    keys = store.catalogue.item_ids if store.catalogue.item_keys is None else store.catalogue.item_keys
    made = samples.make_samples(store, config, split)
    batch = collate(store, made)
    trained = trained_on(config, by_user)
    for group in range(len(made)):
        user, time = store.user_ids[int(made.users[group])], int(made.times[group])
        seen = [str(keys[row]) for row in batch.rows[batch.offsets[group] : batch.offsets[group + 1]].tolist()]
        positive, *negatives = (str(keys[row]) for row in batch.targets[group].tolist())
        own = by_user[user]
        assert batch.labels[group].tolist() == [1, *[0] * len(negatives)]
        if config.same_time == "exclude":
            assert (time, positive) in own
            assert seen == [item for at, item in own if at < time][-N:]
        else:
            places = [place for place, event in enumerate(own) if event == (time, positive)]
            assert any(seen == [item for _, item in own[:place]][-N:] for place in places)
        assert set(negatives) <= trained.keys(), "a negative that was new after training"
        if config.negatives_of == "untouched":
            assert not set(negatives) & {item for _, item in own}
        if isinstance(config.protocol, TimeSplit):
            begins = (0, config.protocol.validation_from_ms, config.protocol.test_from_ms, 1 << 60)
            assert begins[SPLITS.index(split)] <= time < begins[SPLITS.index(split) + 1]
    counted = samples.negative_frequency(store, config.protocol)
    assert {str(keys[row]): int(counted[row]) for row in np.flatnonzero(counted).tolist()} == dict(trained)


def trained_on(config: SampleConfig, by_user: dict[str, list[tuple[int, str]]]) -> Counter[str]:
    """Items of the training period, and how often each is in it."""
    if isinstance(config.protocol, TimeSplit):
        until = config.protocol.validation_from_ms
        return Counter(item for own in by_user.values() for time, item in own if time < until)
    return Counter(item for own in by_user.values() for _, item in own[:-2])


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(
        st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, MOMENTS - 1)), max_size=40
    ),
    seed=st.integers(0, 1_000),
)
def test_nothing_that_is_seen_was_later_than_the_target(
    tmp_path: Path, format: str, drawn: list[Event], seed: int
) -> None:
    log = a_log(drawn, np.random.default_rng(seed))
    store = written(format, log, tmp_path)
    for config in configs(format):
        for split in SPLITS:
            require_truth(format, log, store, config, split)


@pytest.mark.parametrize("format", FORMATS)
def test_what_comes_later_changes_nothing_of_training(tmp_path: Path, format: str) -> None:
    """The same log with other items after the training period gives the same training samples, negatives too."""
    everything = [(USERS + 1, item, 0) for item in (*range(ITEMS), *NOBODY_ELSE, LATE)]
    log = everything + a_log([], np.random.default_rng(3))
    for config in configs(format):
        if config.negatives_of == "untouched":
            continue
        later = after_training(config, log)
        other = [
            (user, (item + 5) % ITEMS if at in later else item, moment) for at, (user, item, moment) in enumerate(log)
        ]
        assert other != log
        first, second = (
            samples.make_samples(written(format, each, tmp_path), config, "train") for each in (log, other)
        )
        for name in ("users", "begins", "ends", "times", "targets"):
            assert np.array_equal(getattr(first, name), getattr(second, name)), (config, name)


def after_training(config: SampleConfig, log: list[Event]) -> set[int]:
    """Rows of the log that training must not know of."""
    if isinstance(config.protocol, TimeSplit):
        return {at for at, (_, _, moment) in enumerate(log) if moment >= VALIDATION}
    later: set[int] = set()
    for user in range(USERS + 1):
        later.update(sorted((at for at, event in enumerate(log) if event[0] == user), key=lambda at: log[at][2])[-2:])
    return later


def _shows_the_target(made: SampleSet, _store: EventStore) -> SampleSet:
    return replace(made, ends=made.ends + 1)


def _shows_another_user(made: SampleSet, store: EventStore) -> SampleSet:
    return replace(made, begins=np.maximum(0, made.ends - N), users=made.users, ends=made.ends)


def _forgets_the_latest(made: SampleSet, _store: EventStore) -> SampleSet:
    return replace(made, ends=np.maximum(made.begins, made.ends - 1))


def _dates_it_later(made: SampleSet, _store: EventStore) -> SampleSet:
    return replace(made, times=made.times + 1)


@pytest.mark.parametrize(
    "leak",
    [_shows_the_target, _shows_another_user, _forgets_the_latest, _dates_it_later],
    ids=lambda leak: leak.__name__,
)
@pytest.mark.parametrize("format", FORMATS)
def test_histories_that_are_not_the_truth_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, leak: Callable[[SampleSet, EventStore], SampleSet]
) -> None:
    log = a_log([], np.random.default_rng(1))
    store, real = written(format, log, tmp_path), samples.make_samples
    monkeypatch.setattr(samples, "make_samples", lambda store, *rest: leak(real(store, *rest), store))
    for config in configs(format):
        assert is_found(format, log, store, config)


def is_found(format: str, log: list[Event], store: EventStore, config: SampleConfig) -> bool:
    """Whether samples of any split show what they should not."""
    try:
        for split in SPLITS:
            require_truth(format, log, store, config, split)
    except AssertionError:
        return True
    return False


def test_leaks_within_the_making_of_samples_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log([(0, 1, 9)] * 2 + [(1, 2, 7)] * 2, np.random.default_rng(2))
    store = written("taobao", log, tmp_path)

    def found(config: SampleConfig) -> bool:
        return is_found("taobao", log, store, config)

    assert not any(found(config) for config in configs("taobao"))
    with monkeypatch.context() as patched:
        patched.setattr(samples, "_first_of_same_time", lambda _store, _users, positives: positives)
        assert [found(config) for config in configs("taobao")] == [
            config.same_time == "exclude" for config in configs("taobao")
        ]
    for kind in (LeaveLastOut, TimeSplit):
        with monkeypatch.context() as patched:
            patched.setattr(kind, "training_events", lambda _self, store: np.ones(len(store), dtype=bool))
            assert [found(config) for config in configs("taobao")] == [
                isinstance(config.protocol, kind) for config in configs("taobao")
            ]
    with monkeypatch.context() as patched:
        untouched = samples.draw_negatives

        def touched(*given: object, **_options: object) -> object:
            return untouched(*given, untouched=False)  # type: ignore[arg-type]

        patched.setattr(samples, "draw_negatives", touched)
        assert [found(config) for config in configs("taobao")] == [
            config.negatives_of == "untouched" for config in configs("taobao")
        ]
    # A store whose events are not in order of time.
    store.times = np.array(store.times)
    store.items = np.array(store.items)[::-1].copy()
    assert all(found(config) for config in configs("taobao"))


def test_every_split_of_every_protocol_is_looked_at() -> None:
    assert protocols.SPLITS == ("train", "validation", "test")
    assert WRITTEN.keys() == SOURCES.keys()
