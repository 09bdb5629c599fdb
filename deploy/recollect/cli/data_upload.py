"""`recollect data upload`: put an event store where other machines train on it."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import explains_errors, out, progress, show_json


@explains_errors
def upload(
    store: Annotated[Path, typer.Argument(help="Event store directory.", show_default=False)],
    url: Annotated[
        str, typer.Argument(help="Where: s3://BUCKET/SHOP or any other URL that fsspec knows.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Upload an event store with the hashes of its files, in place of what is there.

    Credentials are taken as fsspec and its implementation take them: AWS_*, FSSPEC_*, files. S3 needs the extra `s3`.

    Example: `recollect data upload var/data/shop s3://bucket/shop`, then `recollect train s3://bucket/shop`
    """
    from recollect.artifacts.event_stores import upload_store
    from recollect.artifacts.transfers import heard

    with progress() as bar:
        task = bar.add_task("hashing", total=None)
        with heard(lambda what, done, total: bar.update(task, description=what, completed=done, total=total)):
            size = upload_store(store, url)
    if as_json:
        show_json([{"store": str(store), "url": url, "bytes": size}])
        return
    out.print(f"Uploaded {size / 1e6:,.1f} MB; `recollect train {url}` trains on it.", highlight=False, soft_wrap=True)
