"""Downloads from a server of the test's own: resume, check, and say what went wrong."""

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rramhil.nn import data as data_module
from rramhil.nn.data import DataError, DataFile, Source, find_source
from rramhil.nn.fetch import fetch

PLAIN = bytes(range(256)) * 2000
PACKED = gzip.compress(PLAIN, mtime=0)


class Server(ThreadingHTTPServer):
    """Serves `contents` by name; breaks off after `cut` bytes; notes the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.cut: int | None = None
        self.honours_ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        wanted = self.headers.get("Range")
        self.server.asked.append((name, wanted))
        content = self.server.contents.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.server.honours_ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut])

    def log_message(self, *message: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    real = find_source("mnist")
    file = DataFile("numbers", hashlib.sha256(PLAIN).hexdigest())
    one = Source("mnist", (file,), real.parse, "http://127.0.0.1:9/", ("numbers.gz",), 1.0, "")
    many = Source("cifar-10", (file,), real.parse, "", ("all.tar.gz",), 1.0, "")
    monkeypatch.setitem(data_module.SOURCES, "mnist", one)
    monkeypatch.setitem(data_module.SOURCES, "cifar-10", many)


def test_a_file_is_fetched_once_checked_and_reported(server: Server, tmp_path: Path) -> None:
    server.contents["numbers.gz"] = PACKED
    seen: list[tuple[str, int, int | None]] = []
    folder = fetch("mnist", tmp_path, base=server.base, progress=lambda *what: seen.append(what))
    assert (folder / "numbers.gz").read_bytes() == PACKED
    assert seen[-1] == ("numbers.gz", len(PACKED), len(PACKED))
    fetch("mnist", tmp_path, base=server.base)
    assert len(server.asked) == 1


def test_a_broken_download_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.contents["numbers.gz"] = PACKED
    server.cut = 1000
    with pytest.raises(DataError, match=r"broken off after 1000 of.*run the same command again"):
        fetch("mnist", tmp_path, base=server.base)
    server.cut = None
    seen: list[tuple[str, int, int | None]] = []
    folder = fetch("mnist", tmp_path, base=server.base, progress=lambda *what: seen.append(what))
    assert seen[-1] == ("numbers.gz", len(PACKED), len(PACKED))
    assert server.asked[-1] == ("numbers.gz", "bytes=1000-")
    assert (folder / "numbers.gz").read_bytes() == PACKED
    assert not list(folder.glob("*.part"))


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.contents["numbers.gz"] = PACKED
    server.honours_ranges = False
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "numbers.gz.part").write_bytes(b"left over")
    folder = fetch("mnist", tmp_path, base=server.base)
    assert (folder / "numbers.gz").read_bytes() == PACKED


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    server.contents["numbers.gz"] = PACKED
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "numbers.gz.part").write_bytes(PACKED)
    folder = fetch("mnist", tmp_path, base=server.base)
    assert (folder / "numbers.gz").read_bytes() == PACKED


def test_another_file_than_the_published_one_is_deleted(server: Server, tmp_path: Path) -> None:
    server.contents["numbers.gz"] = gzip.compress(b"something else")
    with pytest.raises(DataError, match="SHA-256 differs"):
        fetch("mnist", tmp_path, base=server.base)
    assert not list((tmp_path / "mnist").iterdir())


def test_members_of_an_archive_are_put_in_place(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("deep/numbers", PLAIN), ("../other", b"not wanted")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    server.contents["all.tar.gz"] = packed.getvalue()
    folder = fetch("cifar-10", tmp_path, base=server.base)
    assert [path.name for path in folder.iterdir()] == ["numbers"]
    assert not (tmp_path / "other").exists()


def test_a_broken_archive_is_deleted(server: Server, tmp_path: Path) -> None:
    server.contents["all.tar.gz"] = b"this is no archive"
    with pytest.raises(DataError, match="damaged"):
        fetch("cifar-10", tmp_path, base=server.base)
    assert not list((tmp_path / "cifar-10").iterdir())


def test_what_cannot_be_reached_or_stored_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="answers 404"):
        fetch("mnist", tmp_path, base=server.base)
    with pytest.raises(DataError, match=r"cannot be fetched.*copy it into the data folder"):
        fetch("mnist", tmp_path, base="http://127.0.0.1:9/")
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(DataError, match="name a folder with 1 MB of room"):
        fetch("mnist", blocked, base=server.base)
    with pytest.raises(DataError, match=r"no data set 'digit'.*did you mean 'digits'"):
        fetch("digit", tmp_path)
    with pytest.raises(DataError, match="comes with the package"):
        fetch("digits", tmp_path)
