"""Names are read as the demo shop writes them: product last, numbers aside, material and styles wherever they stand."""

import pytest

from recsys.data.shop.names import DEPARTMENTS, category_names
from retrieval.errors import DatasetError
from retrieval.shop.materials import MATERIALS
from retrieval.shop.names import ItemLook, parse, products
from retrieval.shop.styles import STYLES

CASES = {
    "speckled stoneware coffee mug": ItemLook("coffee mug", "stoneware", frozenset({"speckled"})),
    "coffee mug": ItemLook("coffee mug", None, frozenset()),
    "round dimmable brass table lamp": ItemLook("table lamp", "brass", frozenset({"round", "dimmable"})),
    "waxed cotton tote bag": ItemLook("tote bag", "waxed cotton", frozenset()),
    "black matt black lantern": ItemLook("lantern", "matt black", frozenset({"black"})),
    "carved olive wood salad bowl 2": ItemLook("salad bowl", "olive wood", frozenset({"carved"})),
    "slim type 7 oak salad bowl 2 no. 3": ItemLook("salad bowl", "oak", frozenset({"slim"})),
    "  Hanging  Zinc PLANTER ": ItemLook("planter", "zinc", frozenset({"hanging"})),
    "heavenly titanium vase": ItemLook("vase", None, frozenset()),
}


def test_every_product_of_the_shop_can_be_drawn() -> None:
    assert sorted(products()) == sorted(product for department in DEPARTMENTS for product in department.products)
    assert len(set(products())) == 44


def test_every_word_of_the_shop_means_something() -> None:
    assert {material for department in DEPARTMENTS for material in department.materials} == set(MATERIALS)
    assert {style for department in DEPARTMENTS for style in department.styles} == set(STYLES)


@pytest.mark.parametrize("name", CASES)
def test_a_name_is_read(name: str) -> None:
    assert parse(name) == CASES[name]


def test_categories_past_the_list_are_drawn_as_their_product() -> None:
    numbered = category_names(100)[44:88]
    assert all(name.endswith(" 2") for name in numbered)
    assert {parse(name).product for name in numbered} == set(products())


@pytest.mark.parametrize("name", ["walnut spaceship", "", "bowl", "salad bowl lid", "supervase"])
def test_an_unknown_product_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(DatasetError, match=r"got .*known are salad bowl, cutting board"):
        parse(name)
