"""CIRCO (arXiv 2303.15247): queries over COCO's unlabelled pictures, each with several right answers.

annotations/<split>.json   [{id, reference_img_id, target_img_id, relative_caption, gt_img_ids}]
COCO2017_unlabeled/annotations/image_info_unlabeled2017.json   {images: [{id, file_name}]}
COCO2017_unlabeled/unlabeled2017/<file_name>
"""

from pathlib import Path
from typing import Any

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, read_id, read_text, refuse
from retrieval.composed.datasets.files import existing, read_mapping, read_rows
from retrieval.errors import DatasetError

_PICTURES = Path("COCO2017_unlabeled")


def read_circo(directory: Path, split: str) -> ComposedDataset:
    """A split; the right answers of `test` are known to the evaluation server alone. Names are COCO's ids."""
    annotations = existing(directory / "annotations" / f"{split}.json", "the queries")
    listed = existing(directory / _PICTURES / "annotations" / "image_info_unlabeled2017.json", "the pictures")
    images = _images(listed, directory / _PICTURES / "unlabeled2017")
    problems, queries = [], []
    for number, row in enumerate(read_rows(annotations, ("id", "reference_img_id", "relative_caption"))):
        try:
            query = _query(row)
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        names = [query.reference, *([] if query.target is None else [query.target]), *sorted(query.accepted)]
        unknown = [name for name in names if name not in images]
        if unknown:
            problems.append(f"row {number}: picture {unknown[0]} is not in {listed.name}")
            continue
        queries.append(query)
    refuse(annotations, problems)
    return ComposedDataset(name="circo", split=split, images=images, queries=tuple(queries), remove_reference=False)


def _images(listed: Path, pictures: Path) -> dict[str, Path]:
    infos = read_mapping(listed).get("images")
    if not isinstance(infos, list) or not all(
        isinstance(info, dict) and {"id", "file_name"} <= info.keys() for info in infos
    ):
        raise DatasetError(f"{listed} must list images, each with id and file_name; download COCO's image info again")
    problems, images = [], {}
    for number, info in enumerate(infos):
        try:
            images[read_id(info["id"], "id")] = pictures / read_text(info["file_name"], "file_name")
        except ValueError as error:
            problems.append(f"image {number}: {error}")
    refuse(listed, problems)
    return images


def _query(row: dict[str, Any]) -> ComposedQuery:
    target, accepted = row.get("target_img_id"), row.get("gt_img_ids")
    if accepted is not None and not isinstance(accepted, list):
        raise ValueError(f"gt_img_ids must be a list of ids, got {accepted!r}")
    return ComposedQuery(
        query_id=read_id(row["id"], "id"),
        reference=read_id(row["reference_img_id"], "reference_img_id"),
        text=read_text(row["relative_caption"], "relative_caption"),
        target=None if target is None else read_id(target, "target_img_id"),
        accepted=frozenset(read_id(each, "each of gt_img_ids") for each in accepted or ()),
    )
