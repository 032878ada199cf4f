"""A job that does not fit its die is refused before the first pulse, by key, value and limit."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from rramhil.address import open_device
from rramhil.device import Kind, PulseLimits, Range, Refused, Spec
from rramhil.job.file import JobFile, load_job, shipped_jobs
from rramhil.job.preflight import preflight
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil.schema import check
from rramhil.station import connect

JOB = """
name = "job"
network = { name = "digits" }
data = { name = "digits" }
[mapping]
levels = 10
[writing]
set_volts = 2
[[steps]]
do = "scan"
[[steps]]
do = "form"
[[steps]]
do = "tune"
[[steps]]
do = "program"
how = "verify"
recipe = { algorithm = "sdr" }
[[steps]]
do = "recover"
method = "rvw"
recipe = { algorithm = "ispp" }
"""


def load(text: str) -> JobFile:
    return check(tomllib.loads(text), JobFile, "job.toml")


@pytest.fixture(scope="module")
def spec() -> Spec:
    with open_device("emulator:40nm?tiles=1") as die:
        return die.spec


WRONG = [
    ("set_volts = 2", "set_volts = 4.5", r"writing\.set_volts is 4\.5 V, outside the 0 V to 4 V"),
    ("set_volts = 2", 'set_seconds = "10 ns"', r"set_seconds is 10 ns, outside the 100 ns to 10"),
    ("set_volts = 2", "reset_stop_volts = 5.1", r"writing\.reset_stop_volts is 5\.1 V"),
    (
        "set_volts = 2",
        "reset_volts = 6\nreset_stop_volts = 6",
        r"writing\.reset_volts is 6 V, .* for RESET",
    ),
    ("set_volts = 2", "reset_gate_volts = 5.5", r"writing\.reset_gate_volts is 5\.5 V"),
    ("set_volts = 2", 'reset_seconds = "1 ms"', r"writing\.reset_seconds is 1 ms"),
    ('"scan"', '"scan"\nset_gate = 4.2', r"'scan': set_gate is 4\.2 V, outside the 0 V to 4 V"),
    (
        '"scan"',
        '"scan"\nthresholds = { stuck_lrs_siemens = "120 mS" }',
        r"stuck_lrs_siemens is 120",
    ),
    (
        '"scan"',
        '"scan"\nthresholds = { stuck_hrs_siemens = "60 nS" }',
        r"stuck_hrs_siemens is 60 n",
    ),
    ('"form"', '"form"\nforming = { stop_volts = 5 }', r"'form': forming\.stop_volts is 5 V"),
    (
        '"form"',
        '"form"\nforming = { start_volts = 4.6, stop_volts = 4.6 }',
        r"forming\.start_volts is 4\.6 V, outside the 0 V to 4\.5 V",
    ),
    ('"form"', '"form"\nforming = { gate_volts = 4.1 }', r"forming\.gate_volts is 4\.1 V"),
    ('"form"', '"form"\nforming = { seconds = "100 ns" }', r"forming\.seconds is 100 ns"),
    ('"form"', '"form"\nforming = { formed_siemens = "15 nS" }', r"formed_siemens is 15 nS"),
    ('"tune"', '"tune"\nlast_gate = 4.1', r"'tune': last_gate is 4\.1 V"),
    ('"tune"', '"tune"\nfirst_gate = 4.1\nlast_gate = 4.2', r"'tune': first_gate is 4\.1 V"),
    (
        '"sdr"',
        '"sdr", fine_set = { start = 0.6, step = 0.1, stop = 4.2 }',
        r"'program': recipe\.fine_set\.stop is 4\.2 V",
    ),
    (
        '"sdr"',
        '"sdr", fine_reset = { start = 5.2, step = 0.1, stop = 5.2 }',
        r"'program': recipe\.fine_reset\.start is 5\.2 V, .* for RESET",
    ),
    ('"ispp"', '"ispp", gate_start_volts = 4.1', r"'rvw': recipe\.gate_start_volts is 4\.1 V"),
    (
        "levels = 10",
        'lowest = "20 nS"\nhighest = "200 nS"\ntolerance = "5 nS"',
        r"mapping\.lowest is 20 nS, outside the 500 nS to 400 µS that emulated 40nm",
    ),
    (
        "levels = 10",
        'lowest = "20 mS"\nhighest = "200 mS"\ntolerance = "5 mS"',
        r"mapping\.lowest is 20 mS",
    ),
    ("levels = 10", 'highest = "200 mS"', r"mapping\.highest is 200 mS"),
    ("levels = 10", 'tolerance = "5 nS"', r"mapping\.tolerance is 5 nS, less than the 100 nS"),
    (
        "levels = 10",
        'levels = 256\nlowest = "20 uS"\nhighest = "30 uS"\ntolerance = "10 nS"',
        "the distance of two levels",
    ),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG)
def test_a_job_beyond_its_die_is_refused_by_key_value_and_limit(
    spec: Spec, old: str, new: str, words: str
) -> None:
    assert old in JOB
    with pytest.raises(Refused, match=words) as caught:
        preflight(load(JOB.replace(old, new, 1)), spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("old", "new", "words"), WRONG)
def test_a_run_of_such_a_job_pulses_nothing(old: str, new: str, words: str) -> None:
    text = JOB.replace(old, new, 1)
    run = Run.start(load(text), text, address="emulator:40nm?tiles=1")
    with pytest.raises(Refused, match=words):
        run.execute(lambda _: None, lambda: False)
    assert (run.result.outcome, len(run.result.steps)) == ("failed", 5)
    assert {step.outcome for step in run.result.steps} == {"waiting"}
    with LedgerReader(run.result.ledger) as reader:
        assert sum(reader.totals().pulses.values()) == 0


def test_a_job_within_its_die_is_taken(spec: Spec) -> None:
    preflight(load(JOB), spec)


@pytest.mark.parametrize("name", shipped_jobs())
def test_shipped_jobs_fit_the_chips_they_are_for(name: str) -> None:
    job, _ = load_job(name)
    with open_device(job.device.address) as die:
        preflight(job, die.spec)


@pytest.mark.parametrize("name", ["quickstart", "mnist"])
def test_shipped_jobs_fit_the_shipped_bench(name: str) -> None:
    job, _ = load_job(name)
    with connect(job.device.address, station="bench") as die:
        assert die.spec.pulses[Kind.SET].volts.high == 3.0
        preflight(job, die.spec)


def test_the_limits_of_a_station_hold_as_well() -> None:
    job = load(JOB.replace("set_volts = 2", "set_volts = 3.5"))
    with (
        connect("emulator:40nm?tiles=1", station="bench") as die,
        pytest.raises(Refused, match=r"writing\.set_volts is 3\.5 V, outside the 0 V to 3 V"),
    ):
        preflight(job, die.spec)


def test_a_die_that_does_no_reset_is_refused(spec: Spec) -> None:
    only_set = replace(spec, pulses={Kind.SET: spec.pulses[Kind.SET]})
    with pytest.raises(Refused, match="40nm does no RESET here"):
        preflight(load(JOB), only_set)


def test_a_two_terminal_die_has_no_gate_to_sweep(spec: Spec) -> None:
    pulses = {kind: replace(limits, gate_volts=None) for kind, limits in spec.pulses.items()}
    with pytest.raises(Refused, match="'tune': emulated 40nm has no gate to sweep"):
        preflight(load(JOB), replace(spec, pulses=pulses))


def test_a_die_that_does_no_form_is_left_to_the_step(spec: Spec) -> None:
    formless: dict[Kind, PulseLimits]
    formless = {kind: limits for kind, limits in spec.pulses.items() if kind is not Kind.FORM}
    preflight(load(JOB), replace(spec, pulses=formless))


def test_voltages_between_two_grid_points_are_rounded_and_widths_are_not(spec: Spec) -> None:
    coarse = replace(spec.pulses[Kind.SET], seconds=Range(100e-9, 1e-6, 100e-9))
    pulses: dict[Kind, PulseLimits] = dict(spec.pulses) | {Kind.SET: coarse}
    gridded = replace(spec, pulses=pulses)
    preflight(load(JOB.replace("set_volts = 2", "set_volts = 2.003")), gridded)
    with pytest.raises(Refused, match="150 ns, not a multiple of the 100 ns"):
        preflight(load(JOB.replace("set_volts = 2", 'set_seconds = "150 ns"')), gridded)
