"""Measure ranking quality: AUC, AUC by user, and log loss."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Quality of scores against labels."""

    auc: float
    """Probability that a positive scores above a negative, ties counted half; NaN without both."""
    gauc: float
    """Mean of the users' AUC, weighted by their samples; users without both labels are left out."""
    logloss: float
    """Mean negative log likelihood, nats."""
    n_samples: int
    """Scored targets."""
    n_users: int
    """Users with a scored target."""

    def as_dict(self) -> dict[str, float]:
        """Field name → value."""
        return asdict(self)


def measure(
    scores: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.uint8], users: npt.NDArray[np.int32]
) -> Metrics:
    """Metrics of `scores` (probabilities, any shape) for `labels` and `users` of the same shape."""
    frame = pl.DataFrame({"score": scores.ravel(), "label": labels.ravel() == 1, "user": users.ravel()})
    by_user = (
        frame.with_columns(pl.col("score").rank("average").over("user").alias("rank"))
        .group_by("user")
        .agg(_auc(), pl.len().alias("samples"))
        .filter(pl.col("auc").is_not_nan())
    )
    aucs, weights = by_user["auc"].to_numpy(), by_user["samples"].to_numpy()
    gauc = float(np.average(aucs, weights=weights)) if len(by_user) else float("nan")
    likelihood = np.where(frame["label"].to_numpy(), scores.ravel(), 1 - scores.ravel().astype(np.float64))
    return Metrics(
        auc=float(frame.with_columns(pl.col("score").rank("average").alias("rank")).select(_auc()).item()),
        gauc=gauc,
        logloss=float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        n_samples=len(frame),
        n_users=frame["user"].n_unique(),
    )


def _auc() -> pl.Expr:
    """Mann–Whitney U of the positives over the number of pairs, from average ranks in column "rank"."""
    positives = pl.col("label").sum().cast(pl.Float64)
    negatives = pl.len() - positives
    rank_sum = pl.col("rank").filter(pl.col("label")).sum()
    return ((rank_sum - positives * (positives + 1) / 2) / (positives * negatives)).alias("auc")
