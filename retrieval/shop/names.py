"""Read an item's name: which product it is, of what material, in which styles."""

import re
from dataclasses import dataclass
from functools import cache

from retrieval.errors import DatasetError
from retrieval.shop import carry_goods, garden, lighting, pottery, textiles, woodware
from retrieval.shop.materials import MATERIALS
from retrieval.shop.product import Product
from retrieval.shop.styles import STYLES

PRODUCTS: dict[str, Product] = {
    **woodware.PRODUCTS,
    **textiles.PRODUCTS,
    **lighting.PRODUCTS,
    **pottery.PRODUCTS,
    **carry_goods.PRODUCTS,
    **garden.PRODUCTS,
}
_NUMBERS = re.compile(r"( no\. \d+| \d+)+$")
"""What tells apart items and categories that would share a name: "salad bowl 2", "coffee mug no. 3"."""


@dataclass(frozen=True, slots=True)
class ItemLook:
    """What a picture of an item shows."""

    product: str
    """One of `products()`."""
    material: str | None
    """One of `MATERIALS`; None where the name gives none."""
    styles: frozenset[str]
    """Those of the name's words that are styles."""


def products() -> tuple[str, ...]:
    """Every product that can be drawn."""
    return tuple(PRODUCTS)


def parse(name: str) -> ItemLook:
    """The look that `name` asks for, "speckled stoneware coffee mug" for instance.

    The product comes last, apart from numbers; other words may be missing or unknown. DatasetError: no known product.
    """
    words = _NUMBERS.sub("", " ".join(name.lower().split()))
    product = max((known for known in PRODUCTS if _ends_with(words, known)), key=len, default=None)
    if product is None:
        known = ", ".join(PRODUCTS)
        raise DatasetError(f"item name must end in a product that can be drawn, got {name!r}; known are {known}")
    adjectives = words[: len(words) - len(product)].strip()
    found = [known for known in MATERIALS if _holds(adjectives, known)]
    # "waxed cotton" is not cotton.
    material = max(found, key=len, default=None)
    if material is not None:
        adjectives = re.sub(rf"\b{material}\b", " ", adjectives)
    return ItemLook(product=product, material=material, styles=frozenset(adjectives.split()) & STYLES)


def _ends_with(words: str, known: str) -> bool:
    return words == known or words.endswith(f" {known}")


def _holds(adjectives: str, known: str) -> bool:
    return _pattern(known).search(adjectives) is not None


@cache
def _pattern(known: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S){re.escape(known)}(?!\S)")
