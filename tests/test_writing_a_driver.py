"""The third-party driver: installed apart, found by its entry point, examined, documented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "fixtures" / "thirdparty"
PAGE = ROOT / "docs" / "writing-a-driver.md"
EXAMINE = """
import sys
from rramhil.address import driver_names
from rramhil.conformance import Outcome, check
from rramhil.station import connect

assert "abacus" in driver_names()
findings = list(check(connect("abacus:7")))
print(*findings, sep="\\n")
assert [f for f in findings if f.outcome is Outcome.FAILED] == []
assert sum(f.outcome is Outcome.PASSED for f in findings) >= 22
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver in it, installed by pip from a copy of its source, offline."""
    pytest.importorskip("setuptools", reason="the driver is built with setuptools")
    folder = tmp_path_factory.mktemp("thirdparty")
    source = shutil.copytree(SOURCE, folder / "source")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    target = ["--target", str(folder / "site")]
    command = [sys.executable, "-m", "pip", "install", *options, *target, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(code: str, site: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "RRAMHIL_HOME": str(home)}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environment
    )


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_it_is_one_file_of_at_most_forty_lines() -> None:
    (module,) = SOURCE.glob("*.py")
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 40


def test_it_passes_conformance_through_its_own_entry_point(installed: Path, tmp_path: Path) -> None:
    done = python(EXAMINE, installed, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_the_real_file() -> None:
    assert code_blocks("python")[0] == (SOURCE / "rramhil_abacus.py").read_text(encoding="utf-8")
    assert code_blocks("toml")[0] == (SOURCE / "pyproject.toml").read_text(encoding="utf-8")


def test_what_the_page_shows_runs(installed: Path, tmp_path: Path) -> None:
    blocks = code_blocks("python")[1:]
    assert len(blocks) == 3
    done = python("\n".join(blocks), installed, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6.e-05" in done.stdout
