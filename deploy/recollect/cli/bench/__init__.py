"""`recollect bench`: measure what is fast here, on this machine, beside what people use instead; one file a subject."""

import typer

from recollect.cli.bench.classify import classify
from recollect.cli.bench.index import index
from recollect.cli.bench.kernels import kernels
from recollect.cli.bench.serve import serve
from recollect.cli.bench.train import train

bench_app = typer.Typer(
    help="Measure on this machine, beside what people use instead.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
bench_app.command()(kernels)
bench_app.command()(classify)
bench_app.command()(index)
bench_app.command()(serve)
bench_app.command()(train)
