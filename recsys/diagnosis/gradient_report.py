"""What attention's and representation's gradients are to each other, as tables, Markdown and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.diagnosis.gradients import HISTOGRAM_BINS, Conflict
from recsys.diagnosis.search_report import number
from recsys.diagnosis.subjects import Variants
from recsys.plots import new_panels, save_figure

_MEANS = (
    "negative_cosine_rows",
    "negative_cosine_steps",
    "cosine",
    "attention_norm",
    "representation_norm",
    "representation_longer",
)


def gradient_rows(
    conflicts: Mapping[str, Sequence[Conflict]], variants: Variants, *, weights: str
) -> list[dict[str, Any]]:
    """One row a variant and pair of tables; figures are means over its models, counts are sums.

    `conflicts` are those of each model that has them, `weights` says at which weights they were measured.
    """
    rows: list[dict[str, Any]] = []
    for variant, names in variants.names.items():
        measured = [conflicts[name] for name in names if name in conflicts]
        for same in zip(*measured, strict=True):
            each = [conflict.as_row() for conflict in same]
            row: dict[str, Any] = {"search": variant, "weights": weights, "models": len(each)}
            row |= {name: each[0][name] for name in ("table", "shared")}
            row |= {name: sum(one[name] for one in each) for name in ("steps", "rows")}
            for name in _MEANS:
                known = [one[name] for one in each if one[name] is not None]
                row[name] = float(np.mean(known)) if known else None
            histograms = [one["cosines"] for one in each if one["cosines"] is not None]
            row["cosines"] = np.sum(histograms, axis=0).tolist() if histograms else None
            rows.append(row)
    return rows


def gradient_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `gradient_rows` as a table."""
    lines = [
        "| search | weights | table | one for both | rows · steps | negative cosine | steps so on average | mean "
        "cosine | length, attention · 10³ | representation · 10³ | representation longer |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['search']} | {row['weights']} | {row['table']} | {'yes' if row['shared'] else 'no'} "
        f"| {row['rows']:,} | {percent(row['negative_cosine_rows'])} | {percent(row['negative_cosine_steps'])} | "
        f"{number(row['cosine'], 3, '+')} | {thousandths(row['attention_norm'])} | "
        f"{thousandths(row['representation_norm'])} | {percent(row['representation_longer'])} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def draw_gradients(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Write a PNG of how cosines are spread, a panel a table; dotted where no table is shared, so that nothing can
    conflict. False where no row has any."""
    known = [row for row in rows if row["cosines"] is not None]
    if not known:
        return False
    tables = list(dict.fromkeys(row["table"].split(" ")[0] for row in known))
    figure, panels = new_panels(1, len(tables), size=(4.6, 3.6))
    centres = np.linspace(-1, 1, HISTOGRAM_BINS + 1)[:-1] + 1 / HISTOGRAM_BINS
    for axes, table in zip(panels[0], tables, strict=True):
        for row in (row for row in known if row["table"].split(" ")[0] == table):
            shares = np.array(row["cosines"]) / row["rows"]
            of = row["table"].removeprefix(table)
            label = f"{row['search']}{of}, {row['weights']}: {percent(row['negative_cosine_rows'])} negative"
            axes.plot(centres, shares, linestyle="-" if row["shared"] else ":", linewidth=1.2, label=label)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{table} embeddings", fontsize=9)
        axes.set_xlabel("cosine of attention's and representation's gradient")
        axes.set_ylabel("share of rows")
        axes.legend(fontsize=6)
    save_figure(figure, path)
    return True


def percent(value: float | None) -> str:
    """A share as per cent, nothing for None."""
    return "" if value is None else f"{100 * value:.1f} %"


def thousandths(value: float | None) -> str:
    """A length in thousandths, nothing for None."""
    return "" if value is None else f"{1_000 * value:.3f}"
