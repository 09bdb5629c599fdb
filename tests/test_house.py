"""The house keeps its order: imports point one way, and nothing unexpected stands at the top."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "recollect_kernels": ROOT / "kernels/recollect_kernels",
    "recsys": ROOT / "recsys",
    "retrieval": ROOT / "retrieval",
    "recollect_api": ROOT / "proto/recollect_api",
    "recollect": ROOT / "deploy/recollect",
}
MAY_IMPORT = {
    "recollect_kernels": set(),
    "recsys": {"recollect_kernels"},
    "retrieval": {"recollect_kernels"},
    "recollect_api": set(),
    "recollect": {"recollect_kernels", "recsys", "retrieval", "recollect_api"},
}
THIRD_PARTY_OF_CLIENT = {"grpc", "google"}
THIRD_PARTY_OF_KERNELS = {"torch", "numpy", "jaxtyping", "numba", "llvmlite", "triton"}


def imported(package: str) -> dict[str, set[str]]:
    """Top-level package → the files of `package` that import it, inside functions as well."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGES[package].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = {
        other: files
        for other, files in imported(package).items()
        if other in PACKAGES and other != package and other not in MAY_IMPORT[package]
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("package", "on_ray"),
    [("recsys", "recsys/training/ray_train.py"), ("retrieval", "retrieval/runs/ray_train.py")],
)
def test_what_computes_knows_no_server(package: str, on_ray: str) -> None:
    found = imported(package)
    assert not {"grpc", "typer", "rich", "fastapi"} & set(found)
    assert all(path == on_ray for path in found.get("ray", set()))


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("recollect_api", THIRD_PARTY_OF_CLIENT), ("recollect_kernels", THIRD_PARTY_OF_KERNELS)],
)
def test_small_packages_need_little(package: str, allowed: set[str]) -> None:
    import sys

    outside = {name for name in imported(package) if name not in sys.stdlib_module_names and name != package}
    assert outside <= allowed


def test_names_that_belong_to_others_stay_free() -> None:
    for folder in ("kernels", "proto", "tests"):
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would shadow another package"


def test_top_level_is_what_was_agreed() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout")
    top = {path.split("/")[0] for path in listed if not path.startswith(".")}
    agreed = {"pyproject.toml", "recsys", "retrieval", "kernels", "proto", "deploy", "tests"}
    beside = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt"}
    assert top <= agreed | beside
