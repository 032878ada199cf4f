"""Promises about pulses: limits, refusals, and what lands."""

from __future__ import annotations

import numpy as np

from rramhil.conformance.bench import (
    Bench,
    Broken,
    NotChecked,
    cells_for,
    changed,
    drive,
    inside,
    outside,
    refused,
)
from rramhil.device import NO_CELLS, Kind, Pulse, Range

SETTINGS = ("volts", "gate_volts", "limit_amps", "seconds")


def absent_kinds(bench: Bench) -> str:
    """a kind of pulse that the spec does not list is refused"""
    absent = [kind for kind in Kind if kind not in bench.spec.pulses]
    if not absent:
        raise NotChecked("the device does every kind")
    for kind in absent:
        refused(kind.name, bench.device.apply, Pulse(kind, NO_CELLS, 0.0, seconds=1e-6))
    return ", ".join(kind.name for kind in absent)


def no_pulse(bench: Bench) -> str:
    """a pulse on no cell is accepted and reaches none"""
    return bench.untouched(lambda kind: bench.device.apply(bench.pulse(kind, NO_CELLS)))


def limits_outside(bench: Bench) -> str:
    """a pulse just outside any limit, off its grid or not a number is refused, reaching no cell"""
    tried = 0

    def calls(kind: Kind) -> None:
        nonlocal tried
        for name in SETTINGS:
            limit = getattr(bench.spec.pulses[kind], name)
            for value in () if limit is None else outside(limit):
                pulse = changed(bench.pulse(kind, bench.scratch, 0.6), name, value)
                refused(f"{name} {value:g}, {kind.name}", bench.device.apply, pulse)
                tried += 1

    seen = bench.untouched(calls)
    return f"{tried} refused; {seen}"


def limits_inside(bench: Bench) -> str:
    """a pulse just inside each limit is accepted"""
    cells = bench.scratch_or_skip()[:1]
    tried = 0
    for kind, limits in bench.spec.pulses.items():
        for name in SETTINGS:
            limit: Range | None = getattr(limits, name)
            if limit is None:
                continue
            for part in (0.0, 1.0):
                hard = name == "volts" and part == 1.0 and limits.gate_volts is None
                if hard and not bench.spec.volatile:
                    continue
                edge = inside(limit, part)
                bench.device.apply(changed(bench.pulse(kind, cells), name, edge))
                tried += 1
    return f"{tried} edges, all else at its lowest"


def terminals(bench: Bench) -> str:
    """a gate voltage or current limit that is missing or that the chip lacks is refused"""

    def calls(kind: Kind) -> None:
        limits = bench.spec.pulses[kind]
        legal = bench.pulse(kind, bench.scratch, 0.6)
        gate = None if limits.gate_volts is not None else 0.0
        refused("gate", bench.device.apply, changed(legal, "gate_volts", gate))
        if limits.limit_amps is None:
            refused("limit", bench.device.apply, changed(legal, "limit_amps", 1e-6))

    return bench.untouched(calls)


def pulse_addresses(bench: Bench) -> str:
    """a pulse that names a cell twice, or one that does not exist, is refused as a whole"""

    def calls(kind: Kind) -> None:
        for extra in (int(bench.scratch[0]), bench.spec.size, -1):
            pulse = bench.pulse(kind, np.append(bench.scratch, extra), 0.6)
            refused(f"cell {extra}, {kind.name}", bench.device.apply, pulse)

    return bench.untouched(calls)


def atomic(bench: Bench) -> str:
    """one forbidden cell among many: none is pulsed"""

    def calls(kind: Kind) -> None:
        legal = bench.pulse(kind, bench.scratch, 0.6)
        volts = legal.volts.copy()
        volts[-1] = outside(bench.spec.pulses[kind].volts)[1]
        refused(f"the last cell's {kind.name}", bench.device.apply, changed(legal, "volts", volts))

    return bench.untouched(calls)


def set_raises(bench: Bench) -> str:
    """SET raises conductance on average"""
    cells = cells_for(bench, Kind.SET)
    if Kind.RESET in bench.spec.pulses:
        bench.device.apply(bench.pulse(Kind.RESET, cells, 0.8))
    return drive(bench, Kind.SET, cells)


def reset_lowers(bench: Bench) -> str:
    """RESET lowers conductance on average"""
    cells = cells_for(bench, Kind.RESET)
    if Kind.SET in bench.spec.pulses:
        bench.device.apply(bench.pulse(Kind.SET, cells, 0.6))
    return drive(bench, Kind.RESET, cells)


def exactly_once(bench: Bench) -> str:
    """apply() pulses each of its cells exactly once, and no other"""
    cells = bench.scratch_or_skip()
    before = bench.counts()
    if before is None:
        raise NotChecked("the driver does not tell what the chip counts")
    kinds = [kind for kind in bench.spec.pulses if kind is not Kind.FORM]
    for kind in kinds:
        bench.device.apply(bench.pulse(kind, cells[::-1]))
    after = bench.counts()
    assert after is not None
    grown = (after - before).sum(axis=0)
    expected = np.zeros_like(grown)
    expected[cells] = len(kinds)
    if (grown != expected).any():
        raise Broken(f"the counts of {int((grown != expected).sum())} cells are wrong")
    return "from the chip's own counters"
