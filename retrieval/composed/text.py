"""Cut modification texts into the tokens of the Q-Former, and say which of them were too long."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from retrieval.errors import ComposedError

TOKENIZER_FILE = "tokenizer.json"
_PADDING, _UNKNOWN, _FIRST, _LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True, slots=True)
class TextRows:
    """n texts as rows of equal length t."""

    ids: Int[Tensor, "n t"]
    """Token ids; the first is [CLS], padding comes last."""
    kept: Bool[Tensor, "n t"]
    """False for padding."""
    truncated: Bool[Tensor, " n"]
    """Which texts were longer than the model takes; what was too much is not in `ids`."""

    def to(self, device: torch.device) -> "TextRows":
        """The same rows on a device."""
        return TextRows(self.ids.to(device), self.kept.to(device), self.truncated.to(device))

    def take(self, positions: Int[Tensor, " m"]) -> "TextRows":
        """The rows at `positions`, without columns that are padding in all of them."""
        kept = self.kept[positions]
        width = max(1, int(kept.sum(1).max()))
        return TextRows(self.ids[positions, :width], kept[:, :width], self.truncated[positions])


class TextTokenizer:
    """BERT's tokens of at most `longest` a text, [CLS] and [SEP] included. May be called from several threads."""

    def __init__(self, tokenizer: Tokenizer, *, longest: int) -> None:
        # A copy: setting its lengths once, nothing is changed when threads share it.
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        self.longest = longest

    @property
    def vocabulary_size(self) -> int:
        """Ids that it may give."""
        return int(self._tokenizer.get_vocab_size())

    def rows(self, texts: Sequence[str]) -> TextRows:
        """Rows of `texts`, padded to the longest of them."""
        encodings = self._tokenizer.encode_batch(list(texts))
        longest = max((len(encoding.ids) for encoding in encodings), default=1)
        ids = torch.zeros(len(encodings), longest, dtype=torch.long)
        for at, encoding in enumerate(encodings):
            ids[at, : len(encoding.ids)] = torch.tensor(encoding.ids)
        lengths = torch.tensor([len(encoding.ids) for encoding in encodings], dtype=torch.long)
        kept = torch.arange(longest) < lengths[:, None]
        truncated = torch.tensor([bool(encoding.overflowing) for encoding in encodings], dtype=torch.bool)
        return TextRows(ids, kept, truncated)

    def without(self, characters: str) -> "TextTokenizer":
        """A tokenizer that reads each of `characters` as a blank, as does what `save` writes of it."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        blanks = normalizers.Replace(Regex(f"[{re.escape(characters)}]"), " ")
        own = tokenizer.normalizer
        tokenizer.normalizer = blanks if own is None else normalizers.Sequence([blanks, own])
        return TextTokenizer(tokenizer, longest=self.longest)

    def save(self, directory: Path) -> None:
        """Write the vocabulary; `load` reads it."""
        self._tokenizer.save(str(directory / TOKENIZER_FILE))

    @classmethod
    def load(cls, directory: Path, *, longest: int) -> "TextTokenizer":
        """The tokenizer in `directory`, in the published format; ComposedError where it cannot be read."""
        path = directory / TOKENIZER_FILE
        try:
            return cls(Tokenizer.from_file(str(path)), longest=longest)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise ComposedError(f"{path} cannot be read as a tokenizer: {error}; restore or download it") from error

    @classmethod
    def trained(cls, texts: Iterable[str], *, longest: int, most: int = 8000) -> "TextTokenizer":
        """A tokenizer in BERT's form of the letters and the most frequent words of `texts`, `most` at the most.

        The same texts give the same ids, in every process.
        """
        normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        words = Counter(
            word for text in sorted(set(texts)) for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        )
        letters = sorted({letter for word in words for letter in word})
        special = [_PADDING, _UNKNOWN, _FIRST, _LAST]
        # Not by the library's trainer, which gives the same texts other ids in every process.
        pieces = dict.fromkeys(
            [
                *special,
                *letters,
                *(f"##{letter}" for letter in letters),
                *sorted(words, key=lambda word: (-words[word], word)),
            ]
        )
        ids = {piece: number for number, piece in enumerate(list(pieces)[:most])}
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token=_UNKNOWN))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = splitter
        first, last = special.index(_FIRST), special.index(_LAST)  # they come first
        tokenizer.post_processor = processors.BertProcessing((_LAST, last), (_FIRST, first))
        return cls(tokenizer, longest=longest)
