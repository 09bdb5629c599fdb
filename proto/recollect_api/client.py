"""Call the service: one client that blocks and one that is awaited, with the same methods and the same answers."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime

from recollect_api import wire
from recollect_api.classification_calls import AsyncClassificationCalls, ClassificationCalls
from recollect_api.composed_calls import AsyncComposedCalls, ComposedCalls
from recollect_api.connections import either
from recollect_api.records import AppendResult, Behaviour, Event, HistoryPage, Recommendations, Scores


class RecollectClient(ClassificationCalls, ComposedCalls):
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

    def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`."""
        request = wire.append_request(user_id, events, request_id=request_id)
        response = self._ask(lambda stubs: stubs.histories.Append, request, either(timeout_s, self.timeout_s))
        return wire.append_result(response)

    def list_history(
        self, user_id: str, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service."""
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token)
        response = self._ask(lambda stubs: stubs.histories.List, request, either(timeout_s, self.timeout_s))
        return wire.history_page(response)

    def history(self, user_id: str, *, page_size: int = 0) -> Iterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_history(user_id, page_size=page_size, page_token=token)
            yield from page.behaviours
            token = page.next_page_token
            if not token:
                return


class AsyncRecollectClient(AsyncClassificationCalls, AsyncComposedCalls):
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

    async def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`."""
        request = wire.append_request(user_id, events, request_id=request_id)
        response = await self._ask(lambda stubs: stubs.histories.Append, request, either(timeout_s, self.timeout_s))
        return wire.append_result(response)

    async def list_history(
        self, user_id: str, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service."""
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token)
        response = await self._ask(lambda stubs: stubs.histories.List, request, either(timeout_s, self.timeout_s))
        return wire.history_page(response)

    async def history(self, user_id: str, *, page_size: int = 0) -> AsyncIterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_history(user_id, page_size=page_size, page_token=token)
            for behaviour in page.behaviours:
                yield behaviour
            token = page.next_page_token
            if not token:
                return
