#!/usr/bin/env python3
"""Fit the cells of a chip file to measured arrays.

    python scripts/fit_chip.py DATA fixtures/chips/40nm.toml [--write]

DATA is a folder with the Parquet files of the RADAR array data (A. Levy et al., IEEE TED 2021,
doi 10.1109/TED.2021.3097975) and of the RRAM relaxation master model (A. Levy 2021, MIT). The
emulator's own laws are run through the measured protocols and their parameters moved until
medians and quantiles agree. Prints measured against model; --write puts the fitted
[cells.*] tables into the chip file. Needs scipy, pandas and pyarrow.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fit_relaxation import fit_relaxation
from measured_arrays import MICRO, Measured, Row, quantiles
from scipy.optimize import least_squares, minimize

from rramhil_drivers.emulator import physics
from rramhil_drivers.emulator.chipfile import ChipFile, PulsedLaws, SetLaw, load_chip

COUNT = 1500  # simulated cells of each protocol
SINGLE_PULSE = {  # sweep with a RESET before each point: seconds, gate voltages compared
    "set-sweep-wl-inner-5-31-20": (100e-9, np.arange(2.15, 2.66, 0.05)),
    "fppv-sweep-1us-4-2-21": (1e-6, np.arange(1.55, 3.01, 0.05)),
    "fppv-sweep-10000ns-4-1-21": (10e-6, np.arange(1.40, 3.01, 0.05)),
}
GATE_RAMP = "set-sweep-wl-noreset-200ns-step-0.05-7-30-20"
LINE_RAMP = "set-sweep-bl-200ns-perlev-7-30-20"
RESET_RAMPS = {
    "reset-sweep-sl-200ns-step-0.05-7-30-20": 4.0,
    "reset-sweep-sl-200ns-step-0.05-9-21-20": 3.5,
}
# Spread from pulse to pulse: the counts of pulses in write_verify_eval need this much (one
# cell in the sweeps alone shows 25 to 35 mV, other days 42 to 55).
PULSE_SD_VOLTS = {100e-9: 0.036, 200e-9: 0.036}
STOPPED = 10e-6  # a measured RESET ramp ends below this conductance


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("chip", type=Path)
    parser.add_argument("--write", action="store_true", help="put the fit into the chip file")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="fit only these parts")
    options = parser.parse_args()
    chip = load_chip(str(options.chip))
    if chip.cells is None:
        raise SystemExit(f"{options.chip} has statistical cells; there is nothing to fit")
    laws, rows = fit(options.data, chip.cells, options.only)
    for what, measured, model in rows:
        print(f"{what:58s} {measured:10.3f} {model:10.3f}")
    if options.write:
        write_cells(options.chip, laws, options.only)


def fit(
    data: Path, laws: PulsedLaws, only: list[str] | None = None
) -> tuple[PulsedLaws, list[Row]]:
    """The fitted laws and rows of (what, measured, model); `only` some of `STEPS`."""
    sweeps = pd.read_parquet(data / "sweeps_set_reset.parquet")
    sweeps["before"], sweeps["after"] = 1 / sweeps.r_initial, 1 / sweeps.r_final
    rows: list[Row] = []
    for name in only or STEPS:
        laws, found = STEPS[name](Measured(data, sweeps), laws)
        rows += found
    return laws, rows


def normals(count: int, shape: int, seed: int) -> np.ndarray:
    """Common random numbers, so that a fit sees the parameters and not the draws."""
    return np.random.default_rng(seed).standard_normal((shape, count)).astype(np.float32)


# --------------------------------------------------------------------------------- SET


def fit_set(data: Measured, laws: PulsedLaws) -> tuple[PulsedLaws, list[Row]]:
    """Gate ceilings of each pulse width, at BL 2.0 V; spread of threshold and gain."""
    law, rows, sweeps = laws.set, [], data.sweeps
    wide = sweeps[(sweeps.sweep == "fppv-sweep-1us-4-2-21") & sweeps.wl_v.between(1.95, 2.35)]
    spread = wide.groupby(wide.wl_v.round(1)).after.quantile([0.16, 0.5, 0.84]).unstack()
    gain = float(((spread[0.84] - spread[0.16]) / 2 / spread[0.5]).median())
    law = law.model_copy(update={"gain_cell_sd": round(gain, 4)})
    for sweep, (seconds, gates) in SINGLE_PULSE.items():
        part = sweeps[sweeps.sweep == sweep]
        near = [part[(part.wl_v - gate).abs() < 0.0101] for gate in gates]
        measured = np.array([quantiles(p.after) for p in near])
        start = np.quantile(part.before, np.linspace(0.02, 0.98, COUNT)).astype(np.float32)
        law = _fit_width(law, seconds, gates, measured, start, ramp=False)
        rows += _set_rows(law, sweep, seconds, gates, measured, start, ramp=False)
    part = ramps(data.sweeps, GATE_RAMP, "wl_v")
    gates = np.arange(1.9, 2.46, 0.05)
    table = part.pivot_table(index="run", columns="volts", values="after")
    measured = np.array([quantiles(table[round(g, 2)].dropna()) for g in gates])
    first = part.groupby("run").before.first()
    start = np.quantile(first, np.linspace(0.02, 0.98, COUNT)).astype(np.float32)
    law = _fit_width(law, 200e-9, gates, measured, start, ramp=True)
    rows += _set_rows(law, GATE_RAMP, 200e-9, gates, measured, start, ramp=True)
    return laws.model_copy(update={"set": law}), rows


def _set_curve(
    law: SetLaw,
    seconds: float,
    gates: np.ndarray,
    start: np.ndarray,
    ramp: bool,
    fixed: bool = False,
) -> np.ndarray:
    """Conductances (gates, COUNT) after a pulse at each gate voltage; `fixed`: one mean cell."""
    cell = normals(COUNT, 2, 1) * (0 if fixed else 1)
    start = np.full(COUNT, np.median(start), dtype=np.float32) if fixed else start
    g, curve = start, []
    volts = np.full(COUNT, 2.0, dtype=np.float32)
    for gate, noise in zip(gates, normals(COUNT, len(gates), 2), strict=True):
        at = np.full(COUNT, gate, dtype=np.float32)
        ceiling = physics.set_ceiling(law, seconds, at, volts, (cell[0], cell[1]), noise)
        curve.append(np.maximum(g, ceiling))
        g = curve[-1] if ramp else start
    return np.array(curve)


def _fit_width(
    law: SetLaw,
    seconds: float,
    gates: np.ndarray,
    measured: np.ndarray,
    start: np.ndarray,
    ramp: bool,
) -> SetLaw:
    index = next(i for i, w in enumerate(law.widths) if abs(w.seconds / seconds - 1) < 0.01)
    names = (
        "threshold_volts", "scale_volts", "highest_siemens", "cell_sd_volts", "shape",
    )  # fmt: skip
    begin = np.array([getattr(law.widths[index], n) for n in names])
    unit = np.array([10e-6, 3e-6, 10e-6])  # the median counts most
    size = np.array([1.0, 0.1, 100e-6, 0.02, 0.5])

    def changed(x: np.ndarray) -> SetLaw:
        values = dict(zip(names, np.abs(x * size).tolist(), strict=True))
        # One pulse a cell at 1 and 10 us: there the two spreads cannot be told apart.
        values["pulse_sd_volts"] = PULSE_SD_VOLTS.get(seconds, values["cell_sd_volts"])
        # The sweeps end before the curve does: no steeper than an exponential beyond them.
        values["shape"] = min(values["shape"], 1.0)
        widths = list(law.widths)
        widths[index] = widths[index].model_copy(update={k: round(v, 9) for k, v in values.items()})
        return law.model_copy(update={"widths": tuple(widths)})

    def misfit(x: np.ndarray) -> np.ndarray:
        new = changed(x)
        curve = _set_curve(new, seconds, gates, start, ramp)
        off = [(quantiles(c) - m) / unit for c, m in zip(curve, measured, strict=True)]
        return np.concatenate(off)

    found = least_squares(misfit, begin / size, diff_step=0.01, loss="soft_l1")
    return changed(found.x)


def _set_rows(
    law: SetLaw, sweep: str, seconds: float, gates: np.ndarray, measured: np.ndarray,
    start: np.ndarray, ramp: bool,
) -> Iterator[Row]:  # fmt: skip
    curve = _set_curve(law, seconds, gates, start, ramp)
    for gate, m, c in list(zip(gates, measured, curve, strict=True))[::2]:
        q = quantiles(c)
        yield f"SET {seconds * 1e9:.0f} ns gate {gate:.2f} V median uS", m[1] / MICRO, q[1] / MICRO
        yield "    spread 10-90 %", (m[2] - m[0]) / MICRO, (q[2] - q[0]) / MICRO


def ramps(sweeps: pd.DataFrame, sweep: str, column: str) -> pd.DataFrame:
    """The rows of a sweep with the number of their ramp and its voltage on a 0.05 V grid."""
    part = sweeps[sweeps.sweep == sweep].sort_values("seq").copy()
    part["run"] = (part[column].diff() < -0.5).cumsum()
    part["volts"] = (part[column] / 0.05).round() * 0.05
    part["volts"] = part.volts.round(2)
    return part


def fit_line(data: Measured, laws: PulsedLaws) -> tuple[PulsedLaws, list[Row]]:
    """The bit line's part, from BL ramps at fixed gate voltages after a coarse SET."""
    part = ramps(data.sweeps, LINE_RAMP, "bl_or_sl_v")
    lines = np.round(np.arange(0.0, 4.01, 0.05), 2)
    shown = [round(v, 2) for v in np.arange(0.8, 3.01, 0.2)]
    gates = [2.17, 2.27, 2.39, 2.52]
    tables = {}
    for gate in gates:
        here = part[(part.wl_v - gate).abs() < 0.01]
        table = here.pivot_table(index="run", columns="volts", values="after")
        tables[gate] = np.array([table[v].median() for v in shown])
    cell, noise = normals(COUNT, 2, 3), normals(COUNT, len(lines) + 1, 4)

    def model(law: SetLaw, coarse_volts: float, gate: float) -> np.ndarray:
        at = np.full(COUNT, gate, dtype=np.float32)
        g, medians = np.zeros(COUNT, dtype=np.float32), {}
        for step, volts in enumerate([coarse_volts, *lines]):
            line = np.full(COUNT, volts, dtype=np.float32)
            ceiling = physics.set_ceiling(law, 200e-9, at, line, (cell[0], cell[1]), noise[step])
            g = np.maximum(g, ceiling)
            medians[round(float(volts), 2) if step else -1.0] = np.median(g)
        return np.array([medians[v] for v in shown])

    def changed(x: np.ndarray) -> SetLaw:
        names = ("bl_shift_volts", "bl_threshold_volts", "bl_siemens_per_volt")
        values = np.abs(x[:3]) * np.array([0.1, 1.0, 500e-6])
        return laws.set.model_copy(update=dict(zip(names, values.tolist(), strict=True)))

    def misfit(x: np.ndarray) -> np.ndarray:
        law = changed(x)
        return np.concatenate([(model(law, x[3], g) - tables[g]) / 5e-6 for g in gates])

    bounds = ([0.0, 0.3, 0.4, 0.8], [5.0, 1.0, 6.0, 2.5])
    found = least_squares(misfit, [1.2, 0.7, 1.2, 1.2], bounds=bounds, diff_step=0.01)
    law = changed(found.x)
    rows = [
        (f"SET 200 ns gate {g:.2f} V BL {v:.1f} V median uS", m / MICRO, p / MICRO)
        for g in gates
        for v, m, p in list(zip(shown, tables[g], model(law, found.x[3], g), strict=True))[::3]
    ]
    return laws.model_copy(update={"set": law}), rows


# ------------------------------------------------------------------------------- RESET


def fit_reset(data: Measured, laws: PulsedLaws) -> tuple[PulsedLaws, list[Row]]:
    """RESET thresholds and the high-resistance state, from SL ramps, gate ramps and cycling."""
    volts = np.round(np.arange(0.3, 4.01, 0.05), 2)
    measured = {}
    for sweep, gate in RESET_RAMPS.items():
        part = ramps(data.sweeps, sweep, "bl_or_sl_v")
        # Strong SETs leave cells that heal upwards under a small SL voltage: start from there.
        first = part[part.volts < 1.3].groupby("run").before.max().to_numpy()
        if gate < 3.9:
            first = part.groupby("run").before.first().to_numpy()
        table = part.pivot_table(index="run", columns="volts", values="after")
        last = float(part.volts.max())
        measured[sweep] = (gate, last, first, _ramp_shape(table, [v for v in volts if v <= last]))
    cycling = pd.read_parquet(data.folder / "cycling_300.parquet")
    cycling = cycling[cycling.cycle > 10]
    ln_g = np.log(1 / cycling.r_after_reset)
    cells = ln_g.groupby([cycling.run, cycling.addr])
    cycled = np.array([*quantiles(ln_g, CYCLED_AT), cells.std().median(), cells.mean().std()])

    paths = [
        ("reset", "body_volts"), ("reset", "cell_sd"), ("reset", "pulse_sd"), ("reset", "creep"),
        ("hrs", "siemens"), ("hrs", "depth"), ("hrs", "scale_volts"), ("hrs", "per_volt"),
        ("hrs", "cell_sd"), ("hrs", "cycle_sd"), ("hrs", "repeat_sd"), ("hrs", "hard_share"),
        ("hrs", "hard_ln_shift"),
    ]  # fmt: skip
    begin = np.array([getattr(getattr(laws, g), n) for g, n in paths])
    thresholds = np.array(laws.reset.threshold_volts)

    def changed(x: np.ndarray) -> PulsedLaws:
        values = np.abs(x[: len(paths)]) * begin
        new = {"reset": {}, "hrs": {}}
        for (group, name), value in zip(paths, values.tolist(), strict=True):
            new[group][name] = float(f"{value:.5g}")
        new["reset"]["threshold_volts"] = tuple(np.round(x[len(paths) :] * thresholds, 4).tolist())
        groups = {g: getattr(laws, g).model_copy(update=v) for g, v in new.items()}
        return laws.model_copy(update=groups)

    def misfit(x: np.ndarray) -> float:
        new = changed(x)
        if not 0.02 < new.hrs.hard_share < 0.4 or new.reset.creep > 0.3:
            return 1e3
        total = 0.0
        for gate, last, first, shape in measured.values():
            curve = _reset_ramp(new, gate, [v for v in volts if v <= last], first)
            total += float(np.nanmean(np.abs(curve - shape)))
        return total + 1.5 * float(np.mean(np.abs(_cycled(new) - cycled)))

    x0 = np.ones(len(paths) + len(thresholds))
    for _ in range(2):
        found = minimize(
            misfit, x0, method="Nelder-Mead",
            options={"maxfev": 1600, "adaptive": True, "initial_simplex": _simplex(x0)},
        )  # fmt: skip
        x0 = found.x
    laws = changed(x0)
    return laws, list(_reset_rows(laws, measured, volts, cycled))


CYCLED_AT = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def _simplex(x0: np.ndarray) -> np.ndarray:
    return np.vstack([x0, *(x0 + 0.15 * row for row in np.eye(len(x0)))])


def _ramp_shape(table: pd.DataFrame, volts: list[float]) -> np.ndarray:
    """(volts, 3): share of ramps still going (times 4), ln median and ln lowest decile of them."""
    shape = []
    for v in volts:
        here = table[v].dropna()
        alive = len(here) / len(table)
        ln = np.log(quantiles(here, (0.1, 0.5))) if len(here) >= 40 else [np.nan, np.nan]
        shape.append([4 * alive, *ln])
    return np.array(shape)


def _reset_ramp(laws: PulsedLaws, gate: float, volts: list[float], first: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    g = np.quantile(first, rng.permutation(np.linspace(0.01, 0.99, COUNT))).astype(np.float32)
    sl, hrs = _reset_cells(laws, COUNT, rng)
    table = physics.LevelTable(laws.reset.siemens, laws.reset.threshold_volts)
    gates = np.full(COUNT, gate, dtype=np.float32)
    shape, going = [], np.ones(COUNT, dtype=bool)
    for v in volts:
        drive = physics.reset_drive(laws.reset, 200e-9, gates, np.full(COUNT, v, dtype=np.float32))
        g_new = physics.reset_target(laws.reset, laws.hrs, table, drive, g, sl, hrs, rng, rng)
        g = np.where(going, g_new, g)
        here = g[going]
        ln = np.log(quantiles(here, (0.1, 0.5))) if here.size >= 100 else [np.nan, np.nan]
        shape.append([4 * going.mean(), *ln])
        going &= g >= STOPPED
    return np.array(shape)


def _reset_cells(laws: PulsedLaws, count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    sl = (laws.reset.cell_sd * rng.standard_normal(count)).astype(np.float32)
    hard = rng.random(count) < laws.hrs.hard_share
    hrs = laws.hrs.cell_sd * rng.standard_normal(count) + laws.hrs.hard_ln_shift * hard
    return sl, hrs.astype(np.float32)


def _cycled(laws: PulsedLaws, cells: int = 300, cycles: int = 20) -> np.ndarray:
    """Quantiles of ln G after RESET, its spread within and between cells (the cycling protocol)."""
    rng = np.random.default_rng(6)
    sl, hrs = (np.repeat(v, cycles) for v in _reset_cells(laws, cells, rng))
    table = physics.LevelTable(laws.reset.siemens, laws.reset.threshold_volts)
    g = (203e-6 * np.exp(0.12 * rng.standard_normal(sl.size))).astype(np.float32)
    full = np.full(sl.size, 1.0, dtype=np.float32)
    drive = physics.reset_drive(laws.reset, 100e-9, 4.0 * full, np.float32(2.3) * full)
    ln_g = np.log(physics.reset_target(laws.reset, laws.hrs, table, drive, g, sl, hrs, rng, rng))
    by_cell = ln_g.reshape(cells, cycles)
    return np.array([*quantiles(ln_g, CYCLED_AT), np.median(by_cell.std(1)), by_cell.mean(1).std()])


def _reset_rows(
    laws: PulsedLaws, measured: dict[str, Any], volts: np.ndarray, cycled: np.ndarray
) -> Iterator[Row]:
    for gate, last, first, shape in measured.values():
        grid = [v for v in volts if v <= last]
        model = _reset_ramp(laws, gate, grid, first)
        for v, m, p in list(zip(grid, shape, model, strict=True))[6::6]:
            yield f"RESET ramp gate {gate} V at SL {v} V: share above 10 uS", m[0] / 4, p[0] / 4
            yield "    median of these uS", np.exp(m[2]) / MICRO, np.exp(p[2]) / MICRO
    model = _cycled(laws)
    for q, m, p in zip(CYCLED_AT, cycled, model, strict=False):
        yield (
            f"RESET SL 2.3 V 100 ns, cycled: quantile {q} uS",
            np.exp(m) / MICRO,
            np.exp(p) / MICRO,
        )
    yield "    ln G sd from cycle to cycle", cycled[-2], model[-2]
    yield "    ln G sd between cells", cycled[-1], model[-1]


# -------------------------------------------------------------------- forming, relaxation


def fit_form(data: Measured, laws: PulsedLaws) -> tuple[PulsedLaws, list[Row]]:
    """Forming voltage and the conductance just after it."""
    forming = pd.read_parquet(data.folder / "forming.parquet")
    forming = forming[forming.success & (forming.wl_v == 2.0)]
    ln_g = np.log(1 / forming.r_after)
    low, middle, high = quantiles(ln_g, (0.16, 0.5, 0.84))
    update = {
        "volts": round(float(forming.bl_v.mean()), 3),
        "cell_sd": round(float(forming.groupby("run").bl_v.std().median()), 3),
        "siemens": float(f"{np.exp(middle):.4g}"),
        "ln_sd": round(float(high - low) / 2, 3),
    }
    rows = [(f"FORM {k}", v / (MICRO if k == "siemens" else 1), np.nan) for k, v in update.items()]
    return laws.model_copy(update={"form": laws.form.model_copy(update=update)}), rows


# ------------------------------------------------------------------------------ writing


def write_cells(path: Path, laws: PulsedLaws, only: list[str] | None) -> None:
    """Replace the [cells.*] tables of a chip file, which stand at its end."""
    text = path.read_text(encoding="utf-8")
    today = datetime.date.today().isoformat()
    radar = "RADAR array data (A. Levy et al., IEEE TED 2021, doi 10.1109/TED.2021.3097975)"
    origin = {
        "set": f"fitted by scripts/fit_chip.py to sweeps_set_reset, {radar}, on {today}; "
        "pulse_sd_volts at 100 and 200 ns by hand from the pulse counts of write_verify_eval",
        "reset": f"fitted by scripts/fit_chip.py to sweeps_set_reset and cycling_300, {radar}, "
        f"on {today}; threshold against width and full_siemens by hand from the gate sweeps",
        "hrs": f"fitted by scripts/fit_chip.py to sweeps_set_reset and cycling_300, {radar}, "
        f"on {today}",
        "form": f"fitted by scripts/fit_chip.py to forming, {radar}, on {today}; gate as measured",
        "noise": laws.noise.source,
        "relaxation": "fitted by scripts/fit_chip.py to relaxation, technology A, fresh (RRAM "
        f"relaxation master model, A. Levy 2021, MIT), the nearest in range, on {today}",
    }
    parts = {"set": "set", "line": "set", "reset": "reset", "hrs": "reset"}
    origin = {
        k: v
        for k, v in origin.items()
        if not only or {parts.get(o, o) for o in only} & {parts.get(k, k)}
    }
    head = text[: text.index("[cells.")]
    path.write_text(head + "".join(_tables(laws, origin)), encoding="utf-8")
    ChipFile.model_validate(load_chip(str(path)).model_dump())
    print(f"wrote {path}")


def _tables(laws: PulsedLaws, origin: dict[str, str]) -> Iterator[str]:
    blocks = []
    for name, values in laws.model_dump().items():
        values["source"] = origin.get(name, values["source"])
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        blocks.append("\n".join([f"[cells.{name}]", *lines]) + "\n")
    yield "\n".join(blocks)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', "'") + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], dict):
        return "[\n" + "".join(f"  {_toml(v)},\n" for v in value) + "]"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f"{value:.5g}"


STEPS = {
    "set": fit_set,
    "line": fit_line,
    "reset": fit_reset,
    "form": fit_form,
    "relaxation": fit_relaxation,
}

if __name__ == "__main__":
    main()
