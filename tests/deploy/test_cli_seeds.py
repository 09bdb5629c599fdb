"""No command takes a seed below 0, which would fail deep in what it is given to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from recollect.cli import app


def seeded(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that has `--seed`, with something for each argument and option that it must be given."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from seeded(inner, (*words, name))
    elif any("--seed" in parameter.opts for parameter in command.params):
        required = [parameter for parameter in command.params if parameter.required]
        yield (*words, *(word for each in required for word in (*(o for o in each.opts if o[0] == "-"), "x")))


COMMANDS = sorted(seeded(get_command(app)))


def test_commands_that_train_have_seeds() -> None:
    assert {"train x", "encoder train x", "composed train x", "composed pretrain x"} <= set(map(" ".join, COMMANDS))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_seed_below_0_is_refused(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a command that took it would write there
    done = CliRunner().invoke(app, [*words, "--seed", "-1"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 2
    assert "Invalid value for '--seed'" in done.stderr
