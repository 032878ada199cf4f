"""The ladder and after-care as steps of a job, on good and bad dies, stopped and resumed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rramhil.device import Refused
from rramhil.job.file import JobFile
from rramhil.job.folder import RunFolder
from rramhil.job.pricing import paid_in
from rramhil.job.result import RunResult, StepResult
from rramhil.ledger import LedgerReader
from rramhil.report.ladder import accuracy_against_price, accuracy_over_time, ladder_table
from rramhil.rerun import replay
from rramhil.run import Run
from rramhil.schema import FileError, check

HEAD = """
name = "ladder"
seed = 3
network = { name = "digits" }
data = { name = "digits" }
[device]
address = "emulator:DIE"
"""
STATISTICAL = """
[mapping]
lowest = "1 uS"
highest = "40 uS"
tolerance = "2 uS"
[[steps]]
do = "tune"
first_gate = "1 V"
last_gate = "3 V"
cells = 1024
[[steps]]
do = "program"
"""
FITTED = """
[[steps]]
do = "tune"
points = 23
[[steps]]
do = "program"
"""
AUTO = """
[[steps]]
do = "recover"
method = "auto"
target_loss = 3.0
recipe = { algorithm = "fppv" }
"""
MILD = HEAD.replace("DIE", "statistical?law=multiplicative&sigma=0.1&die=1&seed=1") + STATISTICAL
VARIED = HEAD.replace("DIE", "statistical?law=multiplicative&sigma=0.5&die=1&seed=1") + STATISTICAL
FAULTY = (
    HEAD.replace(
        "DIE", "statistical?law=multiplicative&sigma=0.5&stuck_lrs=0.09&stuck_hrs=0.02&die=2&seed=1"
    )
    + STATISTICAL
)
REAL = HEAD.replace("DIE", "40nm?die=1&seed=1") + FITTED


def start(text: str) -> Run:
    return Run.start(check(tomllib.loads(text), JobFile, "test"), text)


def carried_out(text: str) -> RunResult:
    return start(text).execute(lambda _: None, lambda: False)


def stopped_at(text: str, name: str, *ticks: int) -> RunResult:
    """Carry out a job that is stopped after so many ticks of one step, and resumed, each time."""
    run = start(text)
    for most in (*ticks, 10**9):
        seen: list[int] = []
        run.execute(
            lambda p, seen=seen: seen.append(p.done) if p.name == name else None,
            lambda seen=seen, most=most: len(seen) >= most,
        )
        assert run.is_finished == (most == 10**9)
        run = Run.open(run.run)
    return run.result


def step_of(result: RunResult, name: str) -> StepResult:
    (found,) = [step for step in result.steps if step.name == name]
    return found


def test_on_a_mild_die_nothing_is_the_cheapest_that_does() -> None:
    result = carried_out(MILD + AUTO)
    auto = step_of(result, "auto")
    assert (auto.findings["rung"], auto.findings["target_shown"]) == ("nothing", True)
    assert (auto.cost.pulses, auto.cost.digital_parameters) == (0, 0)
    assert (auto.findings["predicted"], auto.findings["carried_out"]) == (1, 1)


def test_on_a_varied_die_it_takes_digital_numbers_and_they_last() -> None:
    result = carried_out(VARIED + AUTO + '[[steps]]\ndo = "evaluate"\nname = "again"\n')
    auto, accuracy = step_of(result, "auto"), result.accuracy.model_dump()
    assert auto.cost.pulses == 0
    assert auto.cost.digital_parameters > 0
    assert auto.findings["target_shown"]
    assert accuracy["auto"] > accuracy["ideal_mapping"] - 0.03
    assert accuracy["again"] == pytest.approx(accuracy["auto"], abs=0.01)
    assert "predicted" in str(auto.findings["rung_nothing"])
    assert "kept" in str(auto.findings[f"rung_{auto.findings['rung']}"])


def test_on_a_faulty_die_it_climbs_to_writing_when_memory_is_short() -> None:
    tight = "budget = { digital_fraction = 0.01 }\n"
    result = carried_out(FAULTY + AUTO.replace("3.0", "4.0") + tight)
    auto, accuracy = step_of(result, "auto"), result.accuracy.model_dump()
    assert str(auto.findings["rung"]).startswith("rewrite_all")
    assert auto.cost.sparse_share <= 0.01
    assert auto.findings["paid_pulses"] == auto.cost.pulses > 100_000
    assert accuracy["auto"] > accuracy["ideal_mapping"] - 0.04


def test_a_budget_that_is_too_small_is_refused_before_a_pulse_with_what_would_do() -> None:
    run = start(FAULTY + AUTO + "budget = { pulses = 1000, digital_fraction = 0.01 }\n")
    with pytest.raises(Refused, match=r"should, but needs digital_fraction = 0\.0[358] instead"):
        run.execute(lambda _: None, lambda: False)
    with LedgerReader(run.result.ledger) as reader:
        totals = reader.totals(run.run, step_of(run.result, "auto").first_row)
    assert sum(totals.pulses.values()) == 0
    assert totals.reads == 34_048


def test_a_target_that_the_images_cannot_show_is_refused_before_the_device_is_touched() -> None:
    run = start(MILD + AUTO.replace("3.0", "1.0"))
    with pytest.raises(Refused, match=r"150 labelled validation images cannot show .* takes at"):
        run.execute(lambda _: None, lambda: False)
    assert not run.result.ledger


def test_fewer_labels_are_a_budget_too() -> None:
    labels = "budget = { labels = 100 }\n"
    auto = step_of(carried_out(MILD + AUTO + labels), "auto")
    assert auto.findings["validation_images"] == auto.cost.validation_images == 100


def fitted(step: StepResult) -> int:
    """Rungs with digital numbers that were carried out."""
    said = (step.findings.get(f"rung_{name}") for name in ("affine_128", "rewrite_10_percent"))
    return sum("reached" in str(words) for words in said)


def ledger_of(result: RunResult, run: str) -> Any:
    """What prices are read from."""
    ledger = SimpleNamespace(path=result.ledger, flush=lambda: None)
    return SimpleNamespace(device=SimpleNamespace(ledger=ledger), run=run)


RUNGS = 'rungs = ["nothing", "affine_128", "rewrite_10_percent"]\n'
CLIMB = AUTO.replace("fppv", "sdr").replace("3.0", "6.0") + "passes = 2\n" + RUNGS


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("climbed")))
        result = carried_out(REAL + CLIMB)
        recorded, replayed = replay(result.run, lambda _: None, lambda: False)
    assert replayed.accuracy == recorded.accuracy
    assert replayed.steps[-1].findings == recorded.steps[-1].findings
    return result


def test_a_climb_that_is_stopped_and_resumed_loses_nothing(climbed: RunResult) -> None:
    result = stopped_at(REAL + CLIMB, "auto", 1, 2, 4, 9, 30)
    one, other = step_of(climbed, "auto"), step_of(result, "auto")
    assert one.findings["rung"] == other.findings["rung"] == "rewrite_10_percent"
    for name in ("rung_nothing", "rung_affine_128", "predicted", "carried_out"):
        assert one.findings[name] == other.findings[name]
    assert other.findings["paid_pulses"] == other.cost.pulses
    assert one.cost.images == other.cost.images == 128
    assert one.cost.memory_writes == other.cost.memory_writes == 404 * fitted(one)
    totals = [paid_in(ledger_of(climbed, run), 1).pulses for run in (climbed.run, "another")]
    assert totals[0] > totals[1] == 0
    assert other.cost.pulses == pytest.approx(one.cost.pulses, rel=0.4)  # ramps begin anew
    assert result.accuracy.model_dump()["auto"] == pytest.approx(
        climbed.accuracy.model_dump()["auto"], abs=0.015
    )


def test_the_report_shows_what_was_tried_predicted_reached_and_paid(climbed: RunResult) -> None:
    auto = step_of(climbed, "auto")
    arrays = RunFolder(Path(climbed.folder)).load_arrays(str(auto.arrays))
    shown = "".join(text for text in ladder_table(arrays).itertext())
    assert "rewrite_10_percent (kept)" in shown
    assert "affine_128" in shown
    assert (
        f"{auto.findings['validation_accuracy']:.2%}".replace("%", "\N{NO-BREAK SPACE}%") in shown
    )
    figure = accuracy_against_price(arrays)
    (points,) = (line for line in figure.axes[0].lines if str(line.get_label()).startswith("reach"))
    assert points.get_xdata() == pytest.approx([100 * auto.findings["validation_accuracy"]])
    assert ladder_table({}) is None
    assert accuracy_against_price({}) is None


AGED = """
[[steps]]
do = "recover"
method = "closed_form"
[[steps]]
do = "wait"
seconds = 1e5
[[steps]]
do = "watch"
[[steps]]
do = "evaluate"
name = "aged"
[[steps]]
do = "recalibrate"
[[steps]]
do = "evaluate"
name = "after"
"""


def test_recalibration_regains_what_relaxation_took() -> None:
    results = [
        carried_out(REAL.replace("die=1&seed=1", f"die={d}&seed={d}") + AGED) for d in (1, 3)
    ]
    gained = []
    for result in results:
        accuracy = result.accuracy.model_dump()
        watched, care = step_of(result, "watch"), step_of(result, "recalibrate")
        assert step_of(result, "wait").cost.waiting_seconds == 1e5
        assert watched.findings["moved"] is True
        assert watched.cost.reads == 4 * (64 + 128 + 64)
        assert care.cost.pulses == 0
        assert (watched.cost.images, care.cost.images) == (128, 128)
        assert care.findings["accuracy_before"] == pytest.approx(accuracy["aged"], abs=0.01)
        assert accuracy["after"] == pytest.approx(accuracy["recalibrate"], abs=0.01)
        gained.append(accuracy["recalibrate"] - accuracy["aged"])
    assert np.mean(gained) > 0.005


CARE = """
[[steps]]
do = "recover"
method = "closed_form"
[[steps]]
do = "care"
points = 4
horizon = 1e5
"""


@pytest.fixture(scope="module")
def cared(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("cared")))
        return carried_out(REAL + CARE)


def test_care_says_what_would_have_been_without_it(cared: RunResult) -> None:
    care = step_of(cared, "care")
    arrays = RunFolder(Path(cared.folder)).load_arrays(str(care.arrays))
    np.testing.assert_allclose(arrays["seconds"], np.geomspace(1, 1e5, 4))
    assert care.cost.waiting_seconds == pytest.approx(1e5, rel=1e-3)
    assert care.cost.pulses == 0
    assert arrays["recalibrated"].sum() == care.findings["recalibrations"] > 0
    written = care.findings["recalibrations"] * care.cost.digital_parameters
    assert (care.cost.images, care.cost.memory_writes) == (128, written)
    untouched = np.cumsum(arrays["recalibrated"]) == 0
    same = arrays["accuracy_with"][untouched] == arrays["accuracy_without"][untouched]
    assert same.all()
    mean = arrays["accuracy_with"][~untouched] - arrays["accuracy_without"][~untouched]
    assert mean.mean() > 0
    drawn = accuracy_over_time(arrays).axes[0].lines[0]
    np.testing.assert_allclose(drawn.get_ydata(), 100 * arrays["accuracy_with"])
    assert accuracy_over_time({}) is None


def test_care_that_is_stopped_and_resumed_loses_nothing(cared: RunResult) -> None:
    result = stopped_at(REAL + CARE, "care", 1, 2, 4, 7)
    one, other = step_of(cared, "care"), step_of(result, "care")
    assert other.findings["checks"] == 4
    assert other.cost.waiting_seconds == pytest.approx(1e5, rel=1e-3)
    for name in ("accuracy", "accuracy_without"):
        assert other.findings[name] == pytest.approx(one.findings[name], abs=0.02)


def test_care_that_is_stopped_at_every_check_gives_the_same(cared: RunResult) -> None:
    run = start(REAL + CARE)
    while not run.is_finished:
        seen: list[str] = []
        run.execute(
            lambda p, seen=seen: seen.append(p.text), lambda seen=seen: "without" in seen[-1]
        )
        run = Run.open(run.run)
    one, other = (
        RunFolder(Path(result.folder)).load_arrays(str(step_of(result, "care").arrays))
        for result in (cared, run.result)
    )
    for name in ("output_error", "recalibrated", "accuracy_without", "accuracy_with"):
        np.testing.assert_array_equal(one[name], other[name])


def test_writing_ends_what_was_fitted_to_the_cells_before() -> None:
    rewritten = '[[steps]]\ndo = "recover"\nmethod = "rvw"\nrecipe = { algorithm = "sdr" }\n'
    after = '[[steps]]\ndo = "evaluate"\nname = "after"\n'
    closed = '[[steps]]\ndo = "recover"\nmethod = "closed_form"\n'
    accuracy = carried_out(REAL + closed + rewritten + after).accuracy.model_dump()
    assert accuracy["after"] == pytest.approx(accuracy["rvw"], abs=0.01)
    assert accuracy["after"] > accuracy["ideal_mapping"] - 0.03


def test_watching_what_a_scan_has_overwritten_is_refused() -> None:
    scanned = '[[steps]]\ndo = "scan"\n[[steps]]\ndo = "watch"\n'
    with pytest.raises(Refused, match="put a step 'program' or 'recover' behind"):
        carried_out(REAL + scanned)


def test_too_few_images_to_learn_from_are_refused_before_the_device_is_touched() -> None:
    run = start(REAL + '[[steps]]\ndo = "recalibrate"\nimages = 5000\n')
    with pytest.raises(FileError, match="step 'recalibrate' asks for 5000 images"):
        run.execute(lambda _: None, lambda: False)
    assert not run.result.ledger


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "give either target_accuracy"),
        ("target_loss = 1\ntarget_accuracy = 0.9", "give either target_accuracy"),
        ('target_loss = 1\nrungs = ["affine_12"]', "unknown rung 'affine_12'"),
        ('target_loss = 1\nrungs = ["rewrite_all"]\nbudget = { pulses = 0 }', "allow pulses"),
        ("target_loss = 1\nbudget = { pulse = 0 }", "pulse"),
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused_when_it_is_read(lines: str, said: str) -> None:
    with pytest.raises(FileError, match=said):
        start(REAL + '[[steps]]\ndo = "recover"\nmethod = "auto"\n' + lines)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('do = "care"\nfirst = 10\nhorizon = 5', "not before its horizon"),
        ('do = "care"\nevery = 1\nhorizon = 1e5', "more than 1000 checks"),
        ('do = "wait"\nseconds = 0', "greater than 0"),
    ],
)
def test_after_care_that_makes_no_sense_is_refused_when_it_is_read(step: str, said: str) -> None:
    with pytest.raises(FileError, match=said):
        start(REAL + "[[steps]]\n" + step)


def test_a_ladder_without_pulses_needs_no_gate_curve() -> None:
    programmed = 'do = "program"\nhow = "on_chip"\n'
    text = HEAD.replace("DIE", "40nm") + "[[steps]]\n" + programmed + AUTO
    with pytest.raises(FileError, match="put a step 'tune' before 'auto'"):
        start(text)
    start(text + "budget = { pulses = 0 }\n")
