"""A tiny real workspace: an icon package with a pinned digest in a mirror, a labelled data set in shards, a study."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.shards import ShardWriter, building, write_manifest

# How long an example takes depends on what else the machine does, and is no property of the code.
hypothesis.settings.register_profile("scrimp", deadline=None)
hypothesis.settings.load_profile("scrimp")
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # processes side by side would else each take all cores

CONFIG = Path(__file__).parent / "config"
CLASSES = ["blue", "green", "red"]
PICTURES = {"train": 24, "validation": 8, "test": 8}  # of each class

BLACK = 'fill="#000"'
# Bodies are in whole pixels of a 32-pixel picture (two or one per unit), so that every pixel's colour is known.
SQUARE = f'<rect x="4" y="4" width="8" height="8" {BLACK}/>'
BAR = f'<rect x="0" y="12" width="16" height="4" {BLACK}/>'
COLLECTIONS = {
    "alpha": {"name": "Alpha", "author": {"name": "Ann"}, "license": {"spdx": "MIT"}, "category": "UI 16px"},
    "beta": {"name": "Beta", "author": {"name": "Bob"}, "license": {"spdx": "Apache-2.0"}},
    "emoji": {"name": "Emoji", "author": {"name": "Eve"}, "license": {"spdx": "CC-BY-4.0"}, "category": "Emoji"},
    "gnu": {"name": "Gnu", "author": {"name": "Gus"}, "license": {"spdx": "GPL-3.0-only"}},
    "untold": {"name": "Untold", "author": {"name": "Una"}, "license": {"title": "All rights reserved"}},
}
SETS: dict[str, dict[str, Any]] = {
    "alpha": {
        "icons": {
            "wide": {"body": f'<rect width="32" height="16" {BLACK}/>', "width": 32},
            "tall": {"body": f'<rect x="10" y="-5" width="8" height="16" {BLACK}/>', "left": 10, "top": -5, "width": 8},
            "square": {"body": SQUARE},
            "square-copy": {"body": SQUARE},  # the same pixels
            "empty": {"body": "<g/>"},
            "secret": {"body": BAR, "hidden": True},
            "bar": {"body": '<rect x="0" y="12" width="16" height="4" fill="currentColor"/>'},
        },
        "categories": {"Shapes": ["square", "wide"]},
    },
    "beta": {
        "icons": {
            # The same drawing as alpha:square, in a view box of twice the size.
            "frame": {"body": f'<rect x="8" y="8" width="16" height="16" {BLACK}/>'},
            "line": {"body": f'<rect x="0" y="2" width="32" height="3" {BLACK}/>'},
        },
        "width": 32,
        "height": 32,
    },
    "emoji": {
        "icons": {
            "wave-medium-light-skin-tone": {"body": '<rect width="8" height="8" fill="#fc8"/>'},
            "wave-dark-skin-tone": {"body": '<rect width="8" height="8" fill="#842"/>'},
            "wave": {"body": '<rect width="8" height="8" fill="#fd0"/>'},
            "hands-light-skin-tone-dark-skin-tone": {"body": '<rect y="8" width="8" height="8" fill="#ec9"/>'},
            "hands-dark-skin-tone-light-skin-tone": {"body": '<rect y="8" width="8" height="8" fill="#842"/>'},
        }
    },
    "gnu": {"icons": {"gnu": {"body": BAR}}},
    "untold": {"icons": {"untold": {"body": BAR}}},
    "orphan": {"icons": {"orphan": {"body": BAR}}},  # no entry in collections.json
}


@pytest.fixture(scope="session")
def write_icon_package() -> Callable[..., Path]:
    """`write(path, sets=..., collections=...)` writes an archive as `npm pack @iconify/json` makes it; returns its path."""

    def write(path: Path, sets: dict[str, Any] = SETS, collections: dict[str, Any] | None = COLLECTIONS) -> Path:
        members: dict[str, Any] = {f"package/json/{prefix}.json": {"prefix": prefix, **sets[prefix]} for prefix in sets}
        members["package/package.json"] = {"name": "@iconify/json"}
        if collections is not None:
            members["package/collections.json"] = collections
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                encoded = json.dumps(content).encode()
                member = tarfile.TarInfo(name)
                member.size = len(encoded)
                tar.addfile(member, io.BytesIO(encoded))
        return path

    return write


@pytest.fixture(scope="session")
def icon_sets() -> dict[str, Any]:
    """The sets of the icon package, as its JSON files hold them."""
    return SETS


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory, write_icon_package: Callable[..., Path]) -> Path:
    """A folder that holds the icon package, to be named by SCRIMP_MIRROR."""
    folder = tmp_path_factory.mktemp("mirror")
    write_icon_package(folder / "iconify-json-0.0.1.tgz")
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """The workspace that each test gets a copy of."""
    root = tmp_path_factory.mktemp("template")
    shutil.copytree(CONFIG, root / "config")
    digest = hashlib.sha512((mirror / "iconify-json-0.0.1.tgz").read_bytes()).digest()
    integrity = "sha512-" + base64.b64encode(digest).decode()
    source = {"kind": "npm", "package": "@iconify/json", "version": "0.0.1", "integrity": integrity}
    about = {"licence": "none", "used_for": "tests"}
    view = {"builder": "icon_classes", "view_of": "icons", "options": {"classes": 2, "largest_held_out": 0.5}}
    datasets = {
        "icons": {"title": "Icons", "builder": "icons", "source": source, **about},
        "icons-2": {"title": "Icon classes", **view, **about},
        "colours": {"title": "Colours", "builder": "cifar", "view_of": "icons", **about},
    }
    (root / "config" / "datasets.yaml").write_text(yaml.safe_dump(datasets))
    write_colours(Workspace(root).shards("colours"))
    return root


def write_colours(folder: Path) -> None:
    """Pictures of three colours with so much noise that none is certain: 72 to train on, 24 and 24 held out."""
    generator = np.random.default_rng(0)
    with building(folder) as temporary:
        writer = ShardWriter(temporary)
        for split, count in PICTURES.items():
            for number in range(count * len(CLASSES)):
                label = number % len(CLASSES)
                picture = generator.normal(110, 60, (32, 32, 3))
                picture[4:28, 4:28, 2 - label] += generator.uniform(5, 60)
                encoded = io.BytesIO()
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(encoded, "PNG", compress_level=1)
                writer.write(split, encoded.getvalue(), "png", {"label": label, "class_name": CLASSES[label]})
        writer.close()
        write_manifest(temporary, "colours", "none", ["index", "label"], shards=writer.shards, classes=CLASSES)


@pytest.fixture
def tiny(template: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of this test's own, with the study `tiny` and the data set `colours`; its folder is the current one."""
    root = tmp_path / "workspace"
    shutil.copytree(template, root)
    monkeypatch.setenv("SCRIMP_MIRROR", str(mirror))
    monkeypatch.chdir(root)
    return Workspace(root)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the runs do; and no test sees what another left behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
