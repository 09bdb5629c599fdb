"""Read what a service is to be asked from a Parquet file: the requests of a log, for one."""

from pathlib import Path

import polars as pl

from recollect.errors import SetupError
from recollect_api.v1 import recommender_pb2


def read_requests(path: Path) -> list[bytes]:
    """A Score request of each row, in protobuf's binary form: column `user_id` (text) and `item_ids` (list of whole
    numbers). SetupError where the file cannot be read or lacks them."""
    try:
        rows = pl.read_parquet(path, columns=["user_id", "item_ids"])
        rows = rows.cast({"user_id": pl.String, "item_ids": pl.List(pl.Int64)})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SetupError(
            f"cannot read requests from {path} ({str(error).splitlines()[0]}); it needs the columns user_id (text) and "
            "item_ids (list of whole numbers)"
        ) from error
    if rows.is_empty():
        raise SetupError(f"{path} has no rows; write one for each call")
    return [
        recommender_pb2.ScoreRequest(user_id=user_id, item_ids=item_ids or []).SerializeToString()
        for user_id, item_ids in rows.iter_rows()
    ]
