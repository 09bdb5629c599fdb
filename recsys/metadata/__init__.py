"""What a shop tells of its items (names, categories, images, prices, availability): read, filtered by, displayed."""

from recsys.metadata.filters import FilterError, FilterProblem, ItemFilter
from recsys.metadata.items import Availability, CatalogueFacts, ItemMetadata

__all__ = ["Availability", "CatalogueFacts", "FilterError", "FilterProblem", "ItemFilter", "ItemMetadata"]
