"""Split a text into the words that the compact encoder knows."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[^\W_]+")
MAX_WORDS = 64
"""Words of a text that count; the rest is left out."""


def split(text: str) -> list[str]:
    """The words of `text`: letters and digits, case folded."""
    return _WORD.findall(text.casefold())


class Vocabulary:
    """Word ↔ row of the text tower; row 0 stands for padding and for words that no training text had."""

    def __init__(self, words: Sequence[str]) -> None:
        if len(set(words)) != len(words):
            repeated = sorted(word for word, count in Counter(words).items() if count > 1)
            raise ValueError(f"words must differ from each other, {repeated[:5]} are there more than once")
        self.words = tuple(words)
        self._rows = {word: row for row, word in enumerate(words, start=1)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """Every word of `texts`, in alphabetical order."""
        return cls(sorted({word for text in texts for word in split(text)}))

    def __len__(self) -> int:
        return len(self.words) + 1

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that count nothing, because no training text had them."""
        return [word for word in split(text) if word not in self._rows]

    def rows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Word rows of n texts, [n, t], padded with 0 to the longest; t is at least 1."""
        known = [[self._rows[word] for word in split(text) if word in self._rows][:MAX_WORDS] for text in texts]
        rows = np.zeros((len(texts), max([1, *map(len, known)])), dtype=np.int64)
        for at, each in enumerate(known):
            rows[at, : len(each)] = each
        return rows

    def save(self, path: Path) -> None:
        """Write the words as a JSON list."""
        path.write_text(json.dumps(self.words, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote; ValueError where it is something else."""
        words = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path} must be a JSON list of words")
        return cls(words)
