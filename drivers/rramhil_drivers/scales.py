"""What the integers on the wire mean: the spec in a HELLO reply, and codes <-> SI.

Every quantity of a HELLO reply is a signed 64-bit integer of femto-units (fV, fS, fs, fA):
5 mV is 5_000_000_000_000. A setting in an APPLY is a number of steps of its range, a
reading is a number of lsb. A decimal fraction therefore arrives as the very same float.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Floats, Kind, Pulse, PulseLimits, Range, ReadLimits, Refused, Spec

from . import wire

KINDS = (Kind.SET, Kind.RESET, Kind.FORM)
NEWBORN = 1

MODEL, SERIAL, FIRMWARE, GEOMETRY, READING, PULSES, REFERENCES = range(1, 8)

_FEMTO = 1e15
_NANOSECOND = 1e-9
_GATE, _LIMIT = 1, 2
_GEOMETRY = struct.Struct("<III")
_READING = struct.Struct("<qqqqqHBq")
_PULSES = struct.Struct("<BHB")
_RANGE = struct.Struct("<qqq")


# --------------------------------------------------------------------------- the spec


def announced(spec: Spec) -> Spec:
    """The spec of a board around a die of `spec`: it outlives the host, and has a grid.

    Widths without a grid get one of 1 ns. Raises `Refused` where a setting or a reading
    does not fit the integers of the wire.
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
    return replace(
        spec, pulses=pulses, mvm=None, program=None, knobs={}, volatile=False, home=""
    )  # fmt: skip


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
    return tuple(fields)


def unpack_spec(reply: wire.HelloReply) -> tuple[Spec, str]:
    """The spec that a board announces, and its firmware. Raises `wire.Garbled`."""
    once = {tag: data for tag, data in reply.fields if tag != PULSES}
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
        newborn=bool(reply.flags & NEWBORN),
    )
    return spec, _text(once.get(FIRMWARE, b""))


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
