"""`recollect composed`: find the very object of a picture, changed as a text says: train, keep galleries, search."""

import typer

from recollect.cli.composed_convert import convert
from recollect.cli.composed_evaluate import evaluate
from recollect.cli.composed_experiment import experiment
from recollect.cli.composed_gallery import add, delete, galleries, index
from recollect.cli.composed_search import search
from recollect.cli.composed_train import pretrain, train
from recollect.cli.composed_world import world

composed_app = typer.Typer(
    help="Find the very object of a picture, changed as a text says.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
composed_app.command()(world)
composed_app.command()(pretrain)
composed_app.command()(train)
composed_app.command()(convert)
composed_app.command()(evaluate)
composed_app.command()(experiment)
composed_app.command()(index)
composed_app.command()(add)
composed_app.command()(delete)
composed_app.command()(galleries)
composed_app.command()(search)
