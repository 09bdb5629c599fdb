"""`recollect composed convert` as a person runs it: a checkpoint under LAVIS's names in, a model that loads out."""

import json

import pytest
import torch
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.composed.directory import save_model
from retrieval.composed.encoder import load_composed
from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig, VisionTransformerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TextTokenizer


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(
        app, ["composed", "convert", *map(str, words)], env={"COLUMNS": "200", "TERM": "dumb"}
    )


@pytest.fixture
def base(tmp_path):
    """A model without a modulator, as a directory."""
    tokenizer = TextTokenizer.trained(["at night on a beach"], longest=8)
    sizes = AdaFocalConfig(
        vision=VisionTransformerConfig(image_size=28, patch=14, hidden_size=16, inner=32, layers=1, heads=2),
        qformer=QFormerConfig(
            vocabulary=tokenizer.vocabulary_size, width=16, layers=1, heads=2, inner=32, query_tokens=4, dimension=8
        ),
        modulator=ModulatorConfig(modulation=Modulation.NONE),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AdaFocal(sizes)
    save_model(tmp_path / "base", model, tokenizer, training={}, metrics={})
    return tmp_path / "base", model


def released(model):
    """What was trained, under LAVIS's names; the frozen image encoder was not released with it."""
    state = {"temp": torch.tensor(0.05), "itm_head.bias": torch.zeros(2)}
    for name, tensor in model.state_dict().items():
        if name.startswith("qformer.encoder"):
            state["Qformer.bert." + name[8:].replace("attention.attention.", "attention.self.")] = tensor
    for name in ("word", "position"):
        table = getattr(model.embeddings, f"{name}_embeddings").weight.detach()
        state[f"Qformer.bert.embeddings.{name}_embeddings.weight"] = table
    for theirs, module in (
        ("Qformer.bert.embeddings.LayerNorm", model.qformer.layernorm),
        ("ln_vision", model.vision_model.post_layernorm),
        ("vision_proj", model.vision_projection),
        ("text_proj", model.text_projection),
    ):
        state |= {f"{theirs}.{name}": tensor for name, tensor in module.state_dict().items()}
    state["query_tokens"] = model.query_tokens.detach() + 1
    return state


@pytest.fixture
def checkpoint(tmp_path, base):
    torch.save({"epoch": 1, "Blip2QformerOacirBaseline": released(base[1])}, tmp_path / "released.pt")
    return tmp_path / "released.pt"


def test_a_converted_checkpoint_is_a_model_that_loads(run, base, checkpoint, tmp_path):
    result = run(checkpoint, "--base", base[0], "--output", "made", "--json", "--verbose")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert (row["directory"], row["modulation"], row["not_needed"]) == ("made", "none", 1)
    assert row["from_base"] == sum(name.startswith("vision_model.") for name in base[1].state_dict()) - 2
    assert "itm_head.bias is not needed" in result.stderr
    assert "text_proj.bias → text_projection.bias" in result.stderr
    encoder = load_composed(tmp_path / "made")
    torch.testing.assert_close(encoder.model.query_tokens, base[1].query_tokens + 1)
    assert encoder.model.temperature.item() == pytest.approx(0.05)


def test_a_directory_that_is_there_is_not_written_to(run, base, checkpoint):
    before = (base[0] / "model.safetensors").read_bytes()
    result = run(checkpoint, "--base", base[0], "--output", base[0])
    assert result.exit_code == 1
    assert "must be new" in result.stderr
    assert (base[0] / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("file", ["nothing.pt", "notes.pt"])
def test_what_is_no_checkpoint_is_named(run, base, tmp_path, file):
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    result = run(file, "--base", base[0], "--output", "made")
    assert result.exit_code == 1
    assert f"{file} cannot be read as a checkpoint" in result.stderr
    assert not (tmp_path / "made").exists()
