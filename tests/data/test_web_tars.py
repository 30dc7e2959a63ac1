"""Tars of pictures with captions, indexed where they lie: how pairs are split, what is left out, what is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tar_worlds import SIDE, SMALL, Files, a_pair, indexed, picture, scored, two_tars, write_tar

from scrimp.config import Workspace
from scrimp.data import web_index, web_tars
from scrimp.data.shards import read_manifest, read_samples
from scrimp.data.stage import shard
from scrimp.data.web_pairs import load_web_pairs
from scrimp.data.web_tars import Options, index_tar, tars_of
from scrimp.errors import ScrimpError


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return scored(tmp_path)


def test_held_out_pairs_are_the_last_by_the_hash_of_their_keys(web: Path) -> None:
    samples = read_samples(web)
    by_hash = sorted(samples["key"], key=lambda key: hashlib.sha256(key.encode()).digest())
    assert set(samples.loc[samples["split"] == "validation", "key"]) == set(by_hash[-3:])
    assert set(samples.loc[samples["split"] == "test", "key"]) == set(by_hash[-7:-3])
    splits = load_web_pairs(web, SIDE).splits
    assert {split: len(pairs) for split, pairs in splits.items()} == read_manifest(web)["counts"]
    assert sum(len(pairs) for pairs in splits.values()) == 40
    assert len(splits["test-emoji"]) == 0
    assert splits["test-emoji"].images(torch.arange(0)).shape == (0, SIDE, SIDE, 3)


def test_scores_make_the_curated_pairs_and_words_the_descriptive(web: Path) -> None:
    samples = read_samples(web)
    trained = samples[samples["split"].isin(["pool", "curated"])]
    assert (trained["split"] == "curated").tolist() == (trained["score"] >= 0.3).tolist()
    assert trained["extended"].tolist() == (trained["score"] >= 0.2).tolist()
    assert samples["descriptive"].tolist() == (samples["split"] == "pool").tolist()  # five words each
    assert not samples.loc[~samples["split"].isin(["pool", "curated"]), "extended"].any()
    assert set(samples["set"]) == {"site0.example", "site1.example"}


def test_a_caption_that_several_pairs_share_is_not_held_out(tmp_path: Path) -> None:
    pairs = {name: content for number in range(30) for name, content in a_pair(number).items()}
    shared = {name: b" one\n caption " if name.endswith("txt") and int(name[:9]) < 20 else pairs[name] for name in pairs}
    samples = read_samples(indexed(tmp_path / "web", [write_tar(tmp_path / "a.tar", shared)]))
    assert (samples["caption"] == "one caption").sum() == 20
    assert "one caption" not in set(samples.loc[samples["split"] != "pool", "caption"])
    assert not samples.loc[samples["caption"] == "one caption", "descriptive"].any()  # two words


def test_the_same_tars_give_the_same_bytes(web: Path, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in web.iterdir()}
    shutil.rmtree(web)
    indexed(web, tars_of(tmp_path / "own", ""), score="fit", curated_from=0.3, extended_from=0.2)
    assert {path.name: path.read_bytes() for path in web.iterdir()} == first
    columns = [f"{name}.npy" for name in ("descriptive", "extended", "place", "set", "tokens")]
    assert sorted(first) == sorted(["manifest.json", "samples.parquet", "tokenizer.json", *columns])


def test_several_processes_index_as_one_does(web: Path, tmp_path: Path) -> None:
    tars, options = tars_of(tmp_path / "own", ""), Options(**SMALL)
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, processes in ((alone, 1), (together, 2)):
        (folder / "parts").mkdir(parents=True)
        web_index.build(folder, "web", tars, options, processes, folder / "parts")
    assert (alone / "samples.parquet").read_bytes() == (together / "samples.parquet").read_bytes()


def test_pairs_of_no_use_are_left_out_and_counted_by_reason(tmp_path: Path) -> None:
    files = {name: content for number in range(12) for name, content in a_pair(number).items()}
    files |= {"no-text.jpg": picture(1), "no-picture.txt": b"words", "only.json": b"{}"}
    files |= {"blank.jpg": picture(2), "blank.txt": b" \n", "nothing.jpg": picture(2), "nothing.txt": b""}
    files |= {"void.jpg": b"", "void.txt": b"words", "latin.jpg": picture(3), "latin.txt": "é".encode("latin-1")}
    files |= {"two.jpg": picture(4), "two.png": picture(4), "two.txt": b"words"}
    files |= {"long.jpg": picture(5), "long.txt": b"a" * (web_tars.LARGEST_TEXT + 1)}
    files |= {"readme": b"?", "a/b.embedding.npy": b"?", "UPPER.JPG": picture(6), "UPPER.TXT": b"kept"}
    files |= {"._UPPER.JPG": b"?", "UPPER.seg.png": picture(7), "UPPER.npy": b"?"}
    manifest = read_manifest(indexed(tmp_path / "web", [write_tar(tmp_path / "a.tar", files)]))
    assert sum(manifest["counts"].values()) == 12 + 1
    assert manifest["left_out"] == {
        "no caption": 1,
        "no picture": 2,
        "an empty caption": 2,
        "an empty picture": 1,
        "a caption that is not UTF-8": 1,
        "more than one picture": 1,
        "an endless caption": 1,
        "neither picture nor caption": 2,
        "a hidden file": 1,
    }


def test_keys_may_have_dots(tmp_path: Path) -> None:
    files: Files = {}
    for key in [*(f"photo.{number:04d}" for number in range(6)), *(f"a.b/plain{number:04d}" for number in range(6))]:
        files |= {f"{key}.jpg": picture(0, "JPEG"), f"{key}.txt": f"a caption of {key}".encode()}
    table, skipped = index_tar(write_tar(tmp_path / "a.tar", files), Options())
    assert len(table) == 12
    assert table["key"].tolist()[:2] == ["photo.0000", "photo.0001"]
    assert table["caption"][6] == "a caption of a.b/plain0000"
    assert not skipped


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    files = {"a.jpg": picture(0), "a.txt": "\ufeffa dog".encode(), "b.jpg": picture(1), "b.txt": "\ufeff".encode()}
    table, skipped = index_tar(write_tar(tmp_path / "a.tar", files), Options())
    assert table["caption"].tolist() == ["a dog"]
    assert skipped == {"an empty caption": ["b"]}


def test_where_a_key_has_no_text_its_json_may_hold_the_caption(tmp_path: Path) -> None:
    files = {"a.jpg": picture(0), "a.txt": b"of the text", "a.json": b'{"caption": "of the json"}', "a.seg.png": picture(1)}
    files |= {"b.jpg": picture(2), "b.json": b'{"caption": " a\\n dog "}', "b.seg.png": picture(3)}
    files |= {"c.jpg": picture(4), "c.json": b'{"caption": 5}', "d.jpg": picture(5), "d.json": b'{"caption": ""}'}
    files |= {"e.json": b'{"caption": "no picture"}'}
    tar = write_tar(tmp_path / "a.tar", files)
    table, left_out = index_tar(tar, Options(caption_key="caption"))
    assert dict(zip(table["key"], table["caption"], strict=True)) == {"a": "of the text", "b": "a dog"}
    assert left_out == {"no caption": ["c"], "an empty caption": ["d"], "no picture": ["e"]}
    table, left_out = index_tar(tar, Options())
    assert table["key"].tolist() == ["a"]
    assert left_out == {"no caption": ["b", "b.seg", "c", "d"], "no picture": ["e"]}


@pytest.mark.parametrize(
    "told",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"fit": ' + b"9" * 400 + b"}",
        b'{"fit": ' + b"9" * 10_000 + b"}",
        b'{"fit": true}',
        b'{"fit": NaN}',
        b'{"url": "http://\\ud800.example/"}',
    ],
    ids=["nested", "large number", "endless number", "bool", "nan", "half a character"],
)
def test_odd_json_is_the_fault_of_one_pair_alone(tmp_path: Path, told: bytes) -> None:
    files = {"a.jpg": picture(0), "a.txt": b"one", "a.json": told}
    files |= {"b.jpg": picture(1), "b.txt": b"two", "b.json": b'{"fit": 0.5, "url": "http://some.example/"}'}
    table, skipped = index_tar(write_tar(tmp_path / "a.tar", files), Options(score="fit", curated_from=0.3))
    assert table["score"].isna().tolist() == [True, False]
    assert table["set"][1] == "some.example"
    assert not skipped
    table.to_parquet(tmp_path / "table.parquet")


def test_a_name_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg".decode(errors="surrogateescape"), b"caf\xe9.txt".decode(errors="surrogateescape")]
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, content in zip(names, (picture(0), b"a small cafe"), strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    table, _ = index_tar(tmp_path / "a.tar", Options())
    assert table["key"].tolist() == ["caf\\udce9"]


def test_a_damaged_json_costs_a_pair_nothing_but_its_score(tmp_path: Path) -> None:
    files = {
        "a.jpg": picture(0),
        "a.txt": b"one",
        "a.json": b"{torn",
        "b.jpg": picture(1),
        "b.txt": b"two",
        "b.json": b"[1]",
    }
    files |= {"c.jpg": picture(2), "c.txt": b"three", "c.json": b'{"fit": "high", "url": "http://[broken"}'}
    table, skipped = index_tar(write_tar(tmp_path / "a.tar", files), Options(score="fit", curated_from=0.3))
    assert table["score"].isna().all()
    assert set(table["set"]) == {"unknown"}
    assert not skipped


# -------------------------------------------------------------------------------------------------------------- bad tars
@pytest.mark.parametrize("left", [0, 100, 600, 2600, -1, -10240])
def test_a_truncated_tar_is_refused(tmp_path: Path, left: int) -> None:
    tar = write_tar(tmp_path / "a.tar", {name: content for number in range(9) for name, content in a_pair(number).items()})
    whole = tar.read_bytes()
    with tarfile.open(tar) as content:
        last = content.getmembers()[-1]
    end = last.offset_data + 512  # a caption fits into one block, and the end marker begins behind it
    tar.write_bytes(whole[: end + left] if left < 0 else whole[:left])
    with pytest.raises(ScrimpError, match=r"a\.tar cannot be read to its end, .*put a whole copy in its place"):
        index_tar(tar, Options())


def test_a_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"a.jpg": picture(0), "a.txt": b"words"})
    with tarfile.open(tar) as content:
        tar.write_bytes(tar.read_bytes()[: content.getmembers()[1].offset])
    with pytest.raises(ScrimpError, match="no end marker"):
        index_tar(tar, Options())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ScrimpError, match=r"member 'a\.jpg' is a link, a device"):
        index_tar(tmp_path / "a.tar", Options())


@pytest.mark.parametrize("name", ["../x.jpg", "/x.jpg", "a/../../x.jpg"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScrimpError, match="a path that leads out of the archive"):
        index_tar(write_tar(tmp_path / "a.tar", {name: picture(0)}), Options())


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(ScrimpError, match=r"a\.tar is compressed, .* unpack it"):
        index_tar(tmp_path / "a.tar", Options())


# -------------------------------------------------------------------------------------------------------------- mistakes
def test_too_few_pairs_to_hold_out(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", a_pair(0) | a_pair(1))
    with pytest.raises(ScrimpError, match=r"web: 2 pairs, 2 of them .* are too few: test and validation want 7"):
        indexed(tmp_path / "web", [tar])
    with pytest.raises(ScrimpError, match=r"web: 0 pairs"):
        indexed(tmp_path / "web", [write_tar(tmp_path / "b.tar", {"a.jpg": picture(0)})])


def test_a_score_that_no_pair_has(web: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match=r"options\.score: no KEY\.json has the number 'clip'"):
        indexed(tmp_path / "other", tars_of(tmp_path / "own", ""), score="clip", curated_from=0.3)
    for wrong in ({"score": "fit"}, {"curated_from": 1.0}, {"score": "fit", "curated_from": 0.2, "extended_from": 0.3}):
        with pytest.raises(ValueError, match="curated_from"):
            Options(**wrong)


def test_tars_are_given_by_folder_glob_or_braces(tmp_path: Path) -> None:
    two_tars(tmp_path)
    both = [tmp_path / "00000.tar", tmp_path / "00001.tar"]
    for pattern in (tmp_path, tmp_path / "*.tar", tmp_path / "{00000..00001}.tar", tmp_path / "0000{0,1}.tar"):
        assert tars_of(pattern, "") == both
    assert tars_of(both[1], "") == both[1:]
    with pytest.raises(ScrimpError, match=r"00002\.tar does not exist; 2 of the 4 tars of .* are missing"):
        tars_of(tmp_path / "{00000..00003}.tar", "")
    for pattern in (tmp_path / "none", tmp_path / "*.zip"):
        with pytest.raises(ScrimpError, match=r"no tar at .* Ask a friend"):
            tars_of(pattern, "Ask a friend")
    with pytest.raises(ScrimpError, match="has a brace without its partner"):
        tars_of(tmp_path / "{0..1.tar", "")


# ------------------------------------------------------------------------------------------------------------- the stage
def workspace_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **source: Any) -> Workspace:
    dataset = {"title": "t", "builder": "web_tars", "licence": "none", "used_for": "a test", "options": SMALL}
    (tmp_path / "config").mkdir()
    where = {"kind": "tars", "obtain": "Ask a friend.", **source}
    (tmp_path / "config" / "datasets.yaml").write_text(yaml.safe_dump({"web": {**dataset, "source": where}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRIMP_MIRROR", raising=False)
    return Workspace()


def test_tars_of_ones_own_are_indexed_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_with(tmp_path, monkeypatch)
    write_tar(tmp_path / "own" / "a.tar", {name: content for number in range(9) for name, content in a_pair(number).items()})
    with pytest.raises(ScrimpError, match=r"`scrimp shard web --path PATTERN`\. Ask a friend"):
        shard(workspace, "web")
    folder = shard(workspace, "web", Path("own"))
    assert set(read_samples(folder)["shard"]) == {"../../../own/a.tar"}
    assert len(load_web_pairs(folder, SIDE).pairs.images(torch.arange(9))) == 9
    assert not list(folder.glob("*.tar"))
    assert set(read_samples(shard(workspace, "web", tmp_path / "own"))["shard"]) == {str(tmp_path / "own" / "a.tar")}


def test_tars_behind_addresses_come_from_the_mirror_and_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_tars(tmp_path / "mirror" / "web", 20)
    digest = hashlib.sha256((tmp_path / "mirror" / "web" / "00001.tar").read_bytes()).hexdigest()
    pinned = {"urls": "https://host.invalid/{00000..00001}.tar?download=true", "sha256": {"00001.tar": digest}}
    workspace = workspace_with(tmp_path, monkeypatch, **pinned)
    monkeypatch.setenv("SCRIMP_MIRROR", "mirror")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    folder = shard(workspace, "web")
    assert sorted(set(read_samples(folder)["shard"])) == [f"../../downloads/web/0000{half}.tar" for half in (0, 1)]
    assert len(load_web_pairs(folder, SIDE).pairs) == 20
    (workspace.downloads / "web" / "00001.tar").write_bytes(b"changed")
    (tmp_path / "mirror" / "web" / "00001.tar").write_bytes(b"changed")
    with pytest.raises(ScrimpError, match=r"web/00001\.tar \(dataset web\), from mirror.* has the wrong digest"):
        shard(workspace, "web")
