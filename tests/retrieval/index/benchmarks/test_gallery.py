"""The benchmark of galleries: the same pictures every time, true answers that are true, and a row for each search."""

import json
from pathlib import Path

import numpy as np
import pytest

from retrieval.index.benchmarks.gallery import Made, main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(300, 50, tmp_path_factory.mktemp("made"))


def test_vectors_are_of_unit_length_and_those_of_a_picture_alike(made: Made) -> None:
    vectors = made.vectors.astype(np.float32)
    assert vectors.shape == (300, 32, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=2e-3)
    within = np.einsum("nvd,nwd->nvw", vectors[:50], vectors[:50]).mean()
    across = np.einsum("nvd,mwd->nmvw", vectors[:50], vectors[50:100]).mean()
    assert within > across + 0.3


def test_the_same_pictures_and_queries_every_time(
    made: Made, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = Made(300, 50, tmp_path_factory.mktemp("again"))
    np.testing.assert_array_equal(made.vectors, again.vectors)
    for one, other in zip(made.queries(5), again.queries(5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(made.vectors[:9], Made(300, 51, tmp_path).vectors[:9])


def test_the_true_ten_are_those_of_numpy(made: Made) -> None:
    queries, targets = made.queries(4)
    similarity = (made.vectors.astype(np.float32) @ queries.T).max(axis=1).T
    np.testing.assert_array_equal(made.truth(queries), np.argsort(-similarity, axis=1)[:, :10])
    assert (made.truth(queries)[:, 0] == targets).all()


def test_a_row_for_each_way_to_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--images", "2100", "--storage", "fp16", "--queries", "10", "--threads", "1", "--json"]
    main([*asked, "--centres", "50", "--directory", str(tmp_path)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["storage"], row["mode"]) for row in rows] == [("fp16", "index"), ("fp16", "exact")]
    assert rows[1]["recall10"] >= 0.99
    # A byte a number and 8 for the id, and what the lists themselves take.
    assert 2_100 * 32 * 264 / 1e6 < rows[0]["index_mb"] < 1.1 * 2_100 * 32 * 264 / 1e6
    assert all(row["truth"] == 1 and row["target"] == 1 and row["build_s"] > 0 for row in rows)
    main([*asked, "--centres", "50", "--directory", str(tmp_path)])
    assert [json.loads(line)["build_s"] for line in capsys.readouterr().out.splitlines()] == [0, 0]
