"""Where versions are made: nothing is, anywhere, for what cannot be a name or a label."""

from pathlib import Path

import pytest

from recollect.artifacts.workplace import remove_unfinished, unfinished_names, workplace
from recollect.errors import ArtifactError


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        pytest.param("../../evil", "stable", "name of index must be .* got '../../evil'", id="outside"),
        pytest.param("", None, "name of index must be", id="empty"),
        pytest.param("items", "bad label", "label must be .* got 'bad label'", id="label"),
    ],
)
def test_what_cannot_be_a_name_or_a_label(tmp_path: Path, name: str, label: str | None, message: str) -> None:
    root = tmp_path / "var" / "indexes"
    with pytest.raises(ArtifactError, match=message), workplace(root, name, "index", label=label):
        pytest.fail("there is such a place")
    assert list(tmp_path.iterdir()) == []


def test_what_is_outside_is_not_removed(tmp_path: Path) -> None:
    root, outside = tmp_path / "indexes", tmp_path / "models"
    (root / ".building").mkdir(parents=True)
    outside.mkdir()
    with pytest.raises(ArtifactError, match="name of index must be"):
        remove_unfinished(root, "../../models", "index")
    assert outside.is_dir()


def test_names_of_what_was_begun(tmp_path: Path) -> None:
    assert unfinished_names(tmp_path) == []
    with workplace(tmp_path, "first", "index", label=None):
        pass
    (tmp_path / "third" / ".20260101T000000-deadbeef.partial").mkdir(parents=True)
    (tmp_path / "second" / ".20260101T000000-deadbeef.removed").mkdir(parents=True)
    (tmp_path / "fourth" / "20260101T000000-deadbeef").mkdir(parents=True)
    assert unfinished_names(tmp_path) == ["first", "second", "third"]
    remove_unfinished(tmp_path, "first", "index")
    assert unfinished_names(tmp_path) == ["second", "third"]
