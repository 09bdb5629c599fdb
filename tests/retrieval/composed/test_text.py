"""Texts of queries: rows, padding, and what is cut off."""

import os
import subprocess
import sys

import pytest

from retrieval.composed.text import TOKENIZER_FILE, TextTokenizer
from retrieval.errors import ComposedError


def test_rows_begin_with_cls_and_are_padded_at_the_end(tokenizer):
    rows = tokenizer.rows(["night", "the same place at night"])
    assert rows.ids[:, 0].tolist() == [2, 2]
    assert rows.kept.sum(dim=1).tolist() == [3, 7]
    assert not rows.ids[0][~rows.kept[0]].any()


def test_a_text_of_more_tokens_than_the_model_takes_is_cut_and_said_so():
    tokenizer = TextTokenizer.trained(["red mug"], longest=32)
    fits, cut = " ".join(["red"] * 30), " ".join(["red"] * 31)
    rows = tokenizer.rows([fits, cut])
    assert rows.ids.shape == (2, 32)
    assert rows.truncated.tolist() == [False, True]
    assert rows.ids[0].tolist() == rows.ids[1].tolist()


def test_no_texts_give_no_rows(tokenizer):
    assert tokenizer.rows([]).ids.shape == (0, 1)


def test_taken_rows_lose_columns_of_padding(tokenizer):
    import torch

    rows = tokenizer.rows(["night", "the same place at night"]).take(torch.tensor([0]))
    assert rows.ids.shape == (1, 3)


def test_a_vocabulary_survives_its_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = TextTokenizer.load(tmp_path, longest=12)
    texts = ["on a beach by day with a red mug", "an unknown word"]
    assert again.rows(texts).ids.tolist() == tokenizer.rows(texts).ids.tolist()


def test_characters_are_left_out_where_they_were_in_training(tokenizer):
    read = tokenizer.without(".]^-").rows(["on a beach.by day-with]a ^ red mug"]).ids.tolist()
    assert read == tokenizer.rows(["on a beach by day with a red mug"]).ids.tolist()


def test_a_damaged_vocabulary_is_named(tmp_path):
    (tmp_path / TOKENIZER_FILE).write_text("{")
    with pytest.raises(ComposedError, match=TOKENIZER_FILE):
        TextTokenizer.load(tmp_path, longest=12)


def test_the_same_texts_give_the_same_ids_in_every_process():
    script = (
        "from retrieval.composed.text import TextTokenizer\n"
        "tokenizer = TextTokenizer.trained(['a red mug', 'on a beach at night', 'a blue mug'], longest=12)\n"
        "print(tokenizer.rows(['a red mug at night', 'beaches']).ids.tolist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert runs[0].startswith("[[2, ")
    assert runs[0] == runs[1] == runs[2]
