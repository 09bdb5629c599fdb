"""What is kept of the pictures of a data set is of the pictures that are there."""

import numpy as np
import pytest
from PIL import Image

from retrieval.composed.datasets import load_dataset
from retrieval.composed.references import Reference, dataset_features

NAMES = ("cup/a.png", "cup/b.png", "mug/c.png")


@pytest.fixture
def shop(tmp_path):
    generator = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "shop" / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    (tmp_path / "shop" / "queries.test.csv").write_text(
        "reference,target,text,x1,y1,x2,y2\ncup/a.png,cup/b.png,at night,8,8,40,40\nmug/c.png,mug/c.png,here,0,0,9,9\n"
    )
    return tmp_path / "shop"


@pytest.mark.parametrize("reference", Reference)
def test_a_picture_replaced_under_its_name_is_run_over_again(shop, make_model, tmp_path, reference):
    def features(kept):
        dataset = load_dataset("folders", shop, "test")
        made = dataset_features(dataset, make_model(), tmp_path / kept, reference=reference)
        return made.pictures.take(NAMES), made.references.take(made.reference_names)

    before = features("kept")
    Image.new("RGB", (64, 64), "white").save(shop / "test" / "cup" / "a.png")
    after, fresh = features("kept"), features("fresh")
    for old, new, expected in zip(before, after, fresh, strict=True):
        assert not np.allclose(new[0], old[0], atol=2e-3)
        assert np.array_equal(new[1], old[1])
        np.testing.assert_allclose(new, expected, atol=2e-3)
