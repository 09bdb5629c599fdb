"""`recollect encoder`: image–text encoders: train, export and look at them."""

import typer

from recollect.cli.encoder_export import export
from recollect.cli.encoder_info import info
from recollect.cli.encoder_train import train

encoder_app = typer.Typer(
    help="Image–text encoders: train, export and look at them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
encoder_app.command()(train)
encoder_app.command()(export)
encoder_app.command()(info)
