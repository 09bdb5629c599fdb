"""The baselines against values worked out in plain Python: d = 1, four or five behaviours, K = 2.

Items 1, 2 and 3 have the embeddings 1, 2 and −1; items 1 and 2 are of category 1 (0.5), item 3 of category 2 (1).
Positions 0 (the target), 1 (the newest), 2 and 3 have the embeddings 2, 0.5, −1 and 0.25, older
ones as position 3.
Row 0 is an unknown item.
"""

import math
from collections.abc import Callable

import pytest
import torch

from recsys.models.batch import Batch
from recsys.models.din import Din, DinConfig
from recsys.models.eta import Eta, EtaConfig
from recsys.models.model import Model
from recsys.models.sdim import Sdim, SdimConfig
from recsys.models.sim_hard import SimHard
from recsys.models.sizes import ModelSizes
from recsys.models.twin import Twin
from recsys.models.twin_4e import Twin4E, Twin4EConfig
from recsys.models.twin_projected import ProjectedTwin, ProjectedTwinConfig

ITEM = {0: 0.0, 1: 1.0, 2: 2.0, 3: -1.0}
CATEGORY_OF = {0: 0, 1: 1, 2: 1, 3: 2}
CATEGORY = {0: 0.0, 1: 0.5, 2: 1.0}
POSITION = [2.0, 0.5, -1.0, 0.25]
HISTORY = [2, 1, 3, 1]
MakeBatch = Callable[[list[list[int]], list[list[int]]], Batch]
Row = tuple[float, ...]


def row(item: int, scale: float = 1.0) -> Row:
    """Item and category embedding."""
    return scale * ITEM[item], scale * CATEGORY[CATEGORY_OF[item]]


def dot(one: Row, other: Row) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def age(history: list[int], at: int) -> int:
    """Position of a behaviour, the newest 1."""
    return min(len(history) - at, 3)


def softmax(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def mix(weights: list[float], rows: list[Row]) -> list[float]:
    return [sum(w * r[f] for w, r in zip(weights, rows, strict=True)) for f in range(len(rows[0]))]


def shared_scores(history: list[int], target: int) -> list[float]:
    """s of every behaviour where one set does everything."""
    return [
        dot(row(target), row(item)) / math.sqrt(2) + POSITION[0] * POSITION[age(history, at)]
        for at, item in enumerate(history)
    ]


def shared_values(history: list[int]) -> list[Row]:
    return [(*row(item), POSITION[age(history, at)]) for at, item in enumerate(history)]


def make(model_type: type[Model], config: ModelSizes) -> Model:
    model = model_type(config, torch.tensor([0, 1, 1, 2]), generator=torch.Generator().manual_seed(0))
    return model.eval()


def sizes(config: type[ModelSizes], **own: int) -> ModelSizes:
    return config(n_items=3, n_categories=2, representation_dim=1, n_positions=3, search_k=2, hidden=(4,), **own)


def fill(model: Model, name: str, scale: float = 1.0) -> None:
    """Give the embedding set `name` the numbers above, times `scale`."""
    columns = {"item": ITEM.values(), "category": CATEGORY.values(), "position": POSITION}
    with torch.no_grad():
        for table, weight in model.get_submodule(name).named_children():
            weight.weight.copy_(scale * torch.tensor(list(columns[table])).unsqueeze(1))


def check(
    model: Model, given: Batch, *, found: list[int], weights: list[float], best: list[float], whole: list[float] | None
) -> None:
    """The pooling of the first target of the first history."""
    pooled = model.pool(given, whole=True)
    assert pooled.found.positions[0, 0].tolist() == found
    assert pooled.found.weights[0, 0].tolist() == pytest.approx(weights)
    assert pooled.best[0, 0].tolist() == pytest.approx(best, rel=1e-5)
    assert (pooled.whole is None) == (whole is None)
    if whole is not None:
        assert pooled.whole[0, 0].tolist() == pytest.approx(whole, rel=1e-5)


def best_two(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda at: -scores[at])[:2]


def test_twin_compares_and_represents_by_one_set(ragged: MakeBatch) -> None:
    model = make(Twin, sizes(ModelSizes))
    fill(model, "shared")
    scores, values = shared_scores(HISTORY, 2), shared_values(HISTORY)
    kept = best_two(scores)
    weights = softmax([scores[at] for at in kept])
    given = ragged([HISTORY], [[2]])
    check(
        model,
        given,
        found=kept,
        weights=weights,
        best=mix(weights, [values[at] for at in kept]),
        whole=mix(softmax(scores), values),
    )
    assert model.pool(given, whole=False).target[0, 0].tolist() == [2, 0.5, 2], "item, category, position 0"


def test_twin_4e_has_four_sets(ragged: MakeBatch) -> None:
    model = make(Twin4E, sizes(Twin4EConfig, attention_dim=1))
    scales = {
        "target_attention": 1.0,
        "behaviour_attention": -0.5,
        "target_representation": 10.0,
        "behaviour_representation": 100.0,
    }
    for name, scale in scales.items():
        fill(model, name, scale)
    scores = [-0.5 * score for score in shared_scores(HISTORY, 2)]
    values = [tuple(100 * value for value in values) for values in shared_values(HISTORY)]
    kept = best_two(scores)
    weights = softmax([scores[at] for at in kept])
    given = ragged([HISTORY], [[2]])
    check(
        model,
        given,
        found=kept,
        weights=weights,
        best=mix(weights, [values[at] for at in kept]),
        whole=mix(softmax(scores), values),
    )
    assert model.pool(given, whole=False).target[0, 0].tolist() == [20, 5, 20]


def test_projected_twin_maps_one_set_four_ways(ragged: MakeBatch) -> None:
    """Attention is mapped to half of the size here: from two and one numbers, to two and one for d_a = 1."""
    model = make(ProjectedTwin, sizes(ProjectedTwinConfig, attention_dim=1))
    fill(model, "shared")
    maps = {
        "target_attention": ([[1.0, 2.0], [0.0, 1.0]], 3.0),
        "behaviour_attention": ([[0.5, 0.0], [-1.0, 1.0]], -1.0),
        "target_representation": ([[0.0, 1.0], [1.0, 0.0]], 5.0),
        "behaviour_representation": ([[2.0, 0.0], [0.0, 4.0]], 7.0),
    }
    with torch.no_grad():
        for name, (joined, position) in maps.items():
            model.get_submodule(name).joined.weight.copy_(torch.tensor(joined))
            model.get_submodule(name).position.weight.fill_(position)

    def mapped(name: str, item: int) -> Row:
        return tuple(dot(tuple(line), row(item)) for line in maps[name][0])

    query = mapped("target_attention", 2)
    scores = [
        dot(query, mapped("behaviour_attention", item)) / math.sqrt(2)
        + (3.0 * POSITION[0]) * (-1.0 * POSITION[age(HISTORY, at)])
        for at, item in enumerate(HISTORY)
    ]
    values = [
        (*mapped("behaviour_representation", item), 7 * POSITION[age(HISTORY, at)]) for at, item in enumerate(HISTORY)
    ]
    kept = best_two(scores)
    weights = softmax([scores[at] for at in kept])
    given = ragged([HISTORY], [[2]])
    check(
        model,
        given,
        found=kept,
        weights=weights,
        best=mix(weights, [values[at] for at in kept]),
        whole=mix(softmax(scores), values),
    )
    assert model.pool(given, whole=False).target[0, 0].tolist() == [0.5, 2, 10]


@pytest.mark.parametrize(
    ("history", "target", "kept"),
    [
        pytest.param([2, 1, 3, 1], 2, [3, 1], id="the-latest-of-the-category-first"),
        pytest.param([2, 1, 3, 1], 3, [2], id="one-alone"),
        pytest.param([2, 1, 1], 3, [], id="none"),
        pytest.param([0, 3, 0], 0, [], id="no-category-finds-nothing-not-even-its-like"),
    ],
)
def test_sim_hard_finds_the_latest_of_the_targets_category(
    ragged: MakeBatch, history: list[int], target: int, kept: list[int]
) -> None:
    model = make(SimHard, sizes(ModelSizes))
    fill(model, "shared")
    scores, values = shared_scores(history, target), shared_values(history)
    weights = softmax([scores[at] for at in kept])
    check(
        model,
        ragged([history, [1, 2, 3, 1, 2]], [[target], [1]]),  # beside a longer one
        found=[*kept, -1, -1][:2],
        weights=[*weights, 0.0, 0.0][:2],
        best=mix(weights, [values[at] for at in kept]) if kept else [0, 0, 0],
        whole=mix(softmax(scores), values),
    )


def test_eta_finds_by_hamming_distance_and_attends_as_twin(ragged: MakeBatch) -> None:
    model = make(Eta, sizes(EtaConfig, hash_bits=3))
    fill(model, "shared")
    planes = [(1.0, 0.0), (-1.0, 3.0), (1.0, -3.0)]
    with torch.no_grad():
        model.hyperplanes.copy_(torch.tensor(planes).T)
    history = [1, 2, 3, 1, 3]

    def code(item: int) -> list[bool]:
        return [dot(plane, row(item)) >= 0 for plane in planes]

    def distance(one: int, other: int) -> int:
        return sum(a != b for a, b in zip(code(one), code(other), strict=True))

    distances = [distance(2, item) for item in history]
    assert distances == [2, 0, 3, 2, 3]
    kept = sorted(range(5), key=lambda at: (distances[at], -at))[:2]
    assert kept == [1, 3], "of the two at distance 2 the newer one"
    scores, values = shared_scores(history, 2), shared_values(history)
    weights = softmax([scores[at] for at in kept])
    given = ragged([history], [[2]])
    check(
        model,
        given,
        found=kept,
        weights=weights,
        best=mix(weights, [values[at] for at in kept]),
        whole=mix(softmax(scores), values),
    )


def test_eta_prefers_a_bit_less_to_any_recency(ragged: MakeBatch) -> None:
    model = make(Eta, sizes(EtaConfig, hash_bits=1))
    fill(model, "shared")
    with torch.no_grad():
        model.hyperplanes.copy_(torch.tensor([[1.0], [0.0]]))  # the sign of the item
    history = [2, 1, *[3] * 30]
    found = model.pool(ragged([history], [[2]]), whole=False).found
    assert sorted(found.positions[0, 0].tolist()) == [0, 1]


@pytest.mark.parametrize("equals", [pytest.param(5, id="few"), pytest.param(50_000, id="as many as are served")])
def test_eta_keeps_the_newest_of_equals_beyond_the_last_position(ragged: MakeBatch, equals: int) -> None:
    model = make(Eta, sizes(EtaConfig))
    fill(model, "shared")
    history = [*[2] * equals, *[3] * 3]  # others hold the three positions
    found = model.pool(ragged([history, []], [[2], [2]]), whole=False).found
    assert sorted(found.positions[0, 0].tolist()) == [equals - 2, equals - 1]


def test_sdim_adds_up_what_shares_a_signature(ragged: MakeBatch) -> None:
    """Three signatures of two bits each, the sums of each scaled to length 1, and their mean."""
    model = make(Sdim, sizes(SdimConfig, hash_bits=6, signature_bits=2))
    fill(model, "shared")
    planes = [(1.0, 0.0), (-1.0, 3.0), (0.0, 1.0), (-1.0, 1.5), (-1.0, 0.0), (1.0, -1.0)]
    with torch.no_grad():
        model.hyperplanes.copy_(torch.tensor(planes).T)

    def signatures(item: int) -> list[tuple[bool, ...]]:
        bits = [dot(plane, row(item)) >= 0 for plane in planes]
        return [tuple(bits[at : at + 2]) for at in (0, 2, 4)]

    values = shared_values(HISTORY)
    shared = [
        [of_item == of_target for of_item, of_target in zip(signatures(item), signatures(2), strict=True)]
        for item in HISTORY
    ]
    assert shared == [[True] * 3, [False, True, True], [False] * 3, [False, True, True]], "of items 2, 1, 3, 1"
    expected = [0.0, 0.0, 0.0]
    for group in range(3):
        sums = mix([float(collides[group]) for collides in shared], values)
        length = math.sqrt(dot(tuple(sums), tuple(sums)))
        expected = [so_far + part / length / 3 for so_far, part in zip(expected, sums, strict=True)]
    check(
        model,
        ragged([HISTORY], [[2]]),
        found=[0, 3],  # three signatures and two; of the two items 1 the newer
        weights=[3 / 5, 2 / 5],
        best=expected,
        whole=None,
    )


def test_sdim_samples_the_attention_that_angles_give() -> None:
    """Two embeddings at angle θ share a signature of τ bits with probability (1 − θ/π)^τ."""
    config = SdimConfig(n_items=1, n_categories=1, representation_dim=1, hash_bits=60_000, signature_bits=3)
    model = Sdim(config, torch.tensor([0, 1]), generator=torch.Generator().manual_seed(5))
    for degrees in (10, 60, 90, 150):
        theta = math.radians(degrees)
        pair = torch.tensor([[1.0, 0.0], [math.cos(theta), math.sin(theta)]])
        one, other = model.signatures(pair)
        shared = float((one == other).double().mean())
        assert shared == pytest.approx((1 - theta / math.pi) ** 3, abs=4 * 0.5 / math.sqrt(20_000)), degrees


def test_din_scores_by_a_network_over_both_and_how_they_differ(ragged: MakeBatch) -> None:
    model = make(Din, sizes(DinConfig, attention_hidden=2))
    fill(model, "shared")
    inner = [[0.1 * (at + 1) for at in range(8)], [0.3 - 0.1 * at for at in range(8)]]
    with torch.no_grad():
        model.network.inner.weight.copy_(torch.tensor(inner))
        model.network.inner.bias.copy_(torch.tensor([0.5, -2.0]))
        model.network.slope.weight.fill_(0.2)
        model.network.outer.weight.copy_(torch.tensor([[1.5, -2.0]]))
        model.network.outer.bias.fill_(0.7)

    def score(target: int, item: int) -> float:
        q, k = row(target), row(item)
        pairs = list(zip(q, k, strict=True))
        inputs = (*q, *k, *(a - b for a, b in pairs), *(a * b for a, b in pairs))
        hidden = [dot(tuple(line), inputs) + bias for line, bias in zip(inner, (0.5, -2.0), strict=True)]
        assert min(hidden) < 0 < max(hidden), "both sides of the PReLU take part"
        one, other = (value if value > 0 else 0.2 * value for value in hidden)
        return (1.5 * one - 2.0 * other + 0.7) / 2

    history = [2, 1, 3]
    scores, values = [score(2, item) for item in history], [row(item) for item in history]
    kept = best_two(scores)
    weights = softmax([scores[at] for at in kept])
    check(
        model,
        ragged([history, [1] * 7], [[2], [3]]),  # beside a longer one
        found=kept,
        weights=weights,
        best=mix(weights, [values[at] for at in kept]),
        whole=mix(softmax(scores), values),
    )
