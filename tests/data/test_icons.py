"""Icons: what is left out and why, and that what is drawn is drawn undistorted, once, in a stable order."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.icons import SCHEMA, TONES, bare_tones, is_free, read_package, render, without_skin_tone
from scrimp.data.shards import read_images, read_manifest, read_samples
from scrimp.data.stage import shard
from scrimp.errors import ScrimpError


@pytest.fixture(scope="module")
def sharded(template: Path, mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The workspace after `scrimp shard icons`."""
    root = tmp_path_factory.mktemp("sharded") / "workspace"
    shutil.copytree(template, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIMP_MIRROR", str(mirror))
        workspace = Workspace(root)
        shard(workspace, "icons")
        yield workspace


@pytest.fixture(scope="module")
def samples(sharded: Workspace) -> pd.DataFrame:
    return read_samples(sharded.shards("icons"))


def picture(workspace: Workspace, samples: pd.DataFrame, name: str) -> npt.NDArray[np.uint8]:
    """The rendering of the icon called `name`: uint8 [32, 32, 3]."""
    (encoded,) = read_images(workspace.shards("icons"), samples[samples["name"] == name])
    return np.asarray(Image.open(io.BytesIO(encoded)))


def test_only_distinct_visible_free_untoned_icons_are_kept_in_a_stable_order(samples: pd.DataFrame) -> None:
    # By set, then by name. Of `square` and `square-copy` and beta's `frame`, equal in every pixel, the first is kept; the
    # first of the two toned `hands` by name stands for the drawing that has no untoned variant.
    assert list(zip(samples["set"], samples["name"], strict=True)) == [
        ("alpha", "bar"),
        ("alpha", "square"),
        ("alpha", "tall"),
        ("alpha", "wide"),
        ("beta", "line"),
        ("emoji", "hands-dark-skin-tone-light-skin-tone"),
        ("emoji", "wave"),
    ]
    assert list(samples["index"]) == list(range(7))
    assert set(samples["split"]) == {"all"}
    assert list(samples.columns) == SCHEMA


def test_every_sample_carries_its_designer_licence_caption_and_category(samples: pd.DataFrame) -> None:
    rows = samples.set_index("name")
    assert list(rows.loc["square", ["caption", "designer", "licence", "category"]]) == ["square", "Ann", "MIT", "Shapes"]
    assert rows.loc["bar", "category"] == "UI 16px"  # in no category of its own: that of its set
    assert rows.loc["line", "category"] == ""
    assert rows.loc["line", "licence"] == "Apache-2.0"
    assert rows.loc["hands-dark-skin-tone-light-skin-tone", "caption"] == "hands dark skin tone light skin tone"


def test_the_manifest_counts_what_was_left_out(sharded: Workspace) -> None:
    manifest = read_manifest(sharded.shards("icons"))
    # alpha 6 (secret is hidden), beta 2, emoji 2 drawings; of them `empty` is blank, `square-copy` and `frame` are copies.
    assert (manifest["icons_read"], manifest["blank"], manifest["pixel_duplicates"]) == (10, 1, 2)
    assert manifest["source_digest"] == sharded.dataset("icons").source.integrity  # type: ignore[union-attr]
    assert manifest["shards"][0]["count"] == 7


def test_wide_and_tall_drawings_keep_their_proportions(sharded: Workspace, samples: pd.DataFrame) -> None:
    # A black 32 x 16 rectangle in its own view box: as wide as the picture, half as high, in the middle.
    wide = np.full((32, 32, 3), 255)
    wide[8:24] = 0
    assert np.array_equal(picture(sharded, samples, "wide"), wide)
    # 8 x 16 with its corner at (10, -5): half as wide, as high.
    tall = np.full((32, 32, 3), 255)
    tall[:, 8:24] = 0
    assert np.array_equal(picture(sharded, samples, "tall"), tall)


def test_the_square_and_the_colours_come_out_pixel_for_pixel(sharded: Workspace, samples: pd.DataFrame) -> None:
    square = np.full((32, 32, 3), 255)
    square[8:24, 8:24] = 0  # two pixels a unit
    assert np.array_equal(picture(sharded, samples, "square"), square)
    bar = np.full((32, 32, 3), 255)
    bar[24:] = 0x22  # currentColor is #222
    assert np.array_equal(picture(sharded, samples, "bar"), bar)
    # A yellow 16 x 16 corner: the untoned variant stands for all three.
    assert picture(sharded, samples, "wave")[0, 0].tolist() == [0xFF, 0xDD, 0x00]


def test_sharding_again_gives_the_same_bytes(sharded: Workspace, tiny: Workspace) -> None:
    shard(tiny, "icons")
    for name in ("all-00000.tar", "samples.parquet"):
        assert (tiny.shards("icons") / name).read_bytes() == (sharded.shards("icons") / name).read_bytes()


def test_archives_with_members_in_another_order_give_the_same_icons(
    mirror: Path, tmp_path: Path, write_icon_package: Callable[..., Path], icon_sets: dict[str, Any]
) -> None:
    backwards = {
        prefix: {**content, "icons": dict(reversed(content["icons"].items()))}
        for prefix, content in reversed(icon_sets.items())
    }
    other = write_icon_package(tmp_path / "other.tgz", sets=backwards)
    assert list(read_package(other)) == list(read_package(mirror / "iconify-json-0.0.1.tgz"))


def test_chosen_sets_only(mirror: Path) -> None:
    assert {icon.set for icon in read_package(mirror / "iconify-json-0.0.1.tgz", ["beta", "emoji"])} == {"beta", "emoji"}


@pytest.mark.parametrize("chosen", ["gnu", "untold", "orphan", "missing"])
def test_a_chosen_set_that_is_not_free_or_not_there_is_an_error(mirror: Path, chosen: str) -> None:
    with pytest.raises(ScrimpError, match=rf"icon set '{chosen}' is not in iconify-json-0\.0\.1\.tgz"):
        list(read_package(mirror / "iconify-json-0.0.1.tgz", [chosen]))


def test_another_package_is_not_taken_for_the_icons(tmp_path: Path, write_icon_package: Callable[..., Path]) -> None:
    archive = write_icon_package(tmp_path / "other.tgz", collections=None)
    with pytest.raises(ScrimpError, match=r"other\.tgz holds no package/collections\.json"):
        list(read_package(archive))


@pytest.mark.parametrize(
    ("spdx", "free"),
    [
        ("MIT", True),
        ("BSD-3-Clause", True),
        ("OFL-1.1", True),
        ("CC-BY-4.0", True),
        ("CC0-1.0", True),
        ("GPL-3.0-only", False),
        ("GPL-2.0-or-later", False),
        ("CC-BY-SA-4.0", False),
        ("CC-BY-NC-4.0", False),
        ("MIT-0", False),  # not on the list: nothing is free by resemblance
        (None, False),
    ],
)
def test_which_licences_are_free(spdx: str | None, free: bool) -> None:
    assert is_free(spdx) is free


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("wave-medium-light-skin-tone", "wave"),
        ("hands-light-skin-tone-dark-skin-tone", "hands"),
        ("man-medium-skin-tone-beard", "man-beard"),
        ("light-bulb", "light-bulb"),
        ("skin-tone", "skin-tone"),
    ],
)
def test_skin_tones_are_taken_out_of_names(name: str, base: str) -> None:
    assert without_skin_tone(name) == base


def test_tones_without_the_word_are_variants_where_a_set_has_four_of_the_five() -> None:
    thumbs = {"thumbs-up"} | {f"thumbs-up-{tone}" for tone in TONES}
    woman = {"woman"} | {f"woman-{tone}" for tone in TONES if tone != "medium-light"}
    others = {"police-car", "police-car-light", "logo", "logo-dark", "logo-light", "sky-light", "sky-medium", "sky-dark"}
    without_base = {f"moon-{tone}" for tone in TONES}
    assert bare_tones(thumbs | woman | others | without_base) == (thumbs | woman) - {"thumbs-up", "woman"}


def test_a_drawing_outside_its_view_box_shows_nothing() -> None:
    inside = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect x="X" width="4" height="4"/></svg>'
    assert render(inside.replace('"X"', '"20"')) is None
    assert render(inside.replace('"X"', '"0"')) is not None


def test_a_box_without_area_gives_a_picture_of_the_usual_size_all_the_same() -> None:
    # As thesvg-color:logitech-g of the pinned package: drawn by its own extent, twice as wide as high, in the middle.
    drawn = render(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-29 -29 0 0"><rect width="8" height="4" fill="#000"/></svg>'
    )
    assert drawn is not None
    pixels = np.asarray(Image.open(io.BytesIO(drawn[0])))
    assert pixels.shape == (32, 32, 3)
    assert (pixels[8:24] == 0).all()
    assert (pixels[:8] == 255).all()
    assert (pixels[24:] == 255).all()


def test_a_misspelt_option_names_the_file_the_data_set_and_the_key(tiny: Workspace) -> None:
    path = tiny.root / "config" / "datasets.yaml"
    datasets: dict[str, Any] = yaml.safe_load(path.read_text())
    datasets["icons"]["options"] = {"stes": ["alpha"]}
    datasets["icons-2"]["options"] = {"classes": "many"}
    path.write_text(yaml.safe_dump(datasets))
    with pytest.raises(
        ScrimpError, match=re.escape("config/datasets.yaml: icons: options: stes: unknown key; known here: sets")
    ):
        shard(tiny, "icons")
    with pytest.raises(ScrimpError, match=re.escape("config/datasets.yaml: icons-2: options: classes: ")):
        shard(tiny, "icons-2")
    assert not tiny.shards("icons").exists()
