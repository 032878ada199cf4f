"""A made-up run folder with the distributions of a real one, from a seeded generator.

Nothing here is a measurement: it exists so that the report can be drawn and looked at without
a device. Run it as a script to get a folder: `python tests/report/made_up_run.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.cost import Cost
from rramhil.job.result import (
    Accuracies,
    DeviceInfo,
    Interval,
    RunResult,
    StepResult,
    Timings,
    WayTime,
)

ROWS = COLS = 256
LEVELS = np.linspace(20e-6, 200e-6, 10)
TOLERANCE = 5e-6
JOB = """name = "quickstart"
seed = 3

[network]
name = "digits-mlp"

[data]
name = "digits"

[[steps]]
do = "scan"

[[steps]]
do = "tune"

[[steps]]
do = "program"

[[steps]]
do = "evaluate"

[[steps]]
do = "recover"
method = "rsa"

[[steps]]
do = "recover"
method = "rvw"

[[steps]]
do = "report"
"""
COSTS = {
    "open_loop": Cost(
        device_seconds=6.31, host_seconds=2.4, pulses=262_512, sets=131_200, resets=131_312,
        reads=424_001, joules_estimate=3.1e-6, high_voltage_volt_seconds=0.061,
    ),
    "rsa": Cost(
        device_seconds=1.012, host_seconds=7.7, reads=8112, digital_parameters=501,
        sparse_parameters=203, sparse_share=0.05, retrained_biases=58, column_gains=240,
        images=400, labels=0,
    ),
    "rvw": Cost(
        device_seconds=11.93, host_seconds=3.3, pulses=81_243, sets=39_000, resets=42_243,
        reads=90_355, joules_estimate=0.9e-6, high_voltage_volt_seconds=0.021,
    ),
}  # fmt: skip
TIMINGS = Timings(
    source="job", write_seconds=6.5e-6, read_seconds=10e-9, writes_at_once=16, reads_at_once=8,
    sram_write_seconds=1e-9, programming_seconds=0.0131, compared_with="rvw",
    ways={
        "rsa": WayTime(device_seconds=0.5, with_programming_seconds=0.5131, speed_up=22.4,
                       speed_up_with_programming=21.8),
        "rvw": WayTime(device_seconds=11.2, with_programming_seconds=11.2131, speed_up=1.0,
                       speed_up_with_programming=1.0),
    },
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A layer: its name, rows and physical columns, and where its first cell lies."""

    name: str
    rows: int
    cols: int
    tile: int
    top: int
    left: int


DIGITS = (Shape("hidden", 64, 96, 0, 0, 0), Shape("output", 48, 20, 0, 64, 0))
WIDE = (
    Shape("conv1", 25, 12, 0, 0, 0),
    Shape("conv2", 150, 32, 0, 25, 0),
    Shape("fc1 (rows 0-255)", 256, 240, 1, 0, 0),
    Shape("fc1 (rest)", 144, 240, 2, 0, 0),
    Shape("fc2", 120, 168, 3, 0, 0),
    Shape("fc3", 84, 20, 2, 150, 0),
)


def write_run(
    folder: Path, shapes: tuple[Shape, ...] = DIGITS, seed: int = 1, job: str = JOB
) -> RunResult:
    """Fill `folder` as a finished quickstart would, and return its result."""
    (folder / "arrays").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    layout = _layout(shapes, random)
    programmed = _written(layout, random, spread=0.10)
    repaired, counts = _repaired(layout, programmed, random)
    _save(folder, "layout", layout)
    _save(folder, "00-scan", _scan(max(s.tile for s in shapes) + 1, random))
    _save(folder, "01-tune", _tune(random))
    open_loop = {"siemens": programmed, "open_cells": np.empty(0, np.int64)}
    _save(folder, "02-program", open_loop)
    _save(folder, "03-open_loop", {"siemens": programmed})
    _save(folder, "04-rsa", _learning(random) | {"siemens": programmed})
    _save(folder, "05-rvw", counts | {"siemens_before": programmed, "siemens": repaired})
    (folder / "job.toml").write_text(job, encoding="utf-8")
    _events(folder)
    result = made_up_result(folder)
    (folder / "result.json").write_text(result.model_dump_json(indent=2), encoding="utf-8")
    return result


def made_up_result(folder: Path) -> RunResult:
    """The result of the made-up run."""
    shares = {"teacher": 0.9677, "ideal_mapping": 0.9649, "open_loop": 0.8742,
              "rsa": 0.9566, "rvw": 0.9608}  # fmt: skip
    names = ("scan", "tune", "program", "open_loop", "rsa", "rvw", "report")
    kinds = {"open_loop": "evaluate", "rsa": "recover", "rvw": "recover"}
    steps = [
        StepResult(
            index=i,
            name=name,
            do=kinds.get(name, name),
            outcome="finished",
            first_row=100 * i,
            last_row=100 * i + 99,
            cost=COSTS.get(name, Cost(device_seconds=1.2, reads=8112)),
            arrays=None if name == "report" else f"arrays/{i:02d}-{name}.npz",
        )
        for i, name in enumerate(names)
    ]
    steps[0].findings = {"stuck_lrs": 0.011, "stuck_hrs": 0.014, "noisy": 0.002, "bad_rows": 2}
    steps[4].findings = {"best_epoch": 27, "accuracy": 0.9566}
    return RunResult(
        run="20250101-120000-quickstart-0f3a",
        name="quickstart",
        outcome="finished",
        address="emulator:40nm?die=7",
        device=DeviceInfo(
            model="40nm", serial="40nm-7", tiles=4, rows=ROWS,
            cols=COLS,
        ),
        ledger="ledgers/40nm-7/ledger.sqlite",
        ledger_head="9f" * 32,
        folder=str(folder),
        seed=3,
        versions={"rramhil": "0.1.0", "numpy": np.__version__, "python": "3.11.2"},
        splits={"train": "1a" * 32, "calibration": "2b" * 32, "validation": "3c" * 32,
                "test": "4d" * 32},
        accuracy=Accuracies.model_validate(shares),
        intervals={n: _wilson(shares[n], 719) for n in ("open_loop", "rsa", "rvw")},
        cost=COSTS,
        timing=TIMINGS,
        steps=steps,
        warnings=["die 7: row 12 of tile 0 holds mapped cells and is bad"],
    )  # fmt: skip


def _wilson(share: float, images: int) -> Interval:
    z = 1.96
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * np.sqrt(
        share * (1 - share) / images + z * z / (4 * images**2)
    )  # fmt: skip
    return Interval(low=float(centre - half), high=float(centre + half), images=images)


def _layout(shapes: tuple[Shape, ...], random: np.random.Generator) -> dict[str, NDArray[Any]]:
    cells, layers, levels = [], [], []
    for number, shape in enumerate(shapes):
        row, col = np.mgrid[0 : shape.rows, 0 : shape.cols]
        flat = (shape.tile * ROWS + row + shape.top) * COLS + col + shape.left
        weight = np.clip(random.laplace(0, 0.28, (shape.rows, shape.cols // 2)), -1, 1)
        pair = np.stack([np.maximum(weight, 0), np.maximum(-weight, 0)], axis=-1)
        cells.append(flat.reshape(-1))
        levels.append(np.rint(9 * pair).astype(int).reshape(-1))
        layers.append(np.full(flat.size, number))
    level = np.concatenate(levels)
    target = LEVELS[level]
    return {
        "cells": np.concatenate(cells).astype(np.int64),
        "layer": np.concatenate(layers),
        "layer_names": np.array([shape.name for shape in shapes]),
        "target": target,
        "low": target - TOLERANCE,
        "high": target + TOLERANCE,
        "level": level,
        "levels": LEVELS,
    }


def _written(layout: dict[str, NDArray[Any]], random: np.random.Generator, spread: float) -> Any:
    target = layout["target"]
    siemens = target * (1 + spread * random.standard_normal(target.size))
    siemens += 4e-6 * random.standard_normal(target.size)
    stuck = random.random(target.size)
    siemens[stuck < 0.01] = random.normal(190e-6, 15e-6, int((stuck < 0.01).sum()))
    siemens[stuck > 0.99] = random.normal(6e-6, 2e-6, int((stuck > 0.99).sum()))
    siemens[3] = np.nan
    siemens[5] = np.inf
    return np.round(np.maximum(siemens, 0) / 1e-7).astype(np.float32) * np.float32(1e-7)


def _repaired(layout: dict[str, NDArray[Any]], before: Any, random: np.random.Generator) -> Any:
    target, count = layout["target"], layout["target"].size
    given_up = ~(np.abs(before - target) < 8 * TOLERANCE) & (random.random(count) < 0.7)
    near = target + random.normal(0, 2.4e-6, count) + 2e-6 * random.standard_t(2.5, count)
    after = np.where(given_up, before, np.maximum(near, 0)).astype(np.float32)
    left = np.maximum(0.6 * count * 0.87 ** np.arange(60), given_up.sum()).astype(int)
    sets = random.poisson(5, count).astype(np.int32)
    return after, {
        "open_cells": left, "sets": sets, "resets": sets, "given_up": given_up,
    }  # fmt: skip


def _scan(tiles: int, random: np.random.Generator) -> dict[str, NDArray[Any]]:
    cells = np.arange(tiles * ROWS * COLS, dtype=np.int64)
    draw = random.random(cells.size)
    row = cells // COLS
    clustered = np.isin(row, (12, 203)) & (random.random(cells.size) < 0.6)
    return {
        "cells": cells,
        "after_reset": np.zeros(cells.size, np.float32),
        "after_set": np.zeros(cells.size, np.float32),
        "stuck_lrs": draw < 0.004,
        "stuck_hrs": (draw > 0.995) | clustered,
        "noisy": (draw > 0.5) & (draw < 0.501),
        "unreadable": (draw > 0.6) & (draw < 0.6001),
        "bad_rows": np.array([[0, 12], [0, 203]]),
    }


def _tune(random: np.random.Generator) -> dict[str, NDArray[Any]]:
    gate = np.linspace(1.4, 3.6, 45)
    siemens = 4e-6 + 240e-6 / (1 + np.exp(-(gate - 2.4) / 0.3))
    siemens = np.maximum.accumulate(siemens + random.normal(0, 1e-6, gate.size))
    return {"gate_volts": gate, "siemens": siemens, "spread_siemens": 0.04 * siemens + 6e-6}


def _learning(random: np.random.Generator) -> dict[str, NDArray[Any]]:
    epoch = np.arange(1, 31)
    rise = 1 - np.exp(-epoch / 6)
    noise = random.normal(0, 0.003, epoch.size)
    return {
        "epoch": epoch,
        "loss": 0.5 * np.exp(-epoch / 6) + 0.09 + 5 * np.abs(noise),
        "validation_accuracy": 0.87 + 0.085 * rise + noise,
        "train_accuracy": 0.88 + 0.115 * rise,
    }


def _events(folder: Path) -> None:
    events = [
        {"event": "step started", "level": "info", "step": "scan", "row": 1},
        {"event": "bad row", "level": "warning", "tile": 0, "line": 12, "row": 77},
    ]
    lines = [json.dumps(event) for event in events] + ['{"event": "cut by a ki']
    (folder / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")


def _save(folder: Path, name: str, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez_compressed(folder / "arrays" / f"{name}.npz", **arrays)


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), WIDE if "wide" in sys.argv[2:] else DIGITS)
