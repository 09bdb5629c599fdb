"""All of the service's methods over real parts, in a process of its own: `fuzz_server.py DIRECTORY REDIS_URL`.

Prints one line of JSON, the two ports, and serves until its standard input is closed. Whatever is done with a path
that has the `MARKER` in it is a line on standard error that begins with TOUCHED.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from recollect.admin.server import AdminConfig, AdminServer
from recollect.artifacts import ArtifactStore
from recollect.catalogues.publishing import CatalogueGuard, publish_catalogue
from recollect.classification.service import ClassificationService
from recollect.cli.composed_gallery import encoder_of
from recollect.composed.building import GalleryBuilder, GalleryOptions
from recollect.composed.service import ComposedService
from recollect.composed.sources import read_source
from recollect.gateway.models import ModelSlot
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.indexes.building import IndexBuilder
from recollect.serve_config import (
    artifact_models,
    catalogue_source,
    classification_config,
    composed_config,
    index_source,
)
from recollect.settings import Settings
from recsys.data.catalogue import Catalogue
from recsys.history import HistoryConfig, HistoryStore
from recsys.metadata.importing import ImportOptions, import_catalogue
from recsys.models.dare import Dare, DareConfig
from recsys.models.directory import save_model
from retrieval.images import ImageLimits
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

COUNT = 60
MARKER = "leads-elsewhere"
_WATCHED = ("open", "os.", "shutil.", "glob.", "tempfile.", "subprocess.", "sqlite3.")


def watch_paths() -> None:
    """Tell of every path with the marker, from now on."""

    def told(event: str, *what: object) -> None:
        if MARKER in repr(what):
            sys.stderr.write(f"TOUCHED {event} {what!r}\n")

    sys.addaudithook(lambda event, args: told(event, *args) if event.startswith(_WATCHED) else None)
    # Looking whether something is there is no event of Python's.
    for name in ("stat", "lstat", "access", "readlink"):
        setattr(os, name, _telling(f"os.{name}", getattr(os, name), told))


def _telling(event: str, look: Callable[..., object], told: Callable[..., None]) -> Callable[..., object]:
    def telling(*args: object, **options: object) -> object:
        told(event, *args)
        return look(*args, **options)

    return telling


def publish_all(settings: Settings, work: Path) -> None:
    """A model, an index, a catalogue and a gallery, each small and real."""
    items, random = np.arange(COUNT), np.random.default_rng(0)
    catalogue = Catalogue(
        item_ids=np.r_[-1, items],
        category_rows=np.r_[0, items // 10 + 1].astype(np.int32),
        category_ids=np.r_[-1, np.arange(6)],
    )
    sizes = DareConfig(n_items=COUNT, n_categories=6, attention_dim=4, representation_dim=8)
    model = Dare(sizes, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(0))
    save_model(work / "model", model, catalogue, training={}, data={}, metrics={})
    models = ArtifactStore(settings.var / "models")
    version = models.publish("dare", work / "model", parents={}).version
    models.set_label("dare", "stable", version)
    builder = IndexBuilder(root=settings.var / "indexes", thresholds=Thresholds(overlap=0), label="stable")
    vectors = random.normal(size=(COUNT, 8)).astype(np.float32)
    plan = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
    for _ in range(2):
        builder.rebuild("items", ArrayVectors(pl.Series("id", items), vectors, {"kind": "parquet"}), plan)
    frame = pl.DataFrame(
        {
            "item": items,
            "name": [f"item {item}" for item in items],
            "category": [["vase" if item % 2 else "mug"] for item in items],
            "price": items.astype(float),
            "currency": "EUR",
            "availability": np.where(items % 5, "in_stock", "out_of_stock"),
            "material": np.where(items % 3, "pine", "oak"),
        }
    )
    frame.write_parquet(work / "shop.parquet")
    imported = import_catalogue(work / "shop.parquet", ImportOptions())
    publish_catalogue(settings.var / "catalogues", "shop", imported, CatalogueGuard(), label="stable")
    (work / "pictures").mkdir()
    for number in range(4):
        colours = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((64, 48), Image.Resampling.NEAREST).save(work / "pictures" / f"{number}.png")
    (settings.var / "vectors").mkdir(parents=True)
    pl.DataFrame({"id": items, "vector": vectors}).write_parquet(settings.var / "vectors" / "small.parquet")
    encoder, made = encoder_of(settings, "world")
    galleries = GalleryBuilder(root=settings.var / "indexes", label="stable", limits=ImageLimits())
    galleries.make("photos", read_source(work / "pictures"), encoder, made, GalleryOptions())


async def serve(settings: Settings, redis_url: str) -> None:
    """Until standard input is closed."""
    histories = HistoryStore(redis_url, config=HistoryConfig(timeout_s=2.0))
    slot = ModelSlot(artifact_models(settings).load("dare@stable"))
    # As the gateway's processes have it, which wait for one another as little.
    classification = ClassificationService.load(replace(classification_config(settings), look_s=0.2))
    composed = ComposedService.load(composed_config(settings, "world"))
    classification.start()
    await composed.start()
    index, catalogue = index_source(settings), catalogue_source(settings)
    gateway = Gateway(
        GatewayConfig(),
        slot=slot,
        histories=histories,
        classification=classification,
        composed=composed,
        index=index.open(lambda ids: np.ones(len(ids), dtype=np.bool_)),
        catalogue=catalogue.open(),
    )
    admin = AdminServer(AdminConfig(settings=settings, port=0))
    ports = {"gateway": await gateway.start(), "admin": await admin.start()}
    print("PORTS", json.dumps(ports), flush=True)  # noqa: T201 - what was started it reads this
    await asyncio.to_thread(sys.stdin.read)
    await admin.stop()
    await gateway.stop(5)


def main() -> None:
    """Publish what is served, then serve it."""
    warnings.simplefilter("ignore", ResourceWarning)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(1)
    work, redis_url = Path(sys.argv[1]), sys.argv[2]
    settings = Settings(var=work / "var", index="items@stable", catalogue="shop@stable", build_niceness=0)
    publish_all(settings, work)
    watch_paths()
    # So that the test can tell watching from not watching: seen, and there is no such file.
    Path(f"{MARKER}-looked").exists()
    with contextlib.suppress(OSError):
        Path(f"{MARKER}-opened").read_text()
    asyncio.run(serve(settings, redis_url))


if __name__ == "__main__":
    main()
