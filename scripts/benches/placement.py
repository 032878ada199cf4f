"""Placement around faults: LeNet-5 on MNIST on dies where 18 of 256 word lines are bad.

`rows`: each word line is bad with probability 18/256, all of its cells stuck, half of them in LRS
(40 to 60 uS) and half in HRS (0.2 to 1 uS); `cells`: the same share of single cells is stuck
instead, half and half. The chip is `statistical` with four tiles and no other error, so that
losses are those of the faults. Each die is scanned (a SET, a RESET, a reading after each); then it
is written open loop with the network as it is mapped without looking (`naive`) and as the scan
places it (`placed`); `partners`: the good cell of a pair makes up for the stuck one. Nothing else
is recovered. Losses are points of accuracy on the 10,000 test images under the ideal mapping, from
a reading of the cells; `value` is the mean over dies, `spread` half its 95 % interval.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benches import Row
from benches.dies import Scale, loss_rows, mean_row

DIES = 10
SHARE = 18 / 256
FAULTS = {
    "rows": f"stuck_rows={SHARE}",
    "cells": f"stuck_lrs={SHARE / 2}&stuck_hrs={SHARE / 2}",
}
WAYS = ("naive", "naive_partners", "placed", "placed_partners")
LEVELS = (10, 1e-6, 40e-6, 2e-6)
STUCK_LRS, STUCK_HRS = 20e-6, 2e-6


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Losses and faults under weights of each way; two dies with bad rows when `quick`."""
    dies = scale.dies or (2 if quick else DIES)
    with TemporaryDirectory() as folder:
        chip = _chip_of_whole_rows(Path(folder))
        for faults in ("rows",) if quick else tuple(FAULTS):
            found = [_kept(scale.keep, chip, faults, seed + die) for die in range(dies)]
            yield from _rows_of(faults, found)


def _chip_of_whole_rows(folder: Path) -> Path:
    """The chip `statistical`, but a bad word line is bad from end to end."""
    chips = files("rramhil_fixtures") / "chips"
    text = (chips / "statistical.toml").read_text("utf-8")
    path = folder / "whole-rows.toml"
    whole = text.replace("row_share = 0.3", "row_share = 1.0")
    if whole == text:
        raise SystemExit("error: the chip statistical has no row_share = 0.3 any more")
    path.write_text(whole, "utf-8")
    return path


def _kept(keep: Path | None, chip: Path, faults: str, die: int) -> dict[str, float]:
    """What one die gives, from the folder `keep` where it is there already."""
    if keep is None:
        return _one_die(chip, faults, die)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{faults}-{die}.json"
    if not path.exists():
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(_one_die(chip, faults, die)), "utf-8")
        draft.replace(path)
    kept: dict[str, float] = json.loads(path.read_text("utf-8"))
    return kept


@cache
def _subject() -> tuple[Any, Any, Any]:
    """The network, what its inputs are like by 512 calibration images, and the test images."""
    from rramhil.job.deciding import IMAGES, seen_by
    from rramhil.nn.data import load_data
    from rramhil.nn.network import images_of, load_network
    from rramhil.nn.splits import make_splits

    network, data = load_network("lenet5-mnist"), load_data("mnist")
    splits = make_splits(data, network.card.split_seed)
    seen = seen_by(network, images_of(data, splits.calibration[:IMAGES]))
    return network, seen, images_of(data, splits.test)


def _one_die(chip: Path, faults: str, number: int) -> dict[str, float]:
    from rramhil.address import open_device
    from rramhil.job.deciding import faults_of
    from rramhil.mapping import Levels, TwoColumn, map_network
    from rramhil.mapping.placement import expected_error, moved, place_around

    options = f"die={number}&seed={number}&law=multiplicative&sigma=0"
    die = open_device(f"emulator:{chip}?{options}&{FAULTS[faults]}")
    network, seen, _ = _subject()
    census = _scanned(die)
    known = faults_of(die.spec, census)
    naive = map_network(network.matrices(), die.spec, Levels(*LEVELS), TwoColumn())
    found: dict[str, float] = {"ideal": _ideal(), "bad_rows": float(len(census["bad_rows"]))}
    for partners in (False, True):
        last = "_partners" if partners else ""
        began = time.process_time()
        placed = place_around(naive, die.spec, known, seen, compensate=partners)
        found[f"cpu_seconds{last}"] = time.process_time() - began
        before = expected_error(naive, die.spec, known, seen, compensate=partners)
        found |= {f"expected_naive{last}": before.error, f"expected_placed{last}": placed.error}
        found |= {"naive_stuck": before.stuck, f"placed{last}_stuck": placed.stuck}
        found[f"naive{last}"] = _written(die, naive, known, partners)
        if partners and placed.stuck == 0 == found["placed_stuck"]:
            found["placed_partners"] = found["placed"]  # no pair has a stuck cell to make up for
        else:
            after = moved(naive, placed.blocks, die.spec)
            found[f"placed{last}"] = _written(die, after, known, partners)
    return found


def _scanned(die: Any) -> dict[str, Any]:
    """The arrays that a step `scan` leaves, of all tiles."""
    from rramhil.census import Thresholds, take_census
    from rramhil.verify import Bias, reset_pulse, set_pulse

    spec, bias = die.spec, Bias()
    cells = np.arange(spec.size)
    one = np.ones(cells.size)
    die.apply(set_pulse(cells, bias.set_volts * one, 3.0 * one, bias, spec))
    high = die.read(cells)
    die.apply(reset_pulse(cells, bias.reset_stop_volts * one, bias, spec))
    low = die.read(cells)
    limits = Thresholds(stuck_lrs_siemens=STUCK_LRS, stuck_hrs_siemens=STUCK_HRS)
    census = take_census(cells, low[None], high[None], spec, limits)
    return {
        "cells": cells,
        "after_reset": low,
        "after_set": high,
        "stuck_lrs": census.stuck_lrs,
        "stuck_hrs": census.stuck_hrs,
        "unreadable": census.unreadable,
        "bad_rows": census.bad_rows,
    }


def _written(die: Any, mapped: Any, known: Any, partners: bool) -> float:
    """Accuracy in percent of what the cells of `mapped` read after one open-loop write."""
    from rramhil.mapping import filled
    from rramhil.tune import gate_curve, gate_sweep
    from rramhil.verify import Bias, write_open_loop

    bias, stuck = Bias(), known.stuck[mapped.cells]
    bad = np.isfinite(stuck)
    targets = mapped.siemens
    if partners:
        targets = mapped.compensated(np.where(bad, stuck, targets), bad)
    sample = mapped.cells[~bad][:64]
    curve = gate_curve(list(gate_sweep(die, np.sort(sample), 1.0, 3.0, 21, bias)))
    gates = curve.nominal_gate(targets, mapped.levels.tolerance)
    for _ in write_open_loop(die, mapped.cells, gates, bias):
        pass
    die.clock.sleep(1.0)
    read = filled(die.read(mapped.cells), die.spec.reading.highest)
    return _accuracy(mapped.weights_from(read))


@cache
def _ideal() -> float:
    from rramhil.address import open_device
    from rramhil.mapping import Levels, TwoColumn, map_network

    spec = open_device("emulator:statistical").spec
    network, _, _ = _subject()
    mapped = map_network(network.matrices(), spec, Levels(*LEVELS), TwoColumn())
    return _accuracy(mapped.ideal_weights())


def _accuracy(weights: dict[str, Any]) -> float:
    from rramhil.nn.network import accuracy_of

    network, _, test = _subject()
    return 100 * accuracy_of(network, test, network.with_weights(weights))


def _rows_of(faults: str, found: list[dict[str, float]]) -> Iterator[Row]:
    yield mean_row(f"{faults}_ideal_mapping", [one["ideal"] for one in found], "percent")
    for way in WAYS:
        yield from loss_rows(f"{faults}_{way}", [one["ideal"] - one[way] for one in found])
    units = {
        "bad_rows": "of 1024 word lines",
        "naive_stuck": "cells under weights",
        "placed_stuck": "cells under weights",
        "expected_naive": "of the outputs' variance",
        "expected_placed": "of the outputs' variance",
        "cpu_seconds": "CPU s",
    }
    for key, unit in units.items():
        yield mean_row(f"{faults}_{key}", [one[key] for one in found], unit)
