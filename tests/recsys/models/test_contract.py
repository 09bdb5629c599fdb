"""What every model promises, DARE and baselines alike, so that a comparison compares nothing but how they pool."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.catalogue import Catalogue
from recsys.errors import ConfigError, StoreError
from recsys.models.batch import Batch
from recsys.models.directory import load_dare, load_model, save_model
from recsys.models.kinds import MODELS, build_model, has_attention_size, model_kind
from recsys.models.model import Model

N_ITEMS, N_CATEGORIES, K = 12, 4, 4
HISTORIES = [[3, 5, 3, 9, 12, 1, 5, 7, 2], [], [4], [6, 11, 8, 0, 6, 10, 2]]
TARGETS = [[3, 8], [1, 2], [4, 12], [6, 0]]
MakeBatch = Callable[[list[list[int]], list[list[int]]], Batch]

CATALOGUE = Catalogue(
    item_ids=np.concatenate([[-1], np.arange(1, N_ITEMS + 1) * 100]).astype(np.int64),
    category_rows=np.concatenate([[0], np.arange(N_ITEMS) % N_CATEGORIES + 1]).astype(np.int32),
    category_ids=np.array([-1, 10, 20, 30, 40], dtype=np.int64),
)


def make(kind: str, *, seed: int = 3, scale: float = 60.0) -> Model:
    """A small model whose embeddings are far from the beginnings where every behaviour weighs alike."""
    model_type = MODELS[kind]
    own = {"attention_dim": 2} if has_attention_size(model_type) else {}
    sizes = model_type.sizes(
        n_items=N_ITEMS, n_categories=N_CATEGORIES, representation_dim=3, n_positions=6, search_k=K, **own
    )
    model = build_model(model_type, sizes, CATALOGUE, seed=seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight.mul_(scale)
    return model


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return make(request.param)


def tables(model: Model) -> dict[str, nn.Embedding]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


def test_there_are_the_models_of_the_paper() -> None:
    assert list(MODELS) == ["dare", "twin", "twin-4e", "twin-projected", "sim-hard", "eta", "sdim", "din"]
    with pytest.raises(ConfigError, match="no model 'dien'; there are dare, twin, twin-4e"):
        model_kind("dien")


def test_shapes(model: Model, ragged: MakeBatch) -> None:
    given = ragged(HISTORIES, TARGETS)
    main, aux = model(given)
    assert main.shape == (4, 2, 2)
    assert (aux is None) == (model.aux_head is None) == (model.kind == "sdim")
    assert aux is None or aux.shape == (4, 2, 2)
    pooled = model.pool(given, whole=True)
    width = 3 * (2 if model.kind == "din" else 3)
    assert pooled.target.shape == pooled.best.shape == (4, 2, width)
    assert pooled.found.positions.shape == pooled.found.weights.shape == (4, 2, K)
    assert model.pool(given, whole=False).whole is None


def test_histories_of_a_batch_do_not_touch_each_other(model: Model, ragged: MakeBatch) -> None:
    model.eval()
    together, _ = model(ragged(HISTORIES, TARGETS))
    found = model.pool(ragged(HISTORIES, TARGETS), whole=False).found
    for b, (history, targets) in enumerate(zip(HISTORIES, TARGETS, strict=True)):
        alone, _ = model(ragged([history], [targets]))
        torch.testing.assert_close(together[b], alone[0])
        positions = found.positions[b], model.pool(ragged([history], [targets]), whole=False).found.positions[0]
        if model.kind == "din":  # scores equal items alike but for rounding, which depends on the column
            positions = tuple(torch.tensor([*history, -1])[each] for each in positions)
        assert positions[0].tolist() == positions[1].tolist(), "padding changes nothing of what is found"


def test_found_lies_within_the_history_and_weighs_one(model: Model, ragged: MakeBatch) -> None:
    found = model.pool(ragged(HISTORIES, TARGETS), whole=False).found
    for b, history in enumerate(HISTORIES):
        for positions, weights in zip(found.positions[b].tolist(), found.weights[b].tolist(), strict=True):
            kept = [at for at in positions if at >= 0]
            assert len(set(kept)) == len(kept) <= len(history)
            assert all(at < len(history) for at in kept)
            assert all(weight == 0 for at, weight in zip(positions, weights, strict=True) if at < 0)
            assert not kept or sum(weights) == pytest.approx(1)
    if model.kind not in ("sim-hard", "sdim"):
        assert (found.positions >= 0).sum(-1).tolist() == [[min(K, len(history))] * 2 for history in HISTORIES]


def test_an_empty_history_pools_to_zero_and_still_scores(model: Model, ragged: MakeBatch) -> None:
    given = ragged([[], []], [[3, 0], [1, 2]])
    pooled = model.pool(given, whole=True)
    assert not pooled.best.any()
    assert pooled.whole is None or not pooled.whole.any()
    scores, found = model.serving().score(given.rows, given.offsets, given.targets)
    assert bool(((scores > 0) & (scores < 1)).all())
    assert found.positions.unique().tolist() == [-1]
    assert found.weights.unique().tolist() == [0]
    model.loss(given, l2=0.1).backward()
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in model.parameters() if weight.grad is not None)


def test_only_din_forgets_when_a_behaviour_was(model: Model, ragged: MakeBatch) -> None:
    model.eval()
    forward, _ = model(ragged([[3, 5, 9]], [[3, 8]]))
    backward, _ = model(ragged([[9, 5, 3]], [[3, 8]]))
    assert torch.allclose(forward, backward, atol=1e-6) == (model.kind == "din")


def test_behaviours_beyond_the_last_position_share_its_row(model: Model, ragged: MakeBatch) -> None:
    # Six positions: the two oldest of eight are as old as the sixth, so that they may change places.
    model.eval()
    history = [5, 9, 3, 3, 3, 3, 3, 3]
    one, _ = model(ragged([history], [[3, 8]]))
    other, _ = model(ragged([[9, 5, *history[2:]]], [[3, 8]]))
    torch.testing.assert_close(one, other)


def test_gradients_reach_every_weight_but_row_0(model: Model, ragged: MakeBatch) -> None:
    model.loss(ragged(HISTORIES, TARGETS), l2=0.0).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name
    for name, table in tables(model).items():
        if not name.endswith("position"):
            assert not table.weight[0].any(), f"{name}: row 0 is zero"
            assert not table.weight.grad[0].any(), f"{name}: row 0 is never trained"


def test_loss_is_the_cross_entropies_and_the_penalty(model: Model, ragged: MakeBatch) -> None:
    given = ragged(HISTORIES, TARGETS)
    logits = [part for part in model(given) if part is not None]
    labels = given.labels.flatten().tolist()
    entropies = [
        -math.log(softmax[label])
        for part in logits
        for softmax, label in zip(part.softmax(-1).flatten(0, 1).tolist(), labels, strict=True)
    ]
    embeddings = {f"{name}.weight" for name in tables(model)}
    squares = sum(
        float(weight.detach().square().sum())
        for name, weight in model.named_parameters()
        if name not in embeddings and not name.endswith("bias")
    )
    expected = sum(entropies) / len(labels) + 0.5 * squares
    assert model.loss(given, l2=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_the_scoring_form_answers_as_the_training_form_and_is_a_copy(model: Model, ragged: MakeBatch) -> None:
    given = ragged(HISTORIES, TARGETS)
    model(given)  # moves BatchNorm's statistics
    serving = model.serving()
    expected = model.eval()(given)[0].softmax(-1)[..., 1]
    scores, found = serving.score(given.rows, given.offsets, given.targets)
    torch.testing.assert_close(scores, expected.detach())
    assert found.positions.tolist() == model.pool(given, whole=False).found.positions.tolist()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(serving.score(given.rows, given.offsets, given.targets, longest=given.longest)[0], scores)


def test_a_batch_that_uses_part_of_the_catalogue_scores_as_one_that_reads_all_of_it(
    model: Model, ragged: MakeBatch
) -> None:
    model.eval()
    few, many = ragged([[3, 5, 3]], [[3, 8]]), ragged([[3, 5, 3], [7] * 20], [[3, 8], [1, 2]])
    assert len(few.rows) + 2 < N_ITEMS + 1 <= len(many.rows) + 4, "one renumbers items, the other does not"
    torch.testing.assert_close(model(few)[0][0], model(many)[0][0])


def test_the_seed_decides_everything(model: Model) -> None:
    before = torch.random.get_rng_state()
    same, other = make(model.kind), make(model.kind, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator is left alone"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    for name, table in tables(model).items():
        assert not torch.equal(table.weight, tables(other)[name].weight), name
    assert not torch.equal(model.head[1].weight, other.head[1].weight)


def test_threads_add_up_gradients_in_one_order(model: Model) -> None:
    """Many targets of few items: gradients of one row come from everywhere, and would come in any order."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(0, N_ITEMS + 1, (20_000,), generator=random, dtype=torch.int32)
    targets = torch.randint(0, N_ITEMS + 1, (200, 40), generator=random, dtype=torch.int32)
    batch = Batch(rows, torch.arange(0, 20_001, 100), targets, torch.zeros(targets.shape, dtype=torch.uint8), 100)

    def gradients() -> bytes:
        model.zero_grad()
        model.loss(batch, l2=0.0).backward()
        return b"".join(weight.grad.numpy().tobytes() for weight in model.parameters() if weight.grad is not None)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len({gradients() for _ in range(3)}) == 1
    finally:
        torch.set_num_threads(threads)


def test_a_directory_gives_back_the_model_and_its_kind(model: Model, ragged: MakeBatch, tmp_path: Path) -> None:
    given = ragged(HISTORIES, TARGETS)
    model(given)
    save_model(tmp_path, model, CATALOGUE, training={}, data={}, metrics={})
    assert json.loads((tmp_path / "config.json").read_text())["model"] == model.kind
    saved = load_model(tmp_path)
    assert type(saved.model) is type(model)
    assert saved.model.config == model.config
    expected, _ = model.serving().score(given.rows, given.offsets, given.targets)
    assert torch.equal(saved.model.serving().score(given.rows, given.offsets, given.targets)[0], expected)


def test_only_dare_is_loaded_to_serve(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path, model, CATALOGUE, training={}, data={}, metrics={})
    if model.kind == "dare":
        assert load_dare(tmp_path).model.config == model.config
    else:
        with pytest.raises(StoreError, match=f"holds a baseline to compare with, '{model.kind}': only 'dare'"):
            load_dare(tmp_path)


def test_unknown_kinds_are_named_with_those_that_are_known(tmp_path: Path) -> None:
    save_model(tmp_path, make("twin"), CATALOGUE, training={}, data={}, metrics={})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model": "dien"}))
    with pytest.raises(StoreError, match="holds a 'dien' model of schema 1, this release reads dare, twin, twin-4e"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", list(MODELS))
def test_sizes_are_checked(kind: str) -> None:
    sizes = MODELS[kind].sizes
    with pytest.raises(ConfigError, match="representation_dim must be at least 1, got 0"):
        sizes(n_items=1, n_categories=1, representation_dim=0)
    with pytest.raises(ConfigError, match=r"category_of_item must be \[3\]"):
        MODELS[kind](sizes(n_items=2, n_categories=1), torch.zeros(2, dtype=torch.int64), generator=torch.Generator())
