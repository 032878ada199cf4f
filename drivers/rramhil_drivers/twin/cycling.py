"""Use: what 300 cycles and 8,000 cycles do, measured and emulated.

`cycling_300`: 300 cycles of SET (100 ns, BL 3.3 V, WL 3 V) and RESET (100 ns, SL 2.3 V, WL 4 V),
RADAR arrays. `write_verify_eval`: cells after about 300 and about 8,000 cycles; a cell that no
run of a day brings above 6 kOhm at the top level is stuck. `endurance_1e6_single_cell`: one cell
that stood a million cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Kind, Pulse

from ..emulator.ageing import lives
from ..emulator.ageing_laws import Endurance
from ..emulator.chipfile import ChipFile, PulsedLaws
from ..emulator.die import EmulatedDie
from .ages import bare_chip
from .pulse_counts import ALLOWED
from .recipes import AIMS, CAPS, WINDOWS, fppv_chain, ispp_run, sdr_run, sweep_gates
from .rows import Compared, Curve
from .sources import Measured

if TYPE_CHECKING:
    import pandas as pd

F64 = NDArray[np.float64]
FRESH, USED = 300.0, 8000.0
STUCK_OHM = 6e3
CYCLES = 60  # of the emulated cells; the spread from cycle to cycle does not depend on it
CELLS = 1000
DRAWS = 100
WRITTEN, SWEPT = 800, 512  # cells of an emulated write-verify after use, and of its gate sweep
ISPP_STEP = 0.1
WIDENINGS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)

Level = tuple[str, int]


def stuck_shares(data: Measured) -> dict[str, tuple[float, int]]:
    """(share of cells that stick in LRS, cells) of each condition."""
    table = data.table("write_verify_eval")
    table = table[(table["bits_per_cell"] == 2) & (table["level"] == 3)]
    found = {}
    for condition, rows in table.groupby("condition"):
        best = rows.groupby("addr")["r_final"].max()
        found[str(condition)] = (float((best < STUCK_OHM).mean()), int(best.size))
    return found


def used_pulses(data: Measured) -> dict[Level, NDArray[np.int64]]:
    """Clipped pulses of each algorithm and level after 8,000 cycles, 2 bits a cell."""
    table = data.table("write_verify_eval")
    table = table[(table["bits_per_cell"] == 2) & (table["condition"] == "cycled-8k")]
    found: dict[Level, NDArray[np.int64]] = {}
    for (algorithm, level), rows in table.groupby(["algorithm", "level"]):
        if level < 3 and (algorithm, level) != ("ISPP", 0):
            pulses = rows["n_set"].astype(int) + rows["n_reset"].astype(int) - 1
            key = (str(algorithm), int(level))
            found[key] = np.minimum(pulses.to_numpy(), CAPS[key[0]])
    return found


def emulated_pulses(chip: ChipFile, seed: int) -> dict[Level, float]:
    """Mean clipped pulses of emulated cells that have seen 8,000 RESETs."""
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1)
    picked = np.random.default_rng(seed).permutation(die.spec.size)[: WRITTEN + SWEPT]
    cells, swept = np.sort(picked[:WRITTEN]), np.sort(picked[WRITTEN:])
    die.use(Kind.RESET, int(USED))
    curve = sweep_gates(die, swept)
    runs = {("FPPV", level): counts for level, counts in fppv_chain(die, cells, curve)}
    for level, aim in AIMS.items():
        runs["SDR", level] = sdr_run(die, cells, level, float(curve.nominal_gate(aim)))
        runs["ISPP", level] = ispp_run(die, cells, WINDOWS[level], ISPP_STEP, CAPS["ISPP"])
    return {
        key: float(np.minimum(counts.pulses, CAPS[key[0]]).mean()) for key, counts in runs.items()
    }


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """`laws` with the widening that predicts write-verify after 8,000 cycles best, and the life.

    The life is the one that leaves the measured share of cells alive; its shape is 1 (deaths at
    random): one more point would be needed to fit it. `onset` is kept.
    """
    law = laws.endurance
    if law is None or not data.has("write_verify_eval"):
        return laws
    shares = stuck_shares(data)
    if not {"fresh", "cycled-8k"} <= set(shares):
        return laws
    (before, _), (after, count) = shares["fresh"], shares["cycled-8k"]
    died = max(after - before, 0.5 / count)
    life = (USED - FRESH) / -np.log1p(-died)
    say(f"stuck in LRS: {before:.2%} after {FRESH:.0f}, {after:.2%} after {USED:.0f} cycles")
    law = law.model_copy(
        update={
            "life": float(f"{life:.3g}"),
            "life_shape": 1.0,
            "source": "fitted by `rramhil twin fit` to write_verify_eval, RADAR array data (A. "
            "Levy et al., IEEE TED 2021, doi 10.1109/TED.2021.3097975), even blocks of 64 "
            "addresses: widening to the mean pulses after 8,000 cycles, life to the cells that "
            "stuck in LRS between 300 and 8,000; onset and shape: ours",
        }
    )
    aim = {key: float(pulses.mean()) for key, pulses in used_pulses(data).items()}
    misfits = {}
    for widening in WIDENINGS:
        trial = law.model_copy(update={"widening": widening})
        found = emulated_pulses(bare_chip(laws.model_copy(update={"endurance": trial})), 1)
        misfits[widening] = float(np.mean([np.log(found[k] / aim[k]) ** 2 for k in aim]))
    best = min(misfits, key=lambda w: misfits[w])
    say(f"widening {best:g}: pulses off by {np.sqrt(misfits[best]):.0%}, root mean square")
    return laws.model_copy(update={"endurance": law.model_copy(update={"widening": best})})


# ------------------------------------------------------------------------------ comparing


def cycled(chip: ChipFile, seed: int) -> tuple[F64, F64]:
    """ln R after RESET and after SET of emulated cells, each (cycles, cells)."""
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1)
    cells = np.arange(min(CELLS, die.spec.rows * die.spec.cols))
    after: dict[Kind, list[F64]] = {Kind.RESET: [], Kind.SET: []}
    for _ in range(CYCLES):
        for kind, volts, gate in ((Kind.SET, 3.3, 3.0), (Kind.RESET, 2.3, 4.0)):
            full = np.full(cells.size, volts)
            gates = np.full(cells.size, gate)
            die.apply(Pulse(kind, cells, volts=full, gate_volts=gates, seconds=100e-9))
            seen = np.clip(die.read(cells).astype(np.float64), 2e-7, 1e-3)
            after[kind].append(-np.log(seen))
    return np.array(after[Kind.RESET]), np.array(after[Kind.SET])


def spreads(table: F64) -> tuple[float, float, float]:
    """(median of ln R, sd from cycle to cycle, sd between cells) of (cycles, cells)."""
    middle = np.nanmedian(table, axis=0)
    return (
        float(np.nanmedian(middle)),
        float(np.nanmedian(np.nanstd(table, axis=0))),
        float(np.subtract(*np.nanquantile(middle, [0.75, 0.25])) / 1.349),
    )


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """ln R after RESET and SET: its median and spreads; cells that stick."""
    table = data.table("cycling_300")
    table = table[table["cycle"] >= 100]
    rng = np.random.default_rng(seed)
    emulated = dict(zip(("RESET", "SET"), cycled(chip, seed), strict=True))
    for kind, column in (("RESET", "r_after_reset"), ("SET", "r_after_set")):
        wide = _wide(table, column)
        there = spreads(emulated[kind])
        here = spreads(wide)
        draws = [spreads(wide[:, rng.integers(0, wide.shape[1], wide.shape[1])]) for _ in
                 range(DRAWS)]  # fmt: skip
        for i, statistic in enumerate(
            ("median ln R", "sd from cycle to cycle", "spread between cells")
        ):
            low, high = np.quantile([there[i] - d[i] for d in draws], [0.025, 0.975])
            yield Compared(
                statistic, f"after {kind}, cycles 100-300", here[i], there[i], there[i] - here[i],
                None, float(low), float(high), "ln ohm", "cycling_300",
            )  # fmt: skip
    yield from _stuck(data, chip)
    if data.has("write_verify_eval"):
        yield from _used(data, chip, seed, rng)


def _wide(table: pd.DataFrame, column: str) -> F64:
    named = table.assign(cell=table["run"].astype(str) + " " + table["addr"].astype(str))
    wide = named.pivot_table(index="cycle", columns="cell", values=column)
    return np.asarray(np.log(wide.to_numpy(np.float64)))


def _stuck(data: Measured, chip: ChipFile) -> Iterator[Compared]:
    laws = chip.cells
    if laws is None or laws.endurance is None or not data.has("write_verify_eval"):
        return
    for condition, (share, count) in stuck_shares(data).items():
        uses = USED if condition == "cycled-8k" else FRESH
        there = chip.faults.stuck_lrs + died_by(laws.endurance, uses)
        error = 1.96 * np.sqrt(max(share, 0.5 / count) / count)
        yield Compared(
            "share stuck in LRS", condition, share, there, there - share, None,
            float(there - share - error), float(there - share + error), "", "write_verify_eval",
        )  # fmt: skip


def _used(
    data: Measured, chip: ChipFile, seed: int, rng: np.random.Generator
) -> Iterator[Compared]:
    there = emulated_pulses(chip, seed)
    for key, pulses in used_pulses(data).items():
        draws = [there[key] / rng.choice(pulses, pulses.size).mean() - 1 for _ in range(DRAWS)]
        low, high = np.quantile(draws, [0.025, 0.975])
        here = float(pulses.mean())
        yield Compared(
            "mean pulses after 8,000 cycles", f"{key[0]}, level {key[1]}", here, there[key],
            there[key] / here - 1, ALLOWED[key[0]], float(low), float(high), "pulses",
            "write_verify_eval",
        )  # fmt: skip


def died_by(law: Endurance, resets: float) -> float:
    """Share of cells whose life is shorter than so many RESETs."""
    uniforms = (np.arange(100_000) + 0.5) / 100_000
    return float((lives(law, uniforms) < resets).mean())


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Cumulative ln R after RESET, one value a cell, measured and predicted."""
    table = data.table("cycling_300")
    wide = _wide(table[table["cycle"] >= 100], "r_after_reset")
    for values, measured in ((wide, True), (cycled(chip, seed)[0], False)):
        ordered = np.sort(np.nanmedian(values, axis=0)) / np.log(10)
        yield Curve(
            "After RESET in 300 cycles", "median of each cell", ordered,
            np.arange(1, ordered.size + 1) / ordered.size, measured, "log10 of R (ohm)", "share",
        )  # fmt: skip
