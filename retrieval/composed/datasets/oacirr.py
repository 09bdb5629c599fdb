"""OACIRR (arXiv 2604.05393): object-anchored queries with boxes over four domains; our rendered world has its format.

<root>[/<domain>]/caption_full.<split>.json    [{reference, target, modification_text_mllm, object_category,
                                                 reference_bounding_box}], our own files also with `kind`
<root>[/<domain>]/split.<split>.json           {picture name: path}; the path's folder is the instance
<root>[/<domain>]/bounding_box.<split>.json    {picture name: [x1, y1, x2, y2]}

As released, the three are in folders of their own, one further down: <domain>/<name>/quadruple_captions, image_splits
and image_bounding_box. Paths of pictures start from <domain> all the same.
"""

from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, read_box, read_id, read_text, refuse
from retrieval.composed.datasets.files import existing, read_mapping, read_paths, read_rows
from retrieval.composed.geometry import Box
from retrieval.errors import DatasetError

_FOLDERS = {"caption_full": "quadruple_captions", "split": "image_splits", "bounding_box": "image_bounding_box"}
"""File → the folder that it was released in."""
_KEYS = ("reference", "target", "modification_text_mllm", "reference_bounding_box")


def read_oacirr(directory: Path, split: str) -> ComposedDataset:
    """One domain where `directory` holds its files, or every domain that is a folder in it.

    Names of pictures and instances of several domains begin with the domain's: equal folder names do not become one
    instance. Each domain's queries are asked of that domain's pictures.
    """
    if _annotations(directory) is not None:
        domains = {"": directory}
    else:
        domains = {path.name: path for path in sorted(directory.iterdir()) if _annotations(path) is not None}
    if not domains:
        raise DatasetError(
            f"{directory} holds no caption_full.*.json, nor does a folder in it; name the folder that OACIRR was "
            "unpacked into, or one of its domains"
        )
    parts = [_read_domain(path, split, domain) for domain, path in domains.items()]
    return ComposedDataset(
        name="oacirr",
        split=split,
        images={name: path for part in parts for name, path in part.images.items()},
        queries=tuple(query for part in parts for query in part.queries),
        instances={name: instance for part in parts for name, instance in part.instances.items()},
        boxes={name: box for part in parts for name, box in part.boxes.items()},
        galleries={domain: tuple(part.images) for domain, part in zip(domains, parts, strict=True)},
    )


def _annotations(directory: Path) -> Path | None:
    """Where a domain's files, or the folders of them, are; None where `directory` is no domain."""
    if any(directory.glob("caption_full.*.json")):
        return directory
    released = sorted(directory.glob(f"*/{_FOLDERS['caption_full']}"))
    return released[0].parent if released else None


def _file(directory: Path, kind: str, split: str) -> Path:
    annotations = _annotations(directory) or directory
    flat = annotations / f"{kind}.{split}.json"
    return flat if annotations == directory else annotations / _FOLDERS[kind] / flat.name


def _read_domain(directory: Path, split: str, domain: str) -> ComposedDataset:
    prefix = f"{domain}/" if domain else ""
    captions = existing(_file(directory, "caption_full", split), "the queries")
    paths = read_paths(existing(_file(directory, "split", split), "the pictures"))
    named = existing(_file(directory, "bounding_box", split), "the boxes")
    problems: list[str] = []
    boxes: dict[str, Box] = {}
    for name, sides in read_mapping(named).items():
        try:
            boxes[f"{prefix}{name}"] = read_box(sides)
        except ValueError as error:
            problems.append(f"picture {name!r}: {error}")
    refuse(named, problems)
    queries = []
    for number, row in enumerate(read_rows(captions, _KEYS)):
        named_pictures = (row["reference"], row["target"])
        unknown = [name for name in named_pictures if not isinstance(name, str) or name not in paths]
        if unknown:
            problems.append(f"row {number}: {unknown[0]!r} is not in split.{split}.json")
            continue
        try:
            box = read_box(row["reference_bounding_box"])
            query_id = read_id(row.get("id", number), "id")
            text = read_text(row["modification_text_mllm"], "modification_text_mllm")
            kind = read_text(row.get("kind", ""), "kind")
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        queries.append(
            ComposedQuery(
                query_id=f"{prefix}{query_id}",
                reference=f"{prefix}{row['reference']}",
                text=text,
                box=box,
                target=f"{prefix}{row['target']}",
                category=domain,
                kind=kind,
            )
        )
    refuse(captions, problems)
    files = {f"{prefix}{name}": directory / path for name, path in paths.items()}
    return ComposedDataset(
        name="oacirr",
        split=split,
        images=files,
        queries=tuple(queries),
        instances={name: f"{prefix}{path.parent.name}" for name, path in files.items()},
        boxes=boxes,
    )
