"""Answer Recommender: read the history, rank the candidates, say what was missing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio  # type: ignore[import-untyped]

from recollect.catalogues.serving import CatalogueSlot
from recollect.gateway.admission import Admission
from recollect.gateway.catalogue import FiltersOfModel, use_catalogue
from recollect.gateway.errors import RecommendNotServed, ScoreNotServed
from recollect.gateway.explaining import answer_explain, check_explain
from recollect.gateway.history_reading import HistoryReader
from recollect.gateway.models import ServedModel
from recollect.gateway.recommending import answer_recommend, check_recommend
from recollect.gateway.score_stream import ScoreStreams, StreamLimits
from recollect.gateway.scoring import ScoreWork
from recollect.gateway.trial import ModelTrial
from recollect.gateway.validation import ScoreCall, check_score
from recollect.gateway.workers import MOST_TOGETHER, Calling, Priority, Workers, deadline_of, require_time
from recollect.indexes.serving import IndexSlot
from recollect.telemetry.metrics import TURN_QUEUE
from recollect.telemetry.stages import stage
from recollect_api.streams import TAKEN
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc
from recsys.history.serving_log import ServingLog
from recsys.history.store import HistoryStore
from recsys.recommending.candidates import CandidateConfig

_SERVICE = recommender_pb2.DESCRIPTOR.services_by_name["Recommender"]
RANKING_METHODS = tuple(f"/{_SERVICE.full_name}/{name}" for name in ("Score", "Explain", "Recommend"))
"""What takes its turn, and is refused where that would come too late."""


class RecommenderServicer(recommender_pb2_grpc.RecommenderServicer):
    """Scores with the model that `trial` gives a user, over histories from `histories`; recommends from the index in
    `index`; filters and displays by the catalogue in `catalogue`.

    Without a model every call is answered UNIMPLEMENTED.
    """

    def __init__(
        self,
        *,
        trial: ModelTrial,
        histories: HistoryStore,
        workers: Workers,
        admission: Admission,
        history_limit: int,
        max_candidates: int,
        streams: StreamLimits,
        index: IndexSlot | None = None,
        catalogue: CatalogueSlot | None = None,
        candidates: CandidateConfig | None = None,
        serving_log: ServingLog | None = None,
    ) -> None:
        self._log = serving_log
        self._trial = trial
        self._index = index
        self._catalogue = catalogue
        self._filters = FiltersOfModel()
        self._candidates = candidates or CandidateConfig()
        self._histories = HistoryReader(histories, limit=history_limit)
        self._workers = workers
        self._admission = admission
        self._max_candidates = max_candidates
        self._streams = ScoreStreams(streams)
        # Rows of all streams that are worked on: as many as rank together, so that none waits for more than that.
        self._rows = asyncio.Semaphore(MOST_TOGETHER)
        # Calls that are read for and ranked: as many as rank together, and as many that are read for meanwhile. To read
        # at once for all that are let in would make the loop late for the next, and what was read would only wait.
        self._under_way = asyncio.Semaphore(MOST_TOGETHER * (workers.threads + 1))

    async def close(self) -> None:
        """Wait for what the server has given up and not waited for."""
        await self._streams.close()

    async def Score(  # noqa: N802 - gRPC's name, here and below
        self, request: recommender_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ScoreResponse:
        """Score every candidate of `request`, in its order."""
        self._require_served()
        require_time(context)
        until = deadline_of(context)
        async with self._turn(until):  # before the request is checked: what is refused costs time, too
            return await self._scored(request, self._checked(request), Priority.SCORING, until)

    async def ScoreStream(  # type: ignore[override]  # noqa: N802 - it writes its answers to the context
        self, requests: AsyncIterator[recommender_pb2.ScoreStreamRequest], context: grpc.aio.ServicerContext
    ) -> None:
        """Score every row of `requests`, each with an answer of its own, behind whoever waits for a single one."""
        self._require_served()
        # A caller who waits for this never writes to a stream that was refused, which some gRPC libraries mistake.
        await context.send_initial_metadata((TAKEN,))
        until = deadline_of(context)

        async def score(request: recommender_pb2.ScoreRequest) -> recommender_pb2.ScoreResponse:
            call = self._checked(request)
            async with self._rows:
                return await self._scored(request, call, Priority.BATCH, until)

        await self._streams.answer(requests, score, context.write)

    async def Explain(  # noqa: N802
        self, request: recommender_pb2.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ExplainResponse:
        """What the scores of the items of `request` rest on, in their order."""
        self._require_served()
        call = check_explain(request)
        use = use_catalogue(self._catalogue, None, call.display, filters=False) if call.display else None
        require_time(context)
        until = deadline_of(context)
        async with self._turn(until):
            history = await self._histories.read(call.user_id, call.before_ms)

            async def answer(model: ServedModel) -> recommender_pb2.ExplainResponse:
                work = partial(answer_explain, request, call, model, history, use)
                return await self._workers.run(Calling(work), until=until)

            return await self._trial.answer(call.user_id, answer)

    async def Recommend(  # noqa: N802
        self, request: recommender_pb2.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.RecommendResponse:
        """Recommend items of the whole catalogue."""
        self._require_served()
        if self._index is None:
            raise RecommendNotServed("this service runs without an index; start it with --index, items@stable for one")
        call = check_recommend(request)
        # Taken once, as model and index below: what is filtered and what is displayed are of one version.
        use = use_catalogue(self._catalogue, call.wanted, call.display, filters=True)
        require_time(context)
        until = deadline_of(context)
        async with self._turn(until):
            history = await self._histories.read(call.user_id, call.before_ms)
            index = self._index.current

            async def answer(model: ServedModel) -> recommender_pb2.RecommendResponse:
                work = partial(
                    answer_recommend,
                    request,
                    call,
                    model,
                    index,
                    history,
                    self._candidates,
                    use,
                    self._filters,
                    self._log,
                )
                return await self._workers.run(Calling(work), until=until)

            return await self._trial.answer(call.user_id, answer)

    @asynccontextmanager
    async def _turn(self, until: float | None) -> AsyncIterator[None]:
        """The turn of a call: Overloaded where it would come too late, otherwise waited for."""
        with self._admission.turn(until):
            with stage("turn"), TURN_QUEUE.track_inprogress():
                await self._under_way.acquire()
            try:
                yield
            finally:
                self._under_way.release()

    def _checked(self, request: recommender_pb2.ScoreRequest) -> ScoreCall:
        self._require_served()
        return check_score(request, max_candidates=self._max_candidates)

    async def _scored(
        self, request: recommender_pb2.ScoreRequest, call: ScoreCall, priority: Priority, until: float | None
    ) -> recommender_pb2.ScoreResponse:
        use = use_catalogue(self._catalogue, None, call.display, filters=False) if call.display else None
        history = await self._histories.read(call.user_id, call.before_ms)
        work = ScoreWork(request, call, history, use, self._log)

        async def answer(model: ServedModel) -> recommender_pb2.ScoreResponse:
            # What is displayed may take longer to put together than to rank.
            only = priority is Priority.SCORING and use is None and self._admission.inside == 1
            return await self._workers.run(work.to_answer(model), priority=priority, until=until, only=only)

        response = await self._trial.answer(call.user_id, answer)
        self._trial.compare(call.user_id, work, response)
        return response

    def _require_served(self) -> None:
        if not self._trial.served:
            raise ScoreNotServed("this service runs without a recommender; start it without --no-recommender")
