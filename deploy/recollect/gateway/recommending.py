"""Answer Recommend: candidates from one index, ranked by one model, filtered and displayed by one catalogue, whatever
is swapped in meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recollect.gateway.catalogue import CatalogueUse, FiltersOfModel, names_of
from recollect.gateway.display import displayed
from recollect.gateway.explanations import degraded_by, explanations
from recollect.gateway.metadata_checks import check_item_filter
from recollect.gateway.models import ServedModel
from recollect.gateway.serving_log import keep
from recollect.gateway.validation import Violations, check_as_of, check_display
from recollect.indexes.serving import ServedIndex
from recollect.telemetry.answers import answered
from recollect.telemetry.stages import stage
from recollect_api.v1 import metadata_pb2, recommender_pb2
from recsys.history.serving_log import ServingLog
from recsys.history.store import History
from recsys.metadata import ItemFilter
from recsys.recommending.candidates import CandidateConfig
from recsys.recommending.recommender import Allowed, Recommender

MAX_COUNT, DEFAULT_COUNT = 1_000, 20
MAX_EXCLUDED = 10_000
MAX_CATEGORIES = 1_000

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendCall:
    """A Recommend request that is in order."""

    user_id: str
    count: int
    before_ms: int | None
    """Behaviours strictly earlier than this count, milliseconds since the Unix epoch; None for all."""
    exclude_seen: bool
    excluded: Ids
    categories: Ids
    """Empty for all."""
    most_of_a_category: int | None
    wanted: ItemFilter | None
    """What must be true of an item by the catalogue; None where the request says nothing."""
    display: tuple[str, ...]


def check_recommend(request: recommender_pb2.RecommendRequest) -> RecommendCall:
    """What `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_user(request.user_id)
    violations.require_request_id(request.request_id)
    if not 0 <= request.count <= MAX_COUNT:
        violations.add("count", f"must be 0 to {MAX_COUNT}, got {request.count}; 0 means {DEFAULT_COUNT}")
    if request.max_per_category < 0:
        violations.add("max_per_category", f"must be 0 or more, got {request.max_per_category}; 0 means no limit")
    excluded = _ids(violations, "exclude_item_ids", request.exclude_item_ids, MAX_EXCLUDED)
    categories = _ids(violations, "category_ids", request.category_ids, MAX_CATEGORIES)
    before_ms = check_as_of(violations, request)
    wanted = check_item_filter(violations, "filter", request.filter)
    display = check_display(violations, request.display)
    violations.raise_any()
    return RecommendCall(
        user_id=request.user_id,
        count=request.count or DEFAULT_COUNT,
        before_ms=before_ms,
        exclude_seen=request.exclude_seen if request.HasField("exclude_seen") else True,
        excluded=excluded,
        categories=categories,
        most_of_a_category=request.max_per_category or None,
        wanted=wanted,
        display=display,
    )


@stage("recommending")
def answer_recommend(
    request: recommender_pb2.RecommendRequest,
    call: RecommendCall,
    model: ServedModel,
    index: ServedIndex,
    history: History | None,
    config: CandidateConfig,
    use: CatalogueUse | None,
    filters: FiltersOfModel,
    serving_log: ServingLog | None = None,
) -> recommender_pb2.RecommendResponse:
    """Find, rank and put the answer together; blocking."""
    behaviours = np.empty(0, dtype=np.int64) if history is None else history.item_ids
    allowed = _of_categories(model, call.categories) if len(call.categories) else None
    popular, matching = None, None
    if use is not None and use.settled is not None:
        of_model = filters.of(model, use.catalogue)
        passing = of_model.passing(use.settled)
        allowed = _both(allowed, of_model.allowed(passing))
        popular, matching = passing.popular, passing.matching
    recommender = Recommender(
        rank=model.ranker.rank,
        neighbours=index.neighbours,
        catalogue=model.catalogue,
        popularity=model.popularity,
        config=config,
    )
    found = recommender.recommend(
        behaviours,
        call.count,
        exclude_seen=call.exclude_seen,
        excluded=call.excluded,
        allowed=allowed,
        popular=popular,
        most_of_a_category=call.most_of_a_category,
    )
    told: list[recommender_pb2.Explanation | None] = [None] * len(found.item_ids)
    sampled = serving_log is not None and history is not None and serving_log.samples()
    if request.explain or sampled:
        ranking = model.ranker.rank(behaviours, found.item_ids, explain=True)
        if request.explain:
            told = list(explanations(len(told), history, ranking, names_of(use)))
        if sampled and serving_log is not None and history is not None:
            keep(
                serving_log,
                call="recommend",
                user_id=call.user_id,
                request_id=request.request_id,
                before_ms=call.before_ms,
                model=model,
                index=f"{index.name}/{index.version}",
                history=history,
                item_ids=found.item_ids,
                ranking=ranking,
            )
    shown: list[metadata_pb2.ItemMetadata | None] = [None] * len(found.item_ids)
    if use is not None and use.display:
        shown = displayed(use.catalogue.metadata, found.item_ids, use.display)
    naming = names_of(use)
    called = {} if naming is None else naming(np.unique(found.behaviours))
    rows = zip(
        found.item_ids, found.scores, found.origins, found.behaviours, found.similarities, told, shown, strict=True
    )
    degraded = degraded_by(history, unknown=False)
    answered(
        "Recommend",
        history=None if history is None else len(behaviours),
        candidates=found.candidates,
        degraded=degraded,
    )
    return recommender_pb2.RecommendResponse(
        items=[
            recommender_pb2.RecommendedItem(
                item_id=int(item_id),
                score=float(score),
                origin=recommender_pb2.CandidateOrigin.ValueType(int(origin)),
                because_item_id=int(because),
                similarity=float(similarity),
                explanation=explanation,
                metadata=metadata,
                because_name=called.get(int(because), ""),
            )
            for item_id, score, origin, because, similarity, explanation, metadata in rows
        ],
        model_name=model.name,
        model_version=model.version,
        index_name=index.name,
        index_version=index.version,
        history_version=0 if history is None else history.version,
        history_length=len(behaviours),
        candidates=found.candidates,
        degraded=degraded,
        request_id=request.request_id,
        catalogue_name="" if use is None else use.catalogue.name,
        catalogue_version="" if use is None else use.catalogue.version,
        matching_items=matching,
    )


def _both(one: Allowed | None, other: Allowed) -> Allowed:
    if one is None:
        return other

    def allowed(item_ids: Ids) -> npt.NDArray[np.bool_]:
        return one(item_ids) & other(item_ids)

    return allowed


def _of_categories(model: ServedModel, categories: Ids) -> Allowed:
    catalogue = model.catalogue

    def allowed(item_ids: Ids) -> npt.NDArray[np.bool_]:
        own = catalogue.category_ids[catalogue.category_rows[catalogue.rows_of(item_ids)]]
        return np.isin(own, categories)

    return allowed


def _ids(violations: Violations, name: str, given: Sequence[int], most: int) -> Ids:
    ids = np.fromiter(given, dtype=np.int64, count=len(given))
    if len(ids) > most:
        violations.add(name, f"must be at most {most:,} ids, got {len(ids):,}; send fewer")
    for at in np.flatnonzero(ids < 0).tolist():
        violations.add(f"{name}[{at}]", f"must be 0 or more, got {ids[at]}; send an id of the catalogue")
    return ids
