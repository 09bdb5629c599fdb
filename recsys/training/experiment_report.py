"""What an experiment found: a table with its spread over seeds, and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.errors import DataError
from recsys.models.kinds import has_attention_size, model_kind
from recsys.plots import new_figure, save_figure
from recsys.training.metrics import Metrics

_QUALITY = {"auc": "AUC", "gauc": "GAUC", "logloss": "log loss"}
_SPEED = {"trained_per_cpu_s": "trained a CPU-second", "scored_per_cpu_s": "scored a CPU-second"}


def table_of(results: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """One row a run: variant, model, sizes, seed, metrics of the test samples, speeds and the validations' AUC."""
    if not results:
        raise DataError("there must be at least one finished run to put in a table")
    return pl.DataFrame(results)


def markdown(runs: pl.DataFrame, optimum: Metrics | None = None) -> str:
    """Mean ± standard deviation over seeds of each variant, in the order of the runs; the difference from the first
    variant's AUC is taken seed by seed. An `optimum` that is known has the last row, and the distance from it a column.
    """
    first = runs.filter(pl.col("variant") == runs["variant"][0])
    less_best = [] if optimum is None else ["AUC less the optimum's"]
    heads = [*_QUALITY.values(), f"AUC less {first['variant'][0]}'s", *less_best, *_SPEED.values()]
    lines = [f"| model | seeds | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for (variant,), own in runs.group_by(["variant"], maintain_order=True):
        quality = [_spread(own[name], 4) for name in _QUALITY]
        paired = own.join(first, on="seed", suffix="_first")
        less = "" if variant == runs["variant"][0] else _spread(paired["auc"] - paired["auc_first"], 4, sign="+")
        far = [] if optimum is None else [_spread(own["auc"] - optimum.auc, 4, sign="+")]
        speeds = [_spread(own[name], 0) for name in _SPEED]
        lines.append(f"| {variant} | {len(own)} | {' | '.join([*quality, less, *far, *speeds])} |")
    if optimum is not None:
        quality = [f"{value:.4f}" for value in (optimum.auc, optimum.gauc, optimum.logloss)]
        less = _spread(optimum.auc - first["auc"], 4, sign="+")
        lines.append(f"| optimum |  | {' | '.join([*quality, less])} |{'  |' * (1 + len(_SPEED))}")
    return "\n".join(lines) + "\n"


def _spread(values: pl.Series, digits: int, sign: str = "") -> str:
    known = values.drop_nulls().to_numpy()
    if not len(known):
        return ""
    mean = f"{known.mean():{sign},.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std(ddof=1):,.{digits}f}"


def draw_learning_curves(runs: pl.DataFrame, path: Path) -> None:
    """Write a PNG of the validation AUC by step: the mean of the seeds, and the range that they lie in."""
    figure, axes = new_figure("step", "validation AUC")
    for (variant,), own in runs.group_by(["variant"], maintain_order=True):
        curves = np.array(own["validation_auc"].to_list())  # [seeds, validations]
        steps = own["validation_step"][0].to_numpy()
        (line,) = axes.plot(steps, curves.mean(axis=0), marker="o", markersize=3, label=str(variant))
        axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.15)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def draw_attention_sizes(runs: pl.DataFrame, path: Path) -> bool:
    """Write a PNG of the test AUC by attention size; models with one set are lines across. False where no model has
    more than one size."""
    sizes = runs.group_by("model").agg(pl.col("attention_dim").n_unique())
    if sizes["attention_dim"].max() == 1:
        return False
    figure, axes = new_figure("size of each attention embedding", "test AUC")
    axes.set_xscale("log", base=2)
    for (model,), own in runs.group_by(["model"], maintain_order=True):
        if has_attention_size(model_kind(str(model))):
            by_size = own.group_by("attention_dim").agg(pl.col("auc").mean(), _deviation()).sort("attention_dim")
            axes.errorbar(
                *(by_size["attention_dim"].to_numpy(), by_size["auc"].to_numpy(), by_size["deviation"].to_numpy()),
                marker="o",
                capsize=3,
                label=str(model),
            )
        else:
            mean: Any = own["auc"].mean()
            axes.axhline(mean, linestyle="--", linewidth=1, color=f"C{len(axes.get_lines())}", label=str(model))
    present: npt.NDArray[np.int64] = runs["attention_dim"].unique().sort().to_numpy()
    axes.set_xticks(present, [str(size) for size in present])
    axes.legend(fontsize=8)
    save_figure(figure, path)
    return True


def _deviation() -> pl.Expr:
    return pl.col("auc").std().fill_null(0.0).alias("deviation")
