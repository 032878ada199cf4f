"""Programming by the chip itself, its refresh, and what is refused before the first pulse."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from rramhil.address import open_device
from rramhil.device import Refused
from rramhil.job.file import JobFile, load_job
from rramhil.job.preflight import preflight
from rramhil.nn.network import Layer, Network, load_network, save_network
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


def test_the_chip_programs_and_refreshes_a_network(tmp_path: Path) -> None:
    digits = load_network("digits")
    layer = Layer(name="all", kind="linear", inputs=64, outputs=10, relu=False)
    card = digits.card.model_copy(update={"name": "small", "layers": (layer,)})
    weights = torch.randn((64, 10), generator=torch.Generator().manual_seed(0))
    save_network(
        Network(card, {"all": weights}, {"all": torch.zeros(10)}), tmp_path / "small.safetensors"
    )
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("NETWORK", "small.safetensors"))
    run = Run.start(*load_job(str(path)))
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
