"""The `recollect` program: it says what to install when only the client is there, and starts the command line
otherwise."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; exits with 1 where the runtime is not installed."""
    missing = [name for name in ("typer", "rich", "polars", "torch", "ray") if find_spec(name) is None]
    if missing:
        sys.exit(
            f"recollect: this is the bare client install ({', '.join(missing)} not found). "
            "Install the runtime with: pip install 'recollect[serve]'"
        )
    from recollect.cli import app

    app()
