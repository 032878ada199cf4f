"""What the integers on the wire mean: the spec in a HELLO reply, and codes <-> SI.

Every quantity of a HELLO reply is a signed 64-bit integer of femto-units (fV, fS, fs, fA):
5 mV is 5_000_000_000_000. A setting in an APPLY is a number of steps of its range, a
reading is a number of lsb. A decimal fraction therefore arrives as the very same float.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import (
    Floats,
    Kind,
    KnobLimits,
    MvmLimits,
    ProgramLimits,
    Programmed,
    Pulse,
    PulseLimits,
    Range,
    ReadLimits,
    Refused,
    Spec,
)

from . import requests, wire

KINDS = (Kind.SET, Kind.RESET, Kind.FORM)
NEWBORN, JOINS, OWN_CLOCK = 1, 2, 4
"""Flags of a HELLO reply; the last two are for simulated dies."""

(
    MODEL, SERIAL, FIRMWARE, GEOMETRY, READING, PULSES, REFERENCES, PRODUCT, PROGRAM, KNOB,
) = range(1, 11)  # fmt: skip
_REPEATED = frozenset({PULSES, KNOB})
_ROW_ORDERS = ("index", "next_nonzero")
_MOST_SUM_BITS = 48

_FEMTO = 1e15
_ATTO = 1e18
_NANOSECOND = 1e-9
_GATE, _LIMIT = 1, 2
_GEOMETRY = struct.Struct("<III")
_READING = struct.Struct("<qqqqqHBq")
_PULSES = struct.Struct("<BHB")
_RANGE = struct.Struct("<qqq")
_PRODUCT = struct.Struct("<BBBBHqq")
_PRODUCT_MORE = struct.Struct("<Bq")
_PROGRAM = struct.Struct("<HHH")
_KNOB = struct.Struct("<qqqHB")


# --------------------------------------------------------------------------- the spec


def announced(spec: Spec) -> Spec:
    """The spec of a board around a die of `spec`: it outlives the host, and has a grid.

    Widths without a grid get one of 1 ns; a product of which one vector does not fit into a
    frame is not offered. Raises `Refused` where a setting or a reading does not fit the
    integers of the wire.
    """
    pulses = {}
    for kind, limits in spec.pulses.items():
        seconds = limits.seconds
        if seconds.step == 0:
            seconds = replace(seconds, step=_NANOSECOND)
        _check_width(seconds, spec.model)
        for volts in (limits.volts, limits.gate_volts, limits.limit_amps):
            _check_settings(volts, spec.model)
        pulses[kind] = replace(limits, seconds=seconds)
    _check_reading(spec.reading, spec.model)
    for knob in spec.knobs.values():
        _check_settings(knob.range, spec.model)
        if knob.size > requests.MAX_KNOB_VALUES:
            raise Refused(
                f"a knob of {spec.model} has {knob.size} values; the board protocol carries "
                f"{requests.MAX_KNOB_VALUES}"
            )
    return replace(spec, pulses=pulses, mvm=_announced_product(spec), volatile=False, home="")


def _announced_product(spec: Spec) -> MvmLimits | None:
    limits = spec.mvm
    if limits is None:
        return None
    bits = product_sum_bits(limits, spec.rows)
    if not requests.vectors_per_frame(spec.rows, limits.input_bits, spec.cols, bits):
        return None
    amps = _femto(limits.amps_per_code) / _FEMTO
    joules = round(limits.joules * _ATTO) / _ATTO
    seconds = _femto(limits.seconds) / _FEMTO
    return replace(limits, amps_per_code=amps, seconds=seconds, joules=joules)


def product_sum_bits(limits: MvmLimits, rows: int) -> int:
    """Bits of the largest sum: every code of every group saturated, at every input bit."""
    groups = -(-rows // limits.rows_at_once)
    largest = (2**limits.input_bits - 1) * (2**limits.converter_bits - 1) * groups
    return int(largest.bit_length())


def _check_width(seconds: Range, model: str) -> None:
    steps = seconds.step / _NANOSECOND
    if abs(steps - round(steps)) > 1e-6 or seconds.high / _NANOSECOND > 2**32 - 1:
        raise Refused(
            f"pulse widths of {model} (up to {seconds.high:g} s in steps of {seconds.step:g} s) "
            "do not fit the board protocol; it carries whole nanoseconds up to 4.29 s"
        )


def _check_settings(values: Range | None, model: str) -> None:
    if values is None:
        return
    if values.step <= 0 or max(abs(values.low), abs(values.high)) / values.step > 32767:
        raise Refused(
            f"a setting of {model} ({values.low:g} to {values.high:g} in steps of "
            f"{values.step:g}) does not fit the board protocol; give it a step of which the "
            "range has at most 32767"
        )


def _check_reading(reading: ReadLimits, model: str) -> None:
    if not (reading.lsb > 0 and reading.highest / reading.lsb <= wire.HIGHEST_READ_CODE):
        raise Refused(
            f"readings of {model} (up to {reading.highest:g} S in steps of {reading.lsb:g} S) "
            f"do not fit the board protocol; it carries up to {wire.HIGHEST_READ_CODE} steps"
        )


def pack_spec(spec: Spec, firmware: str) -> tuple[tuple[int, bytes], ...]:
    """The tagged fields of a HELLO reply."""
    reading = spec.reading
    has_gate = reading.gate_volts is not None
    fields = [
        (MODEL, spec.model.encode()),
        (SERIAL, spec.serial.encode()),
        (FIRMWARE, firmware.encode()),
        (GEOMETRY, _GEOMETRY.pack(spec.tiles, spec.rows, spec.cols)),
        (
            READING,
            _READING.pack(
                _femto(reading.lowest), _femto(reading.highest), _femto(reading.lsb),
                _femto(reading.volts), _femto(reading.seconds), reading.cells_at_once,
                has_gate, _femto(reading.gate_volts or 0.0),
            ),
        ),
    ]  # fmt: skip
    if reading.references:
        levels = [_femto(level) for level in reading.references]
        fields.append((REFERENCES, struct.pack(f"<{len(levels)}q", *levels)))
    fields += [(PULSES, _pack_pulses(kind, limits)) for kind, limits in spec.pulses.items()]
    if spec.mvm is not None:
        fields.append((PRODUCT, _pack_product(spec.mvm, product_sum_bits(spec.mvm, spec.rows))))
    if spec.program is not None:
        own = spec.program
        fields.append((PROGRAM, _PROGRAM.pack(own.levels, own.attempts, own.cells_at_once)))
    fields += [(KNOB, _pack_knob(name, knob)) for name, knob in spec.knobs.items()]
    return tuple(fields)


def _pack_product(limits: MvmLimits, sum_bits: int) -> bytes:
    head = _PRODUCT.pack(
        limits.input_bits, limits.converter_bits, sum_bits, _ROW_ORDERS.index(limits.row_order),
        limits.rows_at_once, _femto(limits.amps_per_code), _femto(limits.seconds),
    )  # fmt: skip
    if (limits.bits_at_once, limits.joules) == (1, 0.0):
        return head
    return head + _PRODUCT_MORE.pack(limits.bits_at_once, round(limits.joules * _ATTO))


def _pack_knob(name: str, knob: KnobLimits) -> bytes:
    r, text = knob.range, name.encode()
    head = _KNOB.pack(_femto(r.low), _femto(r.high), _femto(r.step), knob.size, len(text))
    return head + text + knob.meaning.encode()


def unpack_spec(reply: wire.HelloReply) -> tuple[Spec, str]:
    """The spec that a board announces, and its firmware. Raises `wire.Garbled`."""
    once = {tag: data for tag, data in reply.fields if tag not in _REPEATED}
    missing = {MODEL, SERIAL, GEOMETRY, READING} - once.keys()
    if missing:
        raise wire.Garbled(f"the HELLO reply lacks the fields {sorted(missing)}")
    tiles, rows, cols = wire.unpack_struct(_GEOMETRY, once[GEOMETRY])
    if min(tiles, rows, cols) < 1:
        raise wire.Garbled(f"a geometry of {tiles} x {rows} x {cols}")
    spec = Spec(
        model=_text(once[MODEL]),
        serial=_text(once[SERIAL]),
        tiles=tiles,
        rows=rows,
        cols=cols,
        reading=_unpack_reading(once[READING], once.get(REFERENCES, b"")),
        pulses=dict(_unpack_pulses(data) for tag, data in reply.fields if tag == PULSES),
        mvm=_unpack_product(once[PRODUCT]) if PRODUCT in once else None,
        program=_unpack_program(once[PROGRAM]) if PROGRAM in once else None,
        knobs=dict(_unpack_knob(data) for tag, data in reply.fields if tag == KNOB),
        newborn=bool(reply.flags & NEWBORN),
    )
    _check_product(spec, sum_bits(reply))
    return spec, _text(once.get(FIRMWARE, b""))


def sum_bits(reply: wire.HelloReply) -> int:
    """Bits of the sums of a product; 0 on a board without. Raises `wire.Garbled`."""
    for tag, data in reply.fields:
        if tag == PRODUCT:
            return int(wire.unpack_struct(_PRODUCT, data, exact=False)[2])
    return 0


def _check_product(spec: Spec, bits: int) -> None:
    if spec.mvm is None:
        return
    fit = 0
    if 1 <= bits <= _MOST_SUM_BITS:
        fit = requests.vectors_per_frame(spec.rows, spec.mvm.input_bits, spec.cols, bits)
    if not fit:
        raise wire.Garbled(f"a product of {spec.rows} rows with sums of {bits} bits fits no frame")


def _unpack_product(data: bytes) -> MvmLimits:
    head = wire.unpack_struct(_PRODUCT, data, exact=False)
    inputs, converter, _, order, rows, amps, seconds = head
    more = data[_PRODUCT.size :]
    at_once, joules = wire.unpack_struct(_PRODUCT_MORE, more) if more else (1, 0)
    if not (1 <= at_once <= inputs and joules >= 0):
        raise wire.Garbled(f"a product of {at_once} of {inputs} input bits at once")
    if not (1 <= inputs <= 16 and 1 <= converter <= 16 and rows >= 1 and order < 2 and amps > 0):
        raise wire.Garbled(f"a product of {inputs} bits in, {converter} bits out, order {order}")
    return MvmLimits(
        input_bits=inputs,
        rows_at_once=rows,
        converter_bits=converter,
        amps_per_code=amps / _FEMTO,
        row_order=_ROW_ORDERS[order],
        seconds=seconds / _FEMTO,
        bits_at_once=at_once,
        joules=joules / _ATTO,
    )


def _unpack_program(data: bytes) -> ProgramLimits:
    levels, attempts, at_once = wire.unpack_struct(_PROGRAM, data)
    if min(levels, attempts, at_once) < 1:
        raise wire.Garbled(f"a write-verify of {levels} levels, {attempts} attempts")
    return ProgramLimits(levels, attempts, at_once)


def _unpack_knob(data: bytes) -> tuple[str, KnobLimits]:
    low, high, step, size, length = wire.unpack_struct(_KNOB, data, exact=False)
    text = data[_KNOB.size :]
    if step <= 0 or low > high or size < 1 or not 1 <= length <= len(text):
        raise wire.Garbled(f"a knob from {low} to {high} in steps of {step}, {size} values")
    limits = Range(low / _FEMTO, high / _FEMTO, step / _FEMTO)
    return _text(text[:length]), KnobLimits(limits, size, _text(text[length:]))


def _text(data: bytes) -> str:
    text = data.decode(errors="replace")
    if not text.isprintable():
        raise wire.Garbled(f"a name that cannot be printed: {text!r}")
    return text


def _unpack_reading(data: bytes, references: bytes) -> ReadLimits:
    lowest, highest, lsb, volts, seconds, at_once, has_gate, gate = wire.unpack_struct(
        _READING, data
    )
    if lsb <= 0 or at_once < 1:
        raise wire.Garbled(f"readings in steps of {lsb} fS, {at_once} cells at once")
    levels = wire.unpack_struct(struct.Struct(f"<{len(references) // 8}q"), references)
    return ReadLimits(
        lowest=lowest / _FEMTO,
        highest=highest / _FEMTO,
        lsb=lsb / _FEMTO,
        volts=volts / _FEMTO,
        seconds=seconds / _FEMTO,
        gate_volts=gate / _FEMTO if has_gate else None,
        cells_at_once=at_once,
        references=tuple(level / _FEMTO for level in levels),
    )


def _pack_pulses(kind: Kind, limits: PulseLimits) -> bytes:
    flags = (limits.gate_volts is not None) * _GATE | (limits.limit_amps is not None) * _LIMIT
    ranges = (limits.volts, limits.seconds, limits.gate_volts, limits.limit_amps)
    return _PULSES.pack(KINDS.index(kind), limits.cells_at_once, flags) + b"".join(
        _RANGE.pack(_femto(r.low), _femto(r.high), _femto(r.step)) for r in ranges if r is not None
    )


def _unpack_pulses(data: bytes) -> tuple[Kind, PulseLimits]:
    index, at_once, flags = wire.unpack_struct(_PULSES, data[: _PULSES.size])
    if index >= len(KINDS) or at_once < 1 or flags & ~(_GATE | _LIMIT):
        raise wire.Garbled(f"pulse limits of kind {index}, flags {flags:#x}")
    count = 2 + bool(flags & _GATE) + bool(flags & _LIMIT)
    body = wire.unpack_struct(struct.Struct(f"<{3 * count}q"), data[_PULSES.size :])
    ranges = [Range(*(value / _FEMTO for value in body[i : i + 3])) for i in range(0, 3 * count, 3)]
    if any(r.step <= 0 or r.low > r.high for r in ranges):
        raise wire.Garbled(f"{KINDS[index].name} has a range without a step, or upside down")
    return KINDS[index], PulseLimits(
        volts=ranges[0],
        seconds=ranges[1],
        gate_volts=ranges[2] if flags & _GATE else None,
        limit_amps=ranges[-1] if flags & _LIMIT else None,
        cells_at_once=at_once,
    )


def _femto(value: float) -> int:
    femto = round(value * _FEMTO)
    if abs(femto) >= 2**63:
        raise Refused(f"{value:g} does not fit the board protocol; it carries up to 9223")
    return femto


# --------------------------------------------------------------------------- readings


def read_codes(siemens: Floats, lsb: float) -> wire.Codes:
    """Readings as the wire carries them: multiples of `lsb`, `READ_ABOVE`, `READ_NOTHING`."""
    plain = np.isfinite(siemens)
    codes = np.rint(np.where(plain, siemens, 0) / lsb).astype(np.int64)
    codes[np.isnan(siemens)] = wire.READ_NOTHING
    codes[np.isposinf(siemens)] = wire.READ_ABOVE
    return codes


def siemens(codes: wire.Codes, lsb: float) -> NDArray[np.float32]:
    """The inverse of `read_codes`, float32 as `Device.read` promises."""
    values = (codes * lsb).astype(np.float32)
    values[codes == wire.READ_NOTHING] = np.nan
    values[codes == wire.READ_ABOVE] = np.inf
    return values


# --------------------------------------------------------------------------- pulses


def pack_pulse(pulse: Pulse, spec: Spec, session: int) -> wire.Apply:
    """A pulse that `spec.check_pulse` let pass, on at most 64 cells, as codes."""
    limits = spec.pulses[pulse.kind]
    return wire.Apply(
        session=session,
        kind=KINDS.index(pulse.kind),
        width_ns=round(pulse.seconds / _NANOSECOND),
        cells=pulse.cells,
        volts=_steps(pulse.volts, limits.volts),
        gate=_optional_steps(pulse.gate_volts, limits.gate_volts),
        limit=_optional_steps(pulse.limit_amps, limits.limit_amps),
    )


def unpack_pulse(apply: wire.Apply, spec: Spec) -> Pulse:
    """The pulse that an APPLY asks for, unchecked. Raises `Refused` for a kind it has not."""
    kind = kind_of(apply.kind)
    limits = spec.pulses.get(kind)
    if limits is None:
        raise Refused(f"{spec.model} does no {kind.name}")
    gate, limit = limits.gate_volts, limits.limit_amps
    return Pulse(
        kind,
        apply.cells,
        apply.volts * limits.volts.step,
        None if apply.gate is None else apply.gate * (gate.step if gate else np.nan),
        seconds=apply.width_ns / 1e9,
        limit_amps=None if apply.limit is None else apply.limit * (limit.step if limit else np.nan),
    )


def kind_of(index: int) -> Kind:
    """The kind of pulse that stands for `index` on the wire. Raises `Refused`."""
    if index >= len(KINDS):
        raise Refused(f"there is no kind of pulse {index}; 0 is SET, 1 RESET, 2 FORM")
    return KINDS[index]


def _steps(values: Floats, limit: Range) -> wire.Codes:
    codes: wire.Codes = np.rint(values / limit.step).astype(np.int64)
    return codes


def _optional_steps(values: Floats | None, limit: Range | None) -> wire.Codes | None:
    return None if values is None or limit is None else _steps(values, limit)


# --------------------------------------------------------------------------- the rest


def programmed(answers: Sequence[wire.Frame], spec: Spec) -> Programmed:
    """What PROGRAM answers say, one after the other; all of them were read before."""
    replies = [requests.ProgramReply.unpack(answer.payload) for answer in answers]

    def column(name: str) -> wire.Codes:
        return np.concatenate([np.empty(0, np.int64), *(getattr(r, name) for r in replies)])

    return Programmed(
        siemens=siemens(column("codes"), spec.reading.lsb),
        ok=column("verdicts") == wire.Verdict.ARRIVED,
        sets=column("sets"),
        resets=column("resets"),
        reads=column("reads"),
    )


def knob_codes(knob: str, values: ArrayLike, spec: Spec) -> wire.Codes:
    """Settings of a knob in steps. Raises ValueError (number of them) or `Refused` (range)."""
    floats = spec.check_knob(knob, values)
    return _steps(floats, spec.knobs[knob].range)
