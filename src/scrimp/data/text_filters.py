"""What is left out of training text, and in which order the rest is stored: each of Cramming's choices is a switch.

Source: Geiping & Goldstein 2022 (arXiv 2212.14034), 4.4, and its repository's data configurations. Deviation: its
de-duplication cuts repeated substrings of raw text; here it is whole sentences that are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from scrimp.data.text_documents import Document
from scrimp.data.text_tokens import Ids

Sort = Literal["full-stops", "prevalence"]
Cut = Literal["sorted", "random"]

WORD = re.compile(r"[^\W_]+")  # underscores are signs: WordPiece takes a ruled line apart
SENTENCE = re.compile(r"[^\n]+?(?:[.?!]+[\"')\]]*(?=\s)|(?=\n)|\Z)")
COUNTED_WORDS = 5  # a sentence of fewer words says nothing of where it is from
REPEATED_WORDS = 8  # a sentence of fewer words may come twice


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without signs: what texts are compared by.

    >>> words_of("It's MINE, mine!")
    ['it', 's', 'mine', 'mine']
    >>> words_of("snake_case _ _ _")
    ['snake', 'case']
    """
    return WORD.findall(text.lower())


def sentences_of(text: str) -> list[str]:
    """The sentences of a text: what ends in a full stop, a question or exclamation mark, or with the line."""
    return [found.strip() for found in SENTENCE.findall(text) if found.strip()]


class Sentences:
    """Sentences of five words or more, found again in other texts whatever their signs and capitals."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_start: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for text in texts:
            for sentence in sentences_of(text):
                words = tuple(words_of(sentence))
                if len(words) >= COUNTED_WORDS:
                    self._by_start.setdefault(words[:COUNTED_WORDS], set()).add(words)

    def __len__(self) -> int:
        return sum(map(len, self._by_start.values()))

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where they are in a text: beginnings and ends, in its letters."""
        found = list(WORD.finditer(text))
        words = [match.group().lower() for match in found]
        for first in range(len(words) - COUNTED_WORDS + 1):
            for sentence in self._by_start.get(tuple(words[first : first + COUNTED_WORDS]), ()):
                if tuple(words[first : first + len(sentence)]) == sentence:
                    yield found[first].start(), found[first + len(sentence) - 1].end()

    def cut_from(self, text: str) -> tuple[str, int]:
        """The text without them, and how many were cut."""
        kept, end, count = [], 0, 0
        for begin, until in sorted(self.places(text)):
            kept.append(text[end : max(begin, end)])
            end, count = max(until, end), count + 1
        return "".join([*kept, text[end:]]).strip(), count


def without_repeats(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[Document]:
    """The documents without sentences of eight words or more that came before; `counts` gains `repeated_sentences`."""
    seen: set[int] = set()
    counts["repeated_sentences"] = 0
    for document in documents:
        text, again = document.text, []
        for match in SENTENCE.finditer(text):
            words = words_of(match.group())
            if len(words) < REPEATED_WORDS:
                continue
            known = hash(tuple(words))
            if known in seen:
                again.append(match.span())
            seen.add(known)
        counts["repeated_sentences"] += len(again)
        for begin, end in reversed(again):
            text = text[:begin] + text[end:]
        if text.strip():
            yield document._replace(text=text.strip())


def compressible(tokens: Ids, text: str, most: float) -> bool:
    """Whether a text has fewer than `most` tokens a letter: what a tokenizer takes apart is tables, code, or no English."""
    return len(tokens) < most * len(text)


def arranged(tokens: Ids, window: int, sort: Sort | None, keep: float, cut: Cut, full_stop: int, seed: int) -> Ids:
    """Tokens as windows of `window` in a new order, `keep` of them; what is left over at the end is dropped.

    `sort` by full stops puts windows with the most ids `full_stop` first; by prevalence, those whose tokens are the most
    common on average. The cut keeps the first of the sorted windows, or random ones, which are then sorted.
    """
    rows = tokens[: len(tokens) // window * window].reshape(-1, window)  # [windows, window]
    kept = max(1, round(keep * len(rows)))
    if cut == "random":
        rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:kept])]
    if sort == "full-stops":
        rows = rows[np.argsort(-(rows == full_stop).sum(axis=1), kind="stable")]
    elif sort == "prevalence":
        share = np.bincount(tokens, minlength=1) / len(tokens)
        rows = rows[np.argsort(-share[rows].mean(axis=1), kind="stable")]
    return rows[:kept].reshape(-1)
