"""DARE against values worked out by hand: d = 1, four behaviours, K = 2.

Attention rows (item, category): item 1 (1, 0.5), item 2 (2, 0.5), item 3 (−1, 1).
Position scores: 2·(0.5, −1, 0.25) = (1, −2, 0.5).
History, oldest first: items 2, 1, 3, 1; the oldest is behaviour 4 and shares the last position row with behaviour 3.
For target 2, q = (2, 0.5) and s = q·k/√2 + position score:

    behaviour        position   q·k     s
    0 (item 2)       4 → 3      4.25    4.25/√2 + 0.5
    1 (item 1)       3          2.25    2.25/√2 + 0.5
    2 (item 3)       2         −1.5    −1.5/√2 − 2
    3 (item 1)       1          2.25    2.25/√2 + 1
"""

import math
from functools import partial
from importlib import import_module

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recollect_kernels import behavior_search, target_attention
from recsys.errors import ConfigError
from recsys.models.batch import Batch
from recsys.models.dare import Dare, DareConfig

SCORES = [4.25 / math.sqrt(2) + 0.5, 2.25 / math.sqrt(2) + 0.5, -1.5 / math.sqrt(2) - 2, 2.25 / math.sqrt(2) + 1]
"""s of the four behaviours for target 2."""
VALUES = [(20.0, 1.0, 300.0), (10.0, 1.0, 300.0), (30.0, 2.0, 200.0), (10.0, 1.0, 100.0)]
"""Representation rows (item, category, position) of the four behaviours."""
TARGET = (20.0, 1.0, 7.0)
"""Representation of target 2: item, category, position 0."""


def softmax(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def pool(kept: list[int]) -> list[float]:
    weights = softmax([SCORES[at] for at in kept])
    return [sum(w * VALUES[at][f] for w, at in zip(weights, kept, strict=True)) for f in range(3)]


def head_input(pooled: list[float]) -> list[float]:
    return [*TARGET, *pooled, *(r * v for r, v in zip(pooled, TARGET, strict=True))]


@pytest.fixture
def model() -> Dare:
    config = DareConfig(
        n_items=3,
        n_categories=2,
        attention_dim=1,
        representation_dim=1,
        n_positions=3,
        search_k=2,
        hidden=(4, 3),
        aux_hidden=(4,),
    )
    model = Dare(config, torch.tensor([0, 1, 1, 2]), generator=torch.Generator().manual_seed(0))
    tables = {
        "attention.item": [0, 1, 2, -1],
        "attention.category": [0, 0.5, 1],
        "attention.position": [2, 0.5, -1, 0.25],
        "representation.item": [0, 10, 20, 30],
        "representation.category": [0, 1, 2],
        "representation.position": [7, 100, 200, 300],
    }
    with torch.no_grad():
        for name, column in tables.items():
            model.get_submodule(name).weight.copy_(torch.tensor(column).unsqueeze(1))
    return model


def batch(histories: list[list[int]], targets: list[list[int]]) -> Batch:
    labels = torch.zeros(len(targets), len(targets[0]), dtype=torch.uint8)
    labels[:, 0] = 1
    return Batch(
        torch.tensor([row for history in histories for row in history], dtype=torch.int32),
        torch.tensor([0, *(len(history) for history in histories)]).cumsum(0),
        torch.tensor(targets, dtype=torch.int32),
        labels,
        max(map(len, histories), default=0),
    )


def inputs_of_heads(model: Dare, given: Batch) -> tuple[Tensor, Tensor]:
    seen: dict[str, Tensor] = {}
    hooks = [
        head.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
        for name, head in (("main", model.head), ("aux", model.aux_head))
    ]
    model(given)
    for hook in hooks:
        hook.remove()
    return seen["main"], seen["aux"]


def test_head_input_is_target_pooled_and_their_product_over_the_k_best(model: Dare) -> None:
    main, _ = inputs_of_heads(model.eval(), batch([[2, 1, 3, 1]], [[2]]))
    assert main[0, 0].tolist() == pytest.approx(head_input(pool([0, 3])), rel=1e-6)


def test_auxiliary_input_pools_the_whole_history(model: Dare) -> None:
    _, aux = inputs_of_heads(model.eval(), batch([[2, 1, 3, 1]], [[2]]))
    assert aux[0, 0].tolist() == pytest.approx(head_input(pool([0, 1, 2, 3])), rel=1e-6)


def test_search_finds_the_k_best_with_weights_over_them_alone(model: Dare) -> None:
    given = batch([[2, 1, 3, 1]], [[2]])
    _, found = model.serving().score(given.rows, given.offsets, given.targets)
    assert found.positions.tolist() == [[[0, 3]]]
    assert found.weights[0, 0].tolist() == pytest.approx(softmax([SCORES[0], SCORES[3]]))


def test_recency_decides_between_equal_items(model: Dare) -> None:
    # Items 1 at positions 1, 2 and 3 from the end score 2.25/√2 plus 1, −2 and 0.5.
    given = batch([[1, 1, 1]], [[2]])
    _, found = model.serving().score(given.rows, given.offsets, given.targets)
    assert found.positions.tolist() == [[[2, 0]]]


def test_histories_of_a_batch_do_not_touch_each_other(model: Dare) -> None:
    together, _ = model.eval()(batch([[2, 1, 3, 1], [3], [], [1, 1, 2]], [[2, 1], [1, 3], [2, 2], [3, 0]]))
    for b, (history, targets) in enumerate([([2, 1, 3, 1], [2, 1]), ([3], [1, 3]), ([], [2, 2]), ([1, 1, 2], [3, 0])]):
        alone, _ = model(batch([history], [targets]))
        torch.testing.assert_close(together[b], alone[0])


def test_fewer_than_k_behaviours_are_pooled_without_padding(model: Dare) -> None:
    main, _ = inputs_of_heads(model.eval(), batch([[3], [2, 1, 3, 1]], [[2], [2]]))
    only = [30.0, 2.0, 100.0]  # item 3 as the most recent behaviour, at weight 1
    assert main[0, 0].tolist() == pytest.approx(head_input(only))


def test_an_empty_history_pools_to_zero_and_still_scores(model: Dare) -> None:
    given = batch([[]], [[2]])
    main, aux = inputs_of_heads(model.eval(), given)
    assert main[0, 0].tolist() == aux[0, 0].tolist() == [*TARGET, 0, 0, 0, 0, 0, 0]
    scores, found = model.serving().score(given.rows, given.offsets, given.targets)
    assert bool(torch.isfinite(scores).all())
    assert found.positions.tolist() == [[[-1, -1]]]
    assert found.weights.tolist() == [[[0, 0]]]


def test_unknown_items_have_no_features_but_keep_their_place(model: Dare) -> None:
    main, _ = inputs_of_heads(model.eval(), batch([[0, 1]], [[0]]))
    # Target 0 has q = 0, so only the position scores (−2, 1) tell the behaviours apart.
    weights = softmax([-2.0, 1.0])
    pooled = [weights[1] * 10, weights[1] * 1, weights[0] * 200 + weights[1] * 100]
    expected = [0.0, 0.0, 7.0, *pooled, 0.0, 0.0, 7 * pooled[2]]
    assert main[0, 0].tolist() == pytest.approx(expected)


def test_loss_is_both_cross_entropies_and_the_penalty(model: Dare) -> None:
    given = batch([[2, 1, 3, 1], [1, 2]], [[2, 1], [3, 1]])
    main, aux = model(given)

    def entropy(logits: Tensor) -> float:
        pairs = zip(logits.flatten(0, 1).tolist(), given.labels.flatten().tolist(), strict=True)
        return sum(math.log(math.exp(no) + math.exp(yes)) - (yes if label else no) for (no, yes), label in pairs) / 4

    squares = {
        name: weight.detach().square().sum().item()
        for name, weight in model.named_parameters()
        if not name.endswith("bias") and name.startswith(("head.", "aux_head."))
    }
    assert {name.split(".")[0] for name in squares} == {"head", "aux_head"}
    assert len(squares) == (1 + 2 + 2 + 1) + (1 + 1 + 1 + 1), "BatchNorm, Linear and PReLU weights of both heads"
    expected = entropy(main) + entropy(aux) + 0.5 * sum(squares.values())
    assert model.loss(given, l2=0.5).detach().item() == pytest.approx(expected, rel=1e-5)


def test_loss_and_gradients_are_bit_for_bit_those_of_the_equations_in_one_piece(model: Dare) -> None:
    """What DARE shares with the baselines must not move its numbers, in whatever order it is written."""
    given = batch([[2, 1, 3, 1], [1, 2], [], [3, 3, 2]], [[2, 1], [3, 1], [1, 2], [2, 3]])
    parameters = list(model.parameters())
    ours = [model.loss(given, l2=0.5), *torch.autograd.grad(model.loss(given, l2=0.5), parameters)]

    keys = model.attention.joined(None, model.category_of_item)
    values = model.representation.joined(None, model.category_of_item)
    query = keys[given.targets] * (1 / math.sqrt(2))
    position = model.attention.position.weight
    bias = position[1:] @ position[0] / math.sqrt(1)
    common = {"recency_bias": bias, "longest": given.longest}
    found = behavior_search(query, keys, given.rows, given.offsets, k=2, **common)
    common["recency_values"] = model.representation.position.weight[1:]
    attend = partial(target_attention, query, keys, values, given.rows, given.offsets, **common)
    best, whole = attend(positions=found.positions).output, attend().output
    first = model.representation.position.weight[0].expand(*given.targets.shape, -1)
    target = torch.cat([values[given.targets], first], dim=-1)
    main = model.head(torch.cat([target, best, best * target], dim=-1))
    aux = model.aux_head(torch.cat([target, whole, whole * target], dim=-1))
    labels = given.labels.long().flatten()
    heads = [*model.head.named_parameters(), *model.aux_head.named_parameters()]
    squares = sum(
        (weight.square().sum() for name, weight in heads if not name.endswith("bias")), start=main.new_zeros(())
    )
    loss = cross_entropy(main.flatten(0, 1), labels) + cross_entropy(aux.flatten(0, 1), labels) + 0.5 * squares
    for one, other in zip(ours, [loss, *torch.autograd.grad(loss, parameters)], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", ["triton", "cpu"])
def test_a_step_learns_the_same_on_every_backend(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(backend if backend == "triton" else "numba")
    generator = torch.Generator().manual_seed(3)
    config = DareConfig(n_items=12, n_categories=4, attention_dim=3, representation_dim=5, n_positions=6, search_k=4)
    model = Dare(config, torch.randint(0, 5, (13,), generator=generator), generator=generator)
    with torch.no_grad():
        for embeddings in (model.attention, model.representation):
            for table in embeddings.children():
                table.weight.mul_(60)  # far from the small beginnings where every behaviour weighs alike
    histories = [torch.randint(0, 13, (length,), generator=generator).tolist() for length in (9, 0, 1, 17, 4)]
    given = batch(histories, torch.randint(0, 13, (5, 3), generator=generator).tolist())
    gradients = []
    for choice in (backend, "reference"):
        for op in ("behavior_search", "target_attention"):
            dispatching = import_module(f"recollect_kernels.{op}.op")  # the package's attribute is the op itself
            monkeypatch.setattr(dispatching, "choose_backend", lambda *_, choice=choice, **__: choice)
        gradients.append(torch.autograd.grad(model.loss(given, l2=0.1), list(model.parameters())))
    for name, ours, reference in zip(dict(model.named_parameters()), *gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_main_loss_trains_both_sets_through_the_kept_behaviours_alone(model: Dare) -> None:
    given = batch([[2, 1, 3, 1], [2, 3, 2, 2]], [[2], [2]])
    main, _ = model.eval()(given)
    main[..., 1].square().sum().backward()
    for name in ("attention", "representation"):
        grad = model.get_submodule(f"{name}.item").weight.grad.squeeze(1)
        # Item 3 is in both histories and kept in neither; row 0 is never trained.
        assert (grad != 0).tolist() == [False, True, True, False], name
    # Kept: positions 4→3 and 1 in the first history, 4→3 and 1 in the second; position 2 is never kept.
    assert (model.representation.position.weight.grad.squeeze(1) != 0).tolist() == [True, True, False, True]


def test_auxiliary_loss_trains_both_sets_through_the_whole_history(model: Dare) -> None:
    given = batch([[2, 1, 3, 1], [2, 3, 2, 2]], [[2], [2]])
    _, aux = model.eval()(given)
    aux[..., 1].square().sum().backward()
    for name in ("attention", "representation"):
        grad = model.get_submodule(f"{name}.item").weight.grad.squeeze(1)
        assert (grad != 0).tolist() == [False, True, True, True], name
    assert bool((model.attention.position.weight.grad != 0).all())


def test_gradients_equal_finite_differences(model: Dare) -> None:
    model = model.double().eval()
    given = batch([[2, 1, 3, 1], [3, 2]], [[2, 1], [1, 3]])
    with torch.no_grad():
        for table in (*model.attention.children(), *model.representation.children()):
            table.weight.mul_(0.1)
    loss = model.loss(given, l2=0.0)
    loss.backward()
    step = 1e-6
    for set_name in ("attention", "representation"):
        for table_name in ("item", "category", "position"):
            weight = model.get_submodule(f"{set_name}.{table_name}").weight
            for row in range(1 if table_name != "position" else 0, len(weight)):
                moved = []
                for sign in (1, -1):
                    with torch.no_grad():
                        weight[row] += sign * step
                        moved.append(model.loss(given, l2=0.0).item())
                        weight[row] -= sign * step
                slope = (moved[0] - moved[1]) / (2 * step)
                assert weight.grad[row].item() == pytest.approx(slope, abs=1e-8, rel=1e-5), (
                    f"{set_name}.{table_name}[{row}]"
                )


def test_a_batch_that_uses_part_of_the_catalogue_trains_as_one_that_reads_all_of_it() -> None:
    config = DareConfig(n_items=40, n_categories=5, attention_dim=3, representation_dim=4, n_positions=6, search_k=3)
    category_of_item = torch.arange(41) % 5 + 1
    few, many = batch([[7, 9, 7]], [[9, 12]]), batch([[7, 9, 7] * 20], [[9, 12]])
    gradients = []
    for given in (few, many):
        model = Dare(config, category_of_item, generator=torch.Generator().manual_seed(0)).eval()
        assert (len(given.rows) + 2 >= 41) == (given is many)
        trimmed = given._replace(rows=given.rows[:3], offsets=torch.tensor([0, 3])) if given is few else given
        main, _ = model(trimmed)
        reference = model.serving().score(trimmed.rows, trimmed.offsets, trimmed.targets)[0]
        torch.testing.assert_close(main.softmax(-1)[..., 1], reference)
        main.sum().backward()
        gradients.append(model.representation.item.weight.grad.abs().sum(1).nonzero().flatten().tolist())
    assert gradients[0] == gradients[1] == [7, 9, 12]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param("float32", 1e-5, id="float32"),  # sums are added in another order
        pytest.param("float16", 2e-3, id="float16"),
        pytest.param("int8", 2e-2, id="int8"),
    ],
)
def test_serving_form_answers_as_the_training_form(dtype: str, tolerance: float) -> None:
    config = DareConfig(n_items=300, n_categories=20)
    generator = torch.Generator().manual_seed(4)
    model = Dare(config, torch.randint(1, 21, (301,), generator=generator), generator=generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    history = torch.randint(1, 301, (350,), generator=generator).tolist()
    given = batch([history, history[:5], []], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    with torch.no_grad():
        expected = model(given)[0].softmax(-1)[..., 1]
    scores, _ = model.serving(dtype).score(given.rows, given.offsets, given.targets)  # type: ignore[arg-type]
    torch.testing.assert_close(scores, expected, atol=tolerance, rtol=0)


def test_serving_form_is_a_copy(model: Dare) -> None:
    given = batch([[2, 1]], [[2]])
    serving = model.train().serving()
    before, _ = serving.score(given.rows, given.offsets, given.targets)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model(batch([[2, 1], [1]], [[2], [3]]))  # moves BatchNorm statistics
    after, _ = serving.score(given.rows, given.offsets, given.targets)
    assert torch.equal(before, after)
    assert model.training


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="search_k must be at least 1, got 0"):
        DareConfig(n_items=1, n_categories=1, search_k=0)
    with pytest.raises(ConfigError, match=r"category_of_item must be \[3\]"):
        Dare(DareConfig(n_items=2, n_categories=1), torch.zeros(2, dtype=torch.int64), generator=torch.Generator())
