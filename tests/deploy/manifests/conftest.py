"""The files that deploy Recollect, read as the tools read them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def deploy() -> Path:
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def compose(deploy: Path) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def manifests(deploy: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) → what `kubectl apply -k` would send, but for the namespace and images."""
    listed = yaml.safe_load((deploy / "kuberay" / "kustomization.yaml").read_text())["resources"]
    files = [deploy / "kuberay" / name for name in listed]
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


@pytest.fixture(scope="session")
def ray_service(manifests: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return manifests["RayService", "recollect"]["spec"]


@pytest.fixture(scope="session")
def pods(ray_service: dict[str, Any], manifests: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod templates of all that runs."""
    cluster = ray_service["rayClusterConfig"]
    (gateways,) = cluster["workerGroupSpecs"]
    return {
        "head": cluster["headGroupSpec"]["template"],
        "gateways": gateways["template"],
        "redis": manifests["StatefulSet", "redis"]["spec"]["template"],
    }
