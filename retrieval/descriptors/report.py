"""Say what an evaluation found, in tables that a terminal and a Markdown file can both show."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.descriptors.bootstrap import Interval
from retrieval.descriptors.evaluation import Evaluation
from retrieval.descriptors.leave_one_out import DescriptorEffect

_LISTED = 10
"""Rows of each table of extremes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTable:
    """One table, every cell a text."""

    title: str
    """What it shows."""
    columns: tuple[str, ...]
    """Headings."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, as many a row as columns."""
    numbers: tuple[str, ...] = ()
    """Columns that hold numbers, which are read aligned right."""


def tables(evaluation: Evaluation) -> list[ReportTable]:
    """The methods side by side, the worst classes, the descriptors that help and harm most; empty tables left out."""
    found = [_methods(evaluation), _worst_classes(evaluation), *_effects(evaluation)]
    return [table for table in found if table.rows]


def remarks(evaluation: Evaluation) -> list[str]:
    """What a reader must know about the figures: images left out, classes never shown, what an edit did."""
    found = []
    if evaluation.unknown:
        labels = ", ".join(f"{label} ({images})" for label, images in evaluation.unknown.items())
        found.append(f"The set has no class for these labels, whose images (so many) are left out: {labels}.")
    if evaluation.extra:
        found.append(f"No image shows these classes, which were scored all the same: {', '.join(evaluation.extra)}.")
    if evaluation.edit:
        right, wrong = len(evaluation.edit.turn_right), len(evaluation.edit.turn_wrong)
        found.append(f"With the edited set {right} images turn right and {wrong} turn wrong.")
    return found


def markdown(evaluation: Evaluation, *, encoder: str, source: str) -> str:
    """The whole report as Markdown; `encoder` and `source` say what was evaluated with and on."""
    lines = [
        f"# Descriptor set {evaluation.name} on {source}",
        "",
        f"Encoder {encoder}; {len(evaluation.scored)} images; {len(evaluation.class_names)} classes; scoring "
        f"{evaluation.scoring.value}; seed {evaluation.seed}; digest of the set `{evaluation.digest[:12]}`. Intervals: "
        "95 % of bootstrap resamples of the images; differences are to the class names alone, on the same images.",
        *(f"\n{remark}" for remark in remarks(evaluation)),
    ]
    for table in tables(evaluation):
        lines += ["", f"## {table.title}", "", _row(table.columns)]
        lines.append(_row(["---:" if column in table.numbers else "---" for column in table.columns]))
        lines += [_row([cell.replace("|", "\\|") for cell in row]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _methods(evaluation: Evaluation) -> ReportTable:
    numbers = ("top-1", "95 %", "top-5", "difference", "95 % of it")
    return ReportTable(
        title="The descriptors against what they must beat",
        columns=("texts", *numbers),
        rows=tuple(
            (
                method.name,
                f"{method.top1:.2%}",
                _span(method.top1_interval, signed=False),
                f"{method.top5:.2%}",
                f"{100 * method.difference:+.2f}",
                _span(method.difference_interval, signed=True),
            )
            for method in evaluation.methods
        ),
        numbers=numbers,
    )


def _span(interval: Interval, *, signed: bool) -> str:
    return f"{100 * interval.low:{'+' * signed}.2f} to {100 * interval.high:{'+' * signed}.2f}"


def _worst_classes(evaluation: Evaluation) -> ReportTable:
    worst = sorted(evaluation.classes, key=lambda of_class: (of_class.accuracy, -of_class.images))[:_LISTED]
    return ReportTable(
        title="Classes least recognised",
        columns=("class", "images", "right", "accuracy", "mostly taken for", "times"),
        rows=tuple(
            (
                each.name,
                str(each.images),
                str(each.right),
                f"{each.accuracy:.0%}",
                each.confused_with,
                str(each.confused),
            )
            for each in worst
            if each.right < each.images
        ),
        numbers=("images", "right", "accuracy", "times"),
    )


def _effects(evaluation: Evaluation) -> list[ReportTable]:
    helpful = sorted((each for each in evaluation.effects if each.change < 0), key=lambda each: each.change)
    harmful = sorted((each for each in evaluation.effects if each.change > 0), key=lambda each: -each.change)
    return [
        _effect_table("Descriptors that help most", helpful),
        _effect_table("Descriptors that harm most", harmful),
    ]


def _effect_table(title: str, effects: Sequence[DescriptorEffect]) -> ReportTable:
    numbers = ("right images without it", "turn right", "turn wrong")
    return ReportTable(
        title=title,
        columns=("class", "descriptor", *numbers),
        rows=tuple(
            (
                each.class_name,
                each.descriptor,
                f"{each.change:+d}",
                str(len(each.turn_right)),
                str(len(each.turn_wrong)),
            )
            for each in effects[:_LISTED]
        ),
        numbers=numbers,
    )
