"""`recollect evaluate search`: whether models find the behaviours that matter, and what keeps them from it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, progress, show_json, show_table

if TYPE_CHECKING:
    from rich.progress import Progress

    from recollect.comparisons import Comparison
    from recsys.data.samples import SampleSet
    from recsys.diagnosis.gradients import Conflict
    from recsys.diagnosis.relevance import Relevance
    from recsys.diagnosis.search_quality import Measured
    from recsys.diagnosis.subjects import Subject, Variants

_METHOD = """\
For a target of category c′, a behaviour of category c at a position is worth the mutual information of "it is of
category c" and the label, counted over the training samples with targets of c′, by bins of positions ({bins}).
NDCG@{k} is the discounted worth of the {k} behaviours that a search keeps over that of the {k} worthiest of the same
history (section 4.3 of arXiv 2410.02604). *By category alone* is the same model with the embeddings of items set to
zero, which the paper draws; *graded in favour only* counts nothing for what makes the target less probable. ± is the
standard error over users, with each sample's mean over the models of a row; *seeds' sd* is the standard deviation
over those models.

*Same category* takes behaviours of the target's category first, then the latest; *other half's grades* orders by what
every other user's samples say and is graded by those of the others, and so is about what the grades can tell.
"""
_GRADIENTS = """\
The two gradients of each embedding in a training step: through the scores that search and weigh (attention), and
through what is pooled and handed to the head (representation). A table that does both takes their sum: where the
cosine is negative, each undoes part of the other. Unrelated gradients have a negative cosine half of the time, and
tables that do one thing each add nothing up, whatever the cosine. *Steps so on average* is what the paper's
released analysis counts.
"""


@explains_errors
def search(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="name@label, name/version or model directories; those that differ in seed are one row."),
    ] = None,
    split: Annotated[str, typer.Option(help="`train`, `validation` or `test`.")] = "test",
    store: Annotated[
        Path | None, typer.Option(help="Event store; by default the one that the first model was trained on.")
    ] = None,
    groups: Annotated[
        int,
        typer.Option(min=1, help="Most positives, with their negatives, to search for; of more, so many are drawn."),
    ] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
    bins: Annotated[str, typer.Option(help="First position of each bin; 1 is the most recent.")] = "1,6,21,51,101",
    min_samples: Annotated[int, typer.Option(help="Fewest training samples of a target's category.")] = 700,
    min_count: Annotated[
        int, typer.Option(help="Fewest behaviours, beside positives and beside negatives, for a grade to be relied on.")
    ] = 50,
    most_unreliable: Annotated[
        int | None, typer.Option(min=0, help="Most behaviours of a history whose grade is not; K unless told.")
    ] = None,
    min_history: Annotated[
        int | None, typer.Option(min=1, help="Shortest history; what the models read at most unless told.")
    ] = None,
    maps: Annotated[int, typer.Option(min=0, help="Target categories to draw heat maps for.")] = 3,
    gradient_steps: Annotated[
        int, typer.Option(min=0, help="Training steps whose gradients are measured, at the models' weights.")
    ] = 50,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Measure gradients at every step of a training by dense Adam, too.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; VAR/evaluations/search-… unless told.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Hold what models search for against what matters: NDCG by mutual information, attention by category and position,
    and whether gradients of attention and of representation disturb each other.

    Writes report.md, ndcg.parquet, cells.parquet, gradients.parquet and plots. Baselines are measured as DARE is; those
    without a search (SDIM) are told of and left out, and gradients are those of models that attend by dot products.

    Example: `recollect evaluate search dare@stable twin@stable`
    """
    import numpy as np

    from recollect.comparisons import open_compared, report_folder
    from recollect.evaluations import split_named
    from recollect.settings import Settings
    from recsys.data.samples import make_samples
    from recsys.diagnosis.relevance import RelevanceConfig, count_relevance
    from recsys.diagnosis.search_quality import measure_search
    from recsys.diagnosis.search_report import by_category
    from recsys.diagnosis.searches import ModelSearch, Search
    from recsys.diagnosis.subjects import Variants, by_category_alone, searching

    chosen = split_named(split)
    config = RelevanceConfig(bins=numbers("--bins", bins), min_samples=min_samples, min_count=min_count)
    settings = Settings.load()
    compared = open_compared(settings, models or ["dare@stable"], store)
    subjects, left_out = searching(compared.subjects)
    variants = Variants.of(subjects)
    searches: dict[str, Search] = {}
    for subject in subjects:
        searches[subject.name] = ModelSearch(subject.model.serving())
        searches[by_category(subject.name)] = ModelSearch(by_category_alone(subject.model))
    with progress() as bar:
        training = make_samples(compared.events, compared.samples, "train")
        task = bar.add_task("counting", total=len(training))
        relevance = count_relevance(compared.events, training, config, progress=partial(bar.advance, task))
        samples = make_samples(compared.events, compared.samples, chosen)
        samples = samples.take(np.sort(np.random.default_rng(seed).permutation(len(samples))[:groups]))
        shortest = min_history or compared.samples.max_history
        task = bar.add_task("searching", total=int((samples.ends - samples.begins >= shortest).sum()))
        measured = measure_search(
            compared.events,
            samples,
            relevance,
            searches,
            k=compared.search_k,
            min_history=shortest,
            most_unreliable=most_unreliable,
            maps=maps,
            progress=partial(bar.advance, task),
        )
        gradients = _gradients(compared, subjects, training, variants, gradient_steps, retrain, bar)
    folder = report_folder(settings, output, "search", compared, split)
    title = f"{split}, histories of {shortest} behaviours and more"
    ndcg = _write(folder, compared, variants, relevance, measured, gradients, left_out, title)
    if as_json:
        show_json([{"measure": "ndcg", **row} for row in ndcg])
        show_json([{"measure": "gradients", **row} for row in gradients])
        return
    for line in left_out:
        err.print(line, highlight=False, soft_wrap=True)
    _show(ndcg, gradients, compared.search_k, measured)
    err.print(f"report, tables and plots are in {folder}", highlight=False, soft_wrap=True)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas; ConfigError names `option` for anything else."""
    from recsys.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def _gradients(
    compared: "Comparison",
    subjects: "list[Subject]",
    training: "SampleSet",
    variants: "Variants",
    steps: int,
    retrain: bool,
    bar: "Progress",
) -> list[dict[str, Any]]:
    """Rows at the models' own weights and, with `retrain`, along a training from the beginning."""
    from recsys.diagnosis.gradient_report import gradient_rows
    from recsys.diagnosis.gradients import measure_conflicts, training_batches
    from recsys.models.dot_product import DotProductModel
    from recsys.training.loop import new_model, steps_in_all

    attending = [subject for subject in subjects if isinstance(subject.model, DotProductModel)]
    rows: list[dict[str, Any]] = []
    for weights, wanted in (("as trained", steps > 0), ("whole training", retrain)):
        if not wanted:
            continue
        again = weights == "whole training"
        most = None if again else steps
        each = steps_in_all(training, compared.subjects[0].config)
        task = bar.add_task(f"gradients, {weights}", total=len(attending) * (each if again else min(each, steps)))
        found: dict[str, list[Conflict]] = {}
        for subject in attending:
            found[subject.name] = measure_conflicts(
                new_model(compared.events, subject.config) if again else subject.model,
                training_batches(compared.events, training, subject.config, most=most),
                learning_rate=subject.config.learning_rate if again else None,
                l2=subject.config.l2,
                progress=partial(bar.advance, task),
            )
        rows += gradient_rows(found, variants, weights=weights)
    return rows


def _write(
    folder: Path,
    compared: "Comparison",
    variants: "Variants",
    relevance: "Relevance",
    measured: "Measured",
    gradients: list[dict[str, Any]],
    left_out: list[str],
    title: str,
) -> list[dict[str, Any]]:
    """Write everything into `folder`; returns the rows of NDCG."""
    import polars as pl

    from recsys.diagnosis import search_report as report
    from recsys.diagnosis.gradient_report import draw_gradients, gradient_markdown

    k, catalogue = compared.search_k, compared.events.catalogue
    ndcg = report.ndcg_rows(measured, variants)
    pl.DataFrame(ndcg, infer_schema_length=None).write_parquet(folder / "ndcg.parquet")
    report.cell_table(measured, relevance, catalogue).write_parquet(folder / "cells.parquet")
    report.draw_ndcg(ndcg, k, folder / "ndcg.png")
    sections = [
        f"# What searches find: {title}\n",
        _METHOD.format(bins=", ".join(relevance.config.bin_names()), k=k),
        _graded(measured, relevance) + "\n",
        *(f"{line}.\n" for line in left_out),
        report.ndcg_markdown(ndcg, k),
        f"![NDCG@{k}](ndcg.png)\n",
    ]
    for number in range(len(measured.attention.categories)):
        name = f"attention-{number + 1}.png"
        report.draw_attention(measured, relevance, catalogue, variants, number, folder / name)
        sections.append(f"![Attention by category and position]({name})\n")
    if gradients:
        pl.DataFrame(gradients, infer_schema_length=None).write_parquet(folder / "gradients.parquet")
        sections += ["## Gradients of attention and of representation\n", _GRADIENTS, gradient_markdown(gradients)]
        if draw_gradients(gradients, folder / "gradients.png"):
            sections.append("![Cosines](gradients.png)\n")
    (folder / "report.md").write_text("\n".join(sections))
    return ndcg


def _graded(measured: "Measured", relevance: "Relevance") -> str:
    return (
        f"Graded are {len(measured.users):,} of {measured.asked:,} targets, of {len(set(measured.users.tolist())):,} "
        f"users and {len(relevance.categories)} target categories; {measured.too_short:,} have a shorter history."
    )


def _show(ndcg: list[dict[str, Any]], gradients: list[dict[str, Any]], k: int, measured: "Measured") -> None:
    from recsys.diagnosis.gradient_report import percent
    from recsys.diagnosis.search_report import number, with_error

    columns = ["search", "models", f"NDCG@{k}", f"less {ndcg[0]['search']}'s", "by category alone", "in favour only"]
    rows = [
        [
            row["search"],
            row["models"] or "",
            with_error(row["ndcg"], row["ndcg_error"]),
            with_error(row["less_first"], row["less_first_error"], "+") if row is not ndcg[0] else "",
            number(row["ndcg_by_category"], 4),
            number(row["ndcg_in_favour"], 4),
        ]
        for row in ndcg
    ]
    title = f"What is kept, graded by mutual information: {len(measured.users):,} of {measured.asked:,} targets"
    show_table(title, columns, rows, right=columns[1:])
    if not gradients:
        return
    columns = ["search", "weights", "table", "one for both", "negative cosine", "mean cosine", "representation longer"]
    rows = [
        [
            *(row["search"], row["weights"], row["table"], "yes" if row["shared"] else "no"),
            percent(row["negative_cosine_rows"]),
            number(row["cosine"], 3, "+"),
            percent(row["representation_longer"]),
        ]
        for row in gradients
    ]
    show_table("Gradients of attention and of representation", columns, rows, right=columns[4:])
