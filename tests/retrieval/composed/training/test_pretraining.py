"""Pre-training that is killed at its end says of itself what one that was not says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from retrieval.composed.training import pretraining
from retrieval.composed.training.config import PretrainConfig
from retrieval.composed.training.pretraining_job import PretrainJob, pretraining_identity, run_pretraining
from retrieval.composed.vision import CompactVisionConfig
from retrieval.errors import RunError
from retrieval.runs.directory import claim
from retrieval.runs.workers import ALONE

BASE = PretrainConfig()
TINY = replace(
    BASE,
    vision=CompactVisionConfig(widths=(8, 8, 8)),
    qformer=replace(BASE.qformer, width=16, inner=32, heads=2, query_tokens=4, dimension=16),
    epochs=1,
    qformer_epochs=1,
    instances_a_step=4,
)


def changed_caption(world):
    table = world / "captions.csv"
    table.write_text(table.read_text().replace(" ", " very ", 1))


def changed_text(world):
    path = world / "caption_full.train.json"
    rows = json.loads(path.read_text())
    rows[0]["modification_text_mllm"] = "something else entirely"
    path.write_text(json.dumps(rows))


def changed_picture(world):
    name = next(iter(json.loads((world / "split.train.json").read_text()).values()))
    Image.new("RGB", (64, 64), "white").save(world / name)


@pytest.mark.parametrize("change", [changed_caption, changed_text, changed_picture])
def test_a_run_directory_belongs_to_what_was_there_to_train_on(tiny_world, tmp_path, change):
    world = Path(shutil.copytree(tiny_world, tmp_path / "world"))
    job = PretrainJob(kind="oacirr", directory=str(world), captions=str(world / "captions.csv"))
    for _ in range(2):
        claim(tmp_path / "run", pretraining_identity(job, TINY))
    change(world)
    with pytest.raises(RunError, match="other data"):
        claim(tmp_path / "run", pretraining_identity(job, TINY))


def test_a_kill_between_the_last_checkpoint_and_the_model_changes_nothing(tiny_world, tmp_path, monkeypatch):
    job = PretrainJob(kind="oacirr", directory=str(tiny_world), captions=str(tiny_world / "captions.csv"))

    def kill(*_, **__):
        raise KeyboardInterrupt

    for run in (tmp_path / "whole", tmp_path / "killed"):
        claim(run, pretraining_identity(job, TINY))
    run_pretraining(tmp_path / "whole", ALONE)
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "save_model", kill)
        with pytest.raises(KeyboardInterrupt):
            run_pretraining(tmp_path / "killed", ALONE)
    run_pretraining(tmp_path / "killed", ALONE)
    whole, killed = (tmp_path / name / "model" for name in ("whole", "killed"))
    assert json.loads((whole / "metrics.json").read_text())["pretraining"].keys() == {"captions", "objects", "pictures"}
    assert (killed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
