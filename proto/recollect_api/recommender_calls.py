"""The clients' calls for items: score some, explain them, recommend from all."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime

from recollect_api import recommender_wire as wire
from recollect_api.connections import AsyncConnections, BlockingConnections, either
from recollect_api.errors import ClientError
from recollect_api.metadata_wire import Filters, item_filter
from recollect_api.records import Explanations, Recommendations, ScoreRow, Scores
from recollect_api.score_streams import score_rows, score_rows_async


class RecommenderCalls(BlockingConnections):
    """Recommender for callers that block."""

    def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        display: Sequence[str] = (),
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all).

        `display` names what to tell of each from the catalogue, such as "name" and "price".
        """
        request = wire.score_request(
            user_id, item_ids, as_of=as_of, display=display, explain=explain, request_id=request_id
        )
        response = self._ranked(lambda stubs: stubs.recommender.Score, request, either(timeout_s, self.timeout_s))
        return wire.scores(request, response)

    def score_stream(
        self, rows: Iterable[ScoreRow], *, timeout_s: float | None = None
    ) -> Iterator[tuple[ScoreRow, Scores | ClientError]]:
        """Score row after row, for backfills and rankers: every row of `rows` with its scores, or with the error that
        `score` would have raised for it. They come as they are answered, in no order.

        A few rows are drawn ahead of what is answered. Streams that end or break are followed by others, which take
        what has no answer; `timeout_s` is how long one may bring nothing. Raises what `rows` raises, once the rows
        before are answered; a ClientError where the service takes no rows; Unavailable where it cannot be reached,
        several times.
        """
        timeout_s = either(timeout_s, self.stream_timeout_s)
        return score_rows(
            lambda requests: self._stub().recommender.ScoreStream(requests, timeout=timeout_s), rows, target=self.target
        )

    def explain(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        max_behaviours: int = 0,
        display: Sequence[str] = (),
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Explanations:
        """Why `user_id` is shown the items `item_ids`, 100 at most: the behaviours that each score rests on, the shares
        of their categories, and what the score would be without a history.

        `max_behaviours` are told of each item, 0 for all that were found; with "name" in `display` they have names.
        """
        request = wire.explain_request(
            user_id, item_ids, as_of=as_of, max_behaviours=max_behaviours, display=display, request_id=request_id
        )
        response = self._ranked(lambda stubs: stubs.recommender.Explain, request, either(timeout_s, self.timeout_s))
        return wire.explained(response)

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
        min_price: float | None = None,
        max_price: float | None = None,
        currency: str = "",
        in_stock: bool | None = None,
        categories: Sequence[str] = (),
        filters: Filters | None = None,
        display: Sequence[str] = (),
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Recommendations:
        """The best `count` items of the whole catalogue for `user_id`, by behaviours strictly earlier than `as_of`.

        Left out are the items of the history, unless `exclude_seen` is False, and `exclude_item_ids`. `category_ids`
        allows no others; `max_per_category` limits each, 0 does not.

        By the service's catalogue: `min_price` and `max_price` in `currency` (needed where it has several), `in_stock`
        (None: as the catalogue was imported), names of `categories`, and `filters` as column → values, one of which an
        item must have. `display` names what to tell of each item: "name", "category", "price", "image", "availability"
        and further columns.
        """
        request = wire.recommend_request(
            user_id,
            count,
            as_of=as_of,
            exclude_seen=exclude_seen,
            exclude_item_ids=exclude_item_ids,
            category_ids=category_ids,
            max_per_category=max_per_category,
            filter=item_filter(
                min_price=min_price,
                max_price=max_price,
                currency=currency,
                in_stock=in_stock,
                categories=categories,
                filters=filters,
            ),
            display=display,
            explain=explain,
            request_id=request_id,
        )
        response = self._ranked(lambda stubs: stubs.recommender.Recommend, request, either(timeout_s, self.timeout_s))
        return wire.recommendations(response)


class AsyncRecommenderCalls(AsyncConnections):
    """Recommender for asyncio: same methods, answers and errors as `RecommenderCalls`."""

    async def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        display: Sequence[str] = (),
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all).

        `display` names what to tell of each from the catalogue, such as "name" and "price".
        """
        request = wire.score_request(
            user_id, item_ids, as_of=as_of, display=display, explain=explain, request_id=request_id
        )
        response = await self._ranked(lambda stubs: stubs.recommender.Score, request, either(timeout_s, self.timeout_s))
        return wire.scores(request, response)

    def score_stream(
        self, rows: AsyncIterable[ScoreRow] | Iterable[ScoreRow], *, timeout_s: float | None = None
    ) -> AsyncIterator[tuple[ScoreRow, Scores | ClientError]]:
        """Score row after row, for backfills and rankers: every row of `rows` with its scores, or with the error that
        `score` would have raised for it. They come as they are answered, in no order.

        A few rows are drawn ahead of what is answered. Streams that end or break are followed by others, which take
        what has no answer; `timeout_s` is how long one may bring nothing. Raises what `rows` raises, once the rows
        before are answered; a ClientError where the service takes no rows; Unavailable where it cannot be reached,
        several times.
        """
        timeout_s = either(timeout_s, self.stream_timeout_s)
        return score_rows_async(
            lambda: self._stub().recommender.ScoreStream(timeout=timeout_s), rows, target=self.target
        )

    async def explain(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        max_behaviours: int = 0,
        display: Sequence[str] = (),
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Explanations:
        """Why `user_id` is shown the items `item_ids`, 100 at most: the behaviours that each score rests on, the shares
        of their categories, and what the score would be without a history.

        `max_behaviours` are told of each item, 0 for all that were found; with "name" in `display` they have names.
        """
        request = wire.explain_request(
            user_id, item_ids, as_of=as_of, max_behaviours=max_behaviours, display=display, request_id=request_id
        )
        response = await self._ranked(
            lambda stubs: stubs.recommender.Explain, request, either(timeout_s, self.timeout_s)
        )
        return wire.explained(response)

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
        min_price: float | None = None,
        max_price: float | None = None,
        currency: str = "",
        in_stock: bool | None = None,
        categories: Sequence[str] = (),
        filters: Filters | None = None,
        display: Sequence[str] = (),
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Recommendations:
        """The best `count` items of the whole catalogue for `user_id`, by behaviours strictly earlier than `as_of`.

        Left out are the items of the history, unless `exclude_seen` is False, and `exclude_item_ids`. `category_ids`
        allows no others; `max_per_category` limits each, 0 does not.

        By the service's catalogue: `min_price` and `max_price` in `currency` (needed where it has several), `in_stock`
        (None: as the catalogue was imported), names of `categories`, and `filters` as column → values, one of which an
        item must have. `display` names what to tell of each item: "name", "category", "price", "image", "availability"
        and further columns.
        """
        request = wire.recommend_request(
            user_id,
            count,
            as_of=as_of,
            exclude_seen=exclude_seen,
            exclude_item_ids=exclude_item_ids,
            category_ids=category_ids,
            max_per_category=max_per_category,
            filter=item_filter(
                min_price=min_price,
                max_price=max_price,
                currency=currency,
                in_stock=in_stock,
                categories=categories,
                filters=filters,
            ),
            display=display,
            explain=explain,
            request_id=request_id,
        )
        response = await self._ranked(
            lambda stubs: stubs.recommender.Recommend, request, either(timeout_s, self.timeout_s)
        )
        return wire.recommendations(response)
