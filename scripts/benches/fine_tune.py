"""Fine-tuning of the device with open-loop writes beside variation-aware training.

LeNet-5 on dies of the statistical chip (multiplicative errors, sigma 0.5, ten levels), written
once open loop. Fine-tuning: halving, 1,500 images, rounds of two epochs: four from the teacher, or
five from the baseline's network with one cell a weight. The baseline is the same network trained
against the same errors (and shares of stuck cells) on the whole train set before it is written;
its biases are refreshed on the same 1,500 images. With one cell a weight it is trained at the
scale of the 60th percentile of |w| and kept within it: at that of the 99.5th it does not learn
(chosen on validation images). `value`: percent of 10,000 test images, or points of fine-tuning
over the refreshed baseline, as means over dies; `spread`: half the 95 % interval of the mean (t
over dies; gains paired). RRAMHIL_DATA names the folder of the data.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from benches import Row
from benches.dies import DieJob, Scale, carry_out, mean_row
from rramhil.address import open_device
from rramhil.mapping import Levels, find_scheme, map_network
from rramhil.nn.data import load_data
from rramhil.nn.hardened import Hardening, harden
from rramhil.nn.network import Images, images_of, load_network, save_network
from rramhil.nn.splits import make_splits
from rramhil.nn.written import WriteErrors, WrittenNetwork

DIES = 3
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
    def one_cell(self) -> bool:
        return self.scheme == "one_column"

    @property
    def tuning(self) -> dict[str, object]:
        """One cell a weight has twice the error of two: a round more."""
        return {"rounds": 5} if self.one_cell else {}

    @property
    def hardening(self) -> Hardening:
        """How the baseline is trained: with one cell a weight, kept within a narrow scale."""
        if self.one_cell:
            return Hardening(epochs=2, learning_rate=3e-3, growing=0.4, weight_decay=0, within=True)
        return Hardening(epochs=2)

    @property
    def percentile(self) -> float:
        """Of the teacher's |w|: the scale that the baseline is trained at.

        The error of one cell is half of the scale even where the weight is 0; at the scale of
        the 99.5th percentile no training gets above it.
        """
        return 60 if self.one_cell else 99.5

    @property
    def lowest(self) -> float:
        return HIGHEST / self.on_off


FASHION = Case("lenet5-fashion", "fashion-mnist", "two_column", 50)
ONE_CELL = replace(FASHION, scheme="one_column")
CASES = {
    "fashion_two_cells": FASHION,
    "mnist_two_cells_stuck": Case("lenet5-mnist", "mnist", "two_column", 50, stuck=True),
    "fashion_two_cells_million_reads": replace(FASHION, hops=10),
    "fashion_two_cells_on_off_10": replace(FASHION, on_off=10),
    "fashion_one_cell": ONE_CELL,
    "fashion_one_cell_million_reads": replace(ONE_CELL, hops=10),
    "fashion_one_cell_on_off_10": replace(ONE_CELL, on_off=10),
}
QUICK = Case("digits", "digits", "two_column", 50)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """For each case, before and after, both ways; one die of the digits network when `quick`."""
    count = scale.dies or (1 if quick else DIES)
    with tempfile.TemporaryDirectory() as passing:
        keep = (scale.keep or Path(passing)).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        for name, case in ({"digits": QUICK} if quick else CASES).items():
            hardened = str(_hardened(case, keep, seed))
            biases = {"strategy": "biases_and_norms", "gains": False}
            ways = {
                name: _job(case, keep, hardened if case.one_cell else case.network, case.tuning),
                f"{name}-hardened": _job(case, keep, hardened, biases),
            }
            dies = range(seed, seed + count)
            jobs = [DieJob(way, die, job) for way, job in ways.items() for die in dies]
            results: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for job, result in carry_out(jobs, scale._replace(keep=keep)):
                results[job.group].append(result)
            yield from _case(name, *results.values())


def _case(name: str, tuned: list[dict[str, Any]], refreshed: list[dict[str, Any]]) -> Iterator[Row]:
    figures = {
        "open_loop": _percent(tuned, "written"),
        "fine_tuned": _percent(tuned, "fine_tune"),
        "hardened_open_loop": _percent(refreshed, "written"),
        "hardened_refreshed": _percent(refreshed, "fine_tune"),
    }
    for key, results in {"ideal_mapping": tuned, "hardened_ideal_mapping": refreshed}.items():
        yield Row(f"{name}_{key}", float(_percent(results, "ideal_mapping")[0]), "percent")
    for key, values in figures.items():
        yield mean_row(f"{name}_{key}", values, "percent")
    gains = figures["fine_tuned"] - figures["hardened_refreshed"]
    yield mean_row(f"{name}_gain_over_hardened", gains, "points")
    yield Row(f"{name}_gain_worst_die", float(gains.min()), "points", None, len(gains))
    writes = [1.0 + result["steps"][-1]["findings"]["writes_per_cell"] for result in tuned]
    yield mean_row(f"{name}_writes", writes, "writes a cell")
    seconds = [result["cpu_seconds"]["fine_tune"] for result in tuned]
    yield mean_row(f"{name}_cpu", seconds, "CPU s a die")


def _percent(results: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([100 * result["accuracy"][name] for result in results])


def _chip(case: Case, keep: Path) -> Path:
    """The statistical chip with the lowest level of the case."""
    path = keep / f"onoff{case.on_off:g}.toml"
    text = (files("rramhil_fixtures") / "chips" / "statistical.toml").read_text("utf-8")
    path.write_text(text.replace('lowest = "1 uS"', f'lowest = "{1e6 * case.lowest:g} uS"'))
    return path


def _job(case: Case, keep: Path, network: str, recovery: dict[str, object]) -> dict[str, Any]:
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
    options = f"sigma={SIGMA}"
    options += f"&{STUCK}" if case.stuck else ""
    options += f"&disturb={case.hops:g}" if case.hops else ""
    return {
        "device": {"address": f"emulator:{_chip(case, keep)}?{options}"},
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


def _hardened(case: Case, keep: Path, seed: int) -> Path:
    """The network of the case trained on against the errors of its dies, in a file of `keep`."""
    name = f"{case.network}-{case.scheme}-{case.on_off:g}" + "-stuck" * case.stuck
    path = keep / f"{name}-hardened-{seed}.safetensors"
    if path.exists():
        return path
    teacher = load_network(case.network)
    folder = os.environ.get("RRAMHIL_DATA")
    data = load_data(case.data, Path(folder) if folder else None)
    images: Images = images_of(data, make_splits(data, teacher.card.split_seed).train)
    levels = Levels(10, case.lowest, HIGHEST, 1e-6)
    spec = open_device("emulator:statistical").spec
    scheme = find_scheme(case.scheme)
    mapped = map_network(teacher.matrices(), spec, levels, scheme, percentile=case.percentile)
    errors = WriteErrors(levels.siemens, levels.siemens, SIGMA * levels.siemens)
    written = WrittenNetwork(mapped, errors, np.full(mapped.cells.size, np.nan))
    hardening = replace(case.hardening, seed=seed)
    if case.stuck:
        shares = {"stuck_lrs": 0.0175, "stuck_hrs": 0.0904}
        hardening = replace(hardening, **shares, lrs_siemens=49e-6, hrs_siemens=0.45e-6)
    *_, last = harden(teacher, written, images, hardening)
    save_network(last.network, path)
    return path
