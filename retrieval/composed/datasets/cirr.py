"""CIRR (arXiv 2108.04024): open-domain queries, each with a subset of similar pictures that is ranked by itself.

captions/cap.rc2.<split>.json        [{pairid, reference, target_hard, caption, img_set: {members}}]
image_splits/split.rc2.<split>.json  {picture name: path}
img_raw/<path>                       the pictures; without img_raw, paths start from the data set's own folder
"""

from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, read_id, read_text, refuse
from retrieval.composed.datasets.files import existing, read_paths, read_rows

_PICTURES = "img_raw"


def read_cirr(directory: Path, split: str) -> ComposedDataset:
    """A split; the targets of `test1` are known to the evaluation server alone."""
    captions = existing(directory / "captions" / f"cap.rc2.{split}.json", "the queries")
    listed = existing(directory / "image_splits" / f"split.rc2.{split}.json", "the pictures")
    pictures = directory / _PICTURES if (directory / _PICTURES).is_dir() else directory
    images = {name: pictures / path for name, path in read_paths(listed).items()}
    problems, queries = [], []
    for number, row in enumerate(read_rows(captions, ("pairid", "reference", "caption", "img_set"))):
        target = row.get("target_hard")
        members = row["img_set"].get("members") if isinstance(row["img_set"], dict) else None
        if not isinstance(members, list):
            problems.append(f"row {number}: img_set must have a list of members, got {row['img_set']!r}")
            continue
        named = [row["reference"], *([] if target is None else [target]), *members]
        unknown = [name for name in named if not isinstance(name, str) or name not in images]
        if unknown:
            problems.append(f"row {number}: {unknown[0]!r} is not in {listed.name}")
            continue
        try:
            query_id, text = read_id(row["pairid"], "pairid"), read_text(row["caption"], "caption")
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        queries.append(
            ComposedQuery(
                query_id=query_id,
                reference=row["reference"],
                text=text,
                target=target,
                subset=tuple(name for name in members if name != row["reference"]),
            )
        )
    refuse(captions, problems)
    return ComposedDataset(name="cirr", split=split, images=images, queries=tuple(queries))
