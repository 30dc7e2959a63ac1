"""Labelled texts that packages hold, each from one source: mails, graded sentences, the Brown corpus, WordNet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from scrimp.data.archives import iter_members
from scrimp.data.mails import mails
from scrimp.data.text_clean import brown_text, cleaned, joined
from scrimp.data.text_filters import sentences_of
from scrimp.data.text_packing import place_of
from scrimp.data.vader import graded
from scrimp.data.wordnet import SUPERSENSES, synsets
from scrimp.seeding import derived_generator

LETTERS = 600  # of a mail: no model here reads more
CLEAR = 1.0  # of a mean grade from -4 to 4: what lies nearer to 0 is neither good nor bad
BROWN = re.compile(r"package/(c[a-r]\d\d)")
GENRES = {"press": "abc", "religion, skills, lore, letters": "defg", "government, science": "hj", "fiction": "klmnpr"}
PASSAGE = 60  # words
PASSAGES, SENTENCES = 20, 30  # of a document, at most
SPAN = 8  # words on each side of one that is left out
PARTS = {  # of speech, and the tags of the Brown corpus that stand for each
    "noun": "nn nns np nps",
    "verb": "vb vbd vbg vbn vbz",
    "adjective": "jj jjr jjs jjt",
    "adverb": "rb rbr rbt",
    "pronoun": "pps ppss ppo ppl ppls",
    "preposition": "in",
    "article": "at",
    "conjunction": "cc cs",
}
GLOSS_PARTS = {"noun": 0.044, "verb": 0.26, "adj": 0.2, "adv": 1.0}  # the share that is used


class Example(NamedTuple):
    """`document` is the name of the document that it is from, as tables of documents have it; `label` a class or a grade."""

    document: str
    text: str
    other: str
    label: float


class Layout(NamedTuple):
    examples: Callable[[Path], Iterator[Example]]
    classes: list[str] | None  # None: a grade


def spam(archive: Path) -> Iterator[Example]:
    """A mail's subject and the beginning of its body: wanted (easy or hard to tell) or not."""
    for mail in mails(archive):
        text = f"{mail.subject}\n{mail.body}"[:LETTERS].strip()
        if text:
            yield Example(mail.document, text, "", float(mail.group.startswith("spam")))


def grades(archive: Path) -> Iterator[Example]:
    """A sentence of a film review and its mean grade, -4 to 4."""
    for sentence in graded(archive):
        if sentence.source == "films":
            yield Example(sentence.document, sentence.text, "", sentence.grade)


def opinions(archive: Path, source: str) -> Iterator[Example]:
    """A sentence of a review that people find good (1) or bad (0); those of no clear opinion are left out."""
    for sentence in graded(archive):
        if sentence.source == source and abs(sentence.grade) >= CLEAR:
            yield Example(sentence.document, sentence.text, "", float(sentence.grade > 0))


def _tagged(archive: Path) -> Iterator[tuple[str, str]]:
    for name, content in iter_members(archive, wanted=lambda name: BROWN.fullmatch(name) is not None):
        found = BROWN.fullmatch(name)
        assert found is not None  # the archive's reader let it through
        yield found[1], content.decode("utf-8", "replace")


def _brown(archive: Path) -> Iterator[tuple[str, str]]:
    return ((name, cleaned(brown_text(tagged))) for name, tagged in _tagged(archive))


def genres(archive: Path) -> Iterator[Example]:
    """A passage of sixty words and the part of the corpus that it is from; no text is in two splits."""
    letters = {letter: float(number) for number, each in enumerate(GENRES.values()) for letter in each}
    for name, text in _brown(archive):
        words = text.split()
        for first in range(0, min(len(words), PASSAGES * PASSAGE) - PASSAGE + 1, PASSAGE):
            yield Example(f"brown/{name}", " ".join(words[first : first + PASSAGE]), "", letters[name[1]])


def word_order(archive: Path) -> Iterator[Example]:
    """A sentence of 6 to 25 words as printed (1), or with two neighbouring words exchanged (0): a test of syntax.

    Made here; the first and the last word stay, and words that differ in nothing are not exchanged.
    """
    for name, text in _brown(archive):
        count = 0
        for number, sentence in enumerate(sentences_of(text)):
            words = sentence.split()
            places = [at for at in range(1, len(words) - 2) if words[at].lower() != words[at + 1].lower()]
            if not 6 <= len(words) <= 25 or not places or count == SENTENCES:
                continue
            draw = derived_generator(0, number, f"word order of {name}")
            as_printed = bool(draw.initial_seed() & 1)
            if not as_printed:
                at = places[(draw.initial_seed() >> 1) % len(places)]
                words[at], words[at + 1] = words[at + 1], words[at]
            count += 1
            yield Example(f"brown/{name}", " ".join(words), "", float(as_printed))


def shuffled_words(archive: Path) -> Iterator[Example]:
    """A sentence of 6 to 25 words as printed (1), or with all words but the first and the last in another order (0)."""
    for name, text in _brown(archive):
        count = 0
        for number, sentence in enumerate(sentences_of(text)):
            words = sentence.split()
            inner = words[1:-1]
            if not 6 <= len(words) <= 25 or len(set(inner)) < 2 or count == SENTENCES:
                continue
            draws = derived_generator(0, number, f"shuffled words of {name}")
            as_printed = bool(draws.initial_seed() & 1)
            while not as_printed and words[1:-1] == inner:
                words[1:-1] = [inner[at] for at in torch.randperm(len(inner), generator=draws).tolist()]
            count += 1
            yield Example(f"brown/{name}", " ".join(words), "", float(as_printed))


def cloze(archive: Path) -> Iterator[Example]:
    """Up to eight words before a word that is left out, up to eight behind it, and its part of speech, a tag of the corpus.

    One word a sentence: a part of speech is drawn first, then one of the words that have it, neither the first nor the last.
    """
    parts = {tag: number for number, tags in enumerate(PARTS.values()) for tag in tags.split()}
    for name, tagged in _tagged(archive):
        count = 0
        for number, line in enumerate(tagged.splitlines()):
            pairs = [word.rpartition("/") for word in line.split()]
            words, tags = [word for word, _, _ in pairs], [tag for _, _, tag in pairs]
            draw = derived_generator(0, number, f"cloze of {name}").initial_seed()
            label = draw % len(PARTS)
            places = [at for at in range(1, len(words) - 2) if parts.get(tags[at]) == label]
            if not places or count == SENTENCES:
                continue
            at = places[draw // len(PARTS) % len(places)]
            before, behind = joined(words[max(at - SPAN, 0) : at]), joined(words[at + 1 : at + 1 + SPAN])
            count += 1
            yield Example(f"brown/{name}", cleaned(before), cleaned(behind), float(label))


NOUNS = [name for name in SUPERSENSES if name.startswith("noun.")]


def supersense(archive: Path) -> Iterator[Example]:
    """A noun's definition, without the word and without examples, and its lexicographer file (of 26)."""
    for synset in synsets(archive):
        if synset.supersense in NOUNS and len(synset.definition) > 1:
            yield Example(synset.document, synset.definition, "", float(NOUNS.index(synset.supersense)))


def gloss_parts(archive: Path) -> Iterator[Example]:
    """A definition, without the word, and the part of speech of the word: about as many of each, chosen by their digests."""
    for synset in synsets(archive):
        part = synset.document.split("/")[1]
        if len(synset.definition) > 1 and place_of(synset.document, b"balance") < GLOSS_PARTS[part]:
            yield Example(synset.document, synset.definition, "", float(list(GLOSS_PARTS).index(part)))


def hypernyms(archive: Path) -> Iterator[Example]:
    """Two nouns' definitions: is the second what is directly above the first (1), or above another noun (0)?

    Seconds are as often right as wrong ones, so that they tell nothing alone. Made from WordNet's pointers.
    """
    nouns = {synset.document: synset for synset in synsets(archive) if synset.supersense in NOUNS}
    pairs = [(name, noun.above[0]) for name, noun in nouns.items() if noun.above and noun.above[0] in nouns]
    for number, (name, above) in enumerate(pairs):
        draw = derived_generator(0, number, "hypernyms").initial_seed()
        right = bool(draw & 1)
        second = above if right else pairs[(draw >> 1) % len(pairs)][1]
        if not right and second in nouns[name].above:
            continue
        yield Example(name, nouns[name].definition, nouns[second].definition, float(right))


LAYOUTS: dict[str, Layout] = {
    "spam": Layout(spam, ["wanted", "spam"]),
    "grades": Layout(grades, None),
    "film-opinions": Layout(partial(opinions, source="films"), ["bad", "good"]),
    "product-opinions": Layout(partial(opinions, source="products"), ["bad", "good"]),
    "genres": Layout(genres, list(GENRES)),
    "word-order": Layout(word_order, ["exchanged", "as printed"]),
    "shuffled-words": Layout(shuffled_words, ["shuffled", "as printed"]),
    "cloze": Layout(cloze, list(PARTS)),
    "gloss-parts": Layout(gloss_parts, ["noun", "verb", "adjective", "adverb"]),
    "supersense": Layout(supersense, NOUNS),
    "hypernyms": Layout(hypernyms, ["not above", "above"]),
}
