"""Call the service: one client that blocks and one that is awaited, with the same methods and the same answers."""

from collections.abc import Sequence
from datetime import datetime

from recollect_api import wire
from recollect_api.classification_calls import AsyncClassificationCalls, ClassificationCalls
from recollect_api.composed_calls import AsyncComposedCalls, ComposedCalls
from recollect_api.connections import either
from recollect_api.history_calls import AsyncHistoryCalls, HistoryCalls
from recollect_api.records import Recommendations, Scores


class RecollectClient(HistoryCalls, ClassificationCalls, ComposedCalls):
    """Blocking client; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all, such as a time without a time zone.
    """

    def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all)."""
        request = wire.score_request(user_id, item_ids, as_of=as_of, explain=explain, request_id=request_id)
        response = self._ask(lambda stubs: stubs.recommender.Score, request, either(timeout_s, self.timeout_s))
        return wire.scores(request, response)

    def recommend(
        self,
        user_id: str,
        count: int = 20,
        *,
        as_of: datetime | None = None,
        exclude_seen: bool = True,
        exclude_item_ids: Sequence[int] = (),
        category_ids: Sequence[int] = (),
        max_per_category: int = 0,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Recommendations:
        """The best `count` items of the whole catalogue for `user_id`, by behaviours strictly earlier than `as_of`.

        Left out are the items of the history, unless `exclude_seen` is False, and `exclude_item_ids`. `category_ids`
        allows no others; `max_per_category` limits each, 0 does not.
        """
        request = wire.recommend_request(
            user_id,
            count,
            as_of=as_of,
            exclude_seen=exclude_seen,
            exclude_item_ids=exclude_item_ids,
            category_ids=category_ids,
            max_per_category=max_per_category,
            explain=explain,
            request_id=request_id,
        )
        response = self._ask(lambda stubs: stubs.recommender.Recommend, request, either(timeout_s, self.timeout_s))
        return wire.recommendations(response)


class AsyncRecollectClient(AsyncHistoryCalls, AsyncClassificationCalls, AsyncComposedCalls):
    """Client for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block.

    Same methods, answers and errors as `RecollectClient`.
    """

    async def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all)."""
        request = wire.score_request(user_id, item_ids, as_of=as_of, explain=explain, request_id=request_id)
        response = await self._ask(lambda stubs: stubs.recommender.Score, request, either(timeout_s, self.timeout_s))
        return wire.scores(request, response)

    async def recommend(
        self,
        user_id: str,
        count: int = 20,
        *,
        as_of: datetime | None = None,
        exclude_seen: bool = True,
        exclude_item_ids: Sequence[int] = (),
        category_ids: Sequence[int] = (),
        max_per_category: int = 0,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Recommendations:
        """The best `count` items of the whole catalogue for `user_id`, by behaviours strictly earlier than `as_of`.

        Left out are the items of the history, unless `exclude_seen` is False, and `exclude_item_ids`. `category_ids`
        allows no others; `max_per_category` limits each, 0 does not.
        """
        request = wire.recommend_request(
            user_id,
            count,
            as_of=as_of,
            exclude_seen=exclude_seen,
            exclude_item_ids=exclude_item_ids,
            category_ids=category_ids,
            max_per_category=max_per_category,
            explain=explain,
            request_id=request_id,
        )
        response = await self._ask(
            lambda stubs: stubs.recommender.Recommend, request, either(timeout_s, self.timeout_s)
        )
        return wire.recommendations(response)
