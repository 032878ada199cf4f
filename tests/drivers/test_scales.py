"""Specs, readings and pulses through the integers of the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import Kind, Pulse, PulseLimits, Range, ReadLimits, Refused
from rramhil_drivers import scales, wire

few = settings(deadline=None, max_examples=60)
WIDTH = Range(1e-7, 1e-3, 1e-9)


def hello(fields: Any, flags: int = 0) -> wire.HelloReply:
    return wire.HelloReply(1, 0, 1, 64, fields, flags)


decimals = st.builds(lambda n, p: n / 10**p, st.integers(1, 2000), st.integers(4, 6))


@few
@given(decimals, st.integers(1, 32767), st.booleans(), st.booleans(), st.sampled_from(Kind))
def test_a_spec_arrives_as_the_same_floats(
    step: float, steps: int, gate: bool, amps: bool, kind: Kind
) -> None:
    settings_range = Range(0.0, step * steps, step)
    limits = PulseLimits(
        settings_range, WIDTH, settings_range if gate else None, settings_range if amps else None, 7
    )
    reading = ReadLimits(0.5e-6, 400e-6, 0.1e-6, 0.2, 1e-6, 3.0 if gate else None, 32, (1e-6, 2e-6))
    spec = fake_spec(pulses={kind: limits}, reading=reading, volatile=False)
    flags = scales.NEWBORN if spec.newborn else 0
    fields = scales.pack_spec(spec, "fw 1")
    got, firmware = scales.unpack_spec(
        wire.HelloReply.unpack(hello((*fields, (200, b"news")), flags).pack())
    )
    high = got.pulses[kind].volts.high
    assert high == pytest.approx(step * steps, rel=1e-12)
    assert firmware == "fw 1"
    assert got.reading == spec.reading
    assert got.pulses[kind].volts.step == step
    assert got.pulses[kind].seconds == WIDTH
    assert got.pulses[kind].cells_at_once == 7
    assert (got.pulses[kind].gate_volts is None, got.pulses[kind].limit_amps is None) == (
        not gate,
        not amps,
    )
    assert replace(got, pulses={}, reading=spec.reading) == replace(
        spec, pulses={}, knobs=got.knobs
    )


def test_a_board_outlives_its_host_and_promises_no_more_than_it_can() -> None:
    spec = scales.announced(
        fake_spec(pulses={Kind.SET: PulseLimits(Range(0, 3, 0.1), Range(1e-7, 1e-5))})
    )
    assert not spec.volatile
    assert spec.pulses[Kind.SET].seconds.step == 1e-9
    assert spec.mvm is None


@pytest.mark.parametrize(
    "limits",
    [
        PulseLimits(Range(0, 3), WIDTH),
        PulseLimits(Range(0, 40, 0.001), WIDTH),
        PulseLimits(Range(0, 3, 0.01), Range(1e-7, 10.0)),
        PulseLimits(Range(0, 3, 0.01), Range(1e-7, 1e-5, 0.5e-9)),
        PulseLimits(Range(0, 3, 0.01), WIDTH, limit_amps=Range(0, 1e-3)),
    ],
)
def test_a_die_that_does_not_fit_is_refused(limits: PulseLimits) -> None:
    with pytest.raises(Refused, match="fit the board protocol"):
        scales.announced(fake_spec(pulses={Kind.SET: limits}))


def test_readings_finer_than_16_bits_are_refused() -> None:
    reading = ReadLimits(0.0, 1e-3, 1e-9, 0.2, 1e-6)
    with pytest.raises(Refused, match="65533 steps"):
        scales.announced(fake_spec(reading=reading))


@few
@given(st.lists(st.integers(0, wire.READ_ABOVE), min_size=1, max_size=64))
def test_readings_arrive_bit_for_bit(codes: list[int]) -> None:
    lsb = 0.1e-6
    values = scales.siemens(np.array(codes), lsb)
    assert values.dtype == np.float32
    assert scales.read_codes(values, lsb).tolist() == codes


@few
@given(st.data())
def test_pulses_arrive_as_the_values_of_their_grid(data: st.DataObject) -> None:
    spec = scales.announced(fake_spec())
    kind = data.draw(st.sampled_from([Kind.SET, Kind.RESET]))
    cells = data.draw(st.lists(st.integers(0, spec.size - 1), min_size=1, max_size=64, unique=True))
    steps = st.lists(st.integers(0, 300), min_size=len(cells), max_size=len(cells))
    pulse = Pulse(
        kind, cells, np.array(data.draw(steps)) * 0.01, np.array(data.draw(steps)) * 0.01,
        seconds=data.draw(st.integers(10, 1000)) * 1e-8,
    )  # fmt: skip
    spec.check_pulse(pulse)
    sent = scales.pack_pulse(pulse, spec, 5).pack()
    got = scales.unpack_pulse(wire.Apply.unpack(sent), spec)
    spec.check_pulse(got)
    assert got.kind is kind
    assert got.cells.tolist() == cells
    assert got.volts.tolist() == pulse.volts.tolist()
    assert got.gate_volts is not None
    assert pulse.gate_volts is not None
    assert got.gate_volts.tolist() == pulse.gate_volts.tolist()
    assert got.seconds == pytest.approx(pulse.seconds, rel=1e-12)


def test_a_kind_that_is_none_is_refused() -> None:
    one = np.array([0])
    with pytest.raises(Refused, match="no kind of pulse 9"):
        scales.unpack_pulse(wire.Apply(1, 9, 100, one, one), fake_spec())
    with pytest.raises(Refused, match="does no FORM"):
        scales.unpack_pulse(wire.Apply(1, 2, 100, one, one), fake_spec())


@few
@given(st.integers(0, 6), st.data())
def test_a_damaged_hello_is_garbled_and_nothing_else(which: int, data: st.DataObject) -> None:
    fields = list(scales.pack_spec(scales.announced(fake_spec()), "fw"))
    which %= len(fields)
    tag, contents = fields[which]
    damaged = bytearray(contents)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    fields[which] = (tag, bytes(damaged[:cut]))
    try:
        scales.unpack_spec(hello(tuple(fields)))
    except wire.Garbled:
        return


def test_a_hello_that_lacks_a_field_is_garbled() -> None:
    fields = scales.pack_spec(scales.announced(fake_spec()), "fw")
    for missing in (0, 1, 3, 4):
        with pytest.raises(wire.Garbled):
            scales.unpack_spec(hello(fields[:missing] + fields[missing + 1 :]))
