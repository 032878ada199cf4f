"""A run whose board drops the line in the middle of pulses goes on by itself, and loses nothing."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from boards import Altered, serving

from rramhil import run as run_module
from rramhil.address import open_device
from rramhil.device import Kind, LinkLost, Refused
from rramhil.job.file import JobFile
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil.schema import check
from rramhil_drivers.wire import Frame, Type

JOB = """
name = "link"
[network]
name = "digits"
[data]
name = "digits"
[[steps]]
do = "tune"
points = 12
first_gate = "2.1 V"
last_gate = "3.3 V"
cells = 32
[[steps]]
do = "program"
[[steps]]
do = "evaluate"
name = "open_loop"
"""

pytestmark = pytest.mark.system


class Dropping(Altered):
    """A board that pulses, and after some APPLY frames gives no answer till the next HELLO."""

    drops: set[int]
    seen = 0
    silent = False

    def change(self, frame: Frame, answer: Frame) -> Frame:
        self.silent = self.silent and frame.type != Type.HELLO
        if frame.type == Type.APPLY:
            self.seen += 1
            self.silent = self.silent or self.seen in self.drops
        return Frame(answer.type, (answer.seq + 999) % 65536, b"") if self.silent else answer


def board(*drops: int) -> Dropping:
    made = Dropping(open_device("emulator:40nm?die=3&tiles=1"))
    made.drops = set(drops)
    return made


def start(url: str) -> Run:
    return Run.start(
        check(tomllib.loads(JOB), JobFile, "test"), JOB, address=f"serial:{url}?timeout=0.5"
    )


@pytest.mark.timeout(300)
def test_a_run_goes_on_when_answers_to_pulses_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LINK_DELAY_SECONDS", 0.05)
    chip = board(9, 400)
    with serving(chip) as url:
        run = start(url)
        heard: list[str] = []
        result = run.execute(lambda p: heard.append(p.text), lambda: False)
    assert result.outcome == "finished"
    assert sum("link was lost" in text for text in heard) == 2
    with LedgerReader(result.ledger) as reader:
        assert len(reader.sessions(run.run)) == 3
        assert reader.doubtful().size == 0
        wear = reader.wear()
        assert reader.verify(result.ledger_head).ok
    lost = 0
    for counted, kind in zip(chip.counts, Kind, strict=True):
        done = wear.done[kind]
        assert bool((done <= counted).all())
        assert bool((counted <= done + wear.doubtful[kind]).all())
        lost += int((counted != done).sum())
    # A call that ended without its answer, twice: at most the cells of two calls.
    assert 0 < lost <= 2 * 4096


@pytest.mark.timeout(300)
def test_a_link_that_does_not_come_back_ends_the_run_which_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "LINK_DELAY_SECONDS", 0.02)
    chip = board(*range(9, 60))
    with serving(chip) as url:
        run = start(url)
        with pytest.raises(LinkLost):
            run.execute(lambda _: None, lambda: False)
        assert Run.open(run.run).result.outcome == "failed"
        chip.drops = set()
        assert Run.open(run.run).execute(lambda _: None, lambda: False).outcome == "finished"


def test_a_job_whose_network_does_not_fit_the_board_is_refused_with_outputs_off(
    tmp_path: Path,
) -> None:
    preset = files("rramhil_fixtures") / "chips" / "40nm.toml"
    small = tmp_path / "small.toml"
    text = preset.read_text().replace("rows = 256\ncols = 256", "rows = 32\ncols = 32")
    assert "rows = 32" in text
    small.write_text(text)
    chip = Altered(open_device(f"emulator:{small}?tiles=1"))
    with serving(chip) as url:
        run = start(url)
        with pytest.raises(Refused, match=r"needs \d+ tiles of 32 x 32 cells, but 1 of "):
            run.execute(lambda _: None, lambda: False)
    assert Run.open(run.run).result.outcome == "failed"
    assert not chip.supplies.armed
    assert all(int(counted.sum()) == 0 for counted in chip.counts)
