"""Promises about products, write-verify, knobs, saved states, and closing."""

from __future__ import annotations

import threading

import numpy as np

from rramhil.conformance.bench import (
    Bench,
    Broken,
    NotChecked,
    outside,
    refused,
    value_error,
)
from rramhil.device import NO_CELLS, LinkLost, Refused


def product(bench: Bench) -> str:
    """mvm() gives whole codes of shape (batch, columns) that grow with the input, or is refused"""
    spec = bench.spec
    limits = spec.mvm
    if limits is None:
        refused("a product", bench.device.mvm, 0, np.zeros((1, spec.rows), dtype=np.int64))
        return "refused: the spec lists no product"
    highest = 2**limits.input_bits - 1
    inputs = np.array([[0], [highest]], dtype=np.int64) * np.ones((1, spec.rows), dtype=np.int64)
    sums = bench.device.mvm(0, inputs)
    if sums.shape != (2, spec.cols) or sums.dtype.kind not in "iu":
        raise Broken(f"it gave {sums.dtype} of shape {sums.shape}")
    if sums[1].sum() < sums[0].sum():
        raise Broken(f"more input gave less: {sums[1].sum()} after {sums[0].sum()}")
    return (
        f"sum over the columns {int(sums[0].sum())} at input 0, {int(sums[1].sum())} at {highest}"
    )


def product_wrongly(bench: Bench) -> str:
    """mvm() refuses codes and tiles that do not exist; a wrong shape is a ValueError"""
    spec = bench.spec
    if spec.mvm is None:
        raise NotChecked("the spec lists no product")
    row = np.zeros((1, spec.rows), dtype=np.int64)
    refused(f"tile {spec.tiles}", bench.device.mvm, spec.tiles, row)
    refused("too large an input", bench.device.mvm, 0, row + 2**spec.mvm.input_bits)
    refused("a negative input", bench.device.mvm, 0, row - 1)
    value_error("a row too few", bench.device.mvm, 0, row[:, 1:])
    value_error("fractions as inputs", bench.device.mvm, 0, row + 0.5)
    return ""


def write_verify(bench: Bench) -> str:
    """program() says what became of each cell, or is refused"""
    low, high = bench.spec.reading.lowest, bench.spec.reading.highest
    if bench.spec.program is None:
        refused("a write-verify", bench.device.program, NO_CELLS, low, high)
        return "refused: the spec lists no write-verify"
    cells = bench.scratch_or_skip()
    done = bench.device.program(cells, low, high)
    shapes = {
        np.shape(part) for part in (done.siemens, done.ok, done.sets, done.resets, done.reads)
    }
    if shapes != {cells.shape}:
        raise Broken(f"{cells.size} cells gave shapes {sorted(shapes)}")
    most = int(np.max(np.asarray(done.sets) + np.asarray(done.resets)))
    if most > bench.spec.program.attempts:
        raise Broken(f"{most} pulses on a cell, but {bench.spec.program.attempts} attempts")
    return f"{np.mean(done.ok):.0%} arrived in the whole range"


def knobs(bench: Bench) -> str:
    """adjust() refuses a knob that does not exist, and a setting outside its range"""
    refused("a knob that does not exist", bench.device.adjust, "no such knob", 0.0)
    for name, knob in bench.spec.knobs.items():
        values = np.full(knob.size, outside(knob.range)[1])
        refused(f"{name} too high", bench.device.adjust, name, values)
    return ", ".join(bench.spec.knobs) or "it has none"


def freeze(bench: Bench) -> str:
    """a frozen state taken on again gives the same readings; silicon refuses to be frozen"""
    if not bench.spec.volatile:
        refused("freeze", bench.device.freeze)
        return "refused: the die keeps its own state"
    try:
        state = bench.device.freeze()
        first = bench.device.read(bench.probe)
        bench.device.thaw(state)
    except Refused as reason:
        raise NotChecked(str(reason)) from None
    if not np.array_equal(first, bench.device.read(bench.probe), equal_nan=True):
        raise Broken("the thawed die reads otherwise")
    return f"{len(state)} bytes"


# ------------------------------------------------------------------------ closing


def close_while_reading(bench: Bench) -> str:
    """close() from another thread ends a pending call with LinkLost or Refused"""
    ended: list[BaseException] = []
    started, given_up = threading.Event(), threading.Event()

    def read_on() -> None:
        try:
            while not given_up.is_set():
                started.set()
                bench.device.read(bench.probe)
        except BaseException as error:
            ended.append(error)

    reader = threading.Thread(target=read_on, daemon=True)
    reader.start()
    started.wait(bench.patience)
    closer = threading.Thread(target=bench.device.close, daemon=True)
    closer.start()
    try:
        for thread, what in ((closer, "close()"), (reader, "the pending read()")):
            thread.join(bench.patience)
            if thread.is_alive():
                raise Broken(f"{what} still hangs after {bench.patience:g} s")
    finally:
        given_up.set()
    if not isinstance(ended[0], (LinkLost, Refused)):
        raise Broken(f"the pending read() raised {type(ended[0]).__name__}: {ended[0]}")
    return f"{type(ended[0]).__name__}: {ended[0]}"


def close_twice(bench: Bench) -> str:
    """close() may be called again"""
    bench.device.close()
    bench.device.close()
    return ""


def after_close(bench: Bench) -> str:
    """every call after close() is refused"""
    refused("read() after close()", bench.device.read, bench.probe)
    for kind in bench.spec.pulses:
        refused("apply() after close()", bench.device.apply, bench.pulse(kind, NO_CELLS))
    if bench.spec.mvm is not None:
        row = np.zeros((1, bench.spec.rows), dtype=np.int64)
        refused("mvm() after close()", bench.device.mvm, 0, row)
    return ""
