"""Names that a person can read: "walnut salad bowl" rather than item 1,734."""

from dataclasses import dataclass
from itertools import permutations

from recsys.data.shop.assortment import Assortment


@dataclass(frozen=True, slots=True)
class Department:
    """Products that come in the same materials and styles."""

    products: tuple[str, ...]
    """One category each."""
    materials: tuple[str, ...]
    """The sub-tastes of every category of this department."""
    styles: tuple[str, ...]


DEPARTMENTS = (
    Department(
        (
            "salad bowl",
            "cutting board",
            "serving tray",
            "spice rack",
            "fruit bowl",
            "bread box",
            "pepper mill",
            "coaster set",
        ),
        ("walnut", "oak", "bamboo", "olive wood", "cherry wood", "acacia"),
        (
            "round",
            "square",
            "large",
            "small",
            "carved",
            "rustic",
            "oiled",
            "slim",
            "deep",
            "folding",
            "two-tone",
            "tall",
        ),
    ),
    Department(
        ("scarf", "cardigan", "blanket", "beanie", "pair of socks", "pullover", "pair of gloves", "throw"),
        ("merino", "cotton", "cashmere", "linen", "alpaca", "mohair"),
        (
            "striped",
            "plain",
            "cable-knit",
            "chunky",
            "fine",
            "checked",
            "ribbed",
            "navy",
            "cream",
            "rust",
            "moss",
            "grey",
        ),
    ),
    Department(
        ("table lamp", "floor lamp", "pendant light", "wall sconce", "candle holder", "lantern"),
        ("brass", "copper", "matt black", "nickel", "rattan", "paper"),
        (
            "arched",
            "dimmable",
            "globe",
            "slender",
            "vintage",
            "tripod",
            "folded",
            "wide",
            "mini",
            "twin",
            "conical",
            "low",
        ),
    ),
    Department(
        ("coffee mug", "teapot", "dinner plate", "vase", "milk jug", "soap dish", "plant pot", "cereal bowl"),
        ("stoneware", "porcelain", "terracotta", "enamel", "glass", "earthenware"),
        (
            "speckled",
            "white",
            "indigo",
            "sage",
            "ribbed",
            "hand-painted",
            "matt",
            "tall",
            "small",
            "footed",
            "dipped",
            "blue",
        ),
    ),
    Department(
        ("backpack", "wallet", "belt", "tote bag", "watch strap", "key ring", "laptop sleeve"),
        ("leather", "canvas", "suede", "waxed cotton", "cork", "nylon"),
        (
            "brown",
            "black",
            "tan",
            "slim",
            "double",
            "braided",
            "everyday",
            "travel",
            "compact",
            "olive",
            "stitched",
            "soft",
        ),
    ),
    Department(
        ("hand trowel", "watering can", "bird feeder", "garden bench", "seed box", "planter", "pair of shears"),
        ("steel", "cedar", "zinc", "teak", "cast iron", "larch"),
        (
            "classic",
            "long",
            "painted",
            "light",
            "sturdy",
            "galvanised",
            "small",
            "curved",
            "corner",
            "hanging",
            "green",
            "red",
        ),
    ),
)


def category_names(count: int) -> list[str]:
    """Names of `count` categories, departments by turns; past the list they are numbered."""
    listed = _listed()
    return [
        listed[number % len(listed)][1] + (f" {number // len(listed) + 1}" if number >= len(listed) else "")
        for number in range(count)
    ]


def item_names(assortment: Assortment) -> list[str]:
    """A name for each item, all different: style, material (the sub-taste) and product."""
    listed = _listed()
    names: list[str] = []
    for category, (begin, end) in enumerate(zip(assortment.begins[:-1], assortment.begins[1:], strict=True)):
        department, product = listed[category % len(listed)]
        product += f" {category // len(listed) + 1}" if category >= len(listed) else ""
        tastes = int(assortment.tastes[category])
        # The most popular has no style at all, then come one word, then two.
        adjectives = [words for length in range(3) for words in permutations(department.styles, length)]
        for place in range(int(end - begin)):
            rank, taste = divmod(place, tastes)
            material = department.materials[taste % len(department.materials)]
            edition, style = divmod(rank, len(adjectives))
            words = list(adjectives[style])
            if taste >= len(department.materials):
                words.append(f"type {taste + 1}")
            number = [f"no. {edition + 1}"] if edition else []
            names.append(" ".join([*words, material, product, *number]))
    return names


def materials(assortment: Assortment) -> list[str]:
    """The material of each item, which is its sub-taste."""
    listed = _listed()
    found: list[str] = []
    for category, (begin, end) in enumerate(zip(assortment.begins[:-1], assortment.begins[1:], strict=True)):
        of_department = listed[category % len(listed)][0].materials
        tastes = int(assortment.tastes[category])
        found += [of_department[place % tastes % len(of_department)] for place in range(int(end - begin))]
    return found


def _listed() -> list[tuple[Department, str]]:
    """Every (department, product), the departments by turns."""
    longest = max(len(department.products) for department in DEPARTMENTS)
    return [
        (department, department.products[turn])
        for turn in range(longest)
        for department in DEPARTMENTS
        if turn < len(department.products)
    ]
