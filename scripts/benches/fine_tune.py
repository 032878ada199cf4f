"""Fine-tuning of the device with open-loop writes beside variation-aware training.

LeNet-5 on dies of the statistical chip (multiplicative errors, sigma 0.5, ten levels), written
once open loop. Fine-tuning: halving from the teacher, 1,500 images; four rounds of two epochs, or
six of four with one cell a weight. The baseline is the same network trained against the same
errors (and shares of stuck cells) on the whole train set before it is written; its biases are
refreshed on the same 1,500 images. `value`: percent of 10,000 test images, or points of fine-tuning
over the refreshed baseline, as means over dies; `spread`: half the 95 % interval of the mean (t
over dies; gains paired). RRAMHIL_DATA names the folder of the data.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from benches import Row
from benches.dies import mean_row
from rramhil.address import open_device
from rramhil.job.file import JobFile
from rramhil.job.folder import RunFolder
from rramhil.job.result import RunResult
from rramhil.mapping import Levels, find_scheme, map_network
from rramhil.nn.data import load_data
from rramhil.nn.hardened import Hardening, harden
from rramhil.nn.network import Images, images_of, load_network, save_network
from rramhil.nn.splits import make_splits
from rramhil.nn.written import WriteErrors, WrittenNetwork
from rramhil.run import Run
from rramhil.schema import check

SIGMA = 0.5
HIGHEST = 40e-6
STUCK = "stuck_lrs=0.0175&stuck_hrs=0.0904"


@dataclass(frozen=True)
class Case:
    """`on_off`: highest over lowest level. `hops`: of a cell in a million readings."""

    network: str
    data: str
    scheme: str
    on_off: float
    stuck: bool = False
    hops: float = 0.0

    @property
    def tuning(self) -> dict[str, object]:
        """One cell a weight has twice the error of two: more rounds, and longer ones."""
        return {"rounds": 6, "epochs": 4} if self.scheme == "one_column" else {}

    @property
    def lowest(self) -> float:
        return HIGHEST / self.on_off


FASHION = Case("lenet5-fashion", "fashion-mnist", "two_column", 50)
ONE_CELL = replace(FASHION, scheme="one_column")
CASES = {
    "fashion_two_cells": FASHION,
    "mnist_two_cells_stuck": Case("lenet5-mnist", "mnist", "two_column", 50, stuck=True),
    "fashion_one_cell": ONE_CELL,
    "fashion_one_cell_million_reads": replace(ONE_CELL, hops=10),
    "fashion_two_cells_million_reads": replace(FASHION, hops=10),
    "fashion_one_cell_on_off_10": replace(ONE_CELL, on_off=10),
    "fashion_two_cells_on_off_10": replace(FASHION, on_off=10),
}
QUICK = Case("digits", "digits", "two_column", 50)


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """For each case, before and after, both ways; one die of the digits network when `quick`."""
    dies = 1 if quick else 3
    with tempfile.TemporaryDirectory() as home:
        os.environ["RRAMHIL_HOME"] = home
        hardened: dict[Case, Path] = {}
        for name, case in ({"digits": QUICK} if quick else CASES).items():
            fresh = replace(case, hops=0)
            if fresh not in hardened:
                hardened[fresh] = _hardened(fresh, Path(home), 2, seed)
            yield from _case(name, case, hardened[fresh], range(seed, seed + dies), Path(home))


def _case(name: str, case: Case, hardened: Path, dies: range, home: Path) -> Iterator[Row]:
    tuned, refreshed, seconds = [], [], []
    for die in dies:
        began = time.process_time()
        tuned.append(_run(name, _job(case, case.network, case.tuning), case, die, home))
        seconds.append(time.process_time() - began)
        biases = {"strategy": "biases_and_norms", "gains": False}
        refreshed.append(_run(name, _job(case, str(hardened), biases), case, die, home))
    figures = {
        "open_loop": _percent(tuned, "written"),
        "fine_tuned": _percent(tuned, "fine_tune"),
        "hardened_open_loop": _percent(refreshed, "written"),
        "hardened_refreshed": _percent(refreshed, "fine_tune"),
    }
    yield Row(f"{name}_ideal_mapping", 100 * float(tuned[0].accuracy.ideal_mapping or 0), "percent")
    for key, values in figures.items():
        yield mean_row(f"{name}_{key}", values, "percent")
    gains = figures["fine_tuned"] - figures["hardened_refreshed"]
    yield mean_row(f"{name}_gain_over_hardened", gains, "points")
    writes = np.array([1.0 + _finding(result, "writes_per_cell") for result in tuned])
    yield mean_row(f"{name}_writes", writes, "writes a cell")
    yield mean_row(f"{name}_host", np.array(seconds), "CPU s a die")


def _percent(results: list[RunResult], name: str) -> np.ndarray:
    return np.array([100 * getattr(result.accuracy, name) for result in results])


def _finding(result: RunResult, key: str) -> float:
    (found,) = [s.findings[key] for s in result.steps if s.name == "fine_tune"]
    return float(found or 0)


def _run(name: str, job: JobFile, case: Case, die: int, home: Path) -> RunResult:
    options = f"sigma={SIGMA}&die={die}&seed={die}"
    options += f"&{STUCK}" if case.stuck else ""
    options += f"&disturb={case.hops:g}" if case.hops else ""
    address = f"emulator:{_chip(case, home)}?{options}"
    job = job.model_copy(update={"seed": die})
    folder = RunFolder.create(f"{Path(job.network.name).stem}-{name}-{die}")
    run = Run.start(job, job.model_dump_json(), address=address, folder=folder)
    return run.execute(watch=lambda _: None, should_stop=lambda: False)


def _chip(case: Case, home: Path) -> Path:
    """The statistical chip with the lowest level of the case."""
    path = home / f"onoff{case.on_off:g}.toml"
    text = (files("rramhil_fixtures") / "chips" / "statistical.toml").read_text("utf-8")
    path.write_text(text.replace('lowest = "1 uS"', f'lowest = "{1e6 * case.lowest:g} uS"'))
    return path


def _job(case: Case, network: str, recovery: dict[str, object]) -> JobFile:
    scan = {
        "do": "scan",
        "set_gate": 3.0,
        "thresholds": {
            "stuck_lrs_siemens": 20e-6,
            "stuck_hrs_siemens": 2e-6,
            "noisy_siemens": 4e-6,
        },
    }
    tune = {"do": "tune", "first_gate": 1.0, "last_gate": 3.0, "cells": 1024}
    images = {"learn_from": "calibration", "images": 100 if case.data == "digits" else 1500}
    last = {"do": "recover", "method": "fine_tune", **images, **recovery}
    steps = [tune, {"do": "program"}, {"do": "evaluate", "name": "written"}, last]
    steps = [scan, *steps] if case.stuck else steps
    if case.hops:
        steps.insert(-2, {"do": "stress", "reads": 1_000_000})
    table = {
        "name": "fine-tune",
        "network": {"name": network},
        "data": {"name": case.data, "folder": os.environ.get("RRAMHIL_DATA")},
        "mapping": {
            "scheme": case.scheme,
            "levels": 10,
            "lowest": case.lowest,
            "highest": HIGHEST,
            "tolerance": 1e-6,
        },
        "steps": steps,
    }
    return check(table, JobFile, "the benchmark")


def _hardened(case: Case, home: Path, epochs: int, seed: int) -> Path:
    """The network of the case trained on against the errors of its dies, in a file."""
    teacher = load_network(case.network)
    folder = os.environ.get("RRAMHIL_DATA")
    data = load_data(case.data, Path(folder) if folder else None)
    images: Images = images_of(data, make_splits(data, teacher.card.split_seed).train)
    levels = Levels(10, case.lowest, HIGHEST, 1e-6)
    spec = open_device("emulator:statistical").spec
    mapped = map_network(teacher.matrices(), spec, levels, find_scheme(case.scheme))
    errors = WriteErrors(levels.siemens, levels.siemens, SIGMA * levels.siemens)
    written = WrittenNetwork(mapped, errors, np.full(mapped.cells.size, np.nan))
    hardening = Hardening(epochs=epochs, seed=seed)
    if case.stuck:
        shares = {"stuck_lrs": 0.0175, "stuck_hrs": 0.0904}
        hardening = replace(hardening, **shares, lrs_siemens=49e-6, hrs_siemens=0.45e-6)
    *_, last = harden(teacher, written, images, hardening)
    path = home / f"{case.network}-{case.scheme}-{case.on_off:g}-{case.stuck}.safetensors"
    save_network(last.network, path)
    return path
