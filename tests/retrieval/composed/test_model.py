"""AdaFocal: how β · M changes attention, checked by hand; what must not change; where gradients go."""

import math

import pytest
import torch
from torch.nn import functional as F

from retrieval.composed.model import attention_bias, similarity
from retrieval.composed.modulator import Modulation

TOKENS, CHANNELS = 17, 8


@pytest.fixture
def seen():
    return torch.randn(3, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def masks():
    masks = torch.zeros(3, TOKENS)
    masks[0, 5:9] = 1
    masks[1, 1:] = 1
    return masks


@pytest.fixture
def rows(tokenizer):
    return tokenizer.rows(["the same place at night", "on a beach", "here, without the blue vase"])


def test_bias_is_beta_where_the_box_is_and_nothing_elsewhere():
    mask = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    scalar = attention_bias(torch.tensor([[2.0], [3.0]]), mask)
    assert scalar.tolist() == [[[[0.0, 2.0, 0.0]]], [[[0.0, 3.0, 3.0]]]]
    vector = attention_bias(torch.tensor([[2.0, 5.0], [0.0, 1.0]]), mask)
    assert vector.tolist() == [[[[0, 2, 0], [0, 5, 0]]], [[[0, 0, 0], [0, 1, 1]]]]


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        # Two tokens that are equally attractive: e^β : 1.
        pytest.param(0.0, 0.5, id="not looked at"),
        pytest.param(math.log(3), 0.75, id="three times as strongly"),
        pytest.param(math.log(99), 0.99, id="almost alone"),
    ],
)
def test_attention_of_equal_tokens_is_shared_as_beta_says(make_model, rows, beta, expected):
    model = make_model("none")
    tokens = torch.ones(3, 2, CHANNELS)  # CLS and one patch, alike
    mask = torch.tensor([[0.0, 1.0]]).expand(3, -1)
    maps = model.cross_attention(tokens, mask, rows, torch.full((3, 1), beta))
    assert maps[:, 1].tolist() == pytest.approx([expected] * 3)


def test_a_full_box_boosts_every_patch_against_cls_alone(make_model, seen, rows):
    model = make_model("none")
    mask = torch.ones(3, TOKENS)
    mask[:, 0] = 0
    layer = model.qformer.encoder.layer[0].crossattention.attention
    taken = []
    hook = layer.register_forward_hook(lambda _module, _given, made: taken.append(made[1]))
    for beta in (0.0, 1.5):
        model.cross_attention(seen, mask, rows, torch.full((3, 1), beta))
    hook.remove()
    # The first layer's queries do not depend on β yet: each patch gains e^1.5 against CLS, none against another.
    plain, boosted = taken
    gain = (boosted[..., 1:] / boosted[..., :1]) / (plain[..., 1:] / plain[..., :1])
    assert gain.min().item() == pytest.approx(math.exp(1.5), rel=1e-4)
    assert gain.max().item() == pytest.approx(math.exp(1.5), rel=1e-4)


@pytest.mark.parametrize("modulation", ["scalar", "vector", "fixed"])
def test_without_a_box_nothing_is_modulated(make_model, seen, rows, modulation):
    model = make_model(modulation, fixed=7.0)
    nothing = torch.zeros(3, TOKENS)
    modulated, _ = model.embed_queries(seen, nothing, rows)
    unmodulated, _ = model.embed_queries(seen, nothing, rows, beta=torch.zeros(3, 1))
    assert torch.equal(modulated, unmodulated)


@pytest.mark.parametrize(("modulation", "size"), [("none", 1), ("fixed", 1), ("scalar", 1), ("vector", 4)])
def test_beta_has_the_form_and_sign_of_its_kind(make_model, seen, masks, rows, modulation, size):
    _, beta = make_model(modulation, fixed=2.5).embed_queries(seen, masks, rows)
    assert beta.shape == (3, size)
    if modulation in ("none", "fixed"):
        assert beta.unique().tolist() == [0.0 if modulation == "none" else 2.5]
    else:
        assert (beta > 0).all()
        assert len(beta[:, 0].unique()) == 3  # each query's own


def test_beta_changes_the_query(make_model, seen, masks, rows):
    model = make_model("scalar")
    looked_away, _ = model.embed_queries(seen, masks, rows, beta=torch.zeros(3, 1))
    stared, _ = model.embed_queries(seen, masks, rows, beta=torch.full((3, 1), 8.0))
    assert ((looked_away - stared).abs().amax(dim=1) > 1e-3).tolist() == [True, True, False]


@pytest.mark.parametrize("modulation", ["scalar", "vector"])
def test_a_query_is_the_same_alone_and_in_a_mixed_batch(make_model, seen, masks, rows, tokenizer, modulation):
    model = make_model(modulation)
    together, betas = model.embed_queries(seen, masks, rows)
    for at, text in enumerate(["the same place at night", "on a beach", "here, without the blue vase"]):
        alone, beta = model.embed_queries(seen[at : at + 1], masks[at : at + 1], tokenizer.rows([text]))
        torch.testing.assert_close(alone[0], together[at], atol=1e-5, rtol=0)
        torch.testing.assert_close(beta[0], betas[at], atol=1e-5, rtol=1e-5)  # it is about 4


def test_embeddings_have_length_one(make_model, seen, masks, rows):
    model = make_model("vector")
    queries, _ = model.embed_queries(seen, masks, rows)
    gallery = model.embed_gallery(seen)
    assert gallery.shape == (3, 4, 8)
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(gallery.norm(dim=-1), torch.ones(3, 4))


@pytest.mark.parametrize("modulation", ["scalar", "vector"])
def test_gradients_reach_the_judge_and_the_probes(make_model, seen, masks, rows, modulation):
    model = make_model(modulation)
    queries, _ = model.embed_queries(seen, masks, rows)
    model.loss(queries, model.embed_gallery(seen)).backward()
    modulator = model.modulator
    for parameter in (modulator.probes, modulator.cls, modulator.judge[2].weight, modulator.judge[0].weight):
        assert parameter.grad.abs().sum() > 0


def test_without_any_box_the_modulator_learns_nothing(make_model, seen, rows):
    model = make_model("scalar")
    queries, _ = model.embed_queries(seen, torch.zeros(3, TOKENS), rows)
    model.loss(queries, model.embed_gallery(seen)).backward()
    assert model.modulator.judge[2].weight.grad.abs().sum() == 0
    assert model.modulator.probes.grad.abs().sum() == 0


def test_the_gradient_to_a_given_beta_is_that_of_finite_differences(make_model, seen, masks, rows):
    model = make_model("none").double()
    seen, masks = seen.double(), masks.double()
    direction = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def value(beta):
        return (model.embed_queries(seen, masks, rows, beta=beta)[0] * direction).sum()

    beta = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(beta), beta)
    for at in range(3):
        step = torch.zeros_like(beta)
        step[at] = 1e-5
        expected = (value(beta + step) - value(beta - step)) / 2e-5
        assert slope[at].item() == pytest.approx(expected.item(), abs=1e-7)
    assert slope[2].item() == 0  # it has no box


def test_similarity_is_that_of_the_best_vector():
    queries = torch.tensor([[1.0, 0.0]])
    targets = torch.tensor([[[0.6, 0.8], [0.0, 1.0]], [[-1.0, 0.0], [0.8, 0.6]]])
    assert similarity(queries, targets).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_loss_is_the_cross_entropy_of_similarities_by_the_temperature(make_model):
    model = make_model("none")
    queries = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=-1)
    targets = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])
    logits = [[1 / 0.07, 0.6 / 0.07], [0.0, 0.8 / 0.07]]
    expected = sum(math.log(math.exp(row[0]) + math.exp(row[1])) - row[at] for at, row in enumerate(logits)) / 2
    assert model.loss(queries, targets).item() == pytest.approx(expected, rel=1e-5)


def test_modulations_are_those_of_the_paper():
    assert set(Modulation) == {"none", "fixed", "scalar", "vector"}
