"""`recollect composed experiment`: what the modulator is worth, beside every ablation, in one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.composed_train import Kind, RayAddress
from recollect.cli.console import err, explains_errors, out, progress, show_json

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("r_id@1", "r_id@5", "r@1", "r@5", "beta")
"""Figures of the table, overall; the Parquet has all."""


@explains_errors
def experiment(
    directory: Annotated[Path, typer.Argument(help="Data set of references, boxes, texts and targets.")],
    kind: Kind = "oacirr",
    start: Annotated[str, typer.Option(metavar="MODEL", help="What every run starts from.")] = "adafocal-start@stable",
    preset: Annotated[str, typer.Option(help="Recipe: `published` or `world`.")] = "published",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant, with the seeds 0, 1, 2, …")] = 3,
    fixed: Annotated[str, typer.Option(help="Values of the fixed β, separated by commas.")] = "1,2,4",
    epochs: Annotated[int | None, typer.Option(help="Passes over the queries.")] = None,
    split: Annotated[str, typer.Option(help="Split that the models are judged on.")] = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report and the runs; VAR/experiments/… unless told.")
    ] = None,
    ray_address: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line a run instead of the table.")] = False,
) -> None:
    """Train no box, red rectangle, crop, fixed β, scalar and vector AdaFocal side by side, and compare them.

    Writes report.md, runs.parquet and, where texts have kinds, beta.png. Killed? Run it again, it goes on.

    Example: `recollect composed experiment var/data/world --preset world --seeds 3`
    """
    from recollect.composed_experiment import run_all
    from recollect.composed_training import composed_path, features_directory
    from recollect.embedded.ray import ray_cluster
    from recollect.settings import Settings
    from retrieval.composed import experiment as experiments
    from retrieval.composed.training import config as configs
    from retrieval.composed.training.job import TrainJob

    settings = Settings.load(ray_address=ray_address)
    path = composed_path(settings, start)
    config = configs.with_overrides(configs.preset(preset), epochs=epochs)
    rows = experiments.variants(_betas(fixed))
    folder = (output or settings.var / "experiments" / f"composed-{directory.resolve().name}").resolve()
    job = TrainJob(
        start=path,
        kind=kind,
        directory=str(directory.resolve()),
        features=str(features_directory(settings, directory, path)),
        validation_split=None,
    )
    with ray_cluster(settings), progress() as bar:
        task = bar.add_task("runs", total=len(rows) * seeds)
        results = run_all(
            job,
            config,
            rows,
            range(seeds),
            folder / "runs",
            split=split,
            on_done=lambda done, _total: bar.update(task, completed=done),
        )
    runs = experiments.table_of(results)
    _write(folder, runs, results)
    if as_json:
        show_json(runs.to_dicts())
        return
    out.print(experiments.markdown(runs, COLUMNS), highlight=False, soft_wrap=True)
    err.print(f"report, runs and plot are in {folder}", highlight=False, soft_wrap=True)


def _betas(text: str) -> list[float]:
    from retrieval.errors import ComposedError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ComposedError(f"--fixed must be numbers separated by commas, got {text!r}") from None


def _write(folder: Path, runs: "pl.DataFrame", results: list[dict[str, Any]]) -> None:
    from retrieval.composed import experiment as experiments

    runs.write_parquet(folder / "runs.parquet")
    kinds = sorted({name.split("/")[0] for name in runs.columns if "/" in name})
    by_kind = [f"{kind}/{name}" for kind in kinds for name in ("r_id@1", "r@1")]
    sections = ["# Ablations\n", experiments.markdown(runs, COLUMNS)]
    if by_kind:
        sections += ["\n## By what the text asks for\n", experiments.markdown(runs, by_kind)]
    (folder / "report.md").write_text("\n".join(sections))
    experiments.draw_betas(results, folder / "beta.png")
