"""`emojibase`: the Unicode CLDR's English name and keywords of every emoji, from the pinned `emojibase-data` package.

Emoji sets name their drawings after the CLDR, each edition of it a little differently; `matched` finds the label that a
name stands for. The table has no pictures: image-text views read it beside the icons.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.data.archives import iter_members
from scrimp.data.icons import without_skin_tone
from scrimp.errors import ScrimpError

MEMBER = "package/en/compact.json"
SCHEMA = ["index", "name", "label", "tags"]
SPOKEN = {"&": " and ", "!": " exclamation ", "#": " pound ", "*": " asterisk "}  # as the sets' names spell them
MOST_TAGS = 3


def build(folder: Path, archive: Path) -> dict[str, Any]:
    """Write the table `samples.parquet` into `folder`: name as icon sets use it, label, tags. Returns counts.

    Raises ScrimpError where the archive is not the package, or two labels would have one name.
    """
    content = dict(iter_members(archive, wanted=lambda name: name == MEMBER))
    if MEMBER not in content:
        raise ScrimpError(f"{archive} holds no {MEMBER}: it is not the emojibase-data package")
    emoji = json.loads(content[MEMBER])
    table = pd.DataFrame(
        {
            "index": range(len(emoji)),
            "name": [name_of(entry["label"]) for entry in emoji],
            "label": [entry["label"] for entry in emoji],
            "tags": [entry.get("tags", []) for entry in emoji],
        }
    )
    if table["name"].duplicated().any():
        twice = sorted(table.loc[table["name"].duplicated(keep=False), "label"])
        raise ScrimpError(f"{archive}: {MEMBER} has labels that differ in punctuation alone: {', '.join(twice)}")
    table.to_parquet(folder / "samples.parquet", index=False)
    return {"labels": len(table), "tags": sum(len(tags) for tags in table["tags"])}


def name_of(label: str) -> str:
    """A CLDR label as icon sets write it.

    >>> name_of("keycap: #"), name_of("flag: Curaçao"), name_of("woman’s boot")
    ('keycap-pound', 'flag-curacao', 'womans-boot')
    """
    return plain(label).replace(" ", "-")


def plain(text: str) -> str:
    """Lower case, no accents, no punctuation, single blanks: the words that captions are made of."""
    for sign, word in SPOKEN.items():
        text = text.replace(sign, word)
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^a-z0-9]+", " ", re.sub(r"['.’‘“”]", "", letters)).split())


def caption_of(label: str, tags: Iterable[str]) -> str:
    """A label and the first of its tags that say something new; codes such as "NO" for Norway or "143" are no words.

    >>> caption_of("grinning face", ["cheerful", "face", "grin", "happy", "smile"])
    'grinning face cheerful grin happy'
    """
    words = plain(label).split()
    said = [plain(tag) for tag in tags if not tag.isupper() and not re.search(r"\d", tag)]
    return " ".join([*words, *[tag for tag in said if not set(tag.split()) <= set(words)][:MOST_TAGS]])


def captions(labels: pd.DataFrame) -> list[str]:
    """`caption_of` each row of the table of `build`."""
    return [caption_of(label, tags) for label, tags in zip(labels["label"], labels["tags"], strict=True)]


def matched(names: Iterable[str], labels: pd.DataFrame) -> list[int | None]:
    """For each icon's name the row of `labels` (the table of `build`) that it stands for, or None.

    Known ways of naming are undone: skin tones, `flag-for-norway`, `letter-a`, `blonde`, names without any dash.
    """
    row_of = {name: row for row, name in enumerate(labels["name"])}
    row_of_joined = {name.replace("-", ""): row for name, row in row_of.items()}
    return [_row(_cldr_name(name), row_of, row_of_joined) for name in names]


def _row(name: str, row_of: dict[str, int], row_of_joined: dict[str, int]) -> int | None:
    return row_of[name] if name in row_of else row_of_joined.get(name.replace("-", ""))


def _cldr_name(name: str) -> str:
    name = re.sub(r"^flag-for-(?:flag-)?", "flag-", without_skin_tone(name))
    return re.sub(r"^letter-([a-z])$", r"regional-indicator-\1", name).replace("blonde", "blond")
