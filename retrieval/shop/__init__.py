"""Pictures of the demo shop's items, drawn from their names, so that everything visual runs without a photograph."""

from retrieval.shop.captioned import captions, first_pictures, write_pictures
from retrieval.shop.names import ItemLook, parse, products
from retrieval.shop.picture import render

__all__ = ["ItemLook", "captions", "first_pictures", "parse", "products", "render", "write_pictures"]
