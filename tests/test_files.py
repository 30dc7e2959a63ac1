"""Small files: whole or not at all, and errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scrimp.errors import ScrimpError
from scrimp.files import digest_of, held, read_json, replacing, sha256_of, write_json, write_text


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "one.json", {"b": [1, 2.5, None], "a": "é"})
    write_json(tmp_path / "a" / "two.json", {"a": "é", "b": [1, 2.5, None]})
    assert (tmp_path / "a" / "one.json").read_bytes() == (tmp_path / "a" / "two.json").read_bytes()
    assert read_json(tmp_path / "a" / "one.json") == {"a": "é", "b": [1, 2.5, None]}


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert read_json(tmp_path / "x.json") == 1
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_writer_that_fails_half_way_leaves_the_old_file_alone(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("scrimp.files.os.fsync", full)
    with pytest.raises(ScrimpError, match=r"cannot write .*x\.txt: No space left on device; free some space"):
        write_text(tmp_path / "x.txt", "text")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ScrimpError, match=r"cannot write .*file/deeper/x\.txt: Not a directory"):
        write_text(tmp_path / "file" / "deeper" / "x.txt", "text")
    with pytest.raises(ScrimpError, match=r"cannot write .*file/x\.txt: File exists"):
        write_text(tmp_path / "file" / "x.txt", "text")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe\x00", b""])
def test_a_torn_file_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ScrimpError, match=r"x\.json is not valid JSON .*delete it and run its stage again"):
        read_json(tmp_path / "x.json")


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match=r"x\.json does not exist; make it with the stage before"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": 1.5}, False),
        ({"a": None}, {}, False),
    ],
)
def test_digests_of_values(one: Any, other: Any, same: bool) -> None:
    assert (digest_of(one) == digest_of(other)) is same
    assert len(digest_of(one)) == 16


def test_digests_are_plain_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of({"b": 1, "a": [2]}) == hashlib.sha256(b'{"a":[2],"b":1}').hexdigest()[:16]


def test_a_lock_keeps_others_out_until_its_holder_leaves_or_dies(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "run.lock"
    program = "import sys, time; from pathlib import Path; from scrimp.files import held\n"
    program += "with held(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ScrimpError, match=r"another process is at the same work \(it holds .*run.lock\)"), held(lock):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with held(lock):
        pass
    with held(lock):  # and one that left has left
        pass
