"""Ageing at high temperature: fit to, and comparison with, the bakes.

`bake_1h`: an hour at 100 to 260 C, three technologies (RRAM relaxation master model, A. Levy
2021, MIT). `retention_level_reads`: 30 minutes at 80 to 157 C of cells of the RADAR arrays that
had been written some time before; that time is not recorded, so they are only reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..emulator.ageing import ageing_rate
from ..emulator.ageing_laws import Relaxation, Retention
from ..emulator.chipfile import ChipFile, PulsedLaws
from ..emulator.periphery import BOLTZMANN_EV
from .ages import (
    EDGES,
    F64,
    FEWEST,
    MICRO,
    Shape,
    binned,
    compare_shapes,
    later_readings,
)
from .relaxation import (
    FULL_SCALE,
    SIMULATED,
    Ageing,
    ageing,
    bin_text,
    matched,
    rounded,
    shapes,
    smoothed,
    technology,
    with_tables,
)
from .rows import Compared, Curve
from .sources import Measured

HOUR = 3600.0
ZERO_CELSIUS = 273.15
ENERGIES = (0.6, 1.5)  # electronvolt, ours: HfO2 cells lie between
BEFORE = 3600.0  # seconds between writing and the first reading of the RADAR cells, ours


def bakes(data: Measured, name: str) -> dict[float, tuple[F64, F64]]:
    """(first readings, changes) of technology `name` after an hour, by kelvin."""
    table = data.table("bake_1h")
    table = table[table["technology"] == name]
    found = {}
    for celsius, rows in table.groupby("bake_temp_c"):
        before = rows["g_before_s"].to_numpy(np.float64)
        found[float(celsius) + ZERO_CELSIUS] = (
            before,
            rows["g_after_s"].to_numpy(np.float64) - before,
        )
    return found


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """`laws` with the activation energy, and a row of the relaxation for each bake.

    One hour at one temperature tells the change, not where on the axis of ages it lies. So the
    energy is the one that puts the mildest bake where the spread at the reference temperature
    gets to when it goes on with its last slope, in the median over levels and within `ENERGIES`.
    """
    name = technology(laws)
    measured, full = bakes(data, name), FULL_SCALE[name]
    if not measured:
        say(f"no bake of technology {name}: left as it is")
        return laws
    old = laws.retention
    reference = old.reference_kelvin if old else 25 + ZERO_CELSIUS
    energy = _energy(ageing(data, name), measured, full, reference)
    source = (
        f"fitted by `rramhil twin fit` to bake_1h, technology {name} (RRAM relaxation master "
        "model, A. Levy 2021, MIT), even blocks of 64 addresses: the spread after the mildest bake "
        "lies on the line of the room temperature in log time, sought within "
        f"{ENERGIES[0]} to {ENERGIES[1]} eV; the bakes are rows of the relaxation table beyond the "
        "ages measured there"
    )
    retention = Retention(source=source, activation_ev=energy, reference_kelvin=reference)
    say(f"activation energy {energy:.2f} eV")
    return _with_bakes(laws.model_copy(update={"retention": retention}), measured, full, say)


def _energy(
    written: Ageing, measured: dict[float, tuple[F64, F64]], full: float, reference: float
) -> float:
    """Activation energy in electronvolt, two digits."""
    mildest = min(measured)
    ages = sorted(written.changes)
    last, before = ages[-1], ages[-3]
    end, earlier = (shapes(written.starts[a], written.changes[a], full) for a in (last, before))
    needed = []
    for b, baked in enumerate(shapes(*measured[mildest], full)):
        at_end, at_before = end[b], earlier[b]
        if baked is None or at_end is None or at_before is None:
            continue
        slope = (at_end.spread - at_before.spread) / np.log10(last / before)
        if slope > 0 and baked.spread > at_end.spread:
            needed.append(np.log10(last / HOUR) + (baked.spread - at_end.spread) / slope)
    colder = (1 / reference - 1 / mildest) / BOLTZMANN_EV / np.log(10)
    return round(float(np.clip(np.median(needed) / colder, *ENERGIES)), 2)


def _with_bakes(
    laws: PulsedLaws, measured: dict[float, tuple[F64, F64]], full: float,
    say: Callable[[str], None],
) -> PulsedLaws:  # fmt: skip
    retention, law = laws.retention, laws.relaxation
    assert retention is not None
    starts = np.concatenate([before for before, _ in measured.values()])
    found = {k: shapes(*measured[k], full) for k in sorted(measured)}
    bins = [b for b in range(len(EDGES) - 1) if all(found[k][b] for k in found)]
    where = binned(starts, full)
    levels = [float(np.median(starts[where == b])) for b in bins]
    aim: dict[float, list[Shape]] = {}
    kelvins: dict[float, float] = {}
    for kelvin, of_bins in found.items():
        age = float(f"{HOUR * ageing_rate(retention, kelvin):.3g}")
        aim[age] = [one for b in bins if (one := of_bins[b]) is not None]
        kelvins[age] = kelvin
    # The bakes share the levels of the other rows: the shape aimed at is read off there.
    law = _extended(law, aim, levels)

    def heated(chip: ChipFile, start: F64) -> dict[float, tuple[F64, F64]]:
        results = {}
        for age, kelvin in kelvins.items():
            first, later = later_readings(chip, start, [HOUR], 5, kelvin)
            results[age] = (first, later[0] - first)
        return results

    here = [int(binned(np.array([level]), full)[0]) for level in law.siemens]
    aim = smoothed(aim, np.array([(where == b).sum() for b in bins]))
    at_levels = {age: [_between(levels, aim[age], x) for x in law.siemens] for age in aim}
    law = matched(laws, law, at_levels, list(law.siemens), starts, full, here, say, heated)
    source = law.source if "bake_1h" in law.source else (
        f"{law.source}; rows beyond the ages there: fitted to bake_1h of the same technology, at "
        "the effective ages of the retention table"
    )  # fmt: skip
    return laws.model_copy(update={"relaxation": law.model_copy(update={"source": source})})


def _between(levels: list[float], of_levels: list[Shape], at: float) -> Shape:
    names = ("middle", "down", "up", "low_tail", "high_tail")
    return Shape(*(float(np.interp(at, levels, [getattr(s, n) for s in of_levels])) for n in names))


def _extended(law: Relaxation, aim: dict[float, list[Shape]], levels: list[float]) -> Relaxation:
    """`law` with a row for each bake, in place of what lay beyond the measured ages."""
    kept = [i for i, s in enumerate(law.seconds) if s < min(aim) and s <= 2e5]
    ages = sorted(aim)

    def column(of: Callable[[Shape], float]) -> list[F64]:
        return [np.interp(law.siemens, levels, [of(s) for s in aim[a]]) for a in ages]

    names = ("middle_siemens", "down_siemens", "up_siemens", "down_tail", "up_tail")
    old = [[np.array(getattr(law, n)[i]) for i in kept] for n in names]
    tails = column(lambda s: 0.1)
    new = [column(lambda s: s.middle), column(lambda s: s.down), column(lambda s: s.up)]
    tables = [np.array(o + n) for o, n in zip(old, [*new, tails, tails], strict=True)]
    early = [law.early[i] for i in kept]
    seconds = (*(law.seconds[i] for i in kept), *ages)
    law = law.model_copy(
        update={"seconds": seconds, "early": rounded([*early, *(early[-1] for _ in ages)])}
    )
    return with_tables(law, *tables)


# ------------------------------------------------------------------------------ comparing


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Spread, tails and drift in each bin after each bake; RADAR cells, reported."""
    laws = chip.cells
    assert laws is not None
    name = technology(laws)
    rng = np.random.default_rng(seed)
    full = FULL_SCALE[name]
    for kelvin, (starts, changes) in bakes(data, name).items():
        first, later = later_readings(chip, rng.choice(starts, SIMULATED), [HOUR], seed, kelvin)
        here, there = binned(starts, full), binned(first, full)
        for b in range(len(EDGES) - 1):
            if (here == b).sum() >= FEWEST:
                group = f"{bin_text(b, full)}, 1 h at {kelvin - ZERO_CELSIUS:.0f} °C"
                source = f"bake_1h, technology {name}"
                moved = (later[0] - first)[there == b]
                yield from compare_shapes(group, changes[here == b], moved, source, True, rng)
    if data.has("retention_level_reads") and name == "A":
        yield from _radar(data, chip, seed, rng)


def _radar(
    data: Measured, chip: ChipFile, seed: int, rng: np.random.Generator
) -> Iterator[Compared]:
    """The spread of the change of RADAR cells in 30 minutes, by level; `cell` is no address."""
    table = data.table("retention_level_reads")
    table = table[(table["repeat"] == 0) & table["experiment"].str.match("[23]bpc-[1-6]")]
    wide = table.assign(g=1 / table["r"]).pivot_table(
        index=["experiment", "bake_temp_c", "cell"], columns="phase", values="g"
    )
    for celsius, rows in wide.groupby(level="bake_temp_c"):
        before = rows["pre_bake"].to_numpy(np.float64)
        change = rows["post_bake"].to_numpy(np.float64) - before
        start = rng.choice(before, SIMULATED)
        read, later = _baked_later(chip, start, float(celsius) + ZERO_CELSIUS, seed)
        for low, high in ((90, 150), (150, 210), (210, 300)):
            here = (before >= low * MICRO) & (before < high * MICRO)
            there = (read >= low * MICRO) & (read < high * MICRO)
            if here.sum() >= FEWEST:
                group = f"{low}-{high} µS, 30 min at {celsius} °C, RADAR"
                rows_ = compare_shapes(
                    group, change[here], (later - read)[there], "retention_level_reads", False, rng
                )
                yield next(iter(rows_))


def _baked_later(chip: ChipFile, start: F64, kelvin: float, seed: int) -> tuple[F64, F64]:
    """Readings before and after 30 minutes at `kelvin`, of cells written `BEFORE`."""
    laws = chip.cells
    assert laws is not None
    if laws.retention is None:
        rate = 1.0
    else:
        rate = ageing_rate(laws.retention, kelvin)
    _, later = later_readings(chip, start, [BEFORE, BEFORE + HOUR / 2 * rate], seed)
    return later[0], later[1]


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Robust spread after the bakes over conductance, measured and predicted."""
    laws = chip.cells
    assert laws is not None
    name = technology(laws)
    full = FULL_SCALE[name]
    middles = (EDGES[1:] + np.maximum(EDGES[:-1], 0)) / 2 * full / MICRO
    for kelvin, (starts, changes) in bakes(data, name).items():
        first, later = later_readings(chip, starts, [HOUR], seed, kelvin)
        for at, moved, measured in (
            (starts, changes, True), (first, later[0] - first, False)
        ):  # fmt: skip
            found = shapes(at, moved, full)
            y = np.array([np.nan if s is None else s.spread / MICRO for s in found])
            yield Curve(
                f"An hour in the oven, technology {name}", f"{kelvin - ZERO_CELSIUS:.0f} °C",
                middles, y, measured, "conductance before (µS)", "robust spread (µS)",
            )  # fmt: skip
