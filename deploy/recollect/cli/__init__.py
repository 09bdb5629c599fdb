"""The command line: one file a command; heavy packages are imported when a command runs, not when help is shown."""

import typer

from recollect.cli.bench import bench_app
from recollect.cli.catalogue import catalogue_app
from recollect.cli.classify import classify_app
from recollect.cli.composed import composed_app
from recollect.cli.data import data_app
from recollect.cli.demo import demo
from recollect.cli.descriptors import descriptors_app
from recollect.cli.doctor import doctor
from recollect.cli.encoder import encoder_app
from recollect.cli.evaluate import evaluate_app
from recollect.cli.experiment import experiment
from recollect.cli.explain import explain
from recollect.cli.history import history_app
from recollect.cli.index import index_app
from recollect.cli.kernels import kernels_app
from recollect.cli.model import model_app
from recollect.cli.recommend import recommend
from recollect.cli.score import score
from recollect.cli.serve import serve
from recollect.cli.token import token_app
from recollect.cli.top import top
from recollect.cli.train import train

app = typer.Typer(
    name="recollect",
    help="Recommend from a user's whole past. Start with `recollect demo`; every command explains itself with --help.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.add_typer(data_app, name="data")
app.command()(train)
app.add_typer(evaluate_app, name="evaluate")
app.command()(experiment)
app.add_typer(history_app, name="history")
app.add_typer(model_app, name="model")
app.add_typer(index_app, name="index")
app.add_typer(catalogue_app, name="catalogue")
app.command()(serve)
app.add_typer(token_app, name="token")
app.command()(doctor)
app.command()(top)
app.command()(score)
app.command()(explain)
app.command()(recommend)
app.add_typer(classify_app, name="classify")
app.add_typer(composed_app, name="composed")
app.add_typer(descriptors_app, name="descriptors")
app.add_typer(encoder_app, name="encoder")
app.add_typer(kernels_app, name="kernels")
app.add_typer(bench_app, name="bench")
