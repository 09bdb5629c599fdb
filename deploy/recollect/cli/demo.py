"""`recollect demo`: the whole path on one machine, from an event log to explained scores and a picture over gRPC."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import connection
from recollect.cli.console import err, explains_errors, out, progress, show_table
from recollect.cli.demo_composed import MODEL, make_gallery, show_search
from recollect.cli.demo_picture import show_picture

if TYPE_CHECKING:
    from recollect.artifacts import Artifact
    from recollect.settings import Settings
    from recollect_api.records import ScoredItem, Scores
    from recsys.data.catalogue import Catalogue
    from recsys.data.event_store import EventStore

CANDIDATES = 10
RECENT = 8
"""Recent behaviours shown."""
CATALOGUE = "shop@stable"


@explains_errors
def demo(
    var: Annotated[Path, typer.Option(help="Where the demo keeps its shop, model and Redis.")] = Path("var/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shop and of training.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving until Ctrl-C.")] = False,
) -> None:
    """See it work: generate a shop, train DARE, load histories into Redis, serve on Ray, ask for scores over gRPC, for
    what a picture shows, and for an object elsewhere.

    The first run trains for about a minute; later ones find the shop and the model that it left.

    Example: `recollect demo --keep`, then in another terminal the `recollect score` command that it prints
    """
    from recollect.embedded.ray import ray_cluster
    from recollect.embedded.redis import history_redis
    from recollect.serve_app import run
    from recollect.settings import Settings
    from recollect_api.client import RecollectClient
    from recsys.data.event_store import EventStore

    settings = Settings.load(var=var, port=None if keep else 0, composed_model=MODEL, catalogue=CATALOGUE)
    began = time.monotonic()
    store = EventStore(_shop(settings.var / "data" / f"shop-{seed}", seed))
    _catalogue(settings, store.directory, seed)
    with ray_cluster(settings, serving=True), history_redis(settings) as redis_url:
        artifact = _model(settings, store, seed)
        _load_histories(store, redis_url)
        world = make_gallery(settings, seed)
        with _stage(f"starting {settings.replicas} gateway replicas on Ray Serve"):
            gateway = run(settings, f"{artifact.name}/{artifact.version}", redis_url=redis_url)
        with gateway, RecollectClient(gateway.address, timeout_s=10.0, **connection()) as client:
            question = _question(store, artifact, seed)
            with _stage(f"asking {gateway.address} for {CANDIDATES} scores"):
                scores = client.score(
                    question.user_id, question.item_ids, as_of=question.as_of, display=["price"], explain=True
                )
            _show(question, scores, store.catalogue)
            show_picture(client, store.catalogue.name_of(scores.ranked()[0].item_id), seed)
            show_search(settings, client, world)
            _say_next(settings, artifact, question, time.monotonic() - began)
            if keep:
                out.print(f"Serving on {gateway.address} until Ctrl-C.", highlight=False)
                _wait_for_interrupt()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """A held-out moment of a user: what did they turn to next?"""

    user_id: str
    as_of: datetime
    item_ids: list[int]
    """Candidates in no telling order, the item that the user turned to among them."""
    chosen: int
    """The item that the user turned to."""
    recent: list[tuple[datetime, int]]
    """Time and item id of the latest behaviours before that, newest first."""
    history_length: int


def _shop(directory: Path, seed: int) -> Path:
    from recsys.data.event_store import EventStore
    from recsys.data.shop import build_shop, demo_shop
    from recsys.errors import StoreError

    try:
        store = EventStore(directory)
        err.print(f"shop: {len(store):,} events are in {directory} already")
    except StoreError:
        with _stage("generating a shop"):
            build_shop(demo_shop(seed), directory, overwrite=True)
        store = EventStore(directory)
        err.print(f"shop: {len(store):,} events of {store.n_users:,} users on {store.catalogue.n_items:,} items")
    return directory


def _catalogue(settings: "Settings", directory: Path, seed: int) -> None:
    from recollect.artifacts import shared_at
    from recollect.catalogues.publishing import publish_catalogue
    from recsys.data.shop import CATALOGUE_FILE, demo_shop, write_shop_catalogue
    from recsys.metadata.importing import ImportOptions, import_catalogue

    path = directory / CATALOGUE_FILE
    if not path.exists():
        write_shop_catalogue(demo_shop(seed), directory)  # a shop of an earlier release has none
    imported = import_catalogue(path, ImportOptions())
    name, _, label = CATALOGUE.partition("@")
    root = settings.var.resolve() / "catalogues"
    published = publish_catalogue(
        root, name, imported, settings.catalogue_guard, label=label, shared=shared_at(settings, "catalogues")
    )
    facts = imported.metadata.facts
    err.print(f"catalogue: {published.artifact.reference}, {facts.items:,} items, {facts.in_stock:,} in stock")


def _model(settings: "Settings", store: "EventStore", seed: int) -> "Artifact":
    from recollect.pipeline import run_directory, train_and_publish
    from recsys.models.directory import METRICS_FILE, read_json
    from recsys.training.config import preset, with_overrides

    config = with_overrides(preset("demo"), seed=seed)
    with progress() as bar:
        task = bar.add_task("training DARE", total=None)

        def on_step(step: int, total: int, _line: Mapping[str, Any]) -> None:
            bar.update(task, completed=step, total=total)

        directory = run_directory(settings, store.directory, config)
        artifact = train_and_publish(settings, store.directory, config, directory, label="stable", on_step=on_step)
        bar.update(task, completed=1, total=1)
    test = read_json(artifact.directory / METRICS_FILE)["test"]
    err.print(
        f"model: {artifact.name}/{artifact.version}, AUC {test['auc']:.3f} on {test['n_samples']:,} held-out samples"
    )
    return artifact


def _load_histories(store: "EventStore", redis_url: str) -> None:
    import asyncio

    from recsys.history import HistoryStore

    async def load() -> None:
        async with HistoryStore(redis_url) as histories:
            with progress() as bar:
                task = bar.add_task("loading histories into Redis", total=store.n_users)
                await histories.load(store, progress=lambda done, total: bar.update(task, completed=done, total=total))

    asyncio.run(load())


def _question(store: "EventStore", artifact: "Artifact", seed: int) -> _Question:
    """The held-out test moment of the user with the longest history; the other candidates are popular items, drawn as
    negatives of the test split, that this user never touched."""
    import json

    import numpy as np

    from recsys.data.samples import make_samples
    from recsys.models.directory import load_model
    from recsys.training.config import TrainConfig

    config = TrainConfig.from_json(json.dumps(load_model(artifact.directory).training))
    samples = make_samples(store, config.samples, "test")
    group = int(np.argmax(samples.ends - store.offsets[samples.users]))
    user, time_ms = int(samples.users[group]), int(samples.times[group])
    chosen = int(samples.targets[group, 0])
    others = np.unique(samples.targets[:, 1:])
    generator = np.random.default_rng(seed)
    touched = np.unique(store.items[store.history(user)])
    drawn = generator.choice(np.setdiff1d(others, touched), CANDIDATES - 1, replace=False)
    rows = generator.permutation(np.append(drawn, chosen))
    history = store.history(user, before_ms=time_ms)
    latest = range(history.stop - 1, max(history.start, history.stop - RECENT) - 1, -1)
    ids = store.catalogue.item_ids
    return _Question(
        user_id=str(store.user_ids[user]),
        as_of=datetime.fromtimestamp(time_ms / 1000, UTC),
        item_ids=ids[rows].tolist(),
        chosen=int(ids[chosen]),
        recent=[(datetime.fromtimestamp(int(store.times[at]) / 1000, UTC), int(ids[store.items[at]])) for at in latest],
        history_length=history.stop - history.start,
    )


def _show(question: _Question, scores: "Scores", catalogue: "Catalogue") -> None:
    def named(item_id: int) -> tuple[str, str]:
        return catalogue.name_of(item_id), catalogue.category_name_of(item_id)

    show_table(
        f"\nUser {question.user_id}: the latest {len(question.recent)} of {question.history_length} behaviours "
        f"before {question.as_of:%Y-%m-%d %H:%M}",
        ["time", "item", "category"],
        [(f"{time:%Y-%m-%d %H:%M}", *named(item_id)) for time, item_id in question.recent],
    )
    ranked = scores.ranked()
    show_table(
        f"\n{len(ranked)} candidates scored by {scores.model_name}/{scores.model_version} over gRPC",
        ["", "score", "item", "category", "price", "next"],
        [
            (
                place,
                f"{item.score:.4f}",
                *named(item.item_id),
                item.metadata.price if item.metadata else "",
                "◀ chosen" if item.item_id == question.chosen else "",
            )
            for place, item in enumerate(ranked, start=1)
        ],
        right=["", "score", "price"],
    )
    _show_reasons(ranked[0], catalogue, question)


def _show_reasons(top: "ScoredItem", catalogue: "Catalogue", question: _Question) -> None:
    items = {found.item_id: [each for each in top.found if each.item_id == found.item_id] for found in top.found}
    weights = {item_id: sum(each.weight for each in found) for item_id, found in items.items()}
    show_table(
        f"\nWhy {catalogue.name_of(top.item_id)}: the {len(top.found)} behaviours that the search found "
        f"among {question.history_length}, by item",
        ["weight", "times", "days before", "item", "category"],
        [
            (
                f"{weights[item_id]:.3f}",
                len(items[item_id]),
                _span([(question.as_of - each.time).days for each in items[item_id]]),
                catalogue.name_of(item_id),
                catalogue.category_name_of(item_id),
            )
            for item_id in sorted(items, key=lambda item_id: -weights[item_id])
        ],
        right=["weight", "times", "days before"],
    )


def _span(days: list[int]) -> str:
    return str(min(days)) if min(days) == max(days) else f"{min(days)} to {max(days)}"


def _say_next(settings: "Settings", artifact: "Artifact", question: _Question, seconds: float) -> None:
    items = ",".join(map(str, question.item_ids[:3]))
    out.print(
        f"\nDone in {seconds:.0f} s. The model is in {artifact.directory}. To go on:\n\n"
        f"    RECOLLECT_VAR={settings.var} recollect serve --catalogue {CATALOGUE}\n"
        f"    recollect score {question.user_id} --items {items} --explain        (in another terminal)\n",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _stage(what: str) -> Iterator[None]:
    with err.status(f"{what} …"):
        began = time.monotonic()
        yield
    err.print(f"{what}: {time.monotonic() - began:.1f} s", highlight=False)


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        err.print("stopping …")
