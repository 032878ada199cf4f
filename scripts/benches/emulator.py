"""How fast the emulated die is: products, write-verify, wires, a network, memory.

    scripts/bench emulator [--quick] [--seed N]

Each row is measured in a process of its own, with one thread and with two (numpy's matrix
products are all that can use a second one). `value`: work per CPU second of that process, over all
its threads; `..._wall`: per second of wall time. `n` repetitions on dies and seeds of their own;
`spread`: their standard deviation. Waiting for the disk is not CPU time. Products begin an hour of
device time after programming. docs/performance.md has the floors.

    mvm_noisy        products of a 256 x 256 tile of the chip wide, batch 1024, 8 bits in and out,
                     read noise of each cell fresh for each vector
    mvm_macro_exact  the 40 nm macro: 7 rows, 3 bits, next non-zero rows, 30 % dense inputs, one
                     bit plane, batch 1024
    rvw_converged    65,536 cells into the four windows of 2 bits of the RADAR data (A. Levy et al.,
                     IEEE TED 2021, doi 10.1109/TED.2021.3097975), a level drawn for each cell, by
                     SDR with its default ramps, until each is inside or given up after 80 pulses;
                     guard and ledger as `connect` gives them
    wires_solve      seconds for the first product of a tile with crossed wires, 2 ohm a segment
    wires_mvm        the further ones: as mvm_noisy, through the wires
    lenet5           LeNet-5 on 28 x 28 images: each layer's blocks of tiles of the chip wide, 8
                     bits in and out with read noise; signs, sums, bias, ReLU, pooling in numpy
    die_bytes_per_cell  peak memory of a die: created, all cells read, all programmed open loop;
                     per cell of the tiles between a small die and one of 256 tiles
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benches import Row

HERE = Path(__file__).resolve().parent
BATCH = 1024
REST_SECONDS = 3600.0  # before products: young cells relax, and a tile is looked at more often
WINDOWS = ((1 / 5000, 400e-6), (1 / 6010, 1 / 5770), (1 / 9310, 1 / 8510), (0.0, 1 / 80e3))
MIDDLES = (1 / 4700, 1 / 5890, 1 / 8900)
WIRES = """
[wires]
source = "2 ohm: within 0-3 ohm of V. Milo et al., doi 10.1109/TED.2021.3089995; ends: ours"
layout = "crossed"
row_ohms = 2.0
column_ohms = 2.0
driver_ohms = 20.0
sense_ohms = 20.0
"""


class Timed(NamedTuple):
    """Work done in one repetition; `rate`: work over time, else time itself (or a plain value)."""

    row: str
    work: float
    unit: str
    cpu: float
    wall: float
    rate: bool = True


class Watch:
    """CPU seconds of this process and wall seconds since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> tuple[float, float]:
        return time.process_time() - self._cpu, time.perf_counter() - self._wall


# ------------------------------------------------------------------------------- one process


def _programmed(address: str, seed: int) -> Any:
    """A bare die, tile 0 written open loop to gates over the whole range, a second ago."""
    from rramhil.address import open_device
    from rramhil.verify import write_open_loop

    die: Any = open_device(
        f"{address}{'&' if '?' in address else '?'}die={seed}&seed={seed}&tiles=1"
    )
    gates = np.random.default_rng(seed).uniform(2.0, 3.2, die.spec.size)
    for _ in write_open_loop(die, np.arange(die.spec.size), gates, group=65536):
        pass
    die.clock.sleep(REST_SECONDS)
    return die


def _products(name: str, die: Any, inputs: Any, quick: bool) -> Timed:
    die.mvm(0, inputs)
    calls = 2 if quick else 20
    watch = Watch()
    for _ in range(calls):
        die.mvm(0, inputs)
    return Timed(name, calls * len(inputs), "vectors/s", *watch.stop())


def mvm_noisy(seed: int, quick: bool) -> Iterator[Timed]:
    die = _programmed("emulator:wide", seed)
    inputs = np.random.default_rng(seed).integers(0, 256, (BATCH, die.spec.rows))
    yield _products("mvm_noisy", die, inputs, quick)


def mvm_macro_exact(seed: int, quick: bool) -> Iterator[Timed]:
    die = _programmed("emulator:40nm", seed)
    dense = np.random.default_rng(seed).random((BATCH, die.spec.rows)) < 0.3
    yield _products("mvm_macro_exact", die, dense.astype(np.int64), quick)


def wires(seed: int, quick: bool) -> Iterator[Timed]:
    from importlib.resources import files

    chip = (files("rramhil_fixtures") / "chips" / "wide.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wired.toml"
        path.write_text(chip.replace("[converter]", f"{WIRES}\n[converter]", 1), encoding="utf-8")
        die = _programmed(f"emulator:{path}", seed)
    inputs = np.random.default_rng(seed).integers(0, 256, (BATCH, die.spec.rows))
    watch = Watch()
    die.mvm(0, inputs[:1])
    yield Timed("wires_solve", 1, "s", *watch.stop(), rate=False)
    yield _products("wires_mvm", die, inputs, quick)


def rvw_converged(seed: int, quick: bool) -> Iterator[Timed]:
    from rramhil.station import connect
    from rramhil.tune import gate_curve, gate_sweep
    from rramhil.verify import SDR, Bias, Target, program

    count = 2048 if quick else 65536
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(f"emulator:40nm?die={seed}&seed={seed}&tiles=2", ledger=folder) as device,
    ):
        points = list(gate_sweep(device, np.arange(512) + 65536, 1.5, 4.0, 51, Bias()))
        curve = gate_curve(points)
        level = np.random.default_rng(seed).integers(0, 4, count)
        gates = np.append([curve.nominal_gate(middle, 20e-6) for middle in MIDDLES], 2.0)[level]
        low, high = np.array(WINDOWS)[level].T
        target = Target(low, high, gates)
        watch = Watch()
        (last,) = deque(program(device, np.arange(count), target, SDR()), maxlen=1)
        cpu, wall = watch.stop()
    pulses = int((last.sets + last.resets).sum())
    yield Timed("rvw_converged", count, "cells/s", cpu, wall)
    yield Timed("rvw_cell_pulses", pulses, "cell-pulses/s", cpu, wall)
    yield Timed("rvw_pulses_per_cell", pulses / count, "pulses", 0, 0, rate=False)
    yield Timed("rvw_inside", 100 * float(last.inside.mean()), "percent", 0, 0, rate=False)


def lenet5(seed: int, quick: bool) -> Iterator[Timed]:
    from rramhil.address import open_device
    from rramhil.mapping import Levels, find_scheme, map_network
    from rramhil.nn.network import load_network
    from rramhil.verify import write_open_loop

    network = load_network("lenet5-mnist")
    die: Any = open_device(f"emulator:wide?die={seed}&seed={seed}")
    levels = Levels(10, 20e-6, 200e-6, 5e-6)
    mapped = map_network(network.matrices(), die.spec, levels, find_scheme("two_column"))
    cells = np.sort(mapped.cells)
    gates = 2.0 + 1.2 * np.random.default_rng(seed).random(cells.size)
    for _ in write_open_loop(die, cells, gates, group=65536):
        pass
    count, batch = (32, 32) if quick else (2048, 32)
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    images[:, :, :4] = images[:, :, 24:] = 0
    layers = [_Layer(card, mapped.layers[n], network) for n, card in enumerate(network.card.layers)]
    die.clock.sleep(REST_SECONDS)
    for layer in layers:
        layer.measure_scale(die, images[:batch], layers)
    watch = Watch()
    for start in range(0, count, batch):
        values = images[start : start + batch]
        for layer in layers:
            values = layer.run(die, values)
    yield Timed("lenet5", count, "images/s", *watch.stop())


class _Layer:
    """One layer on a die: unrolled inputs, products of its blocks, the digital rest."""

    def __init__(self, card: Any, mapped: Any, network: Any) -> None:
        self.card, self.mapped = card, mapped
        self.bias = network.biases[card.name].numpy()
        self.scale = 1.0
        self.top = 1.0

    def measure_scale(self, die: Any, images: Any, layers: list[_Layer]) -> None:
        """8-bit inputs of the next layer: its range is what these images give."""
        values = images
        for layer in layers[: layers.index(self)]:
            values = layer.run(die, values)
        self.top = max(float(np.abs(self._real(die, values)).max()), 1e-9)

    def run(self, die: Any, values: Any) -> Any:
        codes = self._real(die, values) * (255 / self.top)
        return np.clip(np.rint(codes), 0, 255).astype(np.uint8)

    def _real(self, die: Any, values: Any) -> Any:
        card = self.card
        if card.kind == "linear":
            lines = values.reshape(len(values), -1)
        else:
            edge = ((0, 0), (0, 0), (card.padding,) * 2, (card.padding,) * 2)
            padded = np.pad(values, edge) if card.padding else values
            view = np.lib.stride_tricks.sliding_window_view(padded, (card.kernel,) * 2, (2, 3))
            images, _, high, wide = view.shape[:4]
            lines = view.transpose(0, 2, 3, 1, 4, 5).reshape(images * high * wide, -1)
        found = self._products(die, lines) + self.bias
        if card.relu:
            np.maximum(found, 0, out=found)
        if card.kind == "linear":
            return found
        found = found.reshape(images, high, wide, -1)
        if card.pool > 1:
            high, wide = high // card.pool, wide // card.pool
            found = found[:, : high * card.pool, : wide * card.pool]
            found = found.reshape(images, high, card.pool, wide, card.pool, -1).max((2, 4))
        return found.transpose(0, 3, 1, 2)

    def _products(self, die: Any, lines: Any) -> Any:
        sums = np.zeros((len(lines), self.mapped.cells.shape[1]), dtype=np.int32)
        for block in self.mapped.blocks:
            part = lines[:, block.row : block.row + block.rows]
            got = die.mvm_block(block.tile, part, block.lines, block.columns)
            here = slice(block.col, block.col + block.cols)
            np.add(sums[:, here], got, out=sums[:, here], casting="same_kind")
        return np.subtract(sums[:, 0::2], sums[:, 1::2]) * self.mapped.scale.astype(np.float32)


def die_bytes_per_cell(seed: int, quick: bool) -> Iterator[Timed]:
    few, many = (2, 6) if quick else (64, 256)
    cells = 65536
    small, big = (_peak_bytes(seed, tiles) for tiles in (few, many))
    share = (big - small) / ((many - few) * cells)
    yield Timed("die_bytes_per_cell", share, "bytes", 0, 0, rate=False)
    yield Timed("die_peak_megabytes", big / 1e6, "MB", 0, 0, rate=False)


def _peak_bytes(seed: int, tiles: int) -> float:
    code = (
        "import numpy as np\n"
        "from rramhil.address import open_device\n"
        "from rramhil.verify import write_open_loop\n"
        f"die = open_device('emulator:40nm?die={seed}&tiles={tiles}')\n"
        "gates = np.full(4096, 2.6)\n"
        "for start in range(0, die.spec.size, 4096):\n"
        "    cells = np.arange(start, start + 4096)\n"
        "    die.read(cells)\n"
        "    list(write_open_loop(die, cells, gates))\n"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return 1024 * float(done.stdout)


MEASURED: dict[str, tuple[Callable[[int, bool], Iterator[Timed]], int]] = {
    "mvm_noisy": (mvm_noisy, 2),
    "mvm_macro_exact": (mvm_macro_exact, 2),
    "rvw_converged": (rvw_converged, 2),
    "wires": (wires, 2),
    "lenet5": (lenet5, 2),
    "die_bytes_per_cell": (die_bytes_per_cell, 1),
}


# ------------------------------------------------------------------------------- all of them


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Every row of every benchmark above, with one thread and with two."""
    for name, (_, most) in MEASURED.items():
        for threads in range(1, 2 if quick else most + 1):
            repeats = 1 if quick or name == "die_bytes_per_cell" else 5
            yield from _rows_of(_elsewhere(name, seed, quick, repeats, threads), threads)


def _elsewhere(name: str, seed: int, quick: bool, repeats: int, threads: int) -> list[Timed]:
    """Measure one of `MEASURED` in a process with so many threads."""
    command = [sys.executable, "-m", "benches.emulator", name, str(seed), str(repeats)]
    variables = {n: str(threads) for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            command + (["--quick"] if quick else []),
            cwd=HERE.parent, env={**os.environ, **variables, "RRAMHIL_HOME": home},
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    return [Timed(*json.loads(line)) for line in done.stdout.splitlines()]


def _rows_of(found: list[Timed], threads: int) -> Iterator[Row]:
    for name in dict.fromkeys(one.row for one in found):
        same = [one for one in found if one.row == name]
        for kind in ("", "_wall"):
            values = [_value(one, kind) for one in same]
            if kind and same[0].wall == 0:
                continue
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            mean = float(np.mean(values))
            yield Row(name + kind, mean, same[0].unit, spread, len(values), threads)


def _value(one: Timed, kind: str) -> float:
    seconds = one.wall if kind else one.cpu
    if one.rate:
        return one.work / seconds
    return seconds if one.wall else one.work


def main() -> None:
    """Measure one row here; a line of JSON for each repetition."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(MEASURED))
    parser.add_argument("seed", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    measure, _ = MEASURED[chosen.name]
    for repeat in range(chosen.repeats):
        for one in measure(chosen.seed + repeat, chosen.quick):
            print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
