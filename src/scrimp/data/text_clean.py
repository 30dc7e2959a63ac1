"""Making plain text of what sources hold: one form of blanks and letters, and the Brown corpus without its tags."""

from __future__ import annotations

import html
import re
import unicodedata

INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff]")  # control signs, soft hyphens, zero widths
PAGE_MARK = re.compile(r"\[p\. ?\d+\]")
BOOK_HEADER = re.compile(r"\A\s*# Title: (?P<title>[^\n]*)\n+## Author: [^\n]*\n+## Year: [^\n]*\n+-{3,}[ \t]*\n")
HEADING_MARKS = re.compile(r"^#{1,6}[ \t]+", re.MULTILINE)
DOUBLED = frozenset("?!;:")  # which the tagged Brown corpus writes twice where they end a sentence
CLOSING = frozenset([",", ".", ";", ":", "?", "!", ")", "]", "''"])
OPENING = frozenset(["(", "[", "``"])
INSIDE = frozenset([",", ".", "?", "!"])  # what American print puts before a closing quotation mark


def cleaned(text: str) -> str:
    r"""Lines that end in \n, letters in NFC, single blanks, at most one empty line at once, nothing invisible.

    >>> cleaned("Cafe\u0301\r\n  au\t lait \n\n\n\nto go")
    'Café\nau lait\n\nto go'
    """
    text = text.encode("utf-8", "ignore").decode()  # half a surrogate pair, which JSON may hold, is no letter
    text = INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFC", text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def address_text(text: str) -> str:
    """An address without what its transcription left: HTML's names of signs, and numbers of pages.

    >>> address_text("the &quot;Union&quot; [p.2] stands")
    'the "Union"  stands'
    """
    return PAGE_MARK.sub("", html.unescape(text))


def book_text(markdown: str) -> tuple[str, str | None]:
    """A book's text and its title: the header of title, author and year goes, and so do the marks of headings."""
    header = BOOK_HEADER.match(markdown)
    text = markdown[header.end() :] if header else markdown
    return HEADING_MARKS.sub("", text), header["title"].strip() if header else None


def brown_text(tagged: str) -> str:
    r"""A file of the Brown corpus, one sentence a line and word/TAG for each word, as running text in paragraphs.

    >>> brown_text("\tAtlanta's/np$ jury/nn said/vbd ,/, ``/`` No/at ''/'' !/. !/.\nWhy/wrb ?/. ?/.\n")
    'Atlanta\'s jury said, "No!" Why?'
    """
    paragraphs = []
    for block in re.split(r"\n[ \t]*\n", tagged):
        running: list[str] = []
        for line in block.splitlines():
            pairs = [word.rpartition("/") for word in line.split()]
            words = [word for word, _, _ in pairs]
            if pairs and all(tag.endswith("-hl") for _, _, tag in pairs):  # a headline ends without a full stop
                paragraphs += [joined(running), joined(words)]
                running = []
            else:
                running += words
        paragraphs.append(joined(running))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def joined(words: list[str]) -> str:
    """The words of a tagged paragraph with blanks, full stops and quotation marks as printed text has them.

    >>> joined(["``", "No", "''", ",", "he", "said", "."])
    '"No," he said.'
    """
    text, before, quoting = "", "(", False
    for word in _in_printed_order(words):
        closes = word in CLOSING or (word == "'" and quoting)
        if not (closes or before in OPENING):
            text += " "
        text += '"' if word in ("``", "''") else word.replace("''", '"')  # within a word it means inches
        before = "(" if word == "'" and not quoting else word
        quoting ^= word == "'"
    return text


def _in_printed_order(words: list[str]) -> list[str]:
    """The words without those that only the tagged form has, and with closing quotation marks behind full stops."""
    kept: list[str] = []
    for word in words:
        before = kept[-1] if kept else ""
        if (
            word.startswith("**")  # stands for a sign that had no key
            or (word in DOUBLED and before == word)
            or (word == "." and before != "." and before.endswith("."))  # of an abbreviation
            or (word == "''" and before != "''" and before.endswith("''"))  # inches
        ):
            continue
        if word in INSIDE and before == "''":
            quoted = kept[-2] if len(kept) > 1 else ""
            if not ((word == "." and quoted.endswith((".", "?", "!"))) or (word in DOUBLED and quoted == word)):
                kept.insert(-1, word)
        else:
            kept.append(word)
    return kept
