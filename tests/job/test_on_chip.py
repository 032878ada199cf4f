"""Programming by the chip itself, its refresh, and what is refused before the first pulse."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from rramhil.address import open_device
from rramhil.device import Refused
from rramhil.job import on_chip
from rramhil.job.file import JobFile, load_job
from rramhil.job.preflight import preflight
from rramhil.ledger import LedgerReader
from rramhil.nn.layers import Layer
from rramhil.nn.network import Network, load_network, save_network
from rramhil.run import Run
from rramhil.schema import FileError, check

JOB = """
name = "on-chip"
network = { name = "NETWORK" }
data = { name = "digits" }
device = { address = "emulator:40nm?die=6" }
[mapping]
levels = 4
tolerance = "12 uS"
[[steps]]
do = "tune"
cells = 16
points = 12
[[steps]]
do = "program"
how = "on_chip"
[[steps]]
do = "refresh"
"""


def load(text: str) -> JobFile:
    return check(tomllib.loads(text), JobFile, "job.toml")


def small_job(tmp_path: Path, job: str = JOB) -> Run:
    digits = load_network("digits")
    layer = Layer(name="all", kind="linear", inputs=64, outputs=10, relu=False)
    card = digits.card.model_copy(update={"name": "small", "layers": (layer,)})
    weights = torch.randn((64, 10), generator=torch.Generator().manual_seed(0))
    save_network(
        Network(card, {"all": weights}, {"all": torch.zeros(10)}), tmp_path / "small.safetensors"
    )
    path = tmp_path / "job.toml"
    path.write_text(job.replace("NETWORK", "small.safetensors"))
    return Run.start(*load_job(str(path)))


def test_the_chip_programs_and_refreshes_a_network(tmp_path: Path) -> None:
    run = small_job(tmp_path)
    run.execute(lambda _: None, lambda: False)
    assert run.is_finished
    program, refresh = run.result.steps[1:]
    cells = program.findings["rewritten"]
    assert isinstance(cells, int)
    assert program.cost.pulses == round(program.findings["pulses_per_cell"] * 1280)
    assert program.cost.pulses > cells > 500
    assert program.findings["yield"] > 0.75
    assert 0 < refresh.findings["rewritten"] < cells / 2
    assert refresh.cost.pulses < program.cost.pulses / 2
    assert refresh.findings["yield"] > program.findings["yield"]


def test_a_stopped_step_counts_what_the_chip_had_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_chip, "CELLS_A_CALL", 400)
    run = small_job(tmp_path)
    heard: list[str] = []
    run.execute(lambda p: heard.append(p.text), lambda: "on the chip: 800" in str(heard[-1:]))
    assert run.result.outcome == "stopped"
    again = Run.open(run.run)
    again.execute(lambda p: heard.append(p.text), lambda: False)
    starts = [text for text in heard if text.startswith("on the chip: ")]
    # Once while programming, once while refreshing: what was done is not done again.
    assert sum("on the chip: 400 of" in text for text in starts) == 2
    program = again.result.steps[1]
    with LedgerReader(again.result.ledger) as reader:
        counted = sum(
            int(n) for n in reader.totals(run.run, first=program.first_row).pulses.values()
        )
    refreshed = again.result.steps[2].cost.pulses
    assert counted - refreshed == round(program.findings["pulses_per_cell"] * 1280)


@pytest.mark.parametrize(
    ("address", "old", "new", "sentence"),
    [
        ("emulator:wide", "levels = 4", "levels = 4", "has no write-verify of its own here"),
        ("emulator:40nm", "levels = 4\ntolerance = \"12 uS\"", "levels = 17\ntolerance = \"4 uS\"",
         "has 17 levels, but the write-verify of emulated 40nm holds 16"),
    ],
)  # fmt: skip
def test_a_chip_that_cannot_is_refused(address: str, old: str, new: str, sentence: str) -> None:
    assert old in JOB
    with open_device(address) as die, pytest.raises(Refused, match=sentence):
        preflight(load(JOB.replace(old, new)), die.spec)


def test_a_refresh_needs_cells_that_hold_the_network() -> None:
    job = JOB.replace('[[steps]]\ndo = "program"\nhow = "on_chip"\n', "")
    with pytest.raises(FileError, match="'refresh' needs cells that hold the network"):
        load(job)


def test_a_chip_that_writes_by_itself_needs_no_gate_curve(tmp_path: Path) -> None:
    tune = '[[steps]]\ndo = "tune"\ncells = 16\npoints = 12\n'
    assert tune in JOB
    run = small_job(tmp_path, JOB.replace(tune, "").replace("emulator:40nm", "emulator:ember"))
    run.execute(lambda _: None, lambda: False)
    assert run.is_finished
    assert run.result.steps[0].findings["yield"] > 0.5


def test_the_chip_rewrites_the_weights_that_a_recovery_chooses_and_no_others(
    tmp_path: Path,
) -> None:
    """The largest tenth of the weights, in windows of half the width."""
    step = 'do = "recover"\nmethod = "rvw"\nhow = "on_chip"\nselect = "magnitude"\nfraction = 0.1\n'
    open_loop = JOB.replace('how = "on_chip"\n', "").replace('do = "refresh"\n', "")
    run = small_job(tmp_path, f"{open_loop}{step}tolerance_factor = 0.5\n")
    heard: list[str] = []
    run.execute(lambda p: heard.append(p.text), lambda: "on the chip: 0 of 128" in str(heard[-1:]))
    assert run.result.outcome == "stopped"
    result = Run.open(run.run).execute(lambda _: None, lambda: False)
    assert result.outcome == "finished"
    rewritten = result.steps[-1]
    arrays = run.folder_of.load_arrays(rewritten.arrays or "")
    written = (arrays["sets"] + arrays["resets"]) > 0
    assert rewritten.findings["chosen_cells"] == 2 * 64
    assert 0 < written.sum() <= 2 * 64
    assert float(rewritten.findings["chosen_yield"] or 0) > 0.6
    assert rewritten.cost.pulses == (arrays["sets"] + arrays["resets"]).sum()
