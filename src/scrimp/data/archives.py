"""Reading tar archives from outside as a stream: nothing is unpacked to disk, and nothing odd is let through."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from scrimp.errors import ScrimpError

LARGEST_MEMBER = 256 * 2**20  # bytes; the largest member that any source needs is CIFAR-100's train.bin, 154 MB
# Members that speak of the next one: GNU's long names, pax records.
EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
LARGEST_HEADER = 2**20
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
OPENERS: dict[bytes, Callable[[Path], object]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}


def iter_members(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, largest: int = LARGEST_MEMBER
) -> Iterator[tuple[str, bytes]]:
    """Yield `(name, content)` of the regular files for which `wanted(name)` holds, in the archive's order.

    `path` is a tar, plain or compressed by gzip, xz or bzip2 (told by its first bytes). Names use forward slashes and
    have no leading `./`. `largest` bounds a wanted member's size in bytes; others are passed over unread.

    Raises `ScrimpError` for a member that no data archive needs (absolute path, `..`, link, device, larger than
    `largest`) and for a missing, truncated or corrupt archive. Truncation shows at the end: a reader that stops early
    does not learn of it.
    """
    try:
        with _decompressed(path) as content:
            stream = _Remembering(content)
            # "|" never seeks; tarfile only calls `read`.
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=_Bounded) as tar:
                end = 0
                for member in tar:
                    name = _checked_name(path, member)
                    end = member.offset_data + _padded(member.size if member.isfile() else 0)
                    if not member.isfile() or not wanted(name):
                        continue
                    if member.size > largest:
                        raise ScrimpError(
                            f"{path}: member {name} has {member.size:,} bytes, more than the {largest:,} allowed here; "
                            "this is not the archive that Scrimp expects"
                        )
                    opened = tar.extractfile(member)
                    assert opened is not None  # only links and folders have no content
                    yield name, opened.read()
            _require_end(stream, end)
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist; bring it with `scrimp fetch` first") from error
    except DAMAGE as error:
        raise ScrimpError(
            f"{path} cannot be read to its end, it is truncated or damaged ({str(error) or type(error).__name__}); "
            "delete it and bring it again with `scrimp fetch`"
        ) from error


def iter_places(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield `(name, offset, size)` of the regular files of a plain tar, in its order; no content is read.

    Refuses what `iter_members` refuses, and a compressed tar, of which nothing can be read by its place.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            if any(start.startswith(magic) for magic in OPENERS):
                raise ScrimpError(f"{path} is compressed, but what it holds is read by its place: unpack it to a plain tar")
            file.seek(0)
            end = 0
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Bounded) as tar:
                for member in tar:
                    name = _checked_name(path, member)
                    end = member.offset_data + _padded(member.size if member.isfile() else 0)
                    if member.isfile():
                        yield name, member.offset_data, member.size
            # tarfile takes a cut between two members, or a garbled header, for the end, and passes a cut in the last one.
            if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end marker after byte {end:,} of the tar")
            _require_zeros(path, file, end)
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist; bring it there, or mend the path or pattern that names it") from error
    except DAMAGE as error:
        raise ScrimpError(
            f"{path} cannot be read to its end, it is truncated or damaged ({str(error) or type(error).__name__}); "
            "put a whole copy in its place and run the same command again"
        ) from error


class _Bounded(tarfile.TarInfo):
    """A member whose long name or pax records, which tarfile reads whole before anybody sees them, are of a sane size."""

    def _proc_member(self, tarfile_: tarfile.TarFile) -> Any:
        if self.type in EXTENDED and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes, of which {LARGEST_HEADER:,} are allowed")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


class _Remembering(io.RawIOBase):
    """A stream that keeps the last bytes read, so that what tarfile read ahead can be looked at afterwards."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.position = 0
        self.recent = b""

    def read(self, size: int = -1) -> bytes:
        chunk = self.source.read(size)
        self.position += len(chunk)
        # tarfile reads one record at a time, so two of them hold all that it read behind the last member.
        self.recent = (self.recent + chunk)[-2 * tarfile.RECORDSIZE :]
        return chunk


def _decompressed(path: Path) -> BinaryIO:
    """The tar's bytes, decompressed by what the file's first bytes say it is."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in OPENERS.items():
        if start.startswith(magic):
            return cast(BinaryIO, opener(path))
    return path.open("rb")


def _checked_name(path: Path, member: tarfile.TarInfo) -> str:
    """The member's clean name; links, devices and paths that lead out of the archive are errors."""
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        problem = "a path that leads out of the archive"
    elif not (member.isfile() or member.isdir()) or member.issparse():
        problem = "a link, a device or another special file"
    else:
        return "/".join(parts)
    raise ScrimpError(f"{path}: member {member.name!r} is {problem}; Scrimp does not read such archives")


def _require_end(stream: _Remembering, end: int) -> None:
    """Check that the tar's end marker follows the last member, which ends at byte `end`, and read to the last byte.

    tarfile takes a cut between two members, or a garbled header, for the end. Reading on to the end of a compressed
    stream makes its reader compare the checksum stored there.
    """
    behind = stream.recent[len(stream.recent) - (stream.position - end) :]
    if behind[: tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no end marker after byte {end:,} of the tar")
    while stream.read(2**20):
        pass


def _require_zeros(path: Path, file: BinaryIO, end: int) -> None:
    """Raise ScrimpError for something behind a tar's end marker at byte `end`: there is only padding, of zeros."""
    file.seek(end)
    while chunk := file.read(2**20):
        if any(chunk):
            raise ScrimpError(
                f"{path}: something follows the end marker at byte {end:,}, as where tars were put behind each other with "
                "`cat`; no tool reads on there unless told so. Put the separate tars in its place, or unpack it with "
                "`tar --ignore-zeros` and pack it anew"
            )


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
