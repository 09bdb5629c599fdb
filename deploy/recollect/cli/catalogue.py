"""`recollect catalogue`: names, categories, prices, availability of items, as versions that replicas follow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import cell, explains_errors, out, show_json, show_table
from recollect.cli.versions import (
    ExpectedOption,
    JsonOption,
    KeepOption,
    LabelOption,
    NameArgument,
    OptionalName,
    VersionArgument,
    show_moved,
    show_removed,
    show_rollback,
    show_versions,
    store_of,
)
from recollect.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from recollect.artifacts import Artifact, ArtifactStore
    from recsys.metadata import ItemMetadata
    from recsys.metadata.importing import ImportedCatalogue

SHOWN_BAD = 20
"""Rows that cannot be used of which the table tells; --rejects writes them all."""

catalogue_app = typer.Typer(
    help="What a shop tells of its items (names, prices, availability): import it, let it answer, go back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@catalogue_app.command("import")
@explains_errors
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV with a header, or Parquet; a row an item.", show_default=False)],
    name: Annotated[str, typer.Option(help="What the catalogue is called.")] = "shop",
    format: Annotated[
        str, typer.Option("--format", "-f", help="columns, or online-retail: made of that log's sales.")
    ] = "columns",
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=COLUMN",
            help="Which column is item, name, category, image, price, currency or availability, if called otherwise.",
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(metavar="CODE", help="Currency of prices that tell none, such as EUR.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Between the categories of one cell; a cell is one unless told.")
    ] = None,
    ids: Annotated[str, typer.Option(help="integer, text or auto: what items are called by, as in the log.")] = "auto",
    image_base: Annotated[
        str, typer.Option(metavar="URL", help="Put before paths of images that are neither absolute nor URLs.")
    ] = "",
    only_in_stock: Annotated[
        bool | None,
        typer.Option(
            "--only-in-stock/--any-availability",
            help="What requests get that do not say; only what is in stock where the file tells availability.",
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="Label for the new version; empty for none.")] = "stable",
    rejects: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write all rows that cannot be used, and why, to this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import what a shop tells of its items, publish it as a version, and let it answer.

    Rows that cannot be used are told by number, field, value and remedy; their items are left out and the good rows
    kept, since prices and availability of all others should not wait for one of them. Where more than 1 % are bad
    (setting `catalogue_max_bad_rows`) the whole file is refused. One with fewer than 80 % of the items of the version
    that answers (`catalogue_min_coverage`) may be half a file and is kept without the label.

    Columns of other names are kept, to filter by and to display: text, numbers, truth values, dates, lists.

    Examples:

    `recollect catalogue import items.csv --currency EUR`

    `recollect catalogue import feed.tsv --column item=sku --column name=title --separator " > "`
    """
    from recollect.artifacts import shared_at
    from recollect.catalogues.publishing import publish_catalogue
    from recsys.metadata.importing import ImportOptions, import_catalogue

    settings = Settings.load()
    options = ImportOptions(
        columns=_pairs(column or []),
        currency=currency,
        separator=separator,
        ids=ids,
        image_base=image_base,
        only_in_stock=only_in_stock,
    )
    imported = import_catalogue(file, options, format=format)
    if not as_json:
        _show_bad(imported)
    if rejects is not None:
        _write_bad(imported, rejects)
    root = settings.var.resolve() / "catalogues"
    published = publish_catalogue(
        root, name, imported, settings.catalogue_guard, label=label or None, shared=shared_at(settings, "catalogues")
    )
    facts = imported.metadata.facts
    if as_json:
        show_json(
            [
                {
                    "name": name,
                    "version": published.artifact.version,
                    "label": label or None,
                    "rows": imported.rows,
                    **_told(published.artifact),
                    "coverage": published.coverage,
                    **({"damaged": published.damaged} if published.damaged else {}),
                    "bad_rows": imported.bad.height,
                    "bad": imported.bad.head(SHOWN_BAD).to_dicts(),
                    "left_out": list(imported.left_out),
                }
            ]
        )
        return
    for column_left_out in imported.left_out:
        out.print(f"left out column {column_left_out}", style="yellow", highlight=False, soft_wrap=True)
    if published.damaged:
        told = f"{published.damaged} answered before and is damaged, so that nothing was compared with it"
        out.print(told, style="yellow", highlight=False, soft_wrap=True)
    named = f" ({name}@{label})" if label else ""
    default = "only what is in stock" if facts.only_in_stock else "items of any availability"
    out.print(
        f"{published.artifact.reference}{named}: {_contents(_told(published.artifact))}; "
        f"requests that do not say get {default}",
        highlight=False,
        soft_wrap=True,
    )


@catalogue_app.command("list")
@explains_errors
def list_catalogues(name: OptionalName = None, as_json: JsonOption = False) -> None:
    """List versions of catalogues and the labels that point at them.

    Example: `recollect catalogue list`
    """
    show_versions(_catalogues(), name, _listed, _contents, as_json=as_json)


@catalogue_app.command()
@explains_errors
def show(
    items: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids, or the log's own keys.", show_default=False)],
    catalogue: Annotated[str, typer.Option(metavar="CATALOGUE", help="NAME@LABEL or NAME/VERSION.")] = "shop@stable",
    as_json: JsonOption = False,
) -> None:
    """Show everything that a catalogue tells of some items.

    Example: `recollect catalogue show 101 102 --catalogue shop@stable`
    """
    from recollect.catalogues.publishing import open_catalogue

    metadata = open_catalogue(_catalogues().resolve(catalogue))
    ids = [_id(item, metadata) for item in items]
    known = (metadata.rows_of(ids) >= 0).tolist()
    columns = [column for column in metadata.frame.columns if column != "item_id"]
    told = metadata.take(ids, columns)
    rows: list[dict[str, Any]] = [
        {"item": item, "item_id": item_id, "known": there, **(_values(told, at) if there else {})}
        for at, (item, item_id, there) in enumerate(zip(items, ids, known, strict=True))
    ]
    if as_json:
        show_json(rows)
        return
    for row in (row for row in rows if row["known"]):
        show_table(str(row["item_id"]), ["column", "value"], [(column, cell(row[column])) for column in columns])
    missing = ", ".join(row["item"] for row in rows if not row["known"])
    if missing:
        out.print(f"not in {catalogue}: {missing}", style="yellow", highlight=False, soft_wrap=True)


@catalogue_app.command()
@explains_errors
def activate(
    name: NameArgument,
    version: VersionArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label point at a version, its hashes checked first; how many items it has is not judged.

    Example: `recollect catalogue activate shop 20261128T094952-541de118`
    """
    from recollect.catalogues.publishing import open_catalogue

    store = _catalogues()
    open_catalogue(store.resolve(f"{name}/{version}"))
    before = store.labelled(name, label)
    store.set_label(name, label, version, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


@catalogue_app.command()
@explains_errors
def rollback(
    name: NameArgument, label: LabelOption = "stable", expected: ExpectedOption = None, as_json: JsonOption = False
) -> None:
    """Let a label point at the version before, its hashes checked; again, at the one before that.

    Example: `recollect catalogue rollback shop`
    """
    show_rollback(_catalogues(), name, label, expected, as_json=as_json)


@catalogue_app.command()
@explains_errors
def gc(name: OptionalName = None, keep: KeepOption = 2, as_json: JsonOption = False) -> None:
    """Remove versions that no label needs and no process uses, and what killed commands left.

    Example: `recollect catalogue gc`
    """
    show_removed(_catalogues(), name, keep, as_json=as_json)


def _catalogues() -> "ArtifactStore":
    from recollect.artifacts import CATALOGUES

    return store_of("catalogues", CATALOGUES)


def _pairs(columns: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in columns]
    for text, (name, _, column) in zip(columns, pairs, strict=True):
        if not (name and column):
            raise typer.BadParameter(f"--column must look like item=sku, got {text!r}")
    return {name: column for name, _, column in pairs}


def _show_bad(imported: "ImportedCatalogue") -> None:
    bad = imported.bad
    if not bad.height:
        return
    title = f"{bad.height:,} of {imported.rows:,} rows cannot be used"
    if bad.height > SHOWN_BAD:
        title += f", here the first {SHOWN_BAD}; all with --rejects CSV"
    show_table(title, bad.columns, bad.head(SHOWN_BAD).rows(), right=["row"])


def _write_bad(imported: "ImportedCatalogue", path: Path) -> None:
    """RecollectError where the file cannot be written, before anything has changed."""
    import polars as pl

    from recollect.errors import RecollectError

    try:
        imported.bad.write_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecollectError(
            f"--rejects {path} cannot be written: {error}; name a file in a folder that is there and has room. Nothing "
            "is imported yet"
        ) from error


def _told(artifact: "Artifact") -> dict[str, Any]:
    from recollect.catalogues.publishing import CATALOGUE_DIRECTORY
    from recsys.metadata.items import read_facts

    facts = read_facts(artifact.directory / CATALOGUE_DIRECTORY)
    return {
        "items": facts.items,
        "priced": facts.priced,
        "currencies": list(facts.currencies),
        "availability_told": facts.availability_told,
        "in_stock": facts.in_stock,
        "only_in_stock": facts.only_in_stock,
        "columns": list(facts.columns),
    }


def _listed(artifact: "Artifact") -> dict[str, Any]:
    """The same for a list, which one damaged version must not hide."""
    from recsys.errors import StoreError

    try:
        return _told(artifact)
    except StoreError as error:
        return {"problem": str(error)}


def _contents(row: dict[str, Any]) -> str:
    if row.get("problem"):
        return f"DAMAGED: {row['problem']}"
    parts = [f"{row['items']:,} items", f"{row['priced']:,} with a price"]
    if row["currencies"]:
        parts[-1] += f" in {', '.join(row['currencies'])}"
    parts.append(f"{row['in_stock']:,} in stock" if row["availability_told"] else "availability not told")
    if row["columns"]:
        parts.append(f"further {', '.join(row['columns'])}")
    return ", ".join(parts)


def _id(item: str, catalogue: "ItemMetadata") -> int:
    """The id that a word means: a number that the catalogue has is one, anything else a key of the log."""
    from recsys.data.catalogue import key_to_id

    # Python reads no number of more than 4,300 digits.
    is_number = item.isascii() and item.isdigit() and len(item) < 20 and int(item) < 2**63
    number = int(item) if is_number else None
    if number is not None and (catalogue.rows_of(number) >= 0 or catalogue.rows_of(key_to_id(item)) < 0):
        return number
    return key_to_id(item)


def _values(told: "pl.DataFrame", at: int) -> dict[str, Any]:
    """A row as JSON has it: dates as texts."""
    plain = (str, int, float, bool, list, type(None))
    return {
        column: value if isinstance(value, plain) else str(value) for column, value in told.row(at, named=True).items()
    }
