"""The guide tells the truth: its commands and options exist, its links lead somewhere, its settings are settings."""

import re
import shlex

import pytest
from typer.main import get_command

from recollect.cli import app
from recollect.gateway.replica import DRAIN_S
from recollect.settings import Settings

OF_OTHERS = {"publish", "cpus", "memory", "image", "secrets"}
"""Variables of compose.yaml that begin as ours do, and RECOLLECT_SECRETS."""


@pytest.fixture(scope="module")
def guide(deploy):
    return (deploy / "README.md").read_text()


def commands(guide):
    """The words of each command of `recollect` in the guide, wherever in a line it begins."""
    for block in re.findall(r"```sh\n(.*?)```", guide, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "recollect" in words:
                last = len(words) - 1 - words[::-1].index("recollect")
                if words[0] in ("recollect", "docker") and last + 1 < len(words):
                    yield words[last + 1 :]


def test_commands_and_options_exist(guide):
    found = list(commands(guide))
    assert len(found) >= 5
    for words in found:
        command = get_command(app)
        while hasattr(command, "commands") and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert not hasattr(command, "commands"), words
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_commands_in_the_text_exist(guide):
    for text in re.findall(r"`recollect ([a-z ]+)", guide):
        command, words = get_command(app), text.split()
        for word in words:
            if hasattr(command, "commands"):
                assert word in command.commands, text
                command = command.commands[word]


def test_links_lead_somewhere(guide, deploy):
    headings = {
        re.sub(r"[^a-z -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in guide.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", guide):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (deploy / target).exists(), target


def test_settings_are_settings(guide):
    names = {name.lower() for name in re.findall(r"RECOLLECT_([A-Z_]+)", guide)}
    assert names - OF_OTHERS <= set(Settings.model_fields)


def test_files_that_are_named_are_there(guide, deploy):
    for name in re.findall(r"deploy/[\w./-]+", guide):
        path = name.rstrip(".")
        if "secrets" not in path and not path.endswith(".env"):
            assert (deploy.parent / path).exists(), path
    for name in re.findall(r"`([a-z-]+\.yaml)`", guide):
        assert any((folder / name).exists() for folder in (deploy, deploy / "kuberay")), name


def test_what_it_says_of_draining_is_so(guide):
    assert f"for up to {DRAIN_S:.0f} s" in guide
