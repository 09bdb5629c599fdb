"""What a step of training computes: whole batches in parts, look-alikes together, objects told apart."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retrieval.composed.datasets import load_dataset
from retrieval.composed.directory import StoredModel
from retrieval.composed.references import dataset_features
from retrieval.composed.training.batches import hard_batches, random_batches
from retrieval.composed.training.instances import BoxHead, same_instance_loss, same_instance_of_sets_loss
from retrieval.composed.training.job import training_examples
from retrieval.composed.training.objective import backward


@pytest.fixture(scope="module")
def training(make_model, tokenizer, tiny_world, tmp_path_factory):
    start = StoredModel(make_model("none"), tokenizer, "0")
    dataset = load_dataset("oacirr", tiny_world, "train")
    features = dataset_features(dataset, start.model, tmp_path_factory.mktemp("features"))
    return training_examples(dataset, features, start)


def gradients(model, training, batch, parts):
    model.zero_grad()
    torch.manual_seed(5)
    loss = backward(model, training, batch, parts=parts, bf16=False)
    return loss, {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("modulation", ["scalar", "vector"])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_is_the_batch(make_model, training, modulation, parts):
    model = make_model(modulation)
    batch = np.arange(7)
    whole_loss, whole = gradients(model, training, batch, 1)
    loss, found = gradients(model, training, batch, parts)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-5)
    assert found.keys() == whole.keys()
    assert "modulator.probes" in found
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], atol=1e-5, rtol=1e-4)


def test_parts_replay_their_dropout(make_model, training):
    """The embeddings that the loss saw are those whose gradients are taken, or a finite step would not lower it."""
    model = make_model("scalar").train()
    batch = np.arange(8)
    first, second = (gradients(model, training, batch, 2) for _ in range(2))
    assert first[0].item() == second[0].item()
    for name in first[1]:
        assert torch.equal(first[1][name], second[1][name]), name


def test_half_precision_gives_nearly_the_same_gradients(make_model, training):
    model = make_model("vector")
    _, exact = gradients(model, training, np.arange(8), 1)
    model.zero_grad()
    loss = backward(model, training, np.arange(8), parts=2, bf16=True)
    assert torch.isfinite(loss)
    for name in ("query_tokens", "modulator.probes", "text_projection.weight"):
        found = dict(model.named_parameters())[name].grad
        assert F.cosine_similarity(found.flatten(), exact[name].flatten(), dim=0) > 0.9, name


def test_random_batches_hold_each_query_at_most_once():
    batches = random_batches(10, 3, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert len(np.unique(np.concatenate(batches))) == 9
    assert [len(batch) for batch in random_batches(2, 5, np.random.default_rng(0))] == [2]


def test_hard_batches_bring_look_alikes_of_other_instances():
    # Queries 2i and 2i + 1 are of one instance; instance i looks like instance i ± 1 of its pair.
    instances = np.repeat(np.arange(20), 2)
    direction = np.repeat(np.arange(10), 4)
    targets = F.normalize(
        F.one_hot(torch.from_numpy(direction), 10).float()
        + 0.01 * torch.randn(40, 10, generator=torch.Generator().manual_seed(0)),
        dim=-1,
    )
    batches = hard_batches(targets, instances, 8, 0.5, np.random.default_rng(0))
    assert all(len(batch) == len(set(batch.tolist())) for batch in batches)
    for batch in batches:
        leaders, followers = batch[:4], batch[4:]
        for follower in followers:
            alike = [leader for leader in leaders if direction[leader] == direction[follower]]
            assert alike
            assert any(instances[leader] != instances[follower] for leader in alike)


def test_without_a_share_hard_batches_are_random_ones():
    targets = F.normalize(torch.randn(12, 4), dim=-1)
    hard = hard_batches(targets, np.arange(12), 4, 0.0, np.random.default_rng(3))
    assert [each.tolist() for each in hard] == [
        each.tolist() for each in random_batches(12, 4, np.random.default_rng(3))
    ]


def test_same_instance_loss_by_hand():
    objects = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # Each of the pair: e^10 against e^10 + e^0; the third is alone and teaches nothing.
    expected = -np.log(np.exp(10) / (np.exp(10) + 1))
    assert same_instance_loss(objects, torch.tensor([4, 4, 7])).item() == pytest.approx(expected, rel=1e-3)


def test_pictures_are_as_similar_as_their_best_pair_of_vectors():
    # Pictures 0 and 1 share the vector (1, 0); 2 has nothing of it.
    pictures = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    loss = same_instance_of_sets_loss(pictures, torch.tensor([0, 0, 1]), temperature=torch.tensor(1.0))
    # 0: with 1 and with 2 equally similar (1, 1): ln 2. 1: similar to 0 (1), to 2 (0): −ln(e / (e + 1)).
    assert loss.item() == pytest.approx((np.log(2) + np.log(1 + np.exp(-1))) / 2, rel=1e-5)


def test_box_head_reads_the_box_alone():
    head = BoxHead(4, 3)
    tokens = torch.randn(2, 5, 4)
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]).float()
    before = head(tokens, mask)
    tokens[:, 0] = 99
    tokens[1, 1] = 99
    torch.testing.assert_close(head(tokens, mask), before)
    torch.testing.assert_close(before.norm(dim=-1), torch.ones(2))
