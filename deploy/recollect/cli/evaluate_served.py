"""`recollect evaluate served`: whether training would see what users were served."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, progress, show_json, show_table


@explains_errors
def served(
    export: Annotated[Path, typer.Argument(help="Directory that `recollect history export` wrote.")],
    model: Annotated[str, typer.Option(help="name@label or name/version of the model that served.")] = "dare@stable",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Answer each call of the sampled serving log once more, from the exported histories; print how far both are apart.

    Calls of other models are left out, and calls whose history has changed since, as it does when events come late or
    a user is deleted. Needs RECOLLECT_SERVING_LOG_RATE above 0 while the service runs.

    Example: `recollect history export var/export && recollect evaluate served var/export`
    """
    from recollect.pipeline import models
    from recollect.settings import Settings
    from recsys.history.skew import measure_skew
    from recsys.ranking import Ranker

    artifact = models(Settings.load()).resolve(model)
    with progress() as bar:
        task = bar.add_task("calls", total=None)
        skew = measure_skew(
            export / "histories.parquet",
            export / "served.parquet",
            Ranker.load(artifact.directory),
            artifact.reference,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        show_json([{"model": artifact.name, "version": artifact.version, **asdict(skew)}])
        return
    if not skew.calls:
        err.print(f"{artifact.reference} answered no call of this log; name the model that did with --model")
    rows = [
        ("calls", f"{skew.calls:,}"),
        ("their history changed since, left out", f"{skew.changed:,}"),
        ("calls of other models, left out", f"{skew.other_models:,}"),
        ("candidates scored again", f"{skew.candidates:,}"),
        ("largest difference of a score", f"{skew.largest_difference:.2g}"),
        ("candidates with other behaviours", f"{skew.other_behaviours:,}"),
    ]
    show_table(f"Served by {artifact.reference}, and computed again", ["what", "number"], rows, right=["number"])
