"""Training through Ray Train: workers that share steps, that die, and that are given what cannot work."""

import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from recollect.errors import SetupError
from recollect.pipeline import train_and_publish
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, make_samples
from recsys.errors import DataError
from recsys.models.directory import load_model
from recsys.training.config import TrainConfig, with_overrides
from recsys.training.lock import RunLock
from recsys.training.ray_train import fit

CONFIG = TrainConfig(
    samples=SampleConfig(protocol=LeaveLastOut(min_events=30, train_first=3, train_last=23), max_history=40),
    attention_dim=4,
    representation_dim=4,
    batch_size=120,
    epochs=4,
    validate_every=20,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    """80 users of 60 events; each keeps to every fifth item, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("shop")
    generator = np.random.default_rng(7)
    lines = [
        f"u{user},{5 * generator.integers(20) + user % 5},{1_600_000_000 + at}"
        for user in range(80)
        for at in range(60)
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *lines]))
    ingest("columns", folder / "log.csv", folder / "store")
    return EventStore(folder / "store")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "left"),
    [pytest.param("rowwise-adam", 0, id="by rows"), pytest.param("adam", 1, id="one group is left for two workers")],
)
def test_two_workers_learn_what_one_learns(
    shop: EventStore, ray_node: None, tmp_path: Path, optimizer: str, left: int
) -> None:
    groups = len(make_samples(shop, CONFIG.samples, "train"))
    a_step = next(size for size in range(20, groups) if groups % size == left)
    config = with_overrides(CONFIG, batch_size=3 * a_step, epochs=6, optimizer=optimizer)
    one = load_model(fit(shop.directory, config, tmp_path / "one"))
    two = load_model(fit(shop.directory, config, tmp_path / "two", workers=2))
    assert one.metrics["test"]["auc"] > 0.9
    assert two.metrics["test"]["auc"] == pytest.approx(one.metrics["test"]["auc"], abs=0.02)
    steps = [[entry["step"] for entry in saved.metrics["validation"]] for saved in (one, two)]
    assert steps[0] == steps[1]
    if left == 0:
        # The same steps but for the order of additions, which a hundred steps make visible; a group that both take, as
        # in the other case, counts twice in BatchNorm's variance. `test_workers` compares a few steps closely.
        assert two.metrics["test"] == pytest.approx(one.metrics["test"], abs=0.02)
        assert two.metrics["validation"][0] == pytest.approx(one.metrics["validation"][0], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_worker_is_replaced_and_changes_nothing(
    shop: EventStore, ray_node: None, tmp_path: Path, workers: int
) -> None:
    config = with_overrides(CONFIG, epochs=60, optimizer="rowwise-adam")
    whole = load_model(fit(shop.directory, config, tmp_path / "whole", workers=workers))
    results: list[Path] = []
    run = tmp_path / "killed"
    training = threading.Thread(target=lambda: results.append(fit(shop.directory, config, run, workers=workers)))
    training.start()
    deadline = time.monotonic() + 60
    while not list(run.glob("step-*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if any("RayTrainWorker" in word for word in process.cmdline())
    ]
    assert len(found) == workers, "one worker was to be killed in the middle"
    assert not (run / "model").exists()
    found[-1].kill()
    training.join(240)
    assert load_model(results[0]).metrics == whole.metrics


@pytest.mark.slow
def test_a_mistake_in_the_data_is_told_and_not_retried(shop: EventStore, ray_node: None, tmp_path: Path) -> None:
    config = with_overrides(CONFIG, samples=SampleConfig(protocol=LeaveLastOut(min_events=100_000)))
    with pytest.raises(DataError, match=r"no train targets in .* use a protocol with lower thresholds"):
        fit(shop.directory, config, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["divergence", "locked"])
def test_a_mistake_of_one_worker_ends_all(shop: EventStore, ray_node: None, tmp_path: Path, mistake: str) -> None:
    if mistake == "divergence":
        with pytest.raises(DataError, match="training diverged: loss is"):
            fit(shop.directory, with_overrides(CONFIG, learning_rate=1e30), tmp_path, workers=2)
    else:
        # Only the first worker asks for the lock; it gives up after 30 seconds.
        with RunLock(tmp_path), pytest.raises(DataError, match="another process is training in"):
            fit(shop.directory, CONFIG, tmp_path, workers=2)


def test_more_workers_than_processors_are_refused(shop: EventStore, ray_node: None, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"--workers 1000 needs 1000 processors, the Ray cluster has"):
        train_and_publish(Settings(var=tmp_path), shop.directory, CONFIG, tmp_path / "run", workers=1000)
