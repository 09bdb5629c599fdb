"""The training loop learns, resumes exactly, refuses what does not belong together, and leaves a whole model."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, make_samples
from recsys.errors import ConfigError, DataError, StoreError
from recsys.models.directory import load_model, save_model
from recsys.models.kinds import MODELS
from recsys.training import loop
from recsys.training.config import PRESETS, TrainConfig, preset, with_overrides
from recsys.training.evaluation import evaluate, predict
from recsys.training.loop import new_model, train

CONFIG = TrainConfig(
    samples=SampleConfig(protocol=LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)),
    attention_dim=4,
    representation_dim=4,
    batch_size=192,
    epochs=3,
    validate_every=7,
    learning_rate=0.02,
)


class KilledError(Exception):
    """Stands for the end of the process."""


def figures(model: Path) -> dict[str, object]:
    return json.loads((model / "metrics.json").read_text())


def test_learns_what_the_shop_hides(shop_store: EventStore, tmp_path: Path) -> None:
    model = train(shop_store, replace(CONFIG, epochs=6), tmp_path / "run")
    assert figures(model)["test"]["auc"] > 0.9, "each user keeps to a tenth of the items"
    untrained = new_model(shop_store, CONFIG).eval().serving()
    test = make_samples(shop_store, CONFIG.samples, "test")
    assert evaluate(untrained, shop_store, test).auc < 0.8


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("twin", "sdim") else pytest.mark.slow)
        for kind in MODELS
        if kind != "dare"
    ],
)
def test_every_model_learns_resumes_and_is_measured_as_dare_is(
    shop_store: EventStore, tmp_path: Path, kind: str
) -> None:
    def kill(step: int, _total: int) -> None:
        if step == 12:
            raise KilledError

    config = replace(CONFIG, model=kind, epochs=4)
    whole = train(shop_store, config, tmp_path / "whole")
    assert figures(whole)["test"]["auc"] > 0.8, "each user keeps to a tenth of the items"
    with pytest.raises(KilledError):
        train(shop_store, config, tmp_path / "killed", on_step=kill)
    resumed = train(shop_store, config, tmp_path / "killed")
    assert figures(resumed) == figures(whole)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    saved = load_model(whole)
    assert saved.model.kind == kind
    again = evaluate(saved.model.serving(), shop_store, make_samples(shop_store, CONFIG.samples, "test"))
    assert again.as_dict() == pytest.approx(figures(whole)["test"])


@pytest.mark.parametrize(
    "killed_after", [7, 12, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 6, 8, 15))]
)
def test_resuming_ends_where_an_uninterrupted_run_ends(
    shop_store: EventStore, tmp_path: Path, killed_after: int
) -> None:
    def kill(step: int, _total: int) -> None:
        if step == killed_after:
            raise KilledError

    whole = train(shop_store, CONFIG, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(shop_store, CONFIG, tmp_path / "killed", on_step=kill)
    resumed = train(shop_store, CONFIG, tmp_path / "killed")
    assert figures(resumed) == figures(whole)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "what came after the checkpoint was dropped from the log"


def test_a_run_killed_after_its_test_logs_it_once(
    shop_store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", kill)
        with pytest.raises(KilledError):
            train(shop_store, CONFIG, tmp_path)
    resumed = train(shop_store, CONFIG, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["test"] for line in lines if "test" in line] == [figures(resumed)["test"]]
    assert "test" in lines[-1]


@pytest.mark.slow
def test_a_process_killed_at_any_moment_resumes(shop_store: EventStore, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from recsys.data.event_store import EventStore
        from recsys.training.config import TrainConfig
        from recsys.training.loop import train
        train(EventStore(sys.argv[1]), TrainConfig.from_json(sys.argv[2]), Path(sys.argv[3]))
    """
    run = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(code), str(shop_store.directory), CONFIG.to_json(), str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while not list(run.glob("step-*[0-9]")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    assert figures(train(shop_store, CONFIG, run)) == figures(train(shop_store, CONFIG, tmp_path / "whole"))


def test_a_finished_run_is_not_trained_again(shop_store: EventStore, tmp_path: Path) -> None:
    train(shop_store, CONFIG, tmp_path / "run")
    assert not list((tmp_path / "run").glob("step-*")), "a finished run keeps no checkpoint"
    steps: list[int] = []
    train(shop_store, CONFIG, tmp_path / "run", on_step=lambda step, _total: steps.append(step))
    assert steps == []


def test_a_run_directory_belongs_to_one_configuration(shop_store: EventStore, tmp_path: Path) -> None:
    train(shop_store, CONFIG, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another training \(seed differ\); resume it with the same options"):
        train(shop_store, replace(CONFIG, seed=1), tmp_path / "run")


def test_divergence_is_told_with_the_step(shop_store: EventStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training diverged: loss is .* at step"):
        train(shop_store, replace(CONFIG, learning_rate=1e30), tmp_path / "run")


def test_a_torn_checkpoint_is_named(shop_store: EventStore, tmp_path: Path) -> None:
    def kill(step: int, _total: int) -> None:
        if step == 8:
            raise KilledError

    with pytest.raises(KilledError):
        train(shop_store, CONFIG, tmp_path, on_step=kill)
    (checkpoint,) = tmp_path.glob("step-*")
    (checkpoint / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(StoreError, match=r"checkpoint .*step-00000007 cannot be read"):
        train(shop_store, CONFIG, tmp_path)


def test_last_partial_batch_is_scored(shop_store: EventStore) -> None:
    serving = new_model(shop_store, CONFIG).serving()
    test = make_samples(shop_store, CONFIG.samples, "test")
    whole = predict(serving, shop_store, test)
    parts = predict(serving, shop_store, test, batch_size=21)
    torch.testing.assert_close(torch.from_numpy(whole), torch.from_numpy(parts))
    assert evaluate(serving, shop_store, test, batch_size=21).n_samples == test.targets.size == 180


def test_model_directory_answers_as_the_model_that_was_saved(shop_store: EventStore, tmp_path: Path) -> None:
    directory = train(shop_store, CONFIG, tmp_path / "run")
    saved = load_model(directory)
    test = make_samples(shop_store, CONFIG.samples, "test")
    again = evaluate(saved.model.serving(), shop_store, test)
    assert again.as_dict() == pytest.approx(figures(directory)["test"])
    assert saved.catalogue.item_ids.tolist() == shop_store.catalogue.item_ids.tolist()
    assert TrainConfig.from_json(json.dumps(saved.training)) == CONFIG
    assert sorted(path.suffix for path in directory.iterdir()) == [
        ".json",
        ".json",
        ".json",
        ".parquet",
        ".parquet",
        ".parquet",
        ".safetensors",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda d: (d / "config.json").unlink(), "config.json is missing; train one", id="no-config"),
        pytest.param(lambda d: (d / "weights.safetensors").write_bytes(b"x"), "cannot be loaded", id="torn-weights"),
        pytest.param(lambda d: (d / "items.parquet").unlink(), "no catalogue in", id="no-vocabulary"),
        pytest.param(lambda d: (d / "config.json").write_text("[]"), "must hold a JSON object", id="not-an-object"),
        pytest.param(
            lambda d: (d / "config.json").write_text('{"schema_version": 9, "model": "dare"}'),
            "of schema 9",
            id="newer",
        ),
    ],
)
def test_a_damaged_model_directory_is_named(
    shop_store: EventStore, tmp_path: Path, damage: object, message: str
) -> None:
    model = new_model(shop_store, CONFIG)
    save_model(tmp_path / "model", model, shop_store.catalogue, training={}, data={}, metrics={})
    damage(tmp_path / "model")  # type: ignore[operator]
    with pytest.raises(StoreError, match=message):
        load_model(tmp_path / "model")


def test_a_model_directory_is_never_overwritten(shop_store: EventStore, tmp_path: Path) -> None:
    model = new_model(shop_store, CONFIG)
    save_model(tmp_path, model, shop_store.catalogue, training={}, data={}, metrics={})
    with pytest.raises(StoreError, match="already holds a model"):
        save_model(tmp_path, model, shop_store.catalogue, training={}, data={}, metrics={})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_their_json(name: str) -> None:
    assert TrainConfig.from_json(preset(name).to_json()) == preset(name)


def test_published_recipe() -> None:
    recipe = preset("taobao")
    assert (recipe.batch_size, recipe.epochs, recipe.validate_every, recipe.learning_rate) == (2048, 2, 150, 0.01)
    assert (recipe.samples.max_history, recipe.samples.negatives, recipe.search_k, recipe.l2) == (200, 2, 20, 1e-6)


def test_configuration_mistakes_name_the_field() -> None:
    with pytest.raises(ConfigError, match="no preset 'taobo'; there are"):
        preset("taobo")
    with pytest.raises(ConfigError, match="epochs must be at least 1, got 0"):
        with_overrides(CONFIG, epochs=0)
    with pytest.raises(ConfigError, match="at least two positives"):
        with_overrides(CONFIG, batch_size=3)
    with pytest.raises(ConfigError, match="not a training configuration"):
        TrainConfig.from_json("{}")
    with pytest.raises(ConfigError, match="no model 'dien'; there are dare, twin"):
        with_overrides(CONFIG, model="dien")
    with pytest.raises(ConfigError, match="attention_dim must equal representation_dim for 'twin', whose embeddings"):
        with_overrides(CONFIG, model="twin", attention_dim=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("learning_rate", math.nan, id="a rate of NaN"),
        pytest.param("learning_rate", math.inf, id="no end of rate"),
        pytest.param("l2", math.nan, id="a factor of NaN"),
        pytest.param("seed", -1, id="a seed below 0"),
        pytest.param("seed", 2**63, id="a seed that torch does not take"),
    ],
)
def test_numbers_that_training_cannot_use_are_refused_at_once(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        with_overrides(CONFIG, **{field: value})


def test_a_configuration_that_names_no_model_is_of_dare() -> None:
    older = json.loads(CONFIG.to_json())
    del older["model"]
    assert TrainConfig.from_json(json.dumps(older)) == CONFIG
