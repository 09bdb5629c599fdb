"""How every command talks to a person: one console, one kind of table, one kind of error."""

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from recollect.errors import RecollectError
from recsys.errors import RecsysError
from retrieval.errors import RetrievalError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

P = ParamSpec("P")
R = TypeVar("R")

# Names and paths may hold what Rich takes for markup or for an emoji.
out = Console(markup=False, emoji=False)
"""Results: what a pipe should carry."""
err = Console(stderr=True, emoji=False)
"""Progress and complaints: what a pipe should not carry."""
_ROOM, _RIGHTS = "make room and repeat", "let this user do that, or name another place"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EMFILE: "allow this process more open files (ulimit -n)",
}
"""What helps against what the system refuses."""
_BYTES = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn())


def explains_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that a person can mend into one line on stderr and exit status 1, those of files and disks among
    them; anything else is a bug and keeps its trace."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _transfers_shown():
                return command(*args, **kwargs)
        except (RecsysError, RetrievalError, RecollectError, ValidationError) as error:
            raise _exit_saying(_one_line(error)) from None
        except OSError as error:
            # Whoever reads no more of what a pipe carries is no error; one without a number is not the system's.
            if error.errno in (None, errno.EPIPE):
                raise
            raise _exit_saying(_of_system(error)) from None

    return run


def _exit_saying(line: str) -> typer.Exit:
    err.print(Text.assemble(("error:", "bold red"), f" {line}"), soft_wrap=True)
    return typer.Exit(1)


def _of_system(error: OSError) -> str:
    """The file, what is wrong and what helps."""
    where = ": ".join(str(name) for name in (error.filename, error.strerror) if name is not None)
    remedy = _REMEDIES.get(error.errno or 0)
    return where + (f"; {remedy}" if remedy else "")


@contextmanager
def _transfers_shown() -> Iterator[None]:
    """Show how far a version is that the command fetches or shares."""
    from recollect.artifacts.transfers import heard

    bars: dict[str, Progress] = {}
    done: set[str] = set()

    def told(what: str, copied: int, total: int) -> None:
        if what in done:
            return
        if what not in bars:
            bars[what] = Progress(*_BYTES, console=err)
            bars[what].add_task(what, total=total)
            bars[what].start()
        bars[what].update(TaskID(0), completed=copied)
        if copied >= total:
            done.add(what)
            bars.pop(what).stop()

    try:
        with heard(told):
            yield
    finally:
        for bar in bars.values():
            bar.stop()


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(map(_told, error.errors()))
    return str(error)


def _told(problem: "ErrorDetails") -> str:
    field = ".".join(map(str, problem["loc"]))
    # A key or token, or a setting that may be a key's name misspelt, must not end up on a screen or in a log.
    hidden = "key" in field or field == "target_token" or problem["type"] == "extra_forbidden"
    return f"{field}: {problem['msg']}" + ("" if hidden else f", got {problem['input']!r}")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr that leaves its last state on the screen."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        yield bar


@contextmanager
def step_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress display with a bar a step: call it with the step, and how much is done of how much."""
    with progress() as bar:
        tasks: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=None)
            bar.update(tasks[step], completed=done, total=total)

        yield told


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Print `rows` under `columns`; the columns named in `right` are aligned right, as numbers are read."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table)


def cell(value: object) -> object:
    """What a table shows of a value: the members of a list, nothing for None."""
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else value


def show_metrics(title: str, split: str, metrics: Mapping[str, float]) -> None:
    """Print what a model reached on a split, as `recsys.training.metrics.Metrics.as_dict` gives it."""
    figures = ("AUC", "GAUC", "logloss")
    row = [split, *(f"{metrics[name.lower()]:.4f}" for name in figures)]
    counts = [f"{metrics['n_samples']:,}", f"{metrics['n_users']:,}"]
    show_table(title, ["split", *figures, "samples", "users"], [row + counts], right=[*figures, "samples", "users"])


def show_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print `rows` as JSON lines."""
    for row in rows:
        out.print(json.dumps(row), highlight=False, soft_wrap=True)
