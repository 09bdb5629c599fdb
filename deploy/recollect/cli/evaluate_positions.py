"""`recollect evaluate positions`: whether models find what matters wherever it lies in a history."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, progress, show_json, show_table
from recollect.cli.evaluate_search import numbers

if TYPE_CHECKING:
    from recsys.diagnosis.planting import Planting

_METHOD = """\
A behaviour is planted in a history that has nothing to do with the target: the latest behaviours of another user,
those of the target's category replaced. Planted are the target itself (*item*), another item of its category
(*category*) and, to compare with, an item of another category (*unrelated*), at a position drawn within each of
{bins} equal parts of the history. Recall is the share of {targets:,} targets whose plant is among the {k} behaviours
that the search keeps; score change is the score with the plant less that with what stood there. *Shuffled* are the
same histories with the same plants in a random order. The gap is the oldest part's figure less the newest's. ± is the
standard error over users, with each target's mean over the models of a row; *seeds' sd* is the gap's standard
deviation over those models (after arXiv 2601.08363).
"""


@explains_errors
def positions(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="name@label, name/version or model directories; those that differ in seed are one row."),
    ] = None,
    split: Annotated[str, typer.Option(help="`train`, `validation` or `test`: whose targets.")] = "test",
    store: Annotated[
        Path | None, typer.Option(help="Event store; by default the one that the first model was trained on.")
    ] = None,
    lengths: Annotated[str, typer.Option(help="Lengths of histories, in behaviours; they may exceed training's.")] = (
        "50,100,200"
    ),
    bins: Annotated[int, typer.Option(help="Equal parts that a history is cut into.")] = 5,
    targets: Annotated[int, typer.Option(help="Most positives to take; of more, so many are drawn.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; VAR/evaluations/positions-… unless told.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Plant a relevant behaviour at a chosen place of an unrelated history, and see whether it is found and what it
    adds to the score: by length and by position, beside the same histories in a random order.

    Writes report.md, positions.parquet, gaps.parquet and plots. Of models without a search (SDIM) only scores are
    measured.

    Example: `recollect evaluate positions dare@stable twin@stable --lengths 100,200,1000`
    """
    from recollect.comparisons import open_compared, report_folder
    from recollect.evaluations import split_named
    from recollect.settings import Settings
    from recsys.data.samples import make_samples
    from recsys.diagnosis.planting import PlantConfig, Planting
    from recsys.diagnosis.position_report import position_rows
    from recsys.diagnosis.positions import measure_positions
    from recsys.diagnosis.subjects import Variants

    chosen = split_named(split)
    config = PlantConfig(targets=targets, lengths=numbers("--lengths", lengths), bins=bins, seed=seed)
    settings = Settings.load()
    compared = open_compared(settings, models or ["dare@stable"], store)
    with progress() as bar:
        task = bar.add_task("drawing histories", total=None)
        samples = make_samples(compared.events, compared.samples, chosen)
        counted = compared.samples.protocol.training_events(compared.events)
        planting = Planting(compared.events, samples, counted, config)
        total = len(compared.subjects) * len(config.lengths) * len(planting.targets.rows)
        bar.update(task, description="planting", total=total)
        measured = {
            subject.name: measure_positions(
                planting,
                subject.model.serving(),
                searches=subject.model.searches,
                progress=partial(bar.advance, task),
            )
            for subject in compared.subjects
        }
    by_bin, gaps = position_rows(measured, Variants.of(compared.subjects), config, compared.search_k)
    left_out = [
        f"{subject.name}: {subject.model.kind} searches for nothing, so that only its scores are measured"
        for subject in compared.subjects
        if not subject.model.searches
    ]
    folder = report_folder(settings, output, "positions", compared, split)
    _write(folder, by_bin, gaps, planting, compared.search_k, split, left_out)
    if as_json:
        show_json([{"measure": "bin", **row} for row in by_bin])
        show_json([{"measure": "gap", **row} for row in gaps])
        return
    for line in left_out:
        err.print(line, highlight=False, soft_wrap=True)
    _show(by_bin, gaps, max(config.lengths))
    err.print(f"report, tables and plots are in {folder}", highlight=False, soft_wrap=True)


def _write(
    folder: Path,
    by_bin: list[dict[str, Any]],
    gaps: list[dict[str, Any]],
    planting: "Planting",
    k: int,
    split: str,
    left_out: list[str],
) -> None:
    import polars as pl

    from recsys.diagnosis.position_report import draw_positions, position_markdown

    pl.DataFrame(by_bin, infer_schema_length=None).write_parquet(folder / "positions.parquet")
    pl.DataFrame(gaps, infer_schema_length=None).write_parquet(folder / "gaps.parquet")
    sections = [
        f"# Whether place counts: {split}\n",
        _METHOD.format(bins=planting.config.bins, targets=len(planting.targets.rows), k=k),
        *(f"{line}.\n" for line in left_out),
    ]
    for figure, title in (("recall", "Recall of what was planted"), ("score_change", "Score change")):
        name = f"{figure.replace('_', '-')}.png"
        if draw_positions(by_bin, figure, folder / name):
            sections += [f"## {title}\n", position_markdown(by_bin, gaps, figure), f"![{title}]({name})\n"]
    (folder / "report.md").write_text("\n".join(sections))


def _show(by_bin: list[dict[str, Any]], gaps: list[dict[str, Any]], longest: int) -> None:
    """The longest histories, where place counts most; the report has all."""
    from recsys.diagnosis.position_report import shuffled_mean
    from recsys.diagnosis.search_report import number, with_error

    columns = [
        "search",
        "plant",
        "recall, newest",
        "oldest",
        "gap",
        "shuffled",
        "score change, newest",
        "oldest ",
        "gap ",
    ]
    rows = []
    for gap in gaps:
        own = [row for row in by_bin if all(row[name] == gap[name] for name in ("search", "plant", "length"))]
        if gap["length"] != longest:
            continue
        rows.append(
            [
                *(gap["search"], gap["plant"], number(own[0]["recall"], 3), number(own[-1]["recall"], 3)),
                with_error(gap["recall_gap"], gap["recall_gap_error"], "+"),
                number(shuffled_mean(own, "recall"), 3),
                *(number(own[at]["score_change"], 4, "+") for at in (0, -1)),
                with_error(gap["score_change_gap"], gap["score_change_gap_error"], "+"),
            ]
        )
    show_table(f"Planted in {longest} unrelated behaviours", columns, rows, right=columns[2:])
