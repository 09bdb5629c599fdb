"""Anyone's pictures: a folder an instance, a CSV of boxes, a CSV of queries.

    <root>/<split>/<instance>/<picture>
    <root>/boxes.<split>.csv       image, x1, y1, x2, y2
    <root>/queries.<split>.csv     reference, target, text; also x1, y1, x2, y2 for another box than the picture's,
                                   category, which figures are averaged over, and kind, which they are told by

`image`, `reference` and `target` are paths relative to <root>/<split>; `target` may be empty where it is not known. A
picture that lies in no folder is an instance by itself.
"""

from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, read_box, refuse
from retrieval.composed.datasets.files import existing, read_table
from retrieval.composed.geometry import Box
from retrieval.errors import DatasetError

_SIDES = ("x1", "y1", "x2", "y2")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def read_folders(directory: Path, split: str) -> ComposedDataset:
    """Every picture of the split's folder; boxes and queries where their files are there."""
    root = existing(directory / split, "a folder for each instance")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    images = {str(path.relative_to(root)): path for path in files}
    if not images:
        raise DatasetError(f"{root} holds no picture ({', '.join(_SUFFIXES)}); put a folder for each instance there")
    boxes = _boxes(directory / f"boxes.{split}.csv", images)
    return ComposedDataset(
        name="folders",
        split=split,
        images=images,
        queries=tuple(_queries(directory / f"queries.{split}.csv", images, boxes)),
        instances={name: str(Path(name).parent) for name in images if Path(name).parent != Path()},
        boxes=boxes,
    )


def _boxes(table: Path, images: dict[str, Path]) -> dict[str, Box]:
    if not table.exists():
        return {}
    boxes, problems = {}, []
    for number, row in enumerate(read_table(table, ("image", *_SIDES)), start=2):
        if row["image"] not in images:
            problems.append(f"line {number}: no picture {row['image']!r} in the split's folder")
            continue
        if row["image"] in boxes:
            problems.append(f"line {number}: a second box of {row['image']!r}")
            continue
        try:
            boxes[row["image"]] = read_box([row[side] for side in _SIDES])
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    refuse(table, problems)
    return boxes


def _queries(table: Path, images: dict[str, Path], boxes: dict[str, Box]) -> list[ComposedQuery]:
    if not table.exists():
        return []
    queries, problems = [], []
    for number, row in enumerate(read_table(table, ("reference", "target", "text")), start=2):
        unknown = [row[key] for key in ("reference", "target") if row[key] and row[key] not in images]
        if unknown or not row["reference"]:
            problems.append(f"line {number}: no picture {(unknown or [''])[0]!r} in the split's folder")
            continue
        sides = [row.get(side, "") for side in _SIDES]
        try:
            box = read_box(sides) if any(sides) else boxes.get(row["reference"])
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        queries.append(
            ComposedQuery(
                query_id=str(number),
                reference=row["reference"],
                text=row["text"],
                box=box,
                target=row["target"] or None,
                category=row.get("category", ""),
                kind=row.get("kind", ""),
            )
        )
    refuse(table, problems)
    return queries
