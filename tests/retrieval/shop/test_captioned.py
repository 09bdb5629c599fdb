"""Captions say what is in the picture, and a folder of pictures can be read back by whoever trains an encoder."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from retrieval.descriptors.composition import compose
from retrieval.descriptors.descriptor_set import load_descriptor_set
from retrieval.errors import DatasetError
from retrieval.shop import captions, products, write_pictures


def test_the_set_describes_every_product_and_has_no_problems() -> None:
    descriptors = load_descriptor_set("demo-shop")
    assert sorted(descriptors.class_names) == sorted(products())
    assert descriptors.problems() == []
    for described in descriptors.classes:
        assert 5 <= len(described.descriptors) <= 8, described.name
        assert all(2 <= len(each.split()) <= 6 for each in described.descriptors), described.name


def test_no_two_classes_have_the_same_descriptors() -> None:
    descriptors = load_descriptor_set("demo-shop")
    assert len({frozenset(described.descriptors) for described in descriptors.classes}) == len(descriptors.classes)


def test_classes_share_their_vocabulary() -> None:
    # What a class that was left out of training is recognised by must occur in others.
    descriptors = load_descriptor_set("demo-shop")
    for described in descriptors.classes:
        others = {each for other in descriptors.classes if other is not described for each in other.descriptors}
        assert len(others & set(described.descriptors)) >= 2, described.name


def test_captions_are_the_name_and_what_is_true_of_the_product() -> None:
    found = captions("speckled stoneware coffee mug")
    assert found[:2] == ["speckled stoneware coffee mug", "a photo of a speckled stoneware coffee mug."]
    described = load_descriptor_set("demo-shop")
    mug = described.classes[described.index_of("coffee mug")]
    told = [compose(name, each) for name in ("coffee mug", "a product") for each in mug.descriptors]
    assert "coffee mug, which has one big handle at its side" in told
    assert found[2:] == ["coffee mug", "a photo of a coffee mug.", *told]


def test_a_bare_product_is_captioned_once() -> None:
    assert captions("coffee mug").count("coffee mug") == 1


def test_an_unknown_product_has_no_captions() -> None:
    with pytest.raises(DatasetError, match="walnut spaceship"):
        captions("walnut spaceship")


def test_pictures_are_written_with_their_captions(tmp_path: Path) -> None:
    names = ["walnut salad bowl", "slim/oak salad bowl", "navy merino scarf", "walnut salad bowl"]
    told: list[tuple[str, int, int | None]] = []
    table = write_pictures(
        names, tmp_path / "new" / "shop", 2, seed=1, size=48, progress=lambda *report: told.append(report)
    )
    assert table == tmp_path / "new" / "shop" / "captions.csv"
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["image", "caption"]
        rows = [(row["image"], row["caption"]) for row in reader]
    images = list(dict.fromkeys(image for image, _ in rows))
    assert len(images) == 3 * 2
    assert sorted(images) == sorted(path.relative_to(table.parent).as_posix() for path in table.parent.rglob("*.jpg"))
    for image in images:
        with Image.open(table.parent / image) as opened:
            assert (opened.format, opened.size) == ("JPEG", (48, 48))
    assert {image.split("/")[0] for image in images} == {"salad bowl", "scarf"}
    first = [caption for image, caption in rows if image == images[0]]
    assert first == captions("walnut salad bowl")
    assert told == [("drawing pictures", done, 3) for done in (1, 2, 3)]


def test_pictures_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def written(folder: str, per_item: int, seed: int) -> list[bytes]:
        table = write_pictures(["cork wallet"], tmp_path / folder, per_item, seed, size=32)
        return [path.read_bytes() for path in sorted(table.parent.rglob("*.jpg"))]

    once = written("once", 2, 7)
    assert written("again", 2, 7) == once
    assert written("more", 3, 7)[:2] == once
    assert not set(written("other", 3, 8)) & set(once)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(DatasetError, match="new or empty folder"):
        write_pictures(["cork wallet"], tmp_path, 1, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_unknown_product_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="walnut spaceship"):
        write_pictures(["cork wallet", "walnut spaceship"], tmp_path / "shop", 1, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_an_interrupted_one_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / ".shop.partial" / "wallet").mkdir(parents=True)
    (tmp_path / ".shop.partial" / "wallet" / "half.jpg").write_bytes(b"half")
    write_pictures(["cork wallet"], tmp_path / "shop", 1, seed=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
    assert len(list((tmp_path / "shop").rglob("*.jpg"))) == 1


def test_no_pictures_an_item_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="per_item must be at least 1, got 0"):
        write_pictures(["cork wallet"], tmp_path / "shop", 0, seed=1)
