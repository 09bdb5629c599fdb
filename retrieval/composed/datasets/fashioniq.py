"""FashionIQ (arXiv 1905.12794): garments of three categories, two captions a query.

captions/cap.<category>.<split>.json        [{target, candidate, captions: [2]}]
image_splits/split.<category>.<split>.json  [picture name]
images/<picture name>.jpg or .png
"""

import json
from pathlib import Path

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, refuse
from retrieval.composed.datasets.files import existing, read_rows
from retrieval.errors import DatasetError

CATEGORIES = ("dress", "shirt", "toptee")


def read_fashioniq(directory: Path, split: str) -> ComposedDataset:
    """All three categories of a split; each is asked of its own pictures, the reference among them.

    The two captions of a query become one text, joined by "and". Pictures that are listed and not there, as in every
    copy of the data set, are left out with the queries that need them, unless that is all of them; `left_out` counts
    those queries.
    """
    images: dict[str, Path] = {}
    galleries: dict[str, tuple[str, ...]] = {}
    queries: list[ComposedQuery] = []
    left_out = 0
    for category in CATEGORIES:
        listed = existing(directory / "image_splits" / f"split.{category}.{split}.json", "the pictures")
        files = {name: path for name in _names(listed) if (path := _file(directory, name)) is not None}
        if not files:
            raise DatasetError(f"none of the pictures of {listed} is in {directory / 'images'}; put them there")
        images |= files
        galleries[category] = tuple(files)
        captions = existing(directory / "captions" / f"cap.{category}.{split}.json", "the queries")
        problems = []
        for number, row in enumerate(read_rows(captions, ("candidate", "captions"))):
            texts, candidate, target = row["captions"], row["candidate"], row.get("target")
            if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
                problems.append(f"row {number}: captions must be a list of texts, got {texts!r}")
                continue
            if not isinstance(candidate, str) or not isinstance(target, str | None):
                problems.append(
                    f"row {number}: candidate and target must be names of pictures, got {candidate!r} and {target!r}"
                )
                continue
            needed = [candidate, *([] if target is None else [target])]
            if any(name not in images and _file(directory, name) is None for name in needed):
                left_out += 1
                continue
            images |= {name: path for name in needed if (path := _file(directory, name)) is not None}
            queries.append(
                ComposedQuery(
                    query_id=f"{category}/{number}",
                    reference=candidate,
                    text=" and ".join(text.strip().rstrip(".") for text in texts),
                    target=target,
                    category=category,
                )
            )
        refuse(captions, problems)
    return ComposedDataset(
        name="fashioniq",
        split=split,
        images=images,
        queries=tuple(queries),
        galleries=galleries,
        remove_reference=False,
        left_out=left_out,
    )


def _names(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}; unpack the data set again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path} must be a list of picture names; is it another file's content?")
    return names


def _file(directory: Path, name: str) -> Path | None:
    candidates = (directory / "images" / f"{name}{suffix}" for suffix in (".jpg", ".png"))
    return next((path for path in candidates if path.is_file()), None)
