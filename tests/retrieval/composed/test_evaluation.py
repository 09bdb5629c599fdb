"""Evaluation by each protocol, on a gallery of one-hot vectors, whose rankings are plain to see."""

import numpy as np
import pytest

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery
from retrieval.composed.encoder import QueryEmbeddings
from retrieval.composed.evaluation import evaluate
from retrieval.errors import ComposedError


class OneHot:
    """Pictures are embedded as their tokens say; a query's text holds its similarity to each picture, in order."""

    vectors, dimension = 2, 8

    def embed_gallery(self, tokens):
        return tokens.astype(np.float32)

    def embed_queries(self, tokens, masks, texts, *, beta=None):  # noqa: ARG002
        vectors = np.array([[*map(float, text.split())] for text in texts], dtype=np.float32)
        used = np.full((len(texts), 1), 1.0 if beta is None else beta, dtype=np.float32)
        return QueryEmbeddings(vectors=vectors, beta=used, truncated=np.array([len(text) > 40 for text in texts]))


def gallery(names):
    """Each picture's second vector is the unit vector of its place; the first is opposite to everything."""
    place = {name: at for at, name in enumerate(names)}

    def tokens(asked):
        made = np.zeros((len(asked), 2, 8), dtype=np.float16)
        for row, name in enumerate(asked):
            made[row, 0] = -1
            made[row, 1, place[name]] = 1
        return made

    return tokens


def asked(dataset, **options):
    return evaluate(
        dataset,
        OneHot(),
        gallery_tokens=gallery(list(dataset.images)),
        reference_tokens=lambda places: np.zeros((len(places), 1, 1), dtype=np.float16),
        masks=lambda places: np.zeros((len(places), 1), dtype=np.float32),
        **options,
    )


def dataset(name, queries, *, names="abcdefgh", **fields):
    return ComposedDataset(name=name, split="test", images=dict.fromkeys(names), queries=tuple(queries), **fields)


BY_PLACE = "8 7 6 5 4 3 2 1"
"""Most like a, then b, …"""
FROM_THE_END = "1 2 3 4 5 6 7 8"


def test_the_reference_is_taken_out_of_the_ranking():
    query = ComposedQuery(query_id="1", reference="a", target="b", text=BY_PLACE)
    found = asked(dataset("oacirr", [query], instances={"b": "i", "c": "i"}))
    assert found.rankings[0] == tuple("bcdefgh")
    assert found.metrics["r@1"] == 1.0
    assert found.metrics["r_id@1"] == 1.0


def test_fashioniq_keeps_the_reference():
    query = ComposedQuery(query_id="1", reference="a", target="b", text=BY_PLACE, category="dress")
    found = asked(dataset("fashioniq", [query], remove_reference=False))
    assert found.rankings[0][:2] == ("a", "b")
    assert set(found.metrics) == {"r@10", "r@50"}


def test_queries_are_asked_of_the_pictures_of_their_category():
    queries = [
        ComposedQuery(query_id="1", reference="a", target="c", text=BY_PLACE, category="car"),
        ComposedQuery(query_id="2", reference="e", target="h", text=BY_PLACE, category="cup"),
    ]
    galleries = {"car": ("a", "b", "c"), "cup": ("e", "f", "h")}
    found = asked(dataset("oacirr", queries, galleries=galleries))
    assert found.rankings == (("b", "c"), ("f", "h"))
    assert found.by_category["car"]["r@1"] == 0.0
    assert found.metrics["r@5"] == 1.0


def test_figures_are_means_over_domains_and_told_by_kind():
    queries = [
        ComposedQuery(query_id="1", reference="a", target="b", text=BY_PLACE, category="car", kind="keep"),
        ComposedQuery(query_id="2", reference="a", target="b", text=BY_PLACE, category="car", kind="keep"),
        ComposedQuery(query_id="3", reference="a", target="b", text=FROM_THE_END, category="cup", kind="replace"),
    ]
    found = asked(dataset("oacirr", queries))
    assert found.metrics["r@1"] == pytest.approx(0.5)
    assert found.by_kind == {
        "keep": {"r@1": 1.0, "r@5": 1.0, "r@10": 1.0, "r@50": 1.0},
        "replace": {"r@1": 0.0, "r@5": 0.0, "r@10": 1.0, "r@50": 1.0},
    }


def test_instances_of_equal_folder_names_in_two_domains_are_two():
    query = ComposedQuery(query_id="1", reference="a", target="b", text="8 5 7 1 1 1 1 1", category="")
    found = asked(dataset("oacirr", [query], instances={"b": "Car/0001", "c": "Fashion/0001"}))
    assert found.rankings[0][0] == "c"
    assert found.metrics["r_id@1"] == 0.0


def test_a_target_in_no_folder_is_an_instance_by_itself():
    query = ComposedQuery(query_id="1", reference="a", target="c", text=BY_PLACE)
    found = asked(dataset("folders", [query], instances={"b": "cup"}))
    assert found.rankings[0][:2] == ("b", "c")
    assert (found.metrics["r_id@1"], found.metrics["r_id@3"]) == (0.0, 1.0)


def test_equal_similarities_keep_the_gallerys_order():
    query = ComposedQuery(query_id="1", reference="h", target="a", text="1 1 1 1 1 1 1 1")
    assert asked(dataset("cirr", [query])).rankings[0] == tuple("abcdefg")


def cirr():
    return dataset(
        "cirr",
        [ComposedQuery(query_id="7", reference="a", target="d", text=BY_PLACE, subset=("f", "d", "h"))],
    )


def test_cirr_ranks_the_subset_by_itself():
    found = asked(cirr())
    assert found.subset_rankings == (("d", "f", "h"),)
    assert found.metrics["r_subset@1"] == 1.0
    assert found.metrics["r@1"] == 0.0
    assert found.metrics["mean"] == pytest.approx((1.0 + 1.0) / 2)


def test_circo_counts_every_right_answer():
    query = ComposedQuery(query_id="1", reference="a", target="b", accepted=frozenset("bd"), text=BY_PLACE)
    found = asked(dataset("circo", [query], remove_reference=False))
    # a b c d …: right at 2 and 4
    assert found.metrics["map@5"] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_a_split_with_secret_targets_has_rankings_and_no_figures():
    found = asked(dataset("circo", [ComposedQuery(query_id="1", reference="a", text=BY_PLACE)]))
    assert found.metrics == {}
    assert len(found.rankings[0]) == 7


def test_a_given_beta_and_cut_texts_are_told():
    query = ComposedQuery(query_id="1", reference="a", target="b", text="8.0000001 7.0000001 6.000001 5 4 3 2.0 1.0")
    found = asked(dataset("cirr", [query]), beta=0.25)
    assert found.beta.tolist() == [[0.25]]
    assert found.truncated == 1


def test_no_queries_are_refused():
    with pytest.raises(ComposedError, match="no queries"):
        asked(dataset("cirr", []))
