"""`data list` and `data fetch`, the latter from a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.cli.errors import WRONG_INPUT


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and the folder of a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_list(rramhil: Call, tmp_path: Path) -> None:
    found = json_of(rramhil("data", "list", "--json"))
    here = {entry["name"]: entry["here"] for entry in found["sets"]}
    assert here == {"digits": True, "mnist": False, "fashion-mnist": False, "cifar-10": False}
    assert found["folder"] == str(tmp_path / "data")
    shown = rramhil("data", "list", "--folder", str(tmp_path / "other")).stdout
    assert "cifar-10" in shown
    assert str(tmp_path / "other") in shown


def test_digits_need_no_fetching(rramhil: Call) -> None:
    assert "nothing to fetch" in rramhil("data", "fetch", "digits").stderr


def test_what_the_server_does_not_have_is_one_sentence(
    rramhil: Call, served: tuple[str, Path]
) -> None:
    result = rramhil("data", "fetch", "mnist", "--base", served[0], "--quiet")
    assert result.exit_code == 1
    assert "404" in error_of(result)


def test_what_is_not_the_published_file_is_one_sentence(
    rramhil: Call, served: tuple[str, Path]
) -> None:
    address, folder = served
    for name in ("train-images", "t10k-images"):
        (folder / f"{name}-idx3-ubyte.gz").write_bytes(b"not it")
    for name in ("train-labels", "t10k-labels"):
        (folder / f"{name}-idx1-ubyte.gz").write_bytes(b"not it")
    result = rramhil("data", "fetch", "mnist", "--base", address)
    assert result.exit_code == 1
    assert "fetching train-images-idx3-ubyte.gz" in result.stderr
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_data_set_that_does_not_exist_is_wrong_input(rramhil: Call) -> None:
    result = rramhil("data", "fetch", "mnst")
    assert result.exit_code == WRONG_INPUT
    assert "did you mean 'mnist'?" in error_of(result)
