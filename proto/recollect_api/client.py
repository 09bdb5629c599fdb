"""Call the service: one client that blocks and one that is awaited, with the same methods and the same answers."""

from recollect_api.classification_calls import AsyncClassificationCalls, ClassificationCalls
from recollect_api.composed_calls import AsyncComposedCalls, ComposedCalls
from recollect_api.history_calls import AsyncHistoryCalls, HistoryCalls
from recollect_api.recommender_calls import AsyncRecommenderCalls, RecommenderCalls


class RecollectClient(RecommenderCalls, HistoryCalls, ClassificationCalls, ComposedCalls):
    """Blocking client; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all, such as a time without a time zone.
    """


class AsyncRecollectClient(AsyncRecommenderCalls, AsyncHistoryCalls, AsyncClassificationCalls, AsyncComposedCalls):
    """Client for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block.

    Same methods, answers and errors as `RecollectClient`.
    """
