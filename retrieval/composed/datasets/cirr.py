"""CIRR (arXiv 2108.04024): open-domain queries, each with a subset of similar pictures that is ranked by itself.

captions/cap.rc2.<split>.json        [{pairid, reference, target_hard, caption, img_set: {members}}]
image_splits/split.rc2.<split>.json  {picture name: path}
"""

from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, refuse
from retrieval.composed.datasets.files import existing, read_mapping, read_rows


def read_cirr(directory: Path, split: str) -> ComposedDataset:
    """A split; the targets of `test1` are known to the evaluation server alone."""
    captions = existing(directory / "captions" / f"cap.rc2.{split}.json", "the queries")
    listed = existing(directory / "image_splits" / f"split.rc2.{split}.json", "the pictures")
    images = {name: directory / path for name, path in read_mapping(listed).items()}
    problems, queries = [], []
    for number, row in enumerate(read_rows(captions, ("pairid", "reference", "caption", "img_set"))):
        target = row.get("target_hard")
        members = row["img_set"].get("members", []) if isinstance(row["img_set"], dict) else []
        unknown = [name for name in (row["reference"], target, *members) if name is not None and name not in images]
        if unknown:
            problems.append(f"row {number}: {unknown[0]!r} is not in {listed.name}")
            continue
        queries.append(
            ComposedQuery(
                query_id=str(row["pairid"]),
                reference=row["reference"],
                text=str(row["caption"]),
                target=target,
                subset=tuple(name for name in members if name != row["reference"]),
            )
        )
    refuse(captions, problems)
    return ComposedDataset(name="cirr", split=split, images=images, queries=tuple(queries))
