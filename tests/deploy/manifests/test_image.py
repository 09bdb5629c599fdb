"""The image: what its linter says, what its build gets to see, and what its entry point does."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from recollect.settings import Settings

ENTRYPOINT = "docker/entrypoint"


@pytest.fixture(scope="module")
def instructions(deploy):
    """(instruction, its arguments) of the Dockerfile, in order."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (deploy / "docker" / "Dockerfile").read_text())
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def arguments(instructions, name):
    return [argument for instruction, argument in instructions if instruction == name]


def test_the_linter_has_nothing_to_say(deploy):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint has no build for this platform")
    done = subprocess.run([hadolint, deploy / "docker/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_images_are_named_by_release_and_not_by_what_is_latest(instructions):
    defaults = dict(each.split("=", 1) for each in arguments(instructions, "ARG"))
    stages = set()
    for argument in arguments(instructions, "FROM"):
        image, *name = argument.split(" AS ")
        resolved = {image.replace(f"${{{key}}}", value) for key, value in defaults.items() if f"${{{key}}}" in image}
        assert image in stages or resolved <= stages or all(re.search(r":\d+\.\d+\.\d+", each) for each in resolved)
        stages.update(name)
    assert {f"runtime-{kind}" for kind in ("cpu", "gpu")} | {f"torch-{kind}" for kind in ("cpu", "gpu")} <= stages


def test_nobody_is_root_and_signals_reach_the_program(instructions):
    names = [name for name, _ in instructions]
    start = max(index for index, each in enumerate(instructions) if each[1] == "python AS runtime")
    users = arguments(instructions[start:], "USER")
    assert users[-1] == "10001:10001"
    assert all(int(user.split(":")[0]) >= 0 for user in users)  # numbers: Kubernetes cannot tell who a name is
    (entry,), (command,) = arguments(instructions, "ENTRYPOINT"), arguments(instructions, "CMD")
    assert json.loads(entry)[:2] == ["/usr/bin/tini", "--"]
    assert json.loads(command) == ["recollect", "serve"]
    assert "ADD" not in names
    (health,) = arguments(instructions, "HEALTHCHECK")
    assert json.loads(health.split(" CMD ")[1]) == ["python", "-m", "recollect.probe"]


def test_what_is_installed_is_what_the_project_has(deploy, instructions):
    project = tomllib.loads((deploy.parent / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"pip install '\.\[([^]]+)\]'", " ".join(arguments(instructions, "RUN")))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (python,) = re.findall(r"PYTHON_IMAGE=python:(\d+\.\d+)", " ".join(arguments(instructions, "ARG")))
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_build_sees_every_package_and_nothing_secret(deploy):
    lines = (deploy.parent / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    project = tomllib.loads((deploy.parent / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) | {"pyproject.toml", "constraints.txt", f"deploy/{ENTRYPOINT}"} <= allowed
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= allowed
    assert all((deploy.parent / path).exists() for path in allowed)
    assert not any(path.startswith(("var", "deploy/secrets")) or path == "deploy" for path in allowed)


def test_settings_of_the_image_are_settings(instructions):
    names = re.findall(r"RECOLLECT_([A-Z_]+)=", " ".join(arguments(instructions, "ENV")))
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


@pytest.fixture
def start(deploy, tmp_path):
    """Start `command` as a container would: `start("echo", "a", cache=…)` gives what it prints."""
    compiled = tmp_path / "compiled"
    (compiled / "loops").mkdir(parents=True)
    (compiled / "loops" / "search.nbi").write_text("compiled")

    def run(*command, cache):
        environment = os.environ | {"RECOLLECT_COMPILED": str(compiled), "NUMBA_CACHE_DIR": str(cache)}
        return subprocess.Popen(
            [deploy / ENTRYPOINT, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


def test_compiled_loops_are_put_where_they_can_be_added_to(start, tmp_path):
    cache = tmp_path / "home" / "numba"
    out, err = start("cat", cache / "loops" / "search.nbi", cache=cache).communicate(timeout=30)
    assert (out, err) == ("compiled", "")
    (cache / "loops" / "search.nbi").write_text("compiled here")
    out, err = start("cat", cache / "loops" / "search.nbi", cache=cache).communicate(timeout=30)
    assert (out, err) == ("compiled here", "")


def test_containers_that_begin_at_once_on_one_volume_leave_one_copy(start, tmp_path):
    cache = tmp_path / "home" / "numba"
    begun = [start("cat", cache / "loops" / "search.nbi", cache=cache) for _ in range(8)]
    assert {each.communicate(timeout=60) for each in begun} == {("compiled", "")}
    assert [path.name for path in cache.parent.iterdir()] == ["numba"]
    assert [path.name for path in cache.iterdir()] == ["loops"]


def test_the_command_takes_the_place_of_the_entry_point(start, tmp_path):
    process = start("sh", "-c", "echo $$; exit 7", cache=tmp_path / "numba")
    out, _ = process.communicate(timeout=30)
    assert int(out) == process.pid  # SIGTERM reaches it
    assert process.returncode == 7
