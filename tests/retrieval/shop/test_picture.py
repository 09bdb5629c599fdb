"""Pictures are deterministic, carry what their names say, and tell products, materials and styles apart."""

import numpy as np
import pytest
from PIL import Image

from recsys.data.shop.names import DEPARTMENTS
from retrieval.errors import DatasetError
from retrieval.shop import render, textures
from retrieval.shop.materials import MATERIALS, plain, surface
from retrieval.shop.names import PRODUCTS, products
from retrieval.shop.pen import Layer, Pen
from retrieval.shop.styles import COLOURS, PATTERNS, dressed, stretch

SIDE = 96


def edges(image: Image.Image) -> np.ndarray:
    """Where edges of which direction are: 8 × 8 cells × 8 directions, of unit length."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    down, across = np.gradient(grey)
    direction = (np.arctan2(down, across) % np.pi / np.pi * 8).astype(int) % 8
    strength = np.hypot(across, down)
    cell = grey.shape[0] // 8
    cells = [np.where(direction == at, strength, 0).reshape(8, cell, 8, cell).sum((1, 3)) for at in range(8)]
    feature = np.sqrt(np.stack(cells, axis=-1)).ravel()
    return feature / np.linalg.norm(feature)


def middle_colour(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.float64)
    third = pixels.shape[0] // 3
    return pixels[third : 2 * third, third : 2 * third].reshape(-1, 3).mean(axis=0)


def drawn(product: str, styles: frozenset[str]) -> bytes:
    """The item alone, without a scene: only its styles make a difference."""
    layer = Layer(SIDE)
    matrix = np.array([[0.42, 0, 0.5], [0, 0.42, 0.5]]) * SIDE
    rng = np.random.default_rng(5)
    pen = Pen(layer, matrix, plain((180, 120, 60)), styles=styles, tilt=0.25, light_from_right=False, rng=rng)
    PRODUCTS[product].draw(pen)
    return layer.colour.tobytes() + layer.coverage.tobytes()


def test_the_same_name_seed_and_size_give_the_same_pixels() -> None:
    first = render("striped merino scarf", seed=3).tobytes()
    textures.sheet.cache_clear()
    assert render("striped merino scarf", seed=3).tobytes() == first
    assert render("striped merino scarf", seed=4).tobytes() != first
    assert render("checked merino scarf", seed=3).tobytes() != first


@pytest.mark.parametrize("size", [16, 63, 128, 224, 512])
def test_a_picture_has_the_size_asked_for(size: int) -> None:
    image = render("walnut salad bowl", seed=1, size=size)
    assert (image.size, image.mode) == ((size, size), "RGB")


@pytest.mark.parametrize("size", [0, 15, 513])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be 16 to 512 pixels, got {size}"):
        render("walnut salad bowl", seed=1, size=size)


def test_an_unknown_product_is_refused() -> None:
    with pytest.raises(DatasetError, match="walnut spaceship"):
        render("walnut spaceship", seed=1)


@pytest.mark.parametrize("department", DEPARTMENTS, ids=lambda department: department.products[0])
def test_every_word_of_a_department_gives_a_picture_of_something(department) -> None:
    for at, style in enumerate(department.styles):
        for product in department.products:
            name = f"{style} {department.materials[at % 6]} {product}"
            assert np.asarray(render(name, seed=at, size=32)).std() > 8, name


def test_a_product_without_its_material_is_drawn_of_some_material() -> None:
    assert len({tuple(middle_colour(render("planter", seed=seed, size=32)).round(-1)) for seed in range(8)}) > 2


def test_what_is_drawn_tells_products_apart() -> None:
    # Nearest centroid on edge directions, materials and styles mixed; a guess is right once in 44.
    def pictures(seeds: range) -> np.ndarray:
        found = []
        for department in DEPARTMENTS:
            for product in department.products:
                names = [f"{department.styles[seed % 12]} {department.materials[seed % 6]} {product}" for seed in seeds]
                found.append([edges(render(name, seed=seed, size=64)) for name, seed in zip(names, seeds, strict=True)])
        return np.array(found)  # [44, seeds, features]

    centroids, unseen = pictures(range(12)).mean(axis=1), pictures(range(100, 104))
    distances = ((unseen[:, :, None] - centroids) ** 2).sum(axis=-1)  # [44, seeds, 44]
    right = distances.argmin(axis=-1) == np.arange(44)[:, None]
    assert right.mean() > 0.65


@pytest.mark.parametrize(
    ("product", "materials", "floor"),
    [
        ("cutting board", DEPARTMENTS[0].materials, 0.5),
        ("blanket", DEPARTMENTS[1].materials, 0.6),
        ("pendant light", DEPARTMENTS[2].materials, 0.5),
        ("coffee mug", DEPARTMENTS[3].materials, 0.6),
        ("backpack", DEPARTMENTS[4].materials, 0.6),
        ("planter", DEPARTMENTS[5].materials, 0.5),
    ],
    ids=["cutting board", "blanket", "pendant light", "coffee mug", "backpack", "planter"],
)
def test_what_is_drawn_tells_materials_apart(product: str, materials: tuple[str, ...], floor: float) -> None:
    # By nothing but the mean colour of the picture's middle; a guess is right once in 6.
    def pictures(seeds: range) -> np.ndarray:
        return np.array(
            [[middle_colour(render(f"{each} {product}", seed=seed, size=48)) for seed in seeds] for each in materials]
        )

    centroids, unseen = pictures(range(10)).mean(axis=1), pictures(range(100, 108))
    distances = ((unseen[:, :, None] - centroids) ** 2).sum(axis=-1)
    assert (distances.argmin(axis=-1) == np.arange(6)[:, None]).mean() > floor


def test_a_colour_word_dyes_the_item() -> None:
    for word in ("red", "green", "blue"):
        channel = ("red", "green", "blue").index(word)
        plain_one, dyed = (
            np.mean([middle_colour(render(f"{style}steel planter", seed=seed, size=48)) for seed in range(5)], axis=0)
            for style in ("", f"{word} ")
        )
        assert dyed[channel] - dyed.mean() > plain_one[channel] - plain_one.mean() + 10, word


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_word_changes_the_surface(pattern: str) -> None:
    matrix = np.array([[40.0, 0, 48], [0, 40.0, 48]])
    before = surface(MATERIALS["cotton"], SIDE, np.random.default_rng(1))
    untouched = np.asarray(before.sheet, dtype=np.int64)
    after = dressed(before, frozenset({pattern}), matrix, np.random.default_rng(2))
    assert (np.abs(np.asarray(after.sheet, dtype=np.int64) - untouched).max(axis=-1) > 12).mean() > 0.02


@pytest.mark.parametrize(
    ("product", "style"),
    [
        *((each, "square") for each in ("salad bowl", "fruit bowl", "cutting board", "serving tray", "spice rack")),
        *((each, "square") for each in ("bread box", "pepper mill", "coaster set")),
        *((each, "round") for each in ("cutting board", "serving tray")),
        ("cutting board", "folding"),
        *((each, style) for each in ("table lamp", "floor lamp") for style in ("tripod", "arched", "globe", "folded")),
        *((each, style) for each in ("pendant light", "wall sconce") for style in ("globe", "conical", "folded")),
        *((each, "footed") for each in ("coffee mug", "teapot", "vase", "milk jug", "soap dish", "plant pot")),
        ("candle holder", "tripod"),
        ("lantern", "globe"),
        ("garden bench", "curved"),
        ("garden bench", "corner"),
    ],
    ids=lambda word: word,
)
def test_a_form_word_changes_the_drawing(product: str, style: str) -> None:
    assert drawn(product, frozenset()) == drawn(product, frozenset({"plain"}))
    assert drawn(product, frozenset({style})) != drawn(product, frozenset())


def test_size_words_change_the_proportions() -> None:
    assert stretch(frozenset()) == (1, 1)
    assert stretch(frozenset({"small"})) == (0.74, 0.74)
    across, down = stretch(frozenset({"tall", "slim"}))
    assert across < 0.7 < 1.2 < down
    assert max(stretch(frozenset({"wide", "large", "tall"}))) <= 1.3


def test_no_two_products_are_drawn_alike() -> None:
    assert len({drawn(product, frozenset()) for product in products()}) == 44


def test_no_colour_word_is_a_material_too() -> None:
    assert not set(COLOURS) & set(MATERIALS)
