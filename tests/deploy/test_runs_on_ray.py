"""What encoders and composed retrieval train through: places, threads, mistakes and lost workers."""

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from retrieval.errors import RunError
from retrieval.runs.ray_train import MODEL_DIRECTORY, fit

DEADLINE_S = 120.0


@pytest.mark.slow
def test_each_worker_knows_its_place_and_has_its_processors(ray_node: None, tmp_path: Path) -> None:
    def train(run, worker):
        import torch.distributed as dist

        found = [None, None]
        dist.all_gather_object(found, (worker.rank, worker.world_size, torch.get_num_threads(), os.getpid()))
        if worker.rank == 0:
            (run / MODEL_DIRECTORY).mkdir()
            (run / MODEL_DIRECTORY / "places").write_text(json.dumps(found))

    model = fit(train, tmp_path, workers=2)
    places = json.loads((model / "places").read_text())
    assert [place[:3] for place in places] == [[0, 2, 1], [1, 2, 1]]
    assert len({place[3] for place in places} | {os.getpid()}) == 3


@pytest.mark.slow
def test_a_mistake_is_told_once_and_not_tried_again(ray_node: None, tmp_path: Path) -> None:
    def train(run, worker):
        with (run / "attempts").open("a") as file:
            file.write("x")
        raise RunError("batch_size must be at least 2, got 1; use a larger one")

    with pytest.raises(RunError, match=r"^batch_size must be at least 2, got 1; use a larger one$"):
        fit(train, tmp_path)
    assert (tmp_path / "attempts").read_text() == "x"


@pytest.mark.slow
def test_one_workers_mistake_ends_those_who_wait_for_it(ray_node: None, tmp_path: Path) -> None:
    def train(run, worker):
        from retrieval.runs.workers import wait_for

        if worker.rank == 1:
            raise RunError("pictures of worker 1 are missing; copy them")
        wait_for(worker)

    with pytest.raises(RunError, match="pictures of worker 1 are missing"):
        fit(train, tmp_path, workers=2)


@pytest.mark.slow
def test_a_lost_worker_is_replaced(ray_node: None, tmp_path: Path) -> None:
    def train(run, worker):
        import ray.train

        attempts = run / "attempts"
        attempts.open("a").write(f"{os.getpid()}\n")
        if len(attempts.read_text().splitlines()) == 1:
            # Ray watches over a worker from its first reports on; one lost before ends the run.
            for _ in range(3):
                ray.train.report({})
            (run / "may be killed").touch()
            time.sleep(2 * DEADLINE_S)
        (run / MODEL_DIRECTORY).mkdir()

    models: list[Path] = []
    training = threading.Thread(target=lambda: models.append(fit(train, tmp_path)))
    training.start()
    deadline = time.monotonic() + DEADLINE_S
    while not (tmp_path / "may be killed").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    psutil.Process(int((tmp_path / "attempts").read_text())).kill()
    training.join(2 * DEADLINE_S)
    assert models == [tmp_path / MODEL_DIRECTORY]
    first, second = (tmp_path / "attempts").read_text().split()
    assert first != second


@pytest.mark.slow
def test_a_run_that_ends_well_forgets_an_earlier_mistake(ray_node: None, tmp_path: Path) -> None:
    def mistaken(run, worker):
        raise RunError("no")

    def train(run, worker):
        (run / MODEL_DIRECTORY).mkdir()

    with pytest.raises(RunError, match="no"):
        fit(mistaken, tmp_path)
    assert fit(train, tmp_path).is_dir()
