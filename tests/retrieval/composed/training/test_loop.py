"""Runs of composed retrieval: what they learn, that a kill changes nothing, that several workers are one."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from retrieval.composed.datasets import load_dataset
from retrieval.composed.directory import load_model
from retrieval.composed.encoder import load_composed
from retrieval.composed.experiment import draw_betas, evaluate_run, markdown, table_of, variants
from retrieval.composed.geometry import Box
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.references import Reference, dataset_features, shown
from retrieval.composed.training.config import (
    ComposedTrainConfig,
    PretrainConfig,
    precision_named,
    preset,
    reference_named,
    with_modulation,
    with_overrides,
)
from retrieval.composed.training.job import TrainJob, identity, run_job
from retrieval.composed.training.pretraining_job import PretrainJob, pretraining_identity, run_pretraining
from retrieval.composed.vision import CompactVisionConfig
from retrieval.errors import ComposedError, RunError
from retrieval.runs.directory import claim
from retrieval.runs.workers import ALONE

TINY = ComposedTrainConfig(
    modulator=ModulatorConfig(probes=2, layers=1, heads=2, hidden=8),
    epochs=3,
    batch_size=16,
    hard_share=0.5,
    learning_rate=5e-3,
    modulator_learning_rate=5e-3,
)


@pytest.fixture(scope="module")
def pretrained(tiny_world, tmp_path_factory):
    run = tmp_path_factory.mktemp("pretraining")
    base = PretrainConfig()
    config = replace(
        base,
        vision=CompactVisionConfig(widths=(8, 8, 8)),
        qformer=replace(base.qformer, width=16, inner=32, heads=2, query_tokens=4, dimension=16),
        epochs=10,
        qformer_epochs=30,
        instances_a_step=4,
    )
    job = PretrainJob(kind="oacirr", directory=str(tiny_world), captions=str(tiny_world / "captions.csv"))
    claim(run, pretraining_identity(job, config))
    run_pretraining(run, ALONE)
    return run


@pytest.fixture(scope="module")
def job(pretrained, tiny_world, tmp_path_factory):
    return TrainJob(
        start=str(pretrained / "model"),
        kind="oacirr",
        directory=str(tiny_world),
        features=str(tmp_path_factory.mktemp("features")),
    )


def finished(job, config, run, **options):
    claim(run, identity(job, config))
    run_job(run, ALONE, **options)
    return run


def losses(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "validation" not in line]


def test_pretraining_brings_captions_and_objects_together(pretrained):
    lines = losses(pretrained)
    # Eight pictures a step: chance is ln 8 = 2.08 for captions.
    assert np.mean([line["captions"] for line in lines[-3:]]) < 1.7
    stored = load_model(pretrained / "model")
    assert stored.model.config.modulator.modulation is Modulation.NONE
    assert not (pretrained / "squares").exists()


def test_a_run_learns_and_measures(job, tmp_path):
    run = finished(job, replace(TINY, epochs=60), tmp_path)
    lines = losses(run)
    assert np.mean([line["loss"] for line in lines[-2:]]) < 0.8 * lines[0]["loss"]
    metrics = json.loads((run / "model" / "metrics.json").read_text())["validation"]
    assert {"r@1", "r_id@1", "r_id@5"} <= metrics.keys()
    encoder = load_composed(run / "model")
    assert encoder.model.config.modulator.modulation is Modulation.SCALAR


def test_the_image_encoder_stays_frozen_and_its_norm_trains(job, tmp_path):
    run = finished(job, TINY, tmp_path)
    before, after = (load_model(path).model.vision_model.state_dict() for path in (Path(job.start), run / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"post_layernorm.weight", "post_layernorm.bias"}


@pytest.mark.parametrize("dies_at", [5, 9])
def test_a_killed_run_ends_the_same(job, tmp_path, dies_at):
    whole = finished(job, TINY, tmp_path / "whole")

    def dies(step, _steps):
        if step == dies_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished(job, TINY, tmp_path / "killed", on_step=dies)
    resumed = finished(job, TINY, tmp_path / "killed")
    weights = [load_file(run / "model" / "model.safetensors") for run in (whole, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [line["loss"] for line in losses(whole)] == [line["loss"] for line in losses(resumed)]


def test_a_run_directory_belongs_to_its_options(job, tmp_path):
    finished(job, TINY, tmp_path)
    with pytest.raises(RunError, match="other options"):
        finished(job, replace(TINY, seed=9), tmp_path)
    with pytest.raises(RunError, match="other data"):
        finished(replace(job, split="val"), TINY, tmp_path)


@pytest.fixture
def own_world(tiny_world, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_world, tmp_path / "world"))


def changed_text(world, split):
    path = world / f"caption_full.{split}.json"
    rows = json.loads(path.read_text())
    rows[0]["modification_text_mllm"] = "something else entirely"
    path.write_text(json.dumps(rows))


def changed_picture(world, split):
    name = next(iter(json.loads((world / f"split.{split}.json").read_text()).values()))
    Image.new("RGB", (64, 64), "white").save(world / name)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", [changed_text, changed_picture])
def test_a_run_directory_belongs_to_what_the_data_set_held(job, own_world, tmp_path, split, change):
    own = replace(job, directory=str(own_world))
    claim(tmp_path / "run", identity(own, TINY))
    claim(tmp_path / "run", identity(own, TINY))
    change(own_world, split)
    with pytest.raises(RunError, match="other data"):
        claim(tmp_path / "run", identity(own, TINY))


def test_a_split_that_a_run_does_not_see_may_change(job, own_world, tmp_path):
    own = replace(job, directory=str(own_world), validation_split=None)
    claim(tmp_path / "run", identity(own, TINY))
    changed_text(own_world, "val")
    changed_picture(own_world, "test")
    claim(tmp_path / "run", identity(own, TINY))


@pytest.mark.parametrize("reference", [Reference.RECTANGLE, Reference.CROP])
def test_ablations_show_the_box_in_the_picture(job, tiny_world, reference):
    dataset = load_dataset("oacirr", tiny_world, "val")
    start, kept = load_composed(job.start), Path(job.features) / "val"
    features = dataset_features(dataset, start.model, kept, reference=reference)
    assert not features.masks.any()
    seen = features.references.take([features.reference_names[0]])
    assert not np.array_equal(seen, features.pictures.take([dataset.queries[0].reference]))


def test_what_is_shown_of_a_reference():
    picture = Image.new("RGB", (100, 80), "white")
    box = Box(20, 10, 60, 50)
    assert shown(picture, box, Reference.CROP).size == (40, 40)
    drawn = shown(picture, box, Reference.RECTANGLE)
    assert drawn.getpixel((20, 10)) == (255, 0, 0)
    assert drawn.getpixel((40, 30)) == (255, 255, 255)
    assert shown(picture, None, Reference.CROP) is picture
    assert shown(picture, box, Reference.WHOLE) is picture


def test_an_experiment_evaluates_runs_once_and_puts_them_in_a_table(job, tmp_path):
    results = []
    for variant in (each for each in variants([2.0]) if each.name in ("no box", "fixed β = 2", "scalar AdaFocal")):
        for seed in (0, 1):
            config = variant.of(replace(TINY, epochs=1), seed)
            run = finished(job, config, tmp_path / f"{variant.modulation}{seed}")
            result = evaluate_run(job, run, config.reference, "test")
            assert evaluate_run(job, run, config.reference, "test") == result
            results.append({"variant": variant.name, "seed": seed, **result})
    runs = table_of(results)
    assert runs["variant"].to_list() == ["no box"] * 2 + ["fixed β = 2"] * 2 + ["scalar AdaFocal"] * 2
    assert runs.filter(runs["variant"] == "fixed β = 2")["beta"].to_list() == [2.0, 2.0]
    assert "keep/r_id@1" in runs.columns
    text = markdown(runs, ["r_id@1", "not there"])
    assert text.splitlines()[0] == "| variant | seeds | r_id@1 |"
    assert "±" in text
    assert draw_betas(results, tmp_path / "beta.png")
    assert (tmp_path / "beta.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_betas(results[:2], tmp_path / "none.png")


def test_a_split_that_changed_is_evaluated_anew(job, own_world, tmp_path):
    own = replace(job, directory=str(own_world), features=str(tmp_path / "features"))
    run = finished(own, replace(TINY, epochs=1), tmp_path / "run")
    before = evaluate_run(own, run, Reference.WHOLE, "test")
    path = own_world / "caption_full.test.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    after = evaluate_run(own, run, Reference.WHOLE, "test")
    assert (len(after["beta"]), len(before["beta"]) > 1) == (1, True)
    assert evaluate_run(own, run, Reference.WHOLE, "test") == after


def test_variants_are_those_of_the_paper():
    names = [variant.name for variant in variants([1, 4])]
    assert names == [
        "no box",
        "red rectangle",
        "crop of the box",
        "fixed β = 1",
        "fixed β = 4",
        "scalar AdaFocal",
        "vector AdaFocal",
    ]


def test_the_published_recipe():
    config = preset("published")
    assert (config.epochs, config.batch_size, config.learning_rate) == (50, 256, 1e-5)
    assert (config.betas, config.epsilon, config.weight_decay) == ((0.9, 0.98), 1e-7, 0.05)
    assert (config.warmup_share, config.hard_share) == (0.03, 0.0)
    assert (config.modulator.probes, config.modulator.layers, config.modulator.heads) == (8, 2, 8)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(lambda: replace(TINY, batch_size=1), "batch_size", id="nothing to tell apart"),
        pytest.param(lambda: replace(TINY, accumulation=17), "accumulation", id="parts without queries"),
        pytest.param(lambda: replace(TINY, learning_rate=0), "learning rates", id="no step"),
        pytest.param(lambda: replace(TINY, modulator_learning_rate=math.nan), "learning rates", id="a rate of NaN"),
        pytest.param(lambda: replace(TINY, weight_decay=math.inf), "weight_decay", id="no end of decay"),
        pytest.param(lambda: replace(TINY, seed=-1), "seed must be at least 0", id="a seed below 0"),
        pytest.param(lambda: replace(TINY, seed=2**63), r"below 2\*\*63", id="a seed that torch does not take"),
        pytest.param(lambda: replace(TINY, reference=Reference.CROP), "modulation must be none", id="box shown twice"),
        pytest.param(lambda: with_modulation(TINY, "some", fixed=None), "none, fixed, scalar, vector", id="unknown β"),
        pytest.param(lambda: with_modulation(TINY, None, fixed=2), "modulation fixed", id="β of none"),
        pytest.param(lambda: reference_named("half"), "whole, rectangle, crop", id="unknown reference"),
        pytest.param(lambda: precision_named("half"), "auto, float32, bfloat16", id="unknown precision"),
        pytest.param(lambda: preset("nothing"), "published, world", id="unknown preset"),
        pytest.param(lambda: with_overrides(PretrainConfig(), epochs=0), "epochs", id="no pass"),
        pytest.param(lambda: PretrainConfig(learning_rate=math.nan), "learning_rate", id="a rate of NaN before"),
        pytest.param(lambda: PretrainConfig(instance_weight=math.inf), "instance_weight", id="no end of weight"),
        pytest.param(lambda: PretrainConfig(seed=-1), "seed must be at least 0", id="a seed below 0 before"),
    ],
)
def test_a_configuration_that_cannot_work_names_the_field(make, match):
    with pytest.raises(ComposedError, match=match):
        make()


def test_configurations_survive_json():
    config = replace(TINY, modulator=ModulatorConfig(modulation=Modulation.FIXED, fixed=2.5))
    assert ComposedTrainConfig.from_json(config.to_json()) == config
    assert PretrainConfig.from_json(PretrainConfig().to_json()) == PretrainConfig()
    with pytest.raises(ComposedError, match="not a training configuration"):
        ComposedTrainConfig.from_json('{"epochs": "many"}')
