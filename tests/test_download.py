"""Fetching archives from a server that works, is cut, lies, or is not there; and unpacking hostile ones."""

from __future__ import annotations

import hashlib
import io
import resource
import socket
import ssl
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from conftest import FAST, done, refused, run

from datasets.readers import download as fetching
from datasets.readers.download import Archive, fetch, unpack
from datasets.readers.mvtec import OBJECTS
from deploy import UserError

pytestmark = pytest.mark.once


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A .tar.xz of these files and symbolic links."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:xz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return made.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A server of `.files` by name, that sends `.cut` bytes at most per answer; `.asked` are the ranges asked for."""
    state = SimpleNamespace(files={}, cut=None, asked=[], ranges=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = state.files.get(self.path.rsplit("/", 1)[-1])
            if data is None:
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            state.asked.append(asked)
            start = int(asked[6:-1]) if asked and state.ranges else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:][: state.cut])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{listening.server_port}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield state
    listening.shutdown()
    listening.server_close()


def archive_of(server: SimpleNamespace, name: str, data: bytes) -> Archive:
    """The server's file."""
    server.files[name] = data
    return Archive(f"{server.url}/{name}", f"sha256:{hashlib.sha256(data).hexdigest()}")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_taken_up_again(server: SimpleNamespace, tmp_path: Path, ranges: bool) -> None:
    data = bytes(range(256)) * 4096
    archive = archive_of(server, "a.tar.xz", data)
    server.cut, server.ranges = 400_000, ranges
    if ranges:
        assert fetch(archive, tmp_path).read_bytes() == data
        assert server.asked == [None, "bytes=400000-", "bytes=800000-"]
        return
    with pytest.raises(UserError, match="goes on where it was"):
        fetch(archive, tmp_path)
    server.cut = None
    assert fetch(archive, tmp_path).read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.xz"], "nothing half is left"


def test_what_an_interrupted_run_left_is_gone_on_with(server: SimpleNamespace, tmp_path: Path) -> None:
    data = b"x" * 1000 + b"y" * 1000
    archive = archive_of(server, "a.tar.xz", data)
    part = tmp_path / f"a.tar.xz.{archive.digest[7:15]}.part"
    part.write_bytes(data[:700])
    assert fetch(archive, tmp_path).read_bytes() == data and server.asked == ["bytes=700-"]
    (tmp_path / "a.tar.xz").unlink()
    part.write_bytes(data)
    assert fetch(archive, tmp_path).read_bytes() == data, "all was there"


def test_a_wrong_checksum_is_no_archive(server: SimpleNamespace, tmp_path: Path) -> None:
    archive = archive_of(server, "a.tar.xz", b"right")
    server.files["a.tar.xz"] = b"wrong"
    with pytest.raises(UserError, match="not what it should be"):
        fetch(archive, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_lies_in_the_cache_is_checked_again(server: SimpleNamespace, tmp_path: Path) -> None:
    archive = archive_of(server, "a.tar.xz", b"right")
    (tmp_path / "a.tar.xz").write_bytes(b"wrong")
    with pytest.raises(UserError, match="not what it should be"):
        fetch(archive, tmp_path)
    assert not server.asked and fetch(archive, tmp_path).read_bytes() == b"right"


@pytest.mark.parametrize("kind", [socket.timeout, ssl.SSLError])
def test_an_error_of_the_connection_is_not_called_one_of_the_disk(
    kind: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(url: str, start: int) -> None:
        raise kind("the read operation timed out")

    monkeypatch.setattr(fetching, "_open", broken)
    with pytest.raises(UserError, match="cannot fetch .*the read operation timed out.*it goes on where it was"):
        fetch(Archive("https://127.0.0.1/none", "md5:0"), tmp_path)


def test_no_server_no_file_and_no_space(server: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="404"):
        fetch(Archive(f"{server.url}/none", "md5:0"), tmp_path)
    with pytest.raises(UserError, match="cannot fetch"):
        fetch(Archive("http://127.0.0.1:1/none", "md5:0"), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    archive = archive_of(server, "a.tar.xz", b"z" * 300_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write"):
            fetch(archive, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch(archive, tmp_path).stat().st_size == 300_000, "it goes on when there is space"


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "bottle/../../out.png"])
def test_nothing_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar.xz").write_bytes(tar_of({"bottle/train/good/0.png": b"1", name: b"2"}))
    with pytest.raises(UserError, match="leads out"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "data", {"bottle"})
    assert not list((tmp_path / "data").iterdir()) and not (tmp_path / "out.png").exists()


def test_links_others_and_what_is_there_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"bottle/train/good/0.png": b"1", "./tile/train/good/0.png": b"2", "licence.txt": b"3"}
    (tmp_path / "a.tar.xz").write_bytes(tar_of(files, {"bottle/train/good/link.png": "/etc/passwd"}))
    (tmp_path / "data/tile").mkdir(parents=True)
    unpack(tmp_path / "a.tar.xz", tmp_path / "data", {"bottle", "tile"})
    found = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*.*"))
    assert found == ["bottle/train/good/0.png"] and not any((tmp_path / "data/tile").iterdir())
    for limit in ("MOST_BYTES", "MOST_FILES"):
        with monkeypatch.context() as patch, pytest.raises(UserError, match="not unpacked"):
            patch.setattr(fetching, limit, 1)
            unpack(tmp_path / "a.tar.xz", tmp_path / "other", {"bottle"})
    (tmp_path / "a.tar.xz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "other", {"bottle"})


def test_more_than_half_come_in_one_archive_and_what_is_there_stays(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tar_of({f"{name}/train/good/0.png": name.encode() for name in fetching.ARCHIVES})
    monkeypatch.setattr(fetching, "WHOLE", archive_of(server, "all.tar.xz", packed))
    for selection, wanted in (("objects", OBJECTS), ("all", fetching.ARCHIVES)):
        data = tmp_path / selection
        (data / "bottle").mkdir(parents=True)
        fetching.download(data, selection)
        found = {path.relative_to(data).parts[0]: path.read_text() for path in data.rglob("*.png")}
        assert found == {name: name for name in wanted if name != "bottle"}


def test_train_downloads_what_is_missing(
    server: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data / "washer"
    files = {f"bottle/{path.relative_to(place)}": path.read_bytes() for path in place.rglob("*.png")}
    monkeypatch.setitem(fetching.ARCHIVES, "bottle", archive_of(server, "bottle.tar.xz", tar_of(files)))
    words = ["--data_path", tmp_path / "mvtec", "--category", "bottle", *FAST, "--save_path", tmp_path / "out"]
    refused(run("train.py", *words), "--download")
    said = done(run("train.py", *words, "--download")).stdout
    assert "CC BY-NC-SA 4.0" in said and "downloaded" in said and "8 good pictures to fit on" in said
    assert len(list((tmp_path / "mvtec/bottle").rglob("*.png"))) == len(files)
    assert not list((tmp_path / "cache/paddlepatch").iterdir()), "the archive is not kept"
    again = done(run("train.py", *words, "--download", "--save_model", "False")).stdout
    assert "CC BY-NC-SA" not in again and len(server.asked) == 1
    model = tmp_path / "out/patchcore_compact_2/bottle.safetensors"
    refused(run("train.py", "--update", model, "--data_path", tmp_path / "new", "--download"), "none of the 8 pictures")
    assert len(list((tmp_path / "new/bottle").rglob("*.png"))) == len(files), "an update downloads as well"
    refused(run("train.py", *words[:2], "--category", "bottel", *FAST, "--download"), "bottel", "zipper")
