"""Archives from outside: what is read, what is refused, and that damage never passes for the end."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from scrimp.data.archives import iter_members, iter_places
from scrimp.errors import ScrimpError

CONTENT = {"set/a.txt": b"alpha", "set/b.bin": bytes(range(256)) * 8, "set/c.txt": b"x" * 1024}


def write_tar(path: Path, mode: str = "w", members: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in (CONTENT if members is None else members).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_special(path: Path, name: str, kind: bytes, target: str = "") -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = target
        tar.addfile(member)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_every_compression_gives_the_same_members_in_order(tmp_path: Path, mode: str) -> None:
    archive = write_tar(tmp_path / "any.name", mode)
    assert list(iter_members(archive)) == list(CONTENT.items())


def test_only_wanted_members_are_given(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar")
    assert [name for name, _ in iter_members(archive, lambda name: name.endswith(".txt"))] == ["set/a.txt", "set/c.txt"]


def test_names_longer_than_a_header_and_a_leading_dot(tmp_path: Path) -> None:
    long = "set/" + "n" * 300 + ".txt"
    archive = write_tar(tmp_path / "a.tar", members={long: b"1", "./set/d.txt": b"2"})
    assert [name for name, _ in iter_members(archive)] == [long, "set/d.txt"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("read", [iter_members, iter_places])
def test_a_header_of_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path, kind: bytes, read: Any) -> None:
    header = tarfile.TarInfo("./@LongLink")
    header.type, header.size = kind, 2**30
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as file:
        file.truncate(2**30 + 2048)  # a hole, which takes no space
    tracemalloc.start()
    with pytest.raises(ScrimpError, match=r"a header of 1,073,741,824 bytes, of which 1,048,576 are allowed"):
        list(read(path))
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_an_archive_of_nothing_is_fine(tmp_path: Path) -> None:
    assert list(iter_members(write_tar(tmp_path / "a.tar", members={}))) == []


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "set/../../evil.txt", "set\\..\\evil.txt"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    archive = write_tar(tmp_path / "a.tar", members={name: b"evil"})
    with pytest.raises(ScrimpError, match="leads out of the archive") as error:
        list(iter_members(archive, wanted=lambda name: False))
    assert str(archive) in str(error.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = write_special(tmp_path / "a.tar", "set/innocent.txt", kind, target="/etc/passwd")
    with pytest.raises(ScrimpError, match=r"innocent\.txt.* special file"):
        list(iter_members(archive))


def test_a_wanted_member_over_the_limit_is_refused_an_unwanted_one_is_passed_over(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar")
    with pytest.raises(ScrimpError, match=r"set/b\.bin has 2,048 bytes, more than the 1,024 allowed"):
        list(iter_members(archive, largest=1024))
    names = [name for name, _ in iter_members(archive, lambda name: name.endswith("txt"), largest=1024)]
    assert names == ["set/a.txt", "set/c.txt"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_cut_anywhere_is_an_error_that_names_the_file(tmp_path: Path, mode: str) -> None:
    whole = write_tar(tmp_path / "whole", mode).read_bytes()
    # A plain tar is padded with zeros to 10,240 bytes: cuts inside that padding lose nothing.
    end = 8 * 512 + 2048 if mode == "w" else len(whole)
    for at in {end * part // 8 for part in range(8)} | {end - 1}:
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:at])
        with pytest.raises(ScrimpError, match=r"truncated or damaged.*scrimp fetch") as error:
            list(iter_members(cut))
        assert str(cut) in str(error.value)


def test_a_cut_between_two_members_is_found_even_inside_valid_gzip(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole").read_bytes()
    second_header = 512 + 512 + 512  # the folder, then a.txt's header and its one block
    assert whole[second_header : second_header + 9] == b"set/b.bin"
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(gzip.compress(whole[:second_header]))
    with pytest.raises(ScrimpError, match="no end marker after byte 1,536"):
        list(iter_members(cut))


def test_a_garbled_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = bytearray(write_tar(tmp_path / "whole").read_bytes())
    content[512 + 512 + 512] ^= 0xFF
    garbled = tmp_path / "garbled.tar"
    garbled.write_bytes(content)
    with pytest.raises(ScrimpError, match="truncated or damaged"):
        list(iter_members(garbled))


def test_a_flipped_bit_in_gzip_is_found_by_its_checksum(tmp_path: Path) -> None:
    content = bytearray(write_tar(tmp_path / "whole", "w:gz").read_bytes())
    content[-6] ^= 1  # in the stored checksum
    bad = tmp_path / "bad.tgz"
    bad.write_bytes(content)
    with pytest.raises(ScrimpError, match="CRC check failed"):
        list(iter_members(bad))


def test_no_archive_and_no_file(tmp_path: Path) -> None:
    text = tmp_path / "page.html"
    text.write_text("<html>not found</html>" * 100)
    with pytest.raises(ScrimpError, match="truncated or damaged"):
        list(iter_members(text))
    with pytest.raises(ScrimpError, match="does not exist; bring it with `scrimp fetch`"):
        list(iter_members(tmp_path / "none.tar"))


def test_what_follows_the_end_marker_is_an_error_where_places_are_read(tmp_path: Path) -> None:
    one, other = write_tar(tmp_path / "a.tar"), write_tar(tmp_path / "b.tar", members={"set/d.txt": b"delta"})
    assert len(list(iter_places(one))) == 3
    both = tmp_path / "both.tar"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(ScrimpError, match=r"both\.tar: something follows the end marker.*tar --ignore-zeros"):
        list(iter_places(both))
