"""Cleaning: one form of letters and blanks, addresses, books, and the Brown corpus without its tags."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrimp.data.text_clean import address_text, book_text, brown_text, cleaned


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("one\r\ntwo\rthree\n", "one\ntwo\nthree"),
        ("a\t b\u00a0\u2003c \n d", "a b c\nd"),
        ("a\n\n \n\nb", "a\n\nb"),
        ("\ufeffzero\u200bwidth so\u00adft\x07", "zerowidth soft"),
        ("e\u0301", "é"),
        ("half \ud800 a pair", "half a pair"),
        (" \n\t\n", ""),
    ],
)
def test_text_has_one_form(raw: str, text: str) -> None:
    assert cleaned(raw) == text


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_cleaning_twice_changes_nothing(raw: str) -> None:
    once = cleaned(raw)
    assert cleaned(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "  " not in once
    assert "\n\n\n" not in once


def test_addresses_lose_what_transcribing_left() -> None:
    assert address_text("a &mdash; b [p.12] c [Laughter]") == "a — b  c [Laughter]"


def test_a_book_loses_its_header_and_marks_of_headings() -> None:
    markdown = "# Title: The Prince\n\n## Author: N. M.\n\n## Year: 1532\n\n-------\n\n##  CHAPTER I\n\nAll states, # 1.\n"
    text, title = book_text(markdown)
    assert title == "The Prince"
    assert cleaned(text) == "CHAPTER I\n\nAll states, # 1."


def test_a_book_without_a_header_is_taken_whole() -> None:
    assert book_text("Once upon a time") == ("Once upon a time", None)


@pytest.mark.parametrize(
    ("tagged", "text"),
    [
        ("He/pps can't/md* go/vb ,/, he/pps said/vbd ./.", "He can't go, he said."),
        ("(/( see/vb it/ppo )/) --/-- now/rb ;/. ;/.", "(see it) -- now;"),
        # Full stops and commas go inside quotation marks, and what ends a sentence twice ends it once.
        ("``/`` Why/wrb ''/'' ?/. ?/. Ann/np asked/vbd ./.", '"Why?" Ann asked.'),
        ("``/`` It/pps is/bez ''/'' ,/, he/pps said/vbd ,/, ``/`` no/at ''/'' ./.", '"It is," he said, "no."'),
        ("``/`` Ask/vb Jones/np Jr./np ''/'' ./. So/rb Jr./np ./.", '"Ask Jones Jr." So Jr.'),
        ("He/pps said/vbd :/: ``/`` Ask/vb '/' why/wrb '/' ''/'' ./.", "He said: \"Ask 'why'.\""),
        # A slash of the word's own stays; "**z" stands for a sign that nobody could type; '' within a word are inches.
        ("1/2/cd and/or/cc **zf/nn 5/cd", "1/2 and/or 5"),
        ("a/at 1/4''/nn ''/'' hole/nn", 'a 1/4" hole'),
    ],
)
def test_a_tagged_sentence_reads_like_text(tagged: str, text: str) -> None:
    assert brown_text(tagged) == text


def test_sentences_become_paragraphs_and_headlines_stand_alone() -> None:
    tagged = "\n\n\tOne/cd ./.\nTwo/cd ./.\n\n\n\nMerger/nn-hl proposed/vbn-hl \nThree/cd ./.\n\n \n"
    assert brown_text(tagged) == "One. Two.\n\nMerger proposed\n\nThree."
