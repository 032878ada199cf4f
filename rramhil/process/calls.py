"""What a host may ask of its device process, as a table: a name, and what is done for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rramhil.conformance.bench import bare
from rramhil.device import Kind, Programmed, Pulse, Refused
from rramhil.journal import Journal
from rramhil.process.messages import Array

Arrays = Mapping[str, Array]
Answer = tuple[dict[str, Any], Arrays]


def _read(device: Journal, _: Mapping[str, Any], arrays: Arrays) -> Answer:
    return {}, {"siemens": device.read(arrays["cells"])}


def _apply(device: Journal, values: Mapping[str, Any], arrays: Arrays) -> Answer:
    device.apply(
        Pulse(
            Kind(values["kind"]),
            arrays["cells"],
            arrays["volts"],
            arrays.get("gate_volts"),
            seconds=values["seconds"],
            limit_amps=arrays.get("limit_amps"),
        )
    )
    return {}, {}


def _mvm(device: Journal, values: Mapping[str, Any], arrays: Arrays) -> Answer:
    return {}, {"sums": device.mvm(values["tile"], arrays["inputs"])}


def _program(device: Journal, _: Mapping[str, Any], arrays: Arrays) -> Answer:
    done = device.program(arrays["cells"], arrays["low"], arrays["high"])
    return {}, {name: getattr(done, name) for name in Programmed.__slots__}


def _adjust(device: Journal, values: Mapping[str, Any], arrays: Arrays) -> Answer:
    device.adjust(values["knob"], arrays["values"])
    return {}, {}


def _sleep(device: Journal, values: Mapping[str, Any], _: Arrays) -> Answer:
    device.clock.sleep(values["seconds"])
    return {}, {}


def _flush(device: Journal, _: Mapping[str, Any], __: Arrays) -> Answer:
    device.ledger.flush()
    return {}, {}


def _counts(device: Journal, values: Mapping[str, Any], _: Arrays) -> Answer:
    """What the chip counted, where a driver tells (`rramhil.conformance.bench`)."""
    counted = getattr(bare(device), "pulses_counted", None)
    if counted is None:
        raise Refused(f"{device.spec.model} does not tell its pulses")
    return {}, {"counts": np.asarray(counted(Kind(values["kind"])), np.int64)}


CALLS: dict[str, Callable[[Journal, Mapping[str, Any], Arrays], Answer]] = {
    "read": _read,
    "apply": _apply,
    "mvm": _mvm,
    "program": _program,
    "adjust": _adjust,
    "sleep": _sleep,
    "flush": _flush,
    "counts": _counts,
    "now": lambda device, _, __: ({"seconds": device.clock.now()}, {}),
    "settle": lambda device, _, __: ({}, {"cells": device.settle()}),
    "checkpoint": lambda device, _, __: ({"row": device.checkpoint()}, {}),
    "freeze": lambda device, _, __: ({}, {"state": np.frombuffer(device.freeze(), np.uint8)}),
    "finish": lambda device, v, _: ({"row": device.finish(v["outcome"], v["data"])}, {}),
    "note": lambda device, v, _: ({"row": device.ledger.note(v["event"], v["data"])}, {}),
}
"""What a host may ask, by name: the device, values and arrays in; values and arrays out."""
