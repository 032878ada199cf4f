"""The contract between rramhil and any resistive memory array.

Two methods make a driver: `Device.read` and `Device.apply`. Everything else refuses by
default, so a driver of forty lines is complete, and whatever a chip can do beyond that is
announced by its `Spec` (a capability *is* its limits: no `Kind.FORM` key, no forming;
`mvm` is None, no product).

Words: a *cell* is one 1T1R (or two-terminal) device; a *tile* is one macro of `rows` x
`cols` cells; a *die* is one chip, known by its serial. Conductance is in siemens. A row is
a word line (WL, the gate of the select transistor). SET raises conductance with a voltage
on the bit line (BL), RESET lowers it with a voltage on the source line (SL), FORM happens
once in a cell's life.

Errors answer one question: did it land?

    DeviceError
     +-- Refused       nothing reached the array (a limit, a closed device, no such capability)
     +-- LinkLost      the link broke: the cells in `maybe` were possibly pulsed
     +-- DeviceFault   the device reports a failure of its own: likewise, `maybe`

    apply() returned             every cell of the pulse was pulsed exactly once
    apply() raised Refused       no cell was pulsed
    apply() raised anything else read the cells in `maybe` before you trust them
    read() gave NaN or inf       data about a cell, not an error: a bad cell is data
    wrong shape or type          ValueError, before anything is sent
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.clock import Clock as Clock
from rramhil.clock import WallClock as WallClock
from rramhil.limits import GRID_SLACK
from rramhil.limits import KnobLimits as KnobLimits
from rramhil.limits import MvmLimits as MvmLimits
from rramhil.limits import ProgramLimits as ProgramLimits
from rramhil.limits import PulseLimits as PulseLimits
from rramhil.limits import Range as Range
from rramhil.limits import ReadLimits as ReadLimits
from rramhil.words import nearest

Cells = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_CELLS: Cells = np.empty(0, dtype=np.int64)
NO_CELLS.setflags(write=False)


class Kind(Enum):
    """What a pulse is meant to do. SET and FORM drive the bit line, RESET the source line."""

    SET = "set"
    RESET = "reset"
    FORM = "form"


# --------------------------------------------------------------------------- errors


class DeviceError(Exception):
    """Something went wrong at a device. `maybe` names the cells possibly pulsed."""

    def __init__(self, message: str, maybe: ArrayLike = NO_CELLS) -> None:
        super().__init__(message)
        self.maybe: Cells = np.asarray(maybe, dtype=np.int64).reshape(-1)


class Refused(DeviceError):
    """Nothing reached the array. The message names the value, the limit and whose limit it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class LinkLost(DeviceError):
    """The link to the device broke, or was closed under a pending call."""


class DeviceFault(DeviceError):
    """The device answered that it failed; it is not known which cells it pulsed."""


# --------------------------------------------------------------------------- the spec


@dataclass(frozen=True, slots=True)
class Spec:
    """What a die is and what it allows. Final once a device is connected.

    `volatile`: the array dies with this process (an in-process emulator): nothing needs an fsync,
    the die is rebuilt from its ledger. `newborn`: this silicon starts its life now; earlier lives
    under the same serial do not count. `home`: the folder that keeps a volatile die between runs
    (its ledger and saved states); empty: the user's data folder. `barred`: flat indices of cells
    that the station never lets be pulsed, ascending.
    """

    model: str
    serial: str
    tiles: int
    rows: int
    cols: int
    reading: ReadLimits
    pulses: Mapping[Kind, PulseLimits]
    mvm: MvmLimits | None = None
    program: ProgramLimits | None = None
    knobs: Mapping[str, KnobLimits] = field(default_factory=lambda: MappingProxyType({}))
    volatile: bool = False
    newborn: bool = False
    home: str = ""
    barred: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of cells of the die."""
        return self.tiles * self.rows * self.cols

    def cells(self, tile: ArrayLike, row: ArrayLike, col: ArrayLike) -> Cells:
        """Flat indices of (tile, row, column), broadcast and flattened. Raises `Refused`."""
        parts = np.broadcast_arrays(tile, row, col)
        shape = (self.tiles, self.rows, self.cols)
        for name, part, bound in zip(("tile", "row", "column"), parts, shape, strict=True):
            if part.size and (part.min() < 0 or part.max() >= bound):
                worst = int(part.max()) if part.max() >= bound else int(part.min())
                raise Refused(f"{name} {worst} does not exist: {self.serial} has {bound} of them")
        flat = np.ravel_multi_index(tuple(p.astype(np.int64) for p in parts), shape)
        return np.asarray(flat, dtype=np.int64).reshape(-1)

    def where(self, cells: ArrayLike) -> tuple[Ints, Ints, Ints]:
        """(tile, row, column) of flat indices: the inverse of `cells`."""
        shape = (self.tiles, self.rows, self.cols)
        tile, row, col = np.unravel_index(np.asarray(cells, dtype=np.int64), shape)
        return tile, row, col

    def name_cell(self, cell: int) -> str:
        """A cell as people say it: 'tile 0 row 12 column 7'."""
        tile, row, col = self.where(np.array([cell]))
        return f"tile {tile[0]} row {row[0]} column {col[0]}"

    def check_cells(self, cells: ArrayLike) -> Cells:
        """`cells` as int64, or ValueError (shape, type), or `Refused` (address, repeated)."""
        flat = np.asarray(cells)
        if flat.ndim != 1 or not (flat.dtype.kind in "iu" or flat.size == 0):
            raise ValueError(
                f"cells must be a one-dimensional array of integers, not {flat.dtype} of shape "
                f"{flat.shape}; spec.cells(tile, row, column) makes one"
            )
        flat = flat.astype(np.int64, copy=False)
        rising = bool((flat[1:] > flat[:-1]).all())
        if flat.size == 0 or (rising and flat[0] >= 0 and flat[-1] < self.size):
            return flat
        if flat.min() < 0 or flat.max() >= self.size:
            worst = int(flat.max()) if flat.max() >= self.size else int(flat.min())
            raise Refused(
                f"cell {worst} does not exist: {self.serial} has cells 0 to {self.size - 1} "
                f"({self.tiles} x {self.rows} x {self.cols})"
            )
        low = int(flat.min())
        counts = np.bincount(flat - low)
        if counts.max() > 1:
            twice = low + int(np.argmax(counts > 1))
            raise Refused(f"cell {twice} is named twice in one call; name each cell once")
        return flat

    def check_pulse(self, pulse: Pulse) -> None:
        """Refuse a pulse that this die does not allow. Called before the first cell."""
        limits = self.pulses.get(pulse.kind)
        if limits is None:
            can = ", ".join(k.name for k in self.pulses) or "no pulses at all"
            raise Refused(f"{self.model} does no {pulse.kind.name}; it does {can}")
        self.check_cells(pulse.cells)
        line = "SL" if pulse.kind is Kind.RESET else "BL"
        whose = f"the limits of {self.model} for {pulse.kind.name}"
        _check_range(f"{line} voltage", pulse.volts, limits.volts, "V", whose)
        _check_range("pulse width", pulse.seconds, limits.seconds, "s", whose)
        for name, values, limit, unit in (
            ("gate voltage", pulse.gate_volts, limits.gate_volts, "V"),
            ("current limit", pulse.limit_amps, limits.limit_amps, "A"),
        ):
            if values is not None and limit is None:
                raise Refused(f"{self.model} has no {name} for {pulse.kind.name}; leave it None")
            if values is None and limit is not None and name == "gate voltage":
                raise Refused(f"{self.model} needs a {name} for {pulse.kind.name}; give one a cell")
            if values is not None and limit is not None:
                _check_range(name, values, limit, unit, whose)

    def check_inputs(self, tile: int, inputs: ArrayLike) -> NDArray[np.int64]:
        """Input codes of a product as int64 (batch, rows), or ValueError, or `Refused`."""
        if self.mvm is None:
            raise Refused(f"{self.model} computes no product; use conductances from read()")
        if not 0 <= tile < self.tiles:
            raise Refused(f"tile {tile} does not exist: {self.serial} has {self.tiles} of them")
        codes = np.asarray(inputs)
        if codes.ndim != 2 or codes.shape[1] != self.rows or codes.dtype.kind not in "iu":
            raise ValueError(
                f"inputs must be integers of shape (batch, {self.rows}), "
                f"not {codes.dtype} of shape {codes.shape}"
            )
        highest = 2**self.mvm.input_bits - 1
        if codes.size and (codes.min() < 0 or codes.max() > highest):
            raise Refused(
                f"input codes run from {codes.min()} to {codes.max()}; "
                f"{self.model} takes 0 to {highest} ({self.mvm.input_bits} bits, unsigned)"
            )
        return codes.astype(np.int64, copy=False)

    def check_windows(self, cells: Cells, low: ArrayLike, high: ArrayLike) -> tuple[Ints, Ints]:
        """Windows of a write-verify as the lowest and highest reading in each, in lsb, a cell.

        A reading k lsb lies in low..high siemens exactly when ceil(low / lsb) <= k <= floor(high /
        lsb); an end on the grid is inside, also as the float32 of a reading. Raises ValueError
        (shape) or `Refused`: not a number, upside down, no reading inside, more distinct windows
        than the chip holds.
        """
        lows, highs = (np.asarray(end, dtype=np.float64) for end in (low, high))
        for name, end in (("low", lows), ("high", highs)):
            if end.ndim and end.shape != cells.shape:
                raise ValueError(f"{name} has shape {end.shape}, for {cells.size} cells")
            if np.isnan(end).any():
                raise Refused(f"a window's {name} end is not a number; give siemens")
        lows, highs = (np.broadcast_to(end, cells.shape) for end in (lows, highs))
        if not bool(np.all(lows <= highs)):
            raise Refused("a window's low end lies above its high end; swap them")
        lsb, top = self.reading.lsb, round(self.reading.highest / self.reading.lsb)
        first = np.ceil(np.clip(lows / lsb - GRID_SLACK, 0, top + 1)).astype(np.int64)
        last = np.floor(np.clip(highs / lsb + GRID_SLACK, -1, top)).astype(np.int64)
        if bool(np.any(first > last)):
            at = int(np.argmax(first > last))
            raise Refused(
                f"no reading of {self.model} lies in {lows[at]:g} to {highs[at]:g} S; it reads up "
                f"to {self.reading.highest:g} S in steps of {lsb:g} S"
            )
        windows = len(np.unique(np.stack([first, last]), axis=1).T)
        if self.program is not None and windows > self.program.levels:
            raise Refused(
                f"{windows} distinct windows in one call, but {self.model} holds "
                f"{self.program.levels}; program fewer levels at a time"
            )
        return first, last

    def check_knob(self, knob: str, values: ArrayLike) -> NDArray[np.float64]:
        """Values of a knob as float64 (its size,), or ValueError (how many), or `Refused`."""
        limits = self.knobs.get(knob)
        if limits is None:
            known = nearest(knob, self.knobs) or "; it has none"
            raise Refused(f"{self.model} has no knob {knob!r}{known}")
        floats = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if floats.shape != (limits.size,):
            raise ValueError(
                f"knob {knob!r} takes {limits.size} values, not an array of shape {floats.shape}"
            )
        bad = limits.range.first_outside(floats)
        if bad is not None:
            raise Refused(
                f"{knob} {bad:.6g} is not within {limits.range.low:g} to {limits.range.high:g} in "
                f"steps of {limits.range.step:g} (the limits of {self.model})"
            )
        return floats


def _check_range(name: str, values: ArrayLike, limit: Range, unit: str, whose: str) -> None:
    bad = limit.first_outside(values)
    if bad is None:
        return
    if limit.low <= bad <= limit.high:
        raise Refused(
            f"{name} {bad:.6g} {unit} is not on the grid of {limit.step:g} {unit} ({whose}); "
            "round it with Range.snap()"
        )
    raise Refused(
        f"{name} {bad:.6g} {unit} is outside {limit.low:g} to {limit.high:g} {unit} ({whose})"
    )


# --------------------------------------------------------------------------- calls


@dataclass(frozen=True, slots=True, eq=False)
class Pulse:
    """One pulse on each of `cells`, all of one kind and width.

    `cells`: int64 flat index (tile, row, column), row-major, each at most once. `volts`: a
    cell, on BL for SET and FORM, on SL for RESET. `gate_volts`: a cell, on WL; None on a
    two-terminal array. `limit_amps`: current compliance where the hardware has one
    (quasi-DC: it does not bound a fast SET). A single number is taken for every cell.
    Raises ValueError on wrong shapes.
    """

    kind: Kind
    cells: Cells
    volts: Floats
    gate_volts: Floats | None
    limit_amps: Floats | None
    seconds: float

    def __init__(
        self,
        kind: Kind,
        cells: ArrayLike,
        volts: ArrayLike,
        gate_volts: ArrayLike | None = None,
        *,
        seconds: float,
        limit_amps: ArrayLike | None = None,
    ) -> None:
        flat = np.asarray(cells)
        if flat.ndim != 1 or not (flat.dtype.kind in "iu" or flat.size == 0):
            raise ValueError(f"cells must be a one-dimensional array of integers, not {flat.shape}")
        put = object.__setattr__
        put(self, "kind", Kind(kind))
        put(self, "cells", flat.astype(np.int64, copy=False))
        put(self, "volts", _per_cell("volts", volts, flat.size))
        gate = None if gate_volts is None else _per_cell("gate_volts", gate_volts, flat.size)
        put(self, "gate_volts", gate)
        limit = None if limit_amps is None else _per_cell("limit_amps", limit_amps, flat.size)
        put(self, "limit_amps", limit)
        put(self, "seconds", float(seconds))

    def __len__(self) -> int:
        return int(self.cells.size)

    def take(self, which: NDArray[Any] | slice) -> Pulse:
        """The same pulse on some of its cells (an index array, mask or slice)."""
        return Pulse(
            self.kind,
            self.cells[which],
            self.volts[which],
            None if self.gate_volts is None else self.gate_volts[which],
            seconds=self.seconds,
            limit_amps=None if self.limit_amps is None else self.limit_amps[which],
        )


def _per_cell(name: str, values: ArrayLike, count: int) -> NDArray[np.float64]:
    floats = np.asarray(values, dtype=np.float64)
    if floats.ndim == 0:
        return np.full(count, floats)
    if floats.shape != (count,):
        raise ValueError(f"{name} has shape {floats.shape}, but there are {count} cells")
    return floats


@dataclass(frozen=True, slots=True, eq=False)
class Programmed:
    """What device-side write-verify did, a cell: last siemens, success, and its pulses."""

    siemens: Floats
    ok: Bools
    sets: Ints
    resets: Ints
    reads: Ints


@dataclass(frozen=True, slots=True)
class Outputs:
    """What became of `Device.abort`. `off`: the device, or its driver, said that its outputs are
    off; False: it could not be asked, so its own watchdog has to see to it. `said`: in its words.
    `seconds`: from the request to that answer, by the clock of whoever asked."""

    off: bool
    said: str
    seconds: float = 0.0


class Device(ABC):
    """A die that can be read and pulsed. Use it in a `with` block: leaving it closes it."""

    spec: Spec
    clock: Clock

    @abstractmethod
    def read(self, cells: ArrayLike) -> Floats:
        """Conductances in siemens, float32 multiples of the lsb, shape of `cells`.

        0 below the range, inf above it or in compliance, NaN where there was no answer.
        """

    @abstractmethod
    def apply(self, pulse: Pulse) -> None:
        """Apply `pulse`. All limits are checked before the first cell; on return each cell
        has been pulsed exactly once."""

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        """In-situ product: (batch, rows) input codes -> (batch, cols) sums of converter codes."""
        raise Refused(f"{self.spec.model} computes no product; use conductances from read()")

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        """Device-side write-verify of `cells` into the windows `low`..`high` siemens."""
        raise Refused(f"{self.spec.model} has no write-verify of its own; use rramhil.verify")

    def adjust(self, knob: str, values: ArrayLike) -> None:
        """Set a knob of the periphery named in `spec.knobs`."""
        self.spec.check_knob(knob, values)
        raise Refused(f"the driver of {self.spec.model} sets no knobs; leave {knob!r} alone")

    def freeze(self) -> bytes:
        """The whole state of a volatile die, to be given to `thaw` of a new process."""
        raise Refused(f"{self.spec.model} keeps its own state; only a volatile die is frozen")

    def thaw(self, state: bytes) -> None:
        """Take on a state that `freeze` gave."""
        raise Refused(f"{self.spec.model} keeps its own state; only a volatile die is thawed")

    def abort(self) -> Outputs:
        """Outputs off now, from any thread: a pending call ends as by `close`, later ones are
        refused. A driver whose `close` is not the quickest way has its own. Callable twice; what
        could not be done is in the answer, no `DeviceError`. `close` is still due."""
        try:
            self.close()
        except DeviceError as error:
            return Outputs(False, str(error))
        return Outputs(True, "its driver closed it")

    def close(self) -> None:  # noqa: B027  a driver without outputs has nothing to do
        """Outputs safe. Callable twice and from another thread (a pending call raises LinkLost)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# --------------------------------------------------------------------------- drivers


@dataclass(frozen=True, slots=True)
class Address:
    """A device address taken apart: `scheme:path?option=value&option=value`."""

    scheme: str
    path: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        query = "&".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.scheme}:{self.path}" + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver package announces under the entry-point group `rramhil.drivers`.

    Importing the module that holds this record must not import the driver itself: `open`
    does that when it is called. `options`: each address option and its meaning; any other is
    refused before `open` is called. `faults`: options that tests may ask for (of an emulated die).
    `volatile`: its devices end with the process that opens them, and need none of their own.
    """

    summary: str
    example: str
    open: Callable[[Address], Device]
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    faults: frozenset[str] = frozenset()
    scan: Callable[[], Sequence[str]] | None = None
    volatile: bool = False
