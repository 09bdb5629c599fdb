"""Write a text file so that a reader finds the old one or the new one, never half of it."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by `text`, UTF-8, once all of it is on the disk; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
