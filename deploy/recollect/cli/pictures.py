"""`recollect data pictures`: pictures and captions of a shop's items, to train an encoder on."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress
from recollect.settings import Settings

ITEMS = 2_200
"""Items of the shop that is drawn where no store is given: all products, fifty of each on average."""


@explains_errors
def pictures(
    to: Annotated[Path | None, typer.Option(help="New folder to write to; VAR/data/pictures unless told.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Event store of a generated shop whose items to draw; all products otherwise.")
    ] = None,
    per_item: Annotated[int, typer.Option(min=1, help="Pictures of each item.")] = 5,
    size: Annotated[int, typer.Option(min=16, max=512, help="Side of a picture, pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal pictures.")] = 0,
) -> None:
    """Draw the items of a generated shop: a folder a product, and `captions.csv` with what is true of each picture.

    With `--store`, the shop's catalogue is written there too, each item with the path of its first picture.

    Example: `recollect data pictures --to shop`, then `recollect encoder train shop --preset demo-shop`
    """
    from retrieval.shop import write_pictures

    directory = to or Settings.load().var / "data" / "pictures"
    names = _names(store)
    with progress() as bar:
        task = bar.add_task("drawing pictures", total=len(names))
        table = write_pictures(
            names,
            directory,
            per_item,
            seed,
            size=size,
            progress=lambda _stage, done, _total: bar.update(task, completed=done),
        )
    err.print(f"{len(names) * per_item:,} pictures of {len(names):,} items", highlight=False)
    out.print(str(table), highlight=False, soft_wrap=True)
    catalogue = None if store is None else _write_catalogue(store, table)
    if catalogue is not None:
        out.print(str(catalogue), highlight=False, soft_wrap=True)


def _names(store: Path | None) -> list[str]:
    if store is None:
        from recsys.data.shop.assortment import Assortment
        from recsys.data.shop.config import ShopConfig
        from recsys.data.shop.names import category_names, item_names
        from retrieval.shop import products

        shop = ShopConfig(users=1, items=ITEMS, categories=len(products()), mean_events=1, days=1)
        assert set(category_names(shop.categories)) == set(products())
        return item_names(Assortment.of(shop))
    from recsys.data.event_store import EventStore

    catalogue = EventStore(store).catalogue
    return [catalogue.name_of(int(item_id)) for item_id in catalogue.item_ids[1:]]


def _write_catalogue(store: Path, table: Path) -> Path | None:
    """The store's catalogue with images, beside the pictures; None where the store has none."""
    import polars as pl

    from recsys.data.shop import CATALOGUE_FILE
    from retrieval.shop import first_pictures

    if not (store / CATALOGUE_FILE).is_file():
        return None
    drawn = pl.DataFrame({"name": list(pictures := first_pictures(table)), "image": list(pictures.values())})
    path = table.parent / CATALOGUE_FILE
    pl.read_parquet(store / CATALOGUE_FILE, glob=False).join(
        drawn, on="name", how="left", maintain_order="left"
    ).write_parquet(path)
    return path
