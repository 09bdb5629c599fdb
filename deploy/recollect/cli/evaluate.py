"""`recollect evaluate`: measure a model's scores on a split of its data and keep the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from recollect.cli.console import explains_errors, out, progress, show_json, show_metrics
from recollect.cli.evaluate_positions import positions
from recollect.cli.evaluate_recommend import recommend
from recollect.cli.evaluate_search import search
from recollect.cli.evaluate_served import served

if TYPE_CHECKING:
    from typer._click.core import Context  # typer has its own copy of click


class _ScoresUnlessTold(TyperGroup):
    """`recollect evaluate dare@stable` measures scores, as `recollect evaluate scores dare@stable` does."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Put `scores` in front of arguments that name no command."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["scores", *args]
        return super().parse_args(ctx, args)


evaluate_app = typer.Typer(
    cls=_ScoresUnlessTold,
    help="Measure a model on a split of its data: `recollect evaluate dare@stable` its scores, `recollect evaluate "
    "recommend` what it recommends, `recollect evaluate search` and `positions` whether it finds what matters, "
    "`recollect evaluate served` whether training would see what was served.",
    rich_markup_mode="markdown",
)


@evaluate_app.command()
@explains_errors
def scores(
    model: Annotated[str, typer.Argument(help="name@label, name/version or a model directory.")] = "dare@stable",
    split: Annotated[str, typer.Option(help="`train`, `validation` or `test`.")] = "test",
    store: Annotated[
        Path | None, typer.Option(help="Event store; by default the one that the model was trained on.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File for the result; by default in var/evaluations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Score every sample of a split by the model's own protocol; print and save AUC, GAUC (by user) and log loss.

    Example: `recollect evaluate dare@stable --split test`
    """
    from recollect.evaluations import open_evaluated, save_result, split_named
    from recollect.settings import Settings
    from recsys.data.samples import make_samples
    from recsys.training.evaluation import evaluate as measure

    chosen = split_named(split)
    settings = Settings.load()
    opened = open_evaluated(settings, model, store)
    with progress() as bar:
        task = bar.add_task("drawing samples", total=None)
        samples = make_samples(opened.events, opened.config.samples, chosen)
        bar.update(task, description="scoring", total=len(samples))
        serving = opened.saved.model.serving()
        metrics = measure(serving, opened.events, samples, progress=lambda groups: bar.advance(task, groups))
    name, version = opened.artifact.name, opened.artifact.version
    result = {"model": name, "version": version, "split": split, **metrics.as_dict()}
    path = save_result(settings, output, f"{name}-{version}-{split}.json", result)
    if as_json:
        show_json([result])
        return
    show_metrics(f"{name}/{version} on {opened.events.directory}", split, metrics.as_dict())
    out.print(f"Saved to {path}.", highlight=False)


evaluate_app.command()(recommend)
evaluate_app.command()(search)
evaluate_app.command()(positions)
evaluate_app.command()(served)
