"""Use a catalogue in an answer: one version of it, for what is filtered and for what is displayed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from recollect.catalogues.serving import CatalogueSlot, ServedCatalogue
from recollect.gateway.display import names
from recollect.gateway.errors import CatalogueNotServed, InvalidCall, Violation
from recollect.gateway.explanations import Names
from recollect.gateway.models import ServedModel
from recsys.metadata import FilterError, ItemFilter
from recsys.recommending.filtering import ItemFilters

log = logging.getLogger(__name__)

_FEW = 0.5
"""Share of a model's items that a catalogue should have at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueUse:
    """The catalogue that one call is answered by, and what for."""

    catalogue: ServedCatalogue
    settled: ItemFilter | None
    """What items must pass; None where all do."""
    display: tuple[str, ...]
    """Columns to tell of each item."""


def use_catalogue(
    slot: CatalogueSlot | None, wanted: ItemFilter | None, display: Sequence[str], *, filters: bool
) -> CatalogueUse | None:
    """The catalogue that answers now, taken once; None where there is none.

    `filters` says whether items are filtered at all. CatalogueNotServed where `wanted` is given and there is none;
    InvalidCall names what the catalogue knows nothing of. Without a catalogue nothing is displayed, which is no error:
    callers may ask for names wherever they can be had.
    """
    if slot is None:
        if wanted is not None and wanted != ItemFilter(in_stock=False):
            raise CatalogueNotServed(
                "this service runs without a catalogue, which `filter` needs; start it with --catalogue, shop@stable "
                "for one, or leave `filter` out"
            )
        return None
    catalogue = slot.current
    metadata = catalogue.metadata
    wrong = [
        Violation(field=f"display[{at}]", description=description)
        for at, description in metadata.unknown_columns(display)
    ]
    settled = None
    try:
        settled = metadata.settled(wanted) if filters else None
    except FilterError as error:
        wrong += [Violation(field=f"filter.{each.field}", description=each.description) for each in error.problems]
    if wrong:
        raise InvalidCall(wrong)
    return CatalogueUse(catalogue=catalogue, settled=settled, display=tuple(display))


def names_of(use: CatalogueUse | None) -> Names | None:
    """How items are called, where names are displayed."""
    return partial(names, use.catalogue.metadata) if use is not None and "name" in use.display else None


class FiltersOfModel:
    """What of a model that answers passes filters of the catalogue that answers, looked up once for both."""

    def __init__(self) -> None:
        self._made: tuple[tuple[ServedModel, ServedCatalogue, ItemFilters], ...] = ()
        """The latest of them: two models answer while one of them is tried."""

    def of(self, model: ServedModel, catalogue: ServedCatalogue) -> ItemFilters:
        """The filters of these two; blocking the first time."""
        for of_model, of_catalogue, filters in self._made:
            if of_model is model and of_catalogue is catalogue:
                return filters
        filters = ItemFilters(model.catalogue, model.popularity.item_ids, catalogue.metadata)
        if filters.known < _FEW:
            log.warning(
                "catalogue %s/%s has %.0f %% of the items of model %s: were its ids read as the log's (--ids)?",
                catalogue.name,
                catalogue.version,
                100 * filters.known,
                model.reference,
            )
        self._made = ((model, catalogue, filters), *self._made)[:2]
        return filters
