"""What README and docs tell a user to type is typed here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = Path(sys.executable).parent

# Commands that a test cannot carry out, and where they are carried out instead.
ELSEWHERE = {
    "scripts/quickstart": "runs after installation what `rramhil run` runs; set up by scripts/test",
    "scripts/test": "runs this test",
    "source .venv/bin/activate": "an environment is active here",
    "pip install pytest": "pytest is what runs this",
    "pip install -c constraints.txt .": ".ci/run installs the wheel",
    "git clone <where you got it> rramhil && cd rramhil": "this is the clone",
    "rramhil data fetch mnist --folder data": "tests/nn/test_fetch.py serves it from localhost",
    "RRAMHIL_DATA=data rramhil run mnist": "needs MNIST; scripts/bench can run it",
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of `language` on `page`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M)


def commands(page: Path) -> list[str]:
    """The command lines of a page's bash blocks, comments cut off."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_do_what_they_say(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment["RRAMHIL_HOME"] = str(tmp_path / "home")
    (tmp_path / "test_mine.py").write_text(
        "def test_reads(rram_device):\n    assert rram_device.read([0]).shape == (1,)\n"
    )
    run = 0
    for line in commands(ROOT / "README.md"):
        if line in ELSEWHERE:
            continue
        done = subprocess.run(
            shlex.split(line),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        run += 1
    assert run >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_scripts_and_commands_that_a_page_names_exist(page: Path) -> None:
    from typer.main import get_command

    from rramhil.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for line in commands(page):
        words = [w for w in shlex.split(line, comments=True) if "=" not in w or w.startswith("-")]
        if words and words[0] == "rramhil" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in known, line
        if words and words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), line


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (page, number)
        for page in (
            ROOT / "README.md",
            *(ROOT / "docs" / p for p in ("getting-started.md", "codesign.md")),
        )
        for number in range(len(blocks(page, "python")))
    ],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
def test_python_examples_run(page: Path, number: int) -> None:
    exec(compile(blocks(page, "python")[number], str(page), "exec"), {})


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_job_of_the_page_on_job_files_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    from rramhil.job.file import JobFile
    from rramhil.run import Run
    from rramhil.schema import check

    (text,) = blocks(ROOT / "docs" / "job-file.md", "toml")
    run = Run.start(check(tomllib.loads(text), JobFile, "job-file.md"), text)
    result = run.execute(lambda _: None, lambda: False)
    assert result.outcome == "finished"


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    pattern = r"(^|[^a-zA-Z0-9_.])/(work|root|home/[a-z]+)/"
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", ".", ":!tests/test_docs.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode > 1:
        pytest.skip("not a git checkout")
    assert found.stdout == ""
