"""Pulse-level 1T1R cells: the laws of `physics` on the state of a die."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Kind, Pulse
from rramhil_drivers.emulator.ageing import (
    EffectiveTime,
    RelaxationLaw,
    ageing_rate,
    first_to_die,
    lives,
    stuck_at,
    wear,
)
from rramhil_drivers.emulator.cells import CellArray
from rramhil_drivers.emulator.chipfile import ChipFile, PulsedLaws, SetWidth
from rramhil_drivers.emulator.faults import FORMED, STUCK, STUCK_LRS, Purpose, tile_generator
from rramhil_drivers.emulator.fluctuation import Fluctuation, hash_key, uniforms, uniforms_of
from rramhil_drivers.emulator.noise import Noise, exponentials_of, lanes, normals_of
from rramhil_drivers.emulator.physics import (
    F32,
    LevelTable,
    ResetCell,
    ResetDraws,
    SetCell,
    as_f32,
    form_result,
    forming_volts,
    hrs_landing,
    ln_scales,
    lopsided_of,
    normals,
    reset_drive,
    reset_target,
    scales,
    set_result,
    set_width,
)

Rows = NDArray[np.intp]
FIRST_DEATHS = 1e-4  # share of the cells that may be dead before their lives are looked up
CODES = 16  # fixed parameters are kept in 1/16 of their unit
LOST_CODES = 32  # volts lost, in 1/32 V
SCALE_CODES = 64  # the logarithm of a cell's scale in 1/64
BUILT_SIEMENS = 2e-6  # what a SET has built, in steps of 2 uS


def coded(values: NDArray[Any], codes: int) -> NDArray[np.int8]:
    """`values` in steps of 1/codes as int8; what lies further out is drawn to the end."""
    return np.asarray(np.clip(np.rint(values * codes), -127, 127), dtype=np.int8)


def decoded(values: NDArray[np.int8], codes: int) -> F32:
    """What `coded` was given, to within half a step."""
    return values * np.float32(1 / codes)


@cache
def lopsided_table(tail: float, upwards: float) -> F32:
    """What `lopsided_of` makes of each of the 65,536 numbers of `normals_of`."""
    return lopsided_of(normals_of(np.arange(65536, dtype=np.uint16)), tail, upwards)


class WriteTimes:
    """Times of writes by stamp, growing. Stamp 0: never written since birth, at rest.

    Each has a device time and an effective one (see `EffectiveTime`): arrays (2, stamps).
    """

    def __init__(self, seconds: NDArray[np.float64] | None = None) -> None:
        self._both = np.full((2, 1), -np.inf) if seconds is None else seconds.copy()
        self._count = int(self._both.shape[1])

    @property
    def both(self) -> NDArray[np.float64]:
        """Device and effective time of each stamp, (2, stamps)."""
        return np.asarray(self._both[:, : self._count])

    @property
    def device(self) -> NDArray[np.float64]:
        """Device time of each stamp."""
        return np.asarray(self.both[0])

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Effective time of each stamp."""
        return np.asarray(self.both[1])

    def stamp(self, now: float, effective: float) -> int:
        """The stamp of a write at device time `now`, the latest so far."""
        if self._both[0, self._count - 1] != now:
            if self._count == self._both.shape[1]:
                self._both = np.concatenate([self._both, np.zeros_like(self._both)], axis=1)
            self._both[:, self._count] = now, effective
            self._count += 1
        return self._count - 1


class PulsedCells(CellArray):
    """Cells that follow the fitted SET, RESET, FORM and relaxation laws of a chip file.

    A write is stamped with an index into `writes`, so that its time costs four bytes a
    cell and stays exact. Fixed parameters are small integers, one byte each: 31 bytes a cell.
    `built`: what the last SET had built, which a RESET has to overcome. `relax`: the draws of a
    write's relaxation, early and late, 16 random bits each.
    """

    def __init__(
        self, chip: ChipFile, laws: PulsedLaws, die: int, tiles: int, formed: bool
    ) -> None:
        super().__init__(chip, die, tiles)
        self.laws = laws
        self.formed = formed
        self.stamp = self._array("stamp", np.uint32)
        self.relax = self._array("relax", np.uint32)
        self.built = self._array("built", np.uint8)
        self.gate_z, self.scale, self.line_z, self.sl_z, self.hrs_shift, self.lost = (
            np.zeros(self.size, dtype=np.int8) for _ in range(6)
        )
        self.highest_z = np.zeros(self.size, dtype=np.int8)
        self.writes = WriteTimes()
        self._widths: dict[float, tuple[SetWidth, float]] = {}
        self.threshold = LevelTable(laws.reset.siemens, laws.reset.threshold_volts)
        self.fluctuation = Fluctuation(laws.noise)
        self.relaxation = RelaxationLaw(laws.relaxation)
        self.time = EffectiveTime()
        self.hop_law = laws.disturb
        self._life_key = hash_key(tile_generator(die, 0, Purpose.LIFE))
        endurance = laws.endurance
        self._first_death = first_to_die(endurance, FIRST_DEATHS) if endurance else np.inf
        self._most_resets = 0  # no cell has had more

    def draw_fixed(self, here: slice, rng: np.random.Generator) -> None:
        laws, n = self.laws, self.tile_cells
        self.scale[here] = coded(ln_scales(laws.set, n, rng), SCALE_CODES)
        self.gate_z[here] = coded(normals(rng, n), CODES)
        # Further out a bit line at the read voltage would begin to SET.
        self.line_z[here] = coded(np.clip(normals(rng, n), -2.5, 2.5), CODES)
        self.sl_z[here] = coded(normals(rng, n), CODES)
        hrs = laws.hrs
        self.hrs_shift[here] = coded(hrs.cell_sd * normals(rng, n), CODES)
        lost = np.maximum(hrs.hard_volts + hrs.hard_cell_sd_volts * normals(rng, n), 0)
        self.lost[here] = coded(lost * (rng.random(n) < hrs.hard_share), LOST_CODES)
        self.highest_z[here] = coded(normals(rng, n), CODES)

    def be_born(self, here: slice, rng: np.random.Generator) -> None:
        laws, n = self.laws, self.tile_cells
        if not self.formed:
            self.written[here] = laws.form.unformed_siemens
            return
        drive = laws.form.birth_reset_volts - decoded(self.lost[here], LOST_CODES)
        ln_shift = decoded(self.hrs_shift[here], CODES) + laws.hrs.cycle_sd * normals(rng, n)
        ln_shift = as_f32(ln_shift)
        self.written[here] = hrs_landing(laws.hrs, as_f32(drive), ln_shift)
        self.flags[here] |= FORMED

    def saved(self) -> dict[str, NDArray[Any]]:
        ageing = np.append(self.time.saved(), self.hops.left)
        return {**super().saved(), "write_times": self.writes.both, "ageing": ageing}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().restore(arrays)
        self.writes = WriteTimes(arrays["write_times"])
        self.time.restore(arrays["ageing"][:3])
        self.hops.left = int(arrays["ageing"][3])
        self._most_resets = int(self.counts[Kind.RESET].max())

    # ------------------------------------------------------------------------- reading

    def conductance(self, cells: Cells, now: float) -> F32:
        return self._seen(cells, now)[0]

    def _seen(self, cells: Cells, now: float) -> tuple[F32, Rows]:
        """Conductance of `cells`, and their rows in the table of the relaxation."""
        g, stamp = self.written.take(cells), self.stamp.take(cells)
        youngest = stamp.min(initial=1)
        if not youngest and not stamp.any():
            return g, np.zeros(cells.size, dtype=np.intp)
        rows = self._rows(stamp, self.time.at(now))
        self._relax(g, cells, rows)
        lowest, highest = self.laws.hrs.lowest_siemens, self.laws.set.limit_siemens
        if youngest:
            return np.clip(g, lowest, highest, out=g), rows
        written = np.flatnonzero(stamp)
        g[written] = np.clip(g.take(written), lowest, highest)
        return g, rows

    def _rows(self, stamp: NDArray[np.uint32], effective: float) -> Rows:
        """Rows of cells with those stamps; 0 for cells at rest since birth."""
        times = self.writes.seconds
        if times.size > stamp.size:
            return self.relaxation.rows(self._ages(times.take(stamp), effective))
        return self.relaxation.rows(self._ages(times, effective)).take(stamp)

    def _relax(self, g: F32, cells: Cells, rows: Rows) -> None:
        """Add to `g`, as written, what `cells` have relaxed by; in row 0 that is nothing."""
        aged = np.count_nonzero(rows)
        if 2 * aged >= rows.size:
            g += self.relaxation.change(g, self._draws(cells), rows)
        elif aged:
            here = np.flatnonzero(rows)
            old, which = g.take(here), cells.take(here)
            old += self.relaxation.change(old, self._draws(which), rows.take(here))
            g[here] = old

    def _draws(self, cells: Cells) -> tuple[F32, F32]:
        """The draws of the relaxation of `cells`, standard normal: early and late."""
        words = self.relax.take(cells).view(np.uint16)
        return normals_of(words[0::2]), normals_of(words[1::2])

    def look(self, cells: Cells, now: float, noise: Noise) -> F32:
        g = self.conductance(cells, now)
        return self.fluctuation.look(cells, g, now, self.trap_key, noise.read)

    def heat(self, kelvin: float, now: float) -> None:
        law = self.laws.retention
        if law is not None:
            self.time.run_at(ageing_rate(law, kelvin), now)

    def expected(self, cells: Cells, now: float) -> tuple[F32, F32]:
        g = self.conductance(cells, now)
        return g, self.fluctuation.variance(g)

    def last_write(self, tile: int) -> float:
        here = slice(tile * self.tile_cells, (tile + 1) * self.tile_cells)
        return float(self.writes.device[self.stamp[here].max()])

    @staticmethod
    def _ages(times: NDArray[np.float64], now: float) -> NDArray[np.float64]:
        return np.where(np.isfinite(times), now - times, 0.0)

    def place(self, cells: Cells, siemens: F32, now: float, noise: Noise) -> None:
        """Cells that were just written to `siemens`, whatever it took: how a twin starts them."""
        self._write(cells, siemens, now, noise)

    # ------------------------------------------------------------------------- pulsing

    def pulse(self, pulse: Pulse, now: float, noise: Noise) -> None:
        assert pulse.gate_volts is not None  # or the die had refused it
        cells = pulse.cells
        self._wear_out(pulse)
        flags = self.flags.take(cells)
        g, rows = self._seen(cells, now)
        gate, volts = pulse.gate_volts.astype(np.float32), pulse.volts.astype(np.float32)
        if pulse.kind is Kind.RESET:
            after = self._reset(cells, g, gate, volts, pulse.seconds, noise)
        else:
            after = self._set(cells, g, gate, volts, pulse.seconds, flags, noise)
        change = after - g
        moved = change != 0
        usual = (flags & (STUCK | FORMED)) == FORMED
        if not usual.all():
            moved &= usual | (((flags & STUCK) == 0) & (change > 0))
        if pulse.kind is not Kind.RESET:
            higher = np.flatnonzero(moved & (change > 0))
            built = np.ceil(after.take(higher) * np.float32(1 / BUILT_SIEMENS))
            self.built[cells.take(higher)] = built.astype(np.uint8)
        write = np.abs(change, out=change) > self._least_write(pulse.kind, g)
        write &= moved
        anew = np.flatnonzero(write)
        self._write(cells.take(anew), after.take(anew), now, noise)
        small = np.flatnonzero(moved ^ write)
        if small.size:
            self._nudge(cells.take(small), g.take(small), after.take(small), rows.take(small))

    def _least_write(self, kind: Kind, g: F32) -> F32:
        """The change of `g` from which on a pulse is a write, with a relaxation of its own.

        Below it lies what a filament at rest fluctuates by, and for RESET what creep does.
        """
        least = self.fluctuation.total_sd(g)
        if kind is Kind.RESET:
            least = np.maximum(least, np.float32(self.laws.reset.creep) * g)
        return least

    def _set(
        self, cells: Cells, g: F32, gate: F32, volts: F32, seconds: float,
        flags: NDArray[np.uint8], noise: Noise,
    ) -> F32:  # fmt: skip
        law = self.laws.set
        at, times = self._width(seconds)
        pulse, line, *_ = lanes(noise.pulse, cells.size)
        cell = SetCell(
            self._worn(cells, decoded(self.gate_z.take(cells), CODES)),
            self._scales(cells),
            self._highest(cells),
            decoded(self.line_z.take(cells), CODES),
            lopsided_table(law.pulse_tail, law.pulse_upwards).take(pulse),
            normals_of(line),
        )
        after = set_result(law, at, g, gate, volts, cell, times)
        fresh = np.flatnonzero((flags & (FORMED | STUCK)) == 0)
        if fresh.size:
            ceiling = after[fresh]
            after[fresh] = g[fresh]
            ready = self._forms(cells[fresh], gate[fresh], volts[fresh])
            now_formed = fresh[ready]
            after[now_formed] = form_result(self.laws.form, ceiling[ready], noise.form)
            self.flags[cells[now_formed]] |= FORMED
        return after

    def _scales(self, cells: Cells) -> F32:
        """The factors on the overdrive that cells need until their next RESET."""
        ln_scale, resets = decoded(self.scale.take(cells), SCALE_CODES), self.counts[Kind.RESET]
        if not self.laws.set.fresh_share:
            return np.exp(ln_scale)
        drawn = uniforms_of(cells, resets[cells], self.trap_key)
        return scales(self.laws.set, ln_scale, drawn)

    def _highest(self, cells: Cells) -> F32 | np.float32:
        """The factors on the highest conductance of cells."""
        sd = np.float32(self.laws.set.highest_cell_sd)
        return np.exp(sd * decoded(self.highest_z.take(cells), CODES)) if sd else np.float32(1)

    def _worn(self, cells: Cells, shift: NDArray[Any]) -> NDArray[Any]:
        """The fixed `shift` of `cells`, widened by their use."""
        law = self.laws.endurance
        if law is None or not law.widening or self._most_resets <= law.onset:
            return shift
        resets = self.counts[Kind.RESET].take(cells)
        return shift * wear(law, resets) if resets.max() > law.onset else shift

    def use(self, kind: Kind, pulses: int) -> None:
        super().use(kind, pulses)
        self._most_resets = int(self.counts[Kind.RESET].max())

    def _wear_out(self, pulse: Pulse) -> None:
        """Cells whose RESETs have passed their life stick where they die."""
        law, cells = self.laws.endurance, pulse.cells
        self._most_resets += pulse.kind is Kind.RESET
        if law is None or self._most_resets <= self._first_death:
            return
        resets = self.counts[Kind.RESET].take(cells)
        old = cells[resets > self._first_death]
        if not old.size:
            return
        life = lives(law, uniforms(old, self._life_key))
        dead = old[(self.counts[Kind.RESET][old] > life) & ((self.flags[old] & STUCK) == 0)]
        self.flags[dead] |= STUCK_LRS
        self.written[dead] = stuck_at(law, uniforms(dead, self._life_key + 1))
        self.stamp[dead] = 0

    def _width(self, seconds: float) -> tuple[SetWidth, float]:
        """The gate ceiling at a pulse width, and how many pulses of it the pulse is worth.

        More than one beyond the widest fitted width, where FORM pulses may go.
        """
        if seconds not in self._widths:
            inside = min(seconds, self.laws.set.widths[-1].seconds)
            self._widths[seconds] = set_width(self.laws.set, inside), seconds / inside
        return self._widths[seconds]

    def _forms(self, cells: Cells, gate: F32, volts: F32) -> NDArray[np.bool_]:
        law = self.laws.form
        needed = np.empty(cells.size, dtype=np.float32)
        tiles = cells // self.tile_cells
        for tile in np.unique(tiles):
            rng = tile_generator(self.die, int(tile), Purpose.FORMING)
            here = tiles == tile
            needed[here] = forming_volts(law, self.tile_cells, rng)[cells[here] % self.tile_cells]
        return (volts >= needed) & (gate >= np.float32(law.gate_volts) - np.float32(1e-4))

    def _reset(
        self, cells: Cells, g: F32, gate: F32, volts: F32, seconds: float, noise: Noise
    ) -> F32:
        laws = self.laws
        if gate.size and (gate == gate[0]).all():
            gate = gate[:1]  # the same for all, as mostly
        drive = reset_drive(laws.reset, seconds, gate, volts)
        cell = ResetCell(
            self.built.take(cells) * np.float32(BUILT_SIEMENS),
            decoded(self.sl_z.take(cells), CODES) * np.float32(laws.reset.cell_sd),
            decoded(self.hrs_shift.take(cells), CODES),
            decoded(self.lost.take(cells), LOST_CODES),
        )
        pulse, cycle, share, _ = lanes(noise.pulse, cells.size)
        draws = ResetDraws(normals_of(pulse), normals_of(cycle), exponentials_of(share))
        return reset_target(laws.reset, laws.hrs, self.threshold, drive, g, cell, draws)

    def _write(self, cells: Cells, g: F32, now: float, noise: Noise) -> None:
        """Cells that moved: their new conductance, when, and how they will relax."""
        if not cells.size:
            return
        self.written[cells] = g
        self.stamp[cells] = self.writes.stamp(now, self.time.at(now))
        self.relax[cells] = noise.relax.bit_generator.random_raw(cells.size).astype(np.uint32)

    def _shift(self, cells: Cells, before: F32, after: F32, now: float) -> None:
        rows = self._rows(self.stamp.take(cells), self.time.at(now))
        self._nudge(cells, before, after, rows)

    def _nudge(self, cells: Cells, g: F32, after: F32, rows: Rows) -> None:
        """Changes too small to be a write: they add up, and the relaxation under way goes on.

        The relaxation depends on the level, so that far out in its tails a small step could turn
        round: there the cell stays where it is. `rows`: of the relaxation, now.
        """
        written = self.written.take(cells)
        moved = written + (after - g)
        self.written[cells] = moved
        aged = np.flatnonzero(rows)  # a cell that has not relaxed goes where it is sent
        if not aged.size:
            return
        which, now = cells.take(aged), moved.take(aged)
        self._relax(now, which, rows.take(aged))
        np.clip(now, self.laws.hrs.lowest_siemens, self.laws.set.limit_siemens, out=now)
        turned = aged[(now - g.take(aged)) * (after - g).take(aged) < 0]
        self.written[cells.take(turned)] = written.take(turned)
