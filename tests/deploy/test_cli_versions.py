"""What lists of versions show while others remove some of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import Artifact, ArtifactStore
from recollect.cli.versions import show_versions


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path / "models")
    for number in range(4):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / "weights").write_text(str(number))
        store.publish("dare", tmp_path / "source")
    return store


@pytest.mark.parametrize("fails", [True, False], ids=["and fails", "unnoticed"])
def test_what_is_removed_while_it_is_listed_is_left_out(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    versions = store.versions("dare")

    def describe(artifact: Artifact) -> dict[str, Any]:
        if artifact.version == versions[1]:
            store.remove_unneeded("dare", keep=1)
            if fails:
                (artifact.directory / "weights").read_text()
        return {}

    show_versions(store, None, describe, lambda _row: "", as_json=True)
    listed = [json.loads(line)["version"] for line in capsys.readouterr().out.splitlines()]
    assert listed == [versions[0], versions[3]]


def test_what_is_wrong_with_a_version_that_is_there_is_told(store: ArtifactStore) -> None:
    def describe(artifact: Artifact) -> dict[str, Any]:
        raise FileNotFoundError(artifact.directory)

    with pytest.raises(FileNotFoundError):
        show_versions(store, None, describe, lambda _row: "", as_json=True)
