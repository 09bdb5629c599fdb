"""CIRCO (arXiv 2303.15247): queries over COCO's unlabelled pictures, each with several right answers.

annotations/<split>.json   [{id, reference_img_id, target_img_id, relative_caption, gt_img_ids}]
COCO2017_unlabeled/annotations/image_info_unlabeled2017.json   {images: [{id, file_name}]}
COCO2017_unlabeled/unlabeled2017/<file_name>
"""

from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, refuse
from retrieval.composed.datasets.files import existing, read_mapping, read_rows
from retrieval.errors import DatasetError

_PICTURES = Path("COCO2017_unlabeled")


def read_circo(directory: Path, split: str) -> ComposedDataset:
    """A split; the right answers of `test` are known to the evaluation server alone. Names are COCO's ids."""
    annotations = existing(directory / "annotations" / f"{split}.json", "the queries")
    listed = existing(directory / _PICTURES / "annotations" / "image_info_unlabeled2017.json", "the pictures")
    infos = read_mapping(listed).get("images")
    if not isinstance(infos, list) or not all(
        isinstance(info, dict) and {"id", "file_name"} <= info.keys() for info in infos
    ):
        raise DatasetError(f"{listed} must list images, each with id and file_name; download COCO's image info again")
    images = {str(info["id"]): directory / _PICTURES / "unlabeled2017" / info["file_name"] for info in infos}
    problems, queries = [], []
    for number, row in enumerate(read_rows(annotations, ("id", "reference_img_id", "relative_caption"))):
        target = row.get("target_img_id")
        accepted = frozenset(str(each) for each in row.get("gt_img_ids") or ())
        names = [str(row["reference_img_id"]), *([] if target is None else [str(target)]), *accepted]
        unknown = [name for name in names if name not in images]
        if unknown:
            problems.append(f"row {number}: picture {unknown[0]} is not in {listed.name}")
            continue
        queries.append(
            ComposedQuery(
                query_id=str(row["id"]),
                reference=names[0],
                text=str(row["relative_caption"]),
                target=None if target is None else str(target),
                accepted=accepted,
            )
        )
    refuse(annotations, problems)
    return ComposedDataset(name="circo", split=split, images=images, queries=tuple(queries), remove_reference=False)
