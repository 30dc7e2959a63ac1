"""`icons`: every freely licensed icon of the pinned `@iconify/json` package, rendered once to 32 x 32 RGB.

The shards serve classification and image-text studies alike: image (PNG), caption, set, designer, licence, category.
Exact pixel duplicates, blank renderings and skin-tone variants are left out, so that an index is one distinct drawing.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image, ImageOps
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from scrimp.config import Closed
from scrimp.data.archives import iter_members
from scrimp.data.shards import ShardWriter
from scrimp.errors import ScrimpError

SIZE = 32  # pixels a side
CHUNK = 400  # icons per task of the rendering pool
LARGEST_SET = 256 * 2**20  # bytes of one set's JSON; the largest of 2.2.535, fluent-emoji, has 104 MB
SCHEMA = ["index", "split", "shard", "offset", "size", "name", "caption", "set", "designer", "licence", "category"]

# SPDX identifiers, or their families, that allow redistribution of derived images with attribution.
FREE_LICENCES = ("MIT", "Apache-2.0", "CC0-1.0", "ISC", "BSD-", "OFL-", "Unlicense", "CC-BY-3.0", "CC-BY-4.0")

SKIN_TONE = re.compile(r"(?:-(?:light|medium-light|medium|medium-dark|dark))+-skin-tone")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


class Options(Closed):
    """`sets`: only these sets (default: all that are freely licensed)."""

    sets: list[str] | None = None


@dataclass(frozen=True)
class Icon:
    """An icon before rendering; `svg` is a complete document whose view box is square."""

    name: str
    set: str
    designer: str
    licence: str
    category: str
    svg: str

    @property
    def fields(self) -> dict[str, str]:
        caption = self.name.replace("-", " ")
        return {
            "name": self.name,
            "caption": caption,
            "set": self.set,
            "designer": self.designer,
            "licence": self.licence,
            "category": self.category,
        }


def is_free(spdx: str | None) -> bool:
    """Whether a set's licence lets its drawings be rendered, kept and shown."""
    return spdx is not None and any(spdx == free or (free[-1] == "-" and spdx.startswith(free)) for free in FREE_LICENCES)


def without_skin_tone(name: str) -> str:
    """An emoji's name with its skin tones taken out: all variants of one drawing share the result."""
    return SKIN_TONE.sub("", name)


def bare_tones(names: set[str]) -> set[str]:
    """Variants of a set that say the tone alone, `thumbs-up-dark` beside `thumbs-up`.

    Four of the five tones must be there with the drawing itself: `police-car-light` is a light, and `logo-dark` a theme.
    """
    variants = {name: [f"{name}-{tone}" for tone in TONES if f"{name}-{tone}" in names] for name in names}
    return {variant for found in variants.values() if len(found) >= len(TONES) - 1 for variant in found}


def read_package(archive: Path, sets: list[str] | None = None) -> Iterator[Icon]:
    """Icons of the package in a stable order: sets by prefix, icons by name; hidden ones are left out.

    Raises ScrimpError where `sets` names one that the package has not, or that is not freely licensed.
    """
    # Sets are parsed one at a time below: their texts take 486 MB, the parsed objects a multiple of that.
    members = dict(iter_members(archive, wanted=_is_wanted(sets), largest=LARGEST_SET))
    if "package/collections.json" not in members:
        raise ScrimpError(f"{archive} holds no package/collections.json: it is not the @iconify/json package")
    collections = json.loads(members.pop("package/collections.json"))
    available = {Path(name).stem: name for name in members}
    for prefix in sets or []:
        if prefix not in available or not is_free(collections.get(prefix, {}).get("license", {}).get("spdx")):
            raise ScrimpError(f"icon set {prefix!r} is not in {archive.name}, or its licence is not a free one")
    for prefix in sorted(available):
        about = collections.get(prefix)
        if about is None or not is_free(about["license"].get("spdx")):
            members.pop(available[prefix])
            continue
        yield from _icons_of(prefix, about, json.loads(members.pop(available[prefix])))


def _is_wanted(sets: list[str] | None) -> Any:
    def wanted(name: str) -> bool:
        path = Path(name)
        if path.parent.as_posix() == "package/json" and path.suffix == ".json":
            return sets is None or path.stem in sets
        return name == "package/collections.json"

    return wanted


def _icons_of(prefix: str, about: dict[str, Any], content: dict[str, Any]) -> Iterator[Icon]:
    category_of = {name: category for category, names in content.get("categories", {}).items() for name in names}
    icons = {name: icon for name, icon in content["icons"].items() if not icon.get("hidden", False)}
    seen = bare_tones(set(icons))
    kept = []
    # Shorter names first, so that of a group of skin-tone variants the untoned one stands for all.
    for name in sorted(icons, key=lambda name: (len(name), name)):
        base = without_skin_tone(name)
        if base not in seen:
            seen.add(base)
            kept.append(name)
    for name in sorted(kept):
        yield Icon(
            name=name,
            set=prefix,
            designer=about.get("author", {}).get("name", prefix),
            licence=about["license"]["spdx"],
            category=category_of.get(name, about.get("category") or ""),
            svg=_document(icons[name], content),
        )


def _document(icon: dict[str, Any], content: dict[str, Any]) -> str:
    """A complete SVG: the view box is widened to a square about the drawing, so that nothing is distorted."""
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (float(icon.get(key, content.get(key, default))) for key, default in defaults.items())
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    # Icons in one colour use currentColor: a dark grey on white, as on a page.
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" color="#222">{icon["body"]}</svg>'
    )


def render(svg: str) -> tuple[bytes, bytes] | None:
    """Render one document to 32 x 32 RGB on white: (PNG bytes, digest of the pixels), or None if nothing shows."""
    drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, background="#ffffff"))
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    if image.size != (SIZE, SIZE):  # one icon of the package has a box without any area: it is drawn by its own extent
        image = ImageOps.pad(image, (SIZE, SIZE), color="#ffffff")
    if image.getcolors(maxcolors=1) is not None:
        return None
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=6)
    return encoded.getvalue(), hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _render_chunk(icons: list[Icon]) -> list[tuple[Icon, bytes, bytes]]:
    rendered = ((icon, render(icon.svg)) for icon in icons)
    return [(icon, *result) for icon, result in rendered if result is not None]


def build(archive: Path, writer: ShardWriter, options: Options, processes: int) -> dict[str, Any]:
    """Render, de-duplicate and shard the package. Returns counts for the manifest."""
    icons = list(read_package(archive, options.sets))
    chunks = [icons[start : start + CHUNK] for start in range(0, len(icons), CHUNK)]
    seen: set[bytes] = set()
    drawn = 0
    columns = (
        TextColumn("rendering icons"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, multiprocessing.get_context("spawn").Pool(processes) as pool:
        task = progress.add_task("rendering icons", total=len(icons))
        for chunk, rendered in zip(chunks, pool.imap(_render_chunk, chunks), strict=True):
            for icon, png, pixels in rendered:
                drawn += 1
                if pixels not in seen:
                    seen.add(pixels)
                    writer.write("all", png, "png", icon.fields)
            progress.advance(task, len(chunk))
    return {"icons_read": len(icons), "blank": len(icons) - drawn, "pixel_duplicates": drawn - len(seen)}
