"""Pulse-level 1T1R cells: the laws of `physics` on the state of a die."""

from __future__ import annotations

from collections.abc import Mapping
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
from rramhil_drivers.emulator.fluctuation import Fluctuation, hash_key, uniforms
from rramhil_drivers.emulator.noise import Noise
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
    lopsided,
    normals,
    reset_drive,
    reset_target,
    set_result,
    set_width,
)

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
    cell and stays exact. Fixed parameters are small integers, one byte each: 30 bytes a cell.
    `built`: what the last SET had built, which a RESET has to overcome.
    """

    def __init__(
        self, chip: ChipFile, laws: PulsedLaws, die: int, tiles: int, formed: bool
    ) -> None:
        super().__init__(chip, die, tiles)
        self.laws = laws
        self.formed = formed
        self.stamp = self._array("stamp", np.uint32)
        self.early = self._array("early", np.float16)
        self.late = self._array("late", np.float16)
        self.built = self._array("built", np.uint8)
        self.gate_z, self.scale, self.line_z, self.sl_z, self.hrs_shift, self.lost = (
            np.zeros(self.size, dtype=np.int8) for _ in range(6)
        )
        self.writes = WriteTimes()
        self._widths: dict[float, SetWidth] = {}
        self.threshold = LevelTable(laws.reset.siemens, laws.reset.threshold_volts)
        self.fluctuation = Fluctuation(laws.noise)
        self.relaxation = RelaxationLaw(laws.relaxation)
        self.time = EffectiveTime()
        self.hop_law = laws.disturb
        self._life_key = hash_key(tile_generator(die, 0, Purpose.LIFE))

    def draw_fixed(self, here: slice, rng: np.random.Generator) -> None:
        laws, n = self.laws, self.tile_cells
        weak = rng.random(n) < laws.set.weak_share
        spread = np.where(weak, laws.set.weak_cell_sd, laws.set.scale_cell_sd)
        ln_scale = spread * normals(rng, n) + laws.set.weak_ln_scale * weak
        self.scale[here] = coded(ln_scale, SCALE_CODES)
        self.gate_z[here] = coded(normals(rng, n), CODES)
        # Further out a bit line at the read voltage would begin to SET.
        self.line_z[here] = coded(np.clip(normals(rng, n), -2.5, 2.5), CODES)
        self.sl_z[here] = coded(normals(rng, n), CODES)
        hrs = laws.hrs
        self.hrs_shift[here] = coded(hrs.cell_sd * normals(rng, n), CODES)
        lost = np.maximum(hrs.hard_volts + hrs.hard_cell_sd_volts * normals(rng, n), 0)
        self.lost[here] = coded(lost * (rng.random(n) < hrs.hard_share), LOST_CODES)

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

    # ------------------------------------------------------------------------- reading

    def conductance(self, cells: Cells, now: float) -> F32:
        g = self.written[cells]
        stamp = self.stamp[cells]
        if not stamp.any():
            return g
        times, effective = self.writes.seconds, self.time.at(now)
        if times.size <= cells.size:
            rows = self.relaxation.rows(self._ages(times, effective))[stamp]
        else:
            rows = self.relaxation.rows(self._ages(times[stamp], effective))
        aged = np.flatnonzero(rows)  # in row 0 nothing has changed yet
        if aged.size:
            old, which = (g, cells) if aged.size == g.size else (g[aged], cells[aged])
            z = (self.early[which].astype(np.float32), self.late[which].astype(np.float32))
            g[aged] += self.relaxation.change(old, z, rows[aged])
        lowest, highest = self.laws.hrs.lowest_siemens, self.laws.set.limit_siemens
        if stamp.min() > 0:
            return np.clip(g, lowest, highest, out=g)
        written = np.flatnonzero(stamp)
        g[written] = np.clip(g[written], lowest, highest)
        return g

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
        cells = pulse.cells
        self._wear_out(cells)
        flags = self.flags[cells]
        g = self.conductance(cells, now)
        gate = np.asarray(pulse.gate_volts, dtype=np.float32)
        volts = pulse.volts.astype(np.float32)
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
            built = np.ceil(after[higher] * np.float32(1 / BUILT_SIEMENS))
            self.built[cells[higher]] = built.astype(np.uint8)
        write = np.abs(change) > self._least_write(pulse.kind, g)
        anew = np.flatnonzero(moved & write)
        self._write(cells[anew], after[anew], now, noise)
        small = np.flatnonzero(moved & ~write)
        self._shift(cells[small], g[small], after[small], now)

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
        at = self._width(seconds)
        cell = SetCell(
            self._worn(cells, decoded(self.gate_z[cells], CODES)),
            np.exp(decoded(self.scale[cells], SCALE_CODES)),
            decoded(self.line_z[cells], CODES),
            lopsided(noise.pulse, cells.size, law.pulse_tail, law.pulse_upwards),
            normals(noise.line, cells.size),
        )
        after = set_result(law, at, g, gate, volts, cell)
        fresh = np.flatnonzero((flags & (FORMED | STUCK)) == 0)
        if fresh.size:
            ceiling = after[fresh]
            after[fresh] = g[fresh]
            ready = self._forms(cells[fresh], gate[fresh], volts[fresh])
            now_formed = fresh[ready]
            after[now_formed] = form_result(self.laws.form, ceiling[ready], noise.form)
            self.flags[cells[now_formed]] |= FORMED
        return after

    def _worn(self, cells: Cells, shift: NDArray[Any]) -> NDArray[Any]:
        """The fixed `shift` of `cells`, widened by their use."""
        law = self.laws.endurance
        if law is None or not law.widening:
            return shift
        resets = self.counts[Kind.RESET][cells]
        return shift * wear(law, resets) if resets.max() > law.onset else shift

    def _wear_out(self, cells: Cells) -> None:
        """Cells whose RESETs have passed their life stick where they die."""
        law = self.laws.endurance
        if law is None:
            return
        resets = self.counts[Kind.RESET][cells]
        old = cells[resets > first_to_die(law, FIRST_DEATHS)]
        if not old.size:
            return
        life = lives(law, uniforms(old, self._life_key))
        dead = old[(self.counts[Kind.RESET][old] > life) & ((self.flags[old] & STUCK) == 0)]
        self.flags[dead] |= STUCK_LRS
        self.written[dead] = stuck_at(law, uniforms(dead, self._life_key + 1))
        self.stamp[dead] = 0

    def _width(self, seconds: float) -> SetWidth:
        """The gate ceiling at a pulse width; a width outside the fitted ones is drawn to them."""
        if seconds not in self._widths:
            widths = self.laws.set.widths
            inside = min(max(seconds, widths[0].seconds), widths[-1].seconds)
            self._widths[seconds] = set_width(self.laws.set, inside)
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
        drive = reset_drive(laws.reset, seconds, gate, volts)
        cell = ResetCell(
            self.built[cells] * np.float32(BUILT_SIEMENS),
            decoded(self.sl_z[cells], CODES) * np.float32(laws.reset.cell_sd),
            decoded(self.hrs_shift[cells], CODES),
            decoded(self.lost[cells], LOST_CODES),
        )
        draws = ResetDraws(noise.pulse, noise.cycle, noise.share)
        return reset_target(laws.reset, laws.hrs, self.threshold, drive, g, cell, draws)

    def _write(self, cells: Cells, g: F32, now: float, noise: Noise) -> None:
        """Cells that moved: their new conductance, when, and how they will relax."""
        if not cells.size:
            return
        self.written[cells] = g
        self.stamp[cells] = self.writes.stamp(now, self.time.at(now))
        self.early[cells] = normals(noise.early, cells.size)
        self.late[cells] = normals(noise.late, cells.size)

    def _shift(self, cells: Cells, g: F32, after: F32, now: float) -> None:
        """Changes too small to be a write: they add up, and the relaxation under way goes on.

        The relaxation depends on the level, so that far out in its tails a small step could turn
        round: there the cell stays where it is.
        """
        if not cells.size:
            return
        written = self.written[cells]
        self.written[cells] = written + (after - g)
        turned = (self.conductance(cells, now) - g) * (after - g) < 0
        self.written[cells[turned]] = written[turned]
