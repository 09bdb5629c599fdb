"""An index directory: what was altered is found out before it is parsed; a state is there whole or not at all."""

import json
from pathlib import Path

import pytest

from retrieval.errors import IndexingError
from retrieval.index.files import read_manifest, sealed, write_manifest


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"abc")
    write_manifest(tmp_path, {"first": "a.bin"}, {"count": 3})
    return tmp_path


def test_what_was_written_is_read(directory: Path) -> None:
    manifest = read_manifest(directory)
    assert manifest.facts == {"count": 3}
    assert manifest.path("first") == directory / "a.bin"
    # sha256 of "abc", from FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.files == {"a.bin": {"sha256": expected, "bytes": 3}}
    with pytest.raises(IndexingError, match="names no file of second"):
        manifest.path("second")


@pytest.mark.parametrize("content", [b"abd", b"ab", b"abcc", b""], ids=["flipped", "shorter", "longer", "empty"])
def test_an_altered_file_is_refused(directory: Path, content: bytes) -> None:
    (directory / "a.bin").write_bytes(content)
    with pytest.raises(IndexingError, match=r"a\.bin is altered"):
        read_manifest(directory)


def test_a_missing_file_is_refused(directory: Path) -> None:
    (directory / "a.bin").unlink()
    with pytest.raises(IndexingError, match=r"a\.bin is missing"):
        read_manifest(directory)


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        pytest.param({"roles": {"first": "other.bin"}}, "tells no hash of it", id="file-without-hash"),
        pytest.param({"roles": {"first": "../a.bin"}}, "not in its own directory", id="role-outside"),
        pytest.param({"files": {"../a.bin": {}}}, "not in its own directory", id="file-outside"),
        pytest.param({"roles": {"first": 3}}, "not in its own directory", id="no-name"),
        pytest.param({"schema_version": 1}, "has schema 1, this release reads 2", id="schema"),
        pytest.param({"facts": 5}, "cannot be read", id="facts"),
    ],
)
def test_a_manifest_that_we_did_not_write_is_refused(directory: Path, altered: dict[str, object], message: str) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **altered})))
    with pytest.raises(IndexingError, match=message):
        read_manifest(directory)


@pytest.mark.parametrize("altered", [{"facts": {"a": 2}}, {"roles": {}}, {"files": {}}, {"sha256": None}])
def test_a_manifest_altered_anywhere_is_refused(directory: Path, altered: dict[str, object]) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **altered}))
    with pytest.raises(IndexingError, match=r"manifest\.json is altered since it was written"):
        read_manifest(directory)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 2}'])
def test_a_damaged_manifest_is_refused(directory: Path, content: str) -> None:
    (directory / "manifest.json").write_text(content)
    with pytest.raises(IndexingError, match=r"manifest\.json cannot be read"):
        read_manifest(directory)


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexingError, match="name the directory of an index"):
        read_manifest(tmp_path)


def test_a_new_state_takes_over_and_what_only_the_old_one_had_goes(directory: Path) -> None:
    (directory / "b.bin").write_bytes(b"b")
    (directory / "left-by-a-crash.bin").write_bytes(b"c")
    before = read_manifest(directory)
    write_manifest(directory, {"second": "b.bin"}, {}, before=before)
    assert sorted(path.name for path in directory.iterdir()) == ["b.bin", "manifest.json"]
    assert read_manifest(directory).roles == {"second": "b.bin"}
