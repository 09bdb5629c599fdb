"""Row-wise Adam takes dense Adam's steps, whichever rows are read when, and goes on where a checkpoint was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.samples import make_samples
from recsys.errors import ConfigError
from recsys.models.batch import collate
from recsys.models.kinds import MODELS
from recsys.models.model import Model
from recsys.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model, train
from recsys.training.rowwise_adam import RowwiseAdam, gradient_of_rows
from recsys.training.step import make_optimizer, settle, train_step

ROWS, DIM = 40, 3


def gradients(steps: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ascending rows and their gradients, step by step; high rows are rare, and some come once and never again."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for step in range(steps):
        common = (torch.rand(6, generator=generator).pow(2) * (ROWS - 5)).long() + 1
        rows = torch.cat([common, torch.tensor([ROWS - 1])] if step == 3 else [common]).unique()
        scale = 10.0 ** torch.randint(-4, 1, (len(rows), 1), generator=generator)
        found.append((rows, scale * torch.randn(len(rows), DIM, generator=generator)))
    return found


def sparse(rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, (ROWS, DIM), check_invariants=False)


def new_table() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(1)))


def take(optimizer: RowwiseAdam, table: torch.nn.Parameter, rows: torch.Tensor, values: torch.Tensor) -> None:
    optimizer.read(rows)
    table.grad = sparse(rows, values)
    optimizer.step()


@pytest.mark.parametrize("steps", [1, 2, 30, 1_000])
def test_rows_go_where_dense_adam_takes_them(steps: int) -> None:
    ours, theirs = new_table(), new_table()
    optimizer = RowwiseAdam([ours], [torch.nn.Parameter(torch.zeros(1))], learning_rate=0.01)
    dense = torch.optim.Adam([theirs], lr=0.01)
    for rows, values in gradients(steps):
        optimizer.read(rows)
        torch.testing.assert_close(ours[rows], theirs[rows], rtol=2e-4, atol=2e-5)
        ours.grad = sparse(rows, values)
        optimizer.step()
        theirs.grad = sparse(rows, values).to_dense()
        dense.step()
    if steps > 30:
        assert not torch.allclose(ours[ROWS - 1], theirs[ROWS - 1], atol=1e-2), "momentum is owed until somebody reads"
    optimizer.settle()
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-5)


def test_settling_in_between_changes_nothing_but_rounding() -> None:
    ends = []
    for often in (1, 7, 1_000):
        table = new_table()
        optimizer = RowwiseAdam([table], [torch.nn.Parameter(torch.zeros(1))], learning_rate=0.01)
        for step, (rows, values) in enumerate(gradients(60)):
            take(optimizer, table, rows, values)
            if step % often == 0:
                optimizer.settle()
        optimizer.settle()
        ends.append(table.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-4, atol=1e-5)


def test_a_row_of_padding_never_moves() -> None:
    table = new_table()
    optimizer = RowwiseAdam([table], [torch.nn.Parameter(torch.zeros(1))], learning_rate=0.1)
    before = table[0].clone()
    optimizer.read(torch.tensor([0, 5]))
    table.grad = sparse(torch.tensor([5]), torch.ones(1, DIM))
    optimizer.step()
    torch.testing.assert_close(table[0], before, rtol=0, atol=0)
    assert not torch.equal(table[5], new_table()[5])


def test_gradients_of_a_row_that_was_looked_up_twice_are_added() -> None:
    table = torch.nn.Parameter(torch.zeros(ROWS, 1))
    rows = torch.tensor([3, 5, 9])
    table.grad = torch.sparse_coo_tensor(
        [[5, 3, 5]], torch.tensor([[1.0], [2.0], [4.0]]), (ROWS, 1), check_invariants=True
    )
    assert gradient_of_rows(table, rows).flatten().tolist() == [2, 5, 0]


def run_of(
    model: Model, optimizer: torch.optim.Optimizer, store: EventStore, config: TrainConfig, steps: range
) -> None:
    samples = make_samples(store, config.samples, "train")
    for step in steps:
        index = np.random.default_rng(step).choice(len(samples), 2, replace=False)
        batch = collate(store, samples.take(index))
        train_step(model, optimizer, batch, l2=1e-6, samples_of_all_workers=batch.n_samples)


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_learns_with_it_what_it_learns_with_dense_adam(
    wide_store: EventStore, wide_config: TrainConfig, kind: str
) -> None:
    config = replace(wide_config, model=kind)
    models = []
    for name in ("adam", "rowwise-adam"):
        model = new_model(wide_store, config)
        optimizer = make_optimizer(model, 0.01, name)  # type: ignore[arg-type]
        run_of(model, optimizer, wide_store, config, range(3))
        settle(optimizer)
        models.append(model.state_dict())
    tables = [name for name in models[0] if name.endswith("item.weight")]
    assert tables
    untrained = new_model(wide_store, config).state_dict()
    for name, dense in models[0].items():
        torch.testing.assert_close(
            models[1][name], dense, rtol=1e-3, atol=1e-3, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert any((models[0][name] - untrained[name]).abs().max() > 0.02 for name in tables)


def test_a_checkpoint_goes_on_with_the_same_bits(
    wide_store: EventStore, wide_config: TrainConfig, tmp_path: Path
) -> None:
    def fresh() -> tuple[Model, torch.optim.Optimizer]:
        model = new_model(wide_store, wide_config)
        return model, make_optimizer(model, 0.01, "rowwise-adam")

    whole, optimizer = fresh()
    run_of(whole, optimizer, wide_store, wide_config, range(6))
    settle(optimizer)
    save_checkpoint(tmp_path, Progress(step=6), whole, optimizer, {"none": torch.zeros(1)})
    run_of(whole, optimizer, wide_store, wide_config, range(6, 12))
    settle(optimizer)
    resumed, again = fresh()
    load_checkpoint(tmp_path, resumed, again)
    run_of(resumed, again, wide_store, wide_config, range(6, 12))
    settle(again)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_killed_run_ends_as_an_uninterrupted_one(
    wide_store: EventStore, wide_config: TrainConfig, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, _total: int) -> None:
        if step == 33:
            raise KilledError

    config = replace(wide_config, optimizer="rowwise-adam", validate_every=10, epochs=1)
    whole = train(wide_store, config, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(wide_store, config, tmp_path / "killed", on_step=kill)
    resumed = train(wide_store, config, tmp_path / "killed")
    for name in ("weights.safetensors", "metrics.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_an_unknown_optimizer_is_named(wide_config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="optimizer must be one of adam, rowwise-adam, got 'sgd'"):
        replace(wide_config, optimizer="sgd")  # type: ignore[arg-type]
