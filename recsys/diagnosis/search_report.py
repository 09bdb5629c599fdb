"""What was found about searches, as tables, Markdown and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.diagnosis.estimates import mean_by_user
from recsys.diagnosis.relevance import Relevance, information_of
from recsys.diagnosis.search_quality import (
    IN_FAVOUR,
    INFORMATION,
    OTHER_HALF,
    RANDOM,
    RECENT,
    SAME_CATEGORY,
    Measured,
)
from recsys.diagnosis.subjects import Variants
from recsys.plots import new_figure, new_panels, save_figure

BY_CATEGORY = "by category"
"""What is added to a model's name for its search with the embeddings of items set to zero."""
_WITHOUT_MODEL = (OTHER_HALF, SAME_CATEGORY, RECENT, RANDOM)
_MAP_ROWS = 10
"""Behaviour categories of a heat map."""
Floats = npt.NDArray[np.float64]


def by_category(name: str) -> str:
    """The name of a model's search by category and position alone."""
    return f"{name}, {BY_CATEGORY}"


def ndcg_rows(measured: Measured, variants: Variants) -> list[dict[str, Any]]:
    """One row a variant, and one an order that needs no model: mean NDCG over its seeds and samples, with the standard
    error over users, and how far it lies from the first variant's, sample by sample."""
    first = next(iter(variants.names.values()))
    rows = [_ndcg_row(measured, variant, names, first) for variant, names in variants.names.items()]
    return rows + [_ndcg_row(measured, name, (name,), first, model=False) for name in _WITHOUT_MODEL]


def _ndcg_row(
    measured: Measured, title: str, names: Sequence[str], first: Sequence[str], *, model: bool = True
) -> dict[str, Any]:
    row: dict[str, Any] = {"search": title, "models": len(names) if model else None}
    for column, grades, of in (
        ("ndcg", INFORMATION, str),
        ("ndcg_by_category", INFORMATION, by_category),
        ("ndcg_in_favour", IN_FAVOUR, str),
    ):
        each = [measured.ndcg.get((grades, of(name))) for name in names]
        known = [values for values in each if values is not None]
        if not known:
            row |= {column: None, f"{column}_error": None, f"{column}_seeds": None}
            continue
        mean = mean_by_user(np.mean(known, axis=0), measured.users)
        seeds = [float(np.nanmean(values)) for values in known]
        spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
        row |= {column: mean.value, f"{column}_error": mean.error, f"{column}_seeds": spread}
        if column == "ndcg" and title != OTHER_HALF:
            less = np.mean(known, axis=0) - np.mean([measured.ndcg[grades, name] for name in first], axis=0)
            difference = mean_by_user(less, measured.users)
            row |= {"less_first": difference.value, "less_first_error": difference.error}
    return {"less_first": None, "less_first_error": None, **row}


def cell_table(measured: Measured, relevance: Relevance, catalogue: Catalogue) -> pl.DataFrame:
    """One row for each (target category, behaviour category, bin) that occurs in training: counts, mutual information,
    and, for the mapped target categories, the behaviours that were met and what attention they got, model by model."""
    counts = relevance.counts
    place, category, position = np.nonzero(counts.sum(axis=-1))
    mapped = place < len(measured.attention.categories)
    frame: dict[str, Any] = {
        "target_category": [category_name(catalogue, int(row)) for row in relevance.categories[place]],
        "behaviour_category": [category_name(catalogue, int(row)) for row in category],
        "positions": np.array(relevance.config.bin_names())[position],
        "beside_positives": counts[place, category, position, 1],
        "beside_negatives": counts[place, category, position, 0],
        "information_bits": information_of(counts)[place, category, position],
    }
    at = place[mapped], category[mapped], position[mapped]
    met = np.zeros(len(place), dtype=np.int64)
    met[mapped] = measured.attention.behaviours[at]
    frame["behaviours_met"] = met
    for name, lift in measured.attention.lifts.items():
        lifts = np.full(len(place), np.nan)
        lifts[mapped] = lift[at]
        frame[f"attention: {name}"] = lifts
    return pl.DataFrame(frame)


def category_name(catalogue: Catalogue, row: int) -> str:
    """What to show a person for a category row."""
    if row == UNKNOWN_ROW:
        return "none"
    return str(catalogue.category_ids[row]) if catalogue.category_keys is None else str(catalogue.category_keys[row])


def draw_ndcg(rows: Sequence[Mapping[str, Any]], k: int, path: Path) -> None:
    """Write a PNG with a bar a variant, whole and by category alone; lines across are orders that need no model."""
    figure, axes = new_figure(f"NDCG@{k} against mutual information", "")
    models = [row for row in rows if row["models"] is not None]
    places = np.arange(len(models))[::-1]
    for shift, column, label in ((0.2, "ndcg", "as it searches"), (-0.2, "ndcg_by_category", BY_CATEGORY + " alone")):
        values = [row[column] for row in models]
        axes.barh(places + shift, values, 0.38, xerr=[row[f"{column}_error"] for row in models], label=label)
    for number, row in enumerate(row for row in rows if row["models"] is None):
        axes.axvline(row["ndcg"], linestyle=("-", "--", "-.", ":")[number], color="black", label=row["search"])
    axes.set_yticks(places, [str(row["search"]) for row in models])
    axes.set_xlim(0, 1)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    save_figure(figure, path)


def draw_attention(
    measured: Measured, relevance: Relevance, catalogue: Catalogue, variants: Variants, target: int, path: Path
) -> None:
    """Write a PNG for the `target`-th mapped target category: mutual information beside what attention each behaviour
    category gets, by bin of positions. Each map has its own scale, from nothing to its greatest; what a cell holds is
    written in it: bits · 10³, or how many times the attention of an average behaviour."""
    category = int(measured.attention.categories[target])
    behaviours = measured.attention.behaviours[target]
    often = np.argsort(-behaviours.sum(axis=1), kind="stable")
    often = often[(often != category) & (often != UNKNOWN_ROW)][: _MAP_ROWS - 1]
    shown = np.array([category, *often])
    information = information_of(relevance.counts[target : target + 1])[0][shown] * 1_000
    maps = [("mutual information, bits · 10³", information.astype(np.float64))]
    for variant, names in variants.names.items():
        lifts = np.array([measured.attention.lifts[name][target][shown] for name in names])
        maps.append((f"{variant}: attention", np.mean(lifts, axis=0)))
    figure, panels = new_panels(1, len(maps), size=(3.1, 0.34 * len(shown) + 1.2), share_y=True)
    names_of_bins = relevance.config.bin_names()
    for axes, (title, values) in zip(panels[0], maps, strict=True):
        greatest = np.nanmax(values, initial=0.0, where=~np.isnan(values)) or 1.0
        axes.imshow(values / greatest, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        for row, column in np.argwhere(~np.isnan(values)):
            strong = values[row, column] > 0.6 * greatest
            text = f"{values[row, column]:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if strong else "black")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names_of_bins)), names_of_bins, fontsize=7, rotation=45)
        axes.grid(visible=False)
    panels[0, 0].set_yticks(range(len(shown)), [category_name(catalogue, int(row)) for row in shown], fontsize=8)
    figure.suptitle(f"Targets of category {category_name(catalogue, category)}; behaviours by category and position")
    save_figure(figure, path)


def ndcg_markdown(rows: Sequence[Mapping[str, Any]], k: int) -> str:
    """The rows of `ndcg_rows` as a table."""
    first = rows[0]["search"]
    lines = [
        f"| search | models | NDCG@{k} | seeds' sd | less {first}'s | by category alone | graded in favour only |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        less = "" if row["search"] == first else with_error(row["less_first"], row["less_first_error"], sign="+")
        cells = [
            str(row["models"] or ""),
            with_error(row["ndcg"], row["ndcg_error"]),
            number(row["ndcg_seeds"], 4),
            less,
            with_error(row["ndcg_by_category"], row["ndcg_by_category_error"]),
            with_error(row["ndcg_in_favour"], row["ndcg_in_favour_error"]),
        ]
        lines.append(f"| {row['search']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int, sign: str = "") -> str:
    """`value` to so many digits, nothing for None."""
    return "" if value is None else f"{value:{sign},.{digits}f}"


def with_error(value: float | None, error: float | None, sign: str = "") -> str:
    """`value` ± `error`, nothing for None."""
    if value is None:
        return ""
    known = error is not None and not np.isnan(error)
    return f"{value:{sign}.4f} ± {error:.4f}" if known else f"{value:{sign}.4f}"
