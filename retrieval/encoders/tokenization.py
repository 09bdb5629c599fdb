"""Texts to rows of token ids, the same for every runtime: what an exported encoder needs to do without transformers."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Subwords
from tokenizers import normalizers

from retrieval.errors import EncoderError

if TYPE_CHECKING:
    from retrieval.encoders.compact.words import Vocabulary

SETTINGS_FILE = "tokenization.json"
_SUBWORDS_FILE = "tokenizer.json"
_WORDS_FILE = "words.json"
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Padding:
    """How rows of different lengths become a rectangle."""

    token: int = 0
    """Id that fills."""
    to: int | None = None
    """Length of every row; None: that of the longest, at least 1."""
    left: bool = False
    """Whether it fills from the left."""

    def apply(self, ids: Sequence[Sequence[int]]) -> Rows:
        """Rows [n, t]."""
        length = self.to or max([1, *map(len, ids)])
        rows = np.full((len(ids), length), self.token, dtype=np.int64)
        for at, row in enumerate(ids):
            rows[at, length - len(row) if self.left else 0 :][: len(row)] = row
        return rows


class Tokenizer(Protocol):
    """Cuts texts into the tokens of one encoder. May be called from several threads at once."""

    padding: Padding

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut to what the encoder takes, not padded."""
        ...

    def save(self, directory: Path) -> None:
        """Write what `load_tokenizer` reads."""
        ...


class SubwordTokenizer:
    """A tokenizer of the `tokenizers` library: CLIP, and SigLIP 2."""

    def __init__(self, subwords: Subwords, *, max_length: int, padding: Padding, lower: bool = False) -> None:
        self.padding, self._max_length = padding, max_length
        # A copy: setting its lengths once, nothing is changed when threads share it.
        self._subwords = Subwords.from_str(subwords.to_str())
        self._subwords.no_padding()
        self._subwords.enable_truncation(max_length)
        if lower:
            own = self._subwords.normalizer
            self._subwords.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own else [])])

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """As in `Tokenizer`."""
        return [encoding.ids for encoding in self._subwords.encode_batch(list(texts))]

    def save(self, directory: Path) -> None:
        """As in `Tokenizer`."""
        self._subwords.save(str(directory / _SUBWORDS_FILE))
        _save_settings(directory, "subwords", self.padding, max_length=self._max_length)

    @classmethod
    def load(cls, directory: Path, padding: Padding, max_length: int) -> "SubwordTokenizer":
        """Read what `save` wrote."""
        return cls(Subwords.from_file(str(directory / _SUBWORDS_FILE)), max_length=max_length, padding=padding)


class TransformersTokenizer:
    """A tokenizer that only transformers knows how to run: SigLIP, whose sentencepiece it prepares in Python."""

    def __init__(self, tokenizer: Any, *, max_length: int, padding: Padding) -> None:
        self.padding = padding
        self._tokenizer, self._max_length = tokenizer, max_length
        self._lock = threading.Lock()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """As in `Tokenizer`."""
        if not texts:
            return []
        with self._lock:
            cut = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)
        ids: list[list[int]] = cut["input_ids"]
        return ids

    def save(self, directory: Path) -> None:
        """As in `Tokenizer`."""
        self._tokenizer.save_pretrained(directory)
        _save_settings(directory, "transformers", self.padding, max_length=self._max_length)

    @classmethod
    def load(cls, directory: Path, padding: Padding, max_length: int) -> "TransformersTokenizer":
        """Read what `save` wrote."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        return cls(tokenizer, max_length=max_length, padding=padding)


class WordTokenizer:
    """The compact encoder's words; a word that it does not know has no token."""

    def __init__(self, vocabulary: "Vocabulary") -> None:
        self.padding = Padding()
        self._vocabulary = vocabulary

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """As in `Tokenizer`."""
        return [row[row != 0].tolist() for row in self._vocabulary.rows(texts)]

    def save(self, directory: Path) -> None:
        """As in `Tokenizer`."""
        self._vocabulary.save(directory / _WORDS_FILE)
        _save_settings(directory, "words", self.padding)

    @classmethod
    def load(cls, directory: Path) -> "WordTokenizer":
        """Read what `save` wrote."""
        from retrieval.encoders.compact.words import Vocabulary

        return cls(Vocabulary.load(directory / _WORDS_FILE))


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer that was saved in `directory`; EncoderError where it cannot be read."""
    path = directory / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        kind, padding = settings["kind"], Padding(**settings["padding"])
        if kind == "words":
            return WordTokenizer.load(directory)
        if kind == "subwords":
            return SubwordTokenizer.load(directory, padding, settings["max_length"])
        if kind == "transformers":
            return TransformersTokenizer.load(directory, padding, settings["max_length"])
    except Exception as error:  # the tokenizers library raises plain Exception
        raise EncoderError(f"the tokenizer in {directory} cannot be read: {error}; export the encoder again") from error
    raise EncoderError(f"{path} must name a known kind of tokenizer, got {kind!r}; export the encoder again")


def _save_settings(directory: Path, kind: str, padding: Padding, **settings: int) -> None:
    content = {"kind": kind, "padding": asdict(padding), **settings}
    (directory / SETTINGS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
