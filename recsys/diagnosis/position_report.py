"""Whether place counts, as tables, Markdown and plots."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.diagnosis.estimates import mean_by_user
from recsys.diagnosis.planting import PlantConfig
from recsys.diagnosis.positions import Planted, mean_of
from recsys.diagnosis.search_report import with_error
from recsys.diagnosis.subjects import Variants
from recsys.plots import new_panels, save_figure

_FIGURES = {"recall": ("found", "found_shuffled"), "score_change": ("change", "change_shuffled")}


def position_rows(
    measured: Mapping[str, Sequence[Planted]], variants: Variants, config: PlantConfig, k: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row a variant, plant, length and bin, and one a variant, plant and length with the gap between the oldest and
    the newest bin.

    `measured` is of each model, which all keep `k` behaviours. Errors are standard errors over users, of the mean
    over the variant's models; `…_seeds` is the standard deviation of the gap over its models.
    """
    bins: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    for variant, names in variants.names.items():
        for runs in zip(*(measured[name] for name in names), strict=True):
            mean = mean_of(runs)
            common = {"search": variant, "models": len(names), "plant": mean.plant, "length": mean.length}
            bins += [{**common, **row} for row in _bin_rows(mean, config, k)]
            gaps.append({**common, **_gap_row(mean, runs)})
    return bins, gaps


def _bin_rows(mean: Planted, config: PlantConfig, k: int) -> Iterator[dict[str, Any]]:
    edges = config.edges(mean.length)
    for number in range(config.bins):
        row: dict[str, Any] = {
            "bin": number,
            "first_position": int(edges[number]) + 1,
            "last_position": int(edges[number + 1]),
            "targets": int((~np.isnan(mean.change[number])).sum()),
        }
        for name, fields in _FIGURES.items():
            row |= _figures(name, mean.users, [_bin(mean, field, number) for field in fields])
        yield {**row, "recall_by_chance": None if mean.found is None else min(1.0, k / mean.length)}


def _gap_row(mean: Planted, runs: Sequence[Planted]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, fields in _FIGURES.items():
        row |= _figures(f"{name}_gap", mean.users, [_gap(mean, field) for field in fields])
        each = [values for run in runs if (values := _gap(run, fields[0])) is not None]
        means = [float(np.nanmean(values)) for values in each if not np.isnan(values).all()]
        row[f"{name}_gap_seeds"] = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return row


def _figures(
    name: str, users: npt.NDArray[np.int32], parts: Sequence[npt.NDArray[np.float64] | None]
) -> dict[str, float | None]:
    """Mean and error of a figure and of its shuffled control."""
    row: dict[str, float | None] = {}
    for title, values in zip((name, f"{name}_shuffled"), parts, strict=True):
        mean = None if values is None else mean_by_user(values, users)
        row[title], row[f"{title}_error"] = (None, None) if mean is None else (mean.value, mean.error)
    return row


def _bin(planted: Planted, field: str, number: int) -> npt.NDArray[np.float64] | None:
    values = getattr(planted, field)
    return None if values is None else np.asarray(values[number])


def _gap(planted: Planted, field: str) -> npt.NDArray[np.float64] | None:
    values = getattr(planted, field)
    return None if values is None else np.asarray(values[-1] - values[0])


def position_markdown(bins: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]], figure: str) -> str:
    """A table of `figure`, "recall" or "score_change": a row a variant, plant and length, its bins side by side."""
    n_bins = 1 + max(row["bin"] for row in bins)
    heads = ["newest", *[""] * (n_bins - 2), "oldest"]
    chance = ["by chance"] if figure == "recall" else []
    columns = [*heads, "gap, oldest less newest", "seeds' sd", "shuffled", "gap shuffled", *chance]
    lines = [f"| search | plant | length | {' | '.join(columns)} |", f"|---|---|---:|{'---:|' * len(columns)}"]
    for gap in gaps:
        own = [row for row in bins if all(row[name] == gap[name] for name in ("search", "plant", "length"))]
        if own[0][figure] is None:
            continue
        cells = [f"{row[figure]:.3f}" for row in own]
        spread = gap[f"{figure}_gap_seeds"]
        cells += [
            with_error(gap[f"{figure}_gap"], gap[f"{figure}_gap_error"], "+"),
            "" if spread is None else f"{spread:.4f}",
            f"{shuffled_mean(own, figure):.3f}",
            with_error(gap[f"{figure}_gap_shuffled"], gap[f"{figure}_gap_shuffled_error"], "+"),
        ]
        if chance:
            cells.append(f"{own[0]['recall_by_chance']:.3f}")
        lines.append(f"| {gap['search']} | {gap['plant']} | {gap['length']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shuffled_mean(rows: Sequence[Mapping[str, Any]], figure: str) -> float | None:
    """The control's mean over bins, which differ in it by chance alone; None for a model without the figure."""
    known = [row[f"{figure}_shuffled"] for row in rows if row[f"{figure}_shuffled"] is not None]
    return float(np.mean(known)) if known else None


def draw_positions(bins: Sequence[Mapping[str, Any]], figure: str, path: Path) -> bool:
    """Write a PNG of `figure` by position: a column a plant, a row a length; dashed is the shuffled control, in one
    line since it has no place, dotted what chance finds. False where no variant has the figure."""
    known = [row for row in bins if row[figure] is not None]
    if not known:
        return False
    lengths = list(dict.fromkeys(row["length"] for row in known))
    plants = list(dict.fromkeys(row["plant"] for row in known))
    variants = list(dict.fromkeys(row["search"] for row in known))
    figure_, panels = new_panels(len(lengths), len(plants), size=(4.2, 3.0))
    for down, length in enumerate(lengths):
        for across, plant in enumerate(plants):
            axes = panels[down, across]
            for number, variant in enumerate(variants):
                own = [row for row in known if (row["search"], row["plant"], row["length"]) == (variant, plant, length)]
                middle = [(row["first_position"] + row["last_position"]) / 2 for row in own]
                values = [row[figure] for row in own]
                errors = [row[f"{figure}_error"] for row in own]
                axes.errorbar(middle, values, errors, marker="o", markersize=3, color=f"C{number}", label=variant)
                axes.axhline(shuffled_mean(own, figure), linestyle="--", linewidth=0.8, color=f"C{number}", alpha=0.6)
            if figure == "recall":
                chance = next(row["recall_by_chance"] for row in known if row["length"] == length)
                axes.axhline(chance, linestyle=":", color="black", linewidth=0.8)
                axes.set_ylim(-0.03, 1.03)
            axes.set_title(f"planted: {plant}; {length} behaviours", fontsize=9)
            axes.set_xlabel("position, 1 = the most recent")
            axes.set_ylabel(figure.replace("_", " "))
    panels[0, 0].legend(fontsize=6)
    save_figure(figure_, path)
    return True
