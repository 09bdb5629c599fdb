"""Write a rendered world in OACIRR's format, with captions to pre-train on and the truth to check against.

<split>/<instance>/<number>.jpg
caption_full.<split>.json, split.<split>.json, bounding_box.<split>.json    as OACIRR; queries also have id and kind
scenes.<split>.json     {picture: place, time and every object with its family and box}
captions.csv            image, caption: one of each object in each training picture, and where it is
"""

import csv
import io
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.composed.world.config import SPLITS, WorldConfig
from retrieval.composed.world.places import WORDS
from retrieval.composed.world.queries import Plan, plan
from retrieval.composed.world.scenes import TIME_WORDS, Scene, Sides, render
from retrieval.errors import DatasetError
from retrieval.files import write_whole

CONFIG_FILE, CAPTIONS_FILE = "world.json", "captions.csv"
_QUALITY = 92
_A_TASK = 32
"""Pictures that a worker draws before it says so."""

_Progress = Callable[[int, int], None]


def write_world(directory: Path, config: WorldConfig, *, workers: int = 1, progress: _Progress | None = None) -> Path:
    """Draw the world of `config` into `directory`, which is returned.

    The same configuration gives the same bytes, however many `workers` draw. A call that was killed is gone on with:
    pictures that are there are kept. DatasetError where the folder holds something else.
    """
    _claim(directory, config)
    plans = {split: plan(config, split) for split in SPLITS}
    total = sum(len(each.pictures) for each in plans.values())
    done = 0
    boxes: dict[str, list[list[Sides]]] = {}
    for split, each in plans.items():
        boxes[split] = []
        tasks = [
            (directory, config, split, begin, min(begin + _A_TASK, len(each.pictures)))
            for begin in range(0, len(each.pictures), _A_TASK)
        ]
        for drawn in _mapped(tasks, workers):
            boxes[split] += drawn
            done += len(drawn)
            if progress is not None:
                progress(done, total)
    _write_captions(directory / CAPTIONS_FILE, plans["train"])
    for split, each in plans.items():
        _write_split(directory, split, each, boxes[split])
    return directory


def picture_path(split: str, number: int, scene: Scene) -> str:
    """Where a picture lies, relative to the world; its folder is the object it is about."""
    return f"{split}/{scene.anchor}/{number:06d}.jpg"


def _claim(directory: Path, config: WorldConfig) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / CONFIG_FILE
    if path.exists():
        if json.loads(path.read_text()) != asdict(config):
            raise DatasetError(f"{directory} holds a world of another size or seed; choose another folder")
    elif any(directory.iterdir()):
        raise DatasetError(f"{directory} must be a new or empty folder, but something is there; choose another")
    else:
        write_whole(path, json.dumps(asdict(config), indent=2) + "\n")


_Task = tuple[Path, WorldConfig, str, int, int]


def _mapped(tasks: Iterable[_Task], workers: int) -> Iterator[list[list[Sides]]]:
    if workers == 1:
        yield from map(_drawn, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_drawn, tasks)


_plans: dict[tuple[WorldConfig, str], Plan] = {}
"""What a worker process has planned already."""


def _drawn(task: _Task) -> list[list[Sides]]:
    """Draw some pictures of a split, or find them drawn; returns the boxes of each."""
    directory, config, split, begin, end = task
    if (config, split) not in _plans:
        _plans[config, split] = plan(config, split)
    whole = _plans[config, split]
    found = []
    for number in range(begin, end):
        scene = whole.pictures[number]
        path = directory / picture_path(split, number, scene)
        image, boxes = render(scene, whole.instances, _seed(config, split, number), config.size)
        found.append(boxes)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=_QUALITY)
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(buffer.getvalue())
            partial.replace(path)
    return found


def _seed(config: WorldConfig, split: str, number: int) -> int:
    return (config.seed * len(SPLITS) + SPLITS.index(split)) * 10_000_000 + number


def _write_split(directory: Path, split: str, whole: Plan, boxes: list[list[Sides]]) -> None:
    names = [f"{split}-{number:06d}" for number in range(len(whole.pictures))]
    paths = {name: picture_path(split, number, whole.pictures[number]) for number, name in enumerate(names)}
    own = {name: each[0] for name, each in zip(names, boxes, strict=True)}
    queries = [
        {
            "id": number,
            "reference": names[asked.reference],
            "target": names[asked.target],
            "modification_text_mllm": asked.text,
            "object_category": whole.instances[whole.pictures[asked.reference].anchor].word,
            "reference_bounding_box": own[names[asked.reference]],
            "kind": asked.kind,
        }
        for number, asked in enumerate(whole.queries)
    ]
    scenes: dict[str, Any] = {
        name: {
            "kind": scene.kind,
            "place": scene.place,
            "time": scene.time,
            "objects": [
                {
                    "instance": each,
                    "family": whole.instances[each].family,
                    "noun": whole.instances[each].noun,
                    "box": box,
                }
                for each, box in zip(scene.objects, sides, strict=True)
            ],
        }
        for name, scene, sides in zip(names, whole.pictures, boxes, strict=True)
    }
    for file, content in (("scenes", scenes), ("bounding_box", own), ("split", paths), ("caption_full", queries)):
        write_whole(directory / f"{file}.{split}.json", json.dumps(content))


def _write_captions(path: Path, whole: Plan) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "caption"])
    for number, scene in enumerate(whole.pictures):
        where = f"{WORDS[scene.kind]} {TIME_WORDS[scene.time]}"
        for name in scene.objects:
            rows.writerow([picture_path("train", number, scene), f"{whole.instances[name].described}, {where}"])
    write_whole(path, text.getvalue())
