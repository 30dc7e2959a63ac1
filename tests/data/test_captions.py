"""Captions: cleaned names, the filter on words alone, a tokenizer that is the same wherever it is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scrimp.data.captions import cleaned, descriptive, encoded, style_endings, tokens_of, train_tokenizer

CAPTIONS = [f"{what} {where}" for what in ("arrow", "chevron", "caret") for where in ("left", "right", "up", "down")] * 3
TRAIN = "from scrimp.data.captions import train_tokenizer as t; import sys; print(t(sys.argv[1:], 300, 6).to_str())"


# ------------------------------------------------------------------------------------------------------------- cleaning
@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("traffic-light-2-fill", "traffic light"),
        ("wifi-off-outline", "wifi off"),
        ("heart-outline-24px", "heart"),
        ("calendar-01", "calendar"),
        ("fill-color", "fill color"),  # the first word says what is drawn
        ("chart-line", "chart line"),
        ("alpha-q-box", "alpha q box"),
        ("card-2-clubs", ""),  # two of clubs, and "card clubs" would not say so
        ("unlock2", ""),
        ("3d-box", ""),
        ("24-hours", ""),
        ("brand-github-filled", ""),
        ("ibm-cloud", ""),
    ],
)
def test_names_become_captions(name: str, caption: str) -> None:
    assert cleaned(name) == caption


def test_line_is_a_style_of_sets_that_end_many_names_in_it() -> None:
    drawn_in_lines = ["user-line", "line-chart-line", "line-line", "user-fill"]
    assert style_endings(drawn_in_lines) == ["line"]
    assert [cleaned(name, ["line"]) for name in drawn_in_lines] == ["user", "line chart", "line", "user"]
    assert style_endings(["chart-line"] + ["user"] * 9) == ["line"]  # a tenth
    assert style_endings(["chart-line"] + ["user"] * 10) == []
    assert style_endings([]) == []


# ------------------------------------------------------------------------------------------------------------ filtering
def test_a_descriptive_caption_has_few_words_that_many_designers_use() -> None:
    rows = [
        ("arrow left", "Ann", True),
        ("arrow left outline", "Bob", True),  # a word of style neither counts nor disturbs
        ("left arrow", "Ann", True),
        ("arrow zx", "Ann", False),  # Ann alone says zx, however often
        ("zx arrow", "Ann", False),
        ("arrow left 24", "Bob", False),
        ("logo arrow", "Ann", False),
        ("logo left", "Bob", False),
        ("outline", "Ann", False),  # no word that says what is drawn
        ("arrow left arrow left arrow", "Ann", True),
        ("arrow left arrow left arrow left", "Ann", False),
    ]
    frame = pd.DataFrame(rows, columns=["caption", "designer", "passes"], index=range(10, 21))
    passes = descriptive(frame["caption"], frame["designer"], least_designers=2)
    assert passes.to_dict() == frame["passes"].to_dict()
    assert descriptive(frame["caption"], frame["designer"], least_designers=3).sum() == 0


# --------------------------------------------------------------------------------------------------------------- tokens
def test_tokens_round_trip() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=400, length=20)
    texts = ["arrow left", "caret up", "unseen word ünd", ""]
    ids = encoded(tokenizer, texts)
    assert ids.dtype == np.int16
    assert ids.shape == (4, 20)
    for text, row in zip(texts, ids, strict=True):
        assert tokenizer.decode(list(row[row != 0])).strip() == text
    assert ids[3].tolist() == [0] * 20


def test_a_word_is_the_same_token_at_the_start_and_inside() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=400, length=4)
    first, second = encoded(tokenizer, ["arrow left", "left arrow"])
    # Every word occurs nine times or more, so that each has become one token.
    assert first.tolist() == [second[1], second[0], 0, 0]
    assert len(set(first.tolist())) == 3


def test_long_captions_are_cut() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=400, length=3)
    assert encoded(tokenizer, ["arrow left up down"]).tolist() == encoded(tokenizer, ["arrow left up"]).tolist()


def test_embeddings_look_up_int64() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=400, length=3)
    assert tokens_of(tokenizer, ["arrow left"]).dtype == torch.int64
    assert tokens_of(tokenizer, ["arrow left"]).tolist() == encoded(tokenizer, ["arrow left"]).tolist()


def test_the_vocabulary_is_bounded() -> None:
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=260, length=3)
    assert tokenizer.get_vocab_size() == 260
    assert tokenizer.token_to_id("[PAD]") == 0
    assert tokenizer.decode(list(encoded(tokenizer, ["é"])[0])).strip() == "é"  # bytes that no caption had


@pytest.mark.slow
def test_another_process_trains_the_same_tokenizer() -> None:
    here = train_tokenizer(CAPTIONS, 300, 6).to_str()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        command = [sys.executable, "-c", TRAIN, *CAPTIONS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == here
