"""Ask a service what a Parquet file of requests holds: those of a log, for one."""

from pathlib import Path

from recollect.batch_scoring.requests import AS_OF, ITEMS, USER, find_requests, plain, read_rows
from recollect.gateway.times import timestamp
from recollect_api.v1 import recommender_pb2

_AT_ONCE = 10_000


def read_requests(source: Path) -> list[bytes]:
    """A Score request of each row, in protobuf's binary form; see `recollect.batch_scoring.requests` for the columns.

    Histories are the service's own: those of a column are left out. SetupError where there are no requests.
    """
    found = find_requests(source)
    return [
        _request(*row)
        for file in found.files
        for rows in read_rows(file, 0, file.rows, at_once=_AT_ONCE)
        for row in plain(rows).select(USER, ITEMS, AS_OF).iter_rows()
    ]


def _request(user_id: str | None, item_ids: list[int | None] | None, as_of_ms: int | None) -> bytes:
    """What is missing is left out: the service refuses it as it would any caller's."""
    request = recommender_pb2.ScoreRequest(
        user_id=user_id or "", item_ids=[item for item in item_ids or [] if item is not None]
    )
    if as_of_ms is not None:
        request.as_of.CopyFrom(timestamp(as_of_ms))
    return request.SerializeToString()
