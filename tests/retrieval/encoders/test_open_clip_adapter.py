"""The open_clip adapter where open_clip is not installed: it says what is missing."""

from pathlib import Path

import pytest

from retrieval.encoders.load import load_encoder
from retrieval.errors import EncoderError


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32",
        "ViT-B-32@laion2b_s34b_b79k",
        "ViT-B-32@{directory}/weights.bin",
        "ViT-B-32@{directory}/missing.safetensors",
    ],
)
def test_weights_must_be_a_file_of_safetensors(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(
        EncoderError, match=r"needs ARCHITECTURE@FILE, such as .* where FILE exists and is safetensors, got"
    ):
        load_encoder("open_clip:" + name.format(directory=tmp_path))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(ModuleNotFoundError("No module named 'open_clip'"), "No module named 'open_clip'", id="missing"),
        pytest.param(
            RuntimeError("operator torchvision::nms does not exist"), "torchvision::nms", id="torchvision does not fit"
        ),
    ],
)
def test_a_package_that_does_not_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr("retrieval.encoders.open_clip_adapter.import_module", fail)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match="need the packages open_clip_torch and torchvision") as refused:
        load_encoder(f"open_clip:ViT-B-32@{tmp_path}/open_clip_model.safetensors")
    assert told in str(refused.value)
    assert "install both" in str(refused.value)
