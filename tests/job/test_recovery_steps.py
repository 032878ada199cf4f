"""Recovery steps of a job on a die with faults: they recover, they stop anywhere, they refuse."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rramhil.device import Refused
from rramhil.job import rewriting
from rramhil.job.file import JobFile
from rramhil.job.result import RunResult
from rramhil.rerun import replay
from rramhil.run import Run
from rramhil.schema import FileError, check
from rramhil.session import Progress

HEAD = """
name = "recoveries"
seed = 3
network = { name = "digits" }
data = { name = "digits" }
[device]
address = "emulator:statistical?law=multiplicative&sigma=0.5&die=3&seed=3FAULTS"
[mapping]
lowest = "1 uS"
highest = "40 uS"
tolerance = "2 uS"
[[steps]]
do = "scan"
set_gate = "3 V"
thresholds = { stuck_lrs_siemens = "20 uS", stuck_hrs_siemens = "2 uS", noisy_siemens = "4 uS" }
[[steps]]
do = "tune"
first_gate = "1 V"
last_gate = "3 V"
cells = 1024
[[steps]]
do = "program"
[[steps]]
do = "evaluate"
name = "open_loop"
"""
FAULTS = "&stuck_lrs=0.0175&stuck_hrs=0.0904"
STEP = '[[steps]]\ndo = "recover"\n'
CLOSED = f'{STEP}method = "closed_form"\n'
FINISHED = f'{STEP}method = "closed_form"\nname = "finished"\nfinish = {{ epochs = 3 }}\n'
RSA = f'{STEP}method = "rsa"\nepochs = 4\n'
OFF = f'{RSA}name = "off"\nmask = "errx"\nreplacing = true\nswitch_off = true\nstart = "exact"\n'
RVW = f'{STEP}method = "rvw"\npasses = 2\nrecipe = {{ algorithm = "fppv", max_pulses = 40 }}\n'
SOME = f'{RVW}name = "some"\nselect = "errx"\nfraction = 0.05\n'


def job(steps: str, faults: str = FAULTS) -> tuple[JobFile, str]:
    text = HEAD.replace("FAULTS", faults) + steps
    return check(tomllib.loads(text), JobFile, "job.toml"), text


def run(steps: str, faults: str = FAULTS) -> RunResult:
    return Run.start(*job(steps, faults)).execute(lambda _: None, lambda: False)


def accuracy(result: RunResult, name: str) -> float:
    return float(result.accuracy.model_dump()[name])


def recovered(result: RunResult, name: str) -> float:
    """Share of what open loop had lost to the ideal mapping that `name` brought back."""
    ideal, before = accuracy(result, "ideal_mapping"), accuracy(result, "open_loop")
    assert before < ideal - 0.1
    return (accuracy(result, name) - before) / (ideal - before)


def stop_at(name: str, ticks: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        if progress.name == name:
            seen.append(progress)

    return watch, lambda: len(seen) >= ticks


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Every kind of step, one after the other, on one die with a tenth of its cells stuck."""
    started = f'{RSA}name = "started"\nmask = "errx"\ngains = true\nstart = "closed_form"\n'
    labelless = f'{RSA}name = "labelless"\nmask = "errx"\nlabel_share = 0\nmatch = 0.3\n'
    unreplaced = f'{RSA}name = "replacing"\nmask = "errx"\nreplacing = true\n'
    steps = [CLOSED, FINISHED, started, labelless, unreplaced, OFF, SOME]
    steps += [f'{CLOSED}name = "refit"\nfraction = 0\n']
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("repaired")))
        result = run("".join(steps))
        recorded, replayed = replay(result.run, lambda _: None, lambda: False)
    assert replayed.accuracy == recorded.accuracy
    return result


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("closed_form", 0.93),
        ("finished", 0.93),
        ("started", 0.93),
        ("labelless", 0.85),
        ("replacing", 0.85),
        ("off", 0.8),
    ],
)
def test_digital_repairs_recover_a_die_with_a_tenth_of_its_cells_stuck(
    repaired: RunResult, name: str, least: float
) -> None:
    assert recovered(repaired, name) > least
    cost = repaired.cost[name]
    assert (cost.pulses > 0) == (name == "off")
    assert 0 < cost.sparse_share <= 0.05
    assert cost.memory_bits == 32 * cost.digital_parameters + cost.index_bits


def test_the_cost_counts_images_and_labels_that_were_looked_at(repaired: RunResult) -> None:
    cost = repaired.cost
    assert (cost["closed_form"].images, cost["closed_form"].labels) == (128, 0)
    assert cost["closed_form"].validation_images == 0
    assert (cost["finished"].images, cost["finished"].labels) == (128, 0)
    assert cost["finished"].validation_images == 150
    assert (cost["started"].images, cost["started"].labels) == (900, 900)
    assert cost["labelless"].labels == 0
    assert (cost["some"].images, cost["some"].labels, cost["some"].memory_writes) == (128, 0, 0)


def test_device_times_of_the_repairs_are_those_of_the_ledger(repaired: RunResult) -> None:
    timing = repaired.timing
    assert timing is not None
    assert (timing.source, timing.compared_with) == ("ledger", "some")
    for name, way in timing.ways.items():
        memory = 1e-9 * repaired.cost[name].memory_writes
        assert way.device_seconds == pytest.approx(repaired.cost[name].device_seconds + memory)
    solved, trained = repaired.cost["closed_form"], repaired.cost["started"]
    assert solved.memory_writes == solved.digital_parameters
    assert trained.memory_writes == 4 * 18 * trained.digital_parameters
    closed = timing.ways["closed_form"]
    assert closed.speed_up is not None
    assert closed.speed_up_with_programming is not None
    assert 1 < closed.speed_up_with_programming < closed.speed_up


def test_selective_rewriting_writes_few_cells_and_helps(repaired: RunResult) -> None:
    """It comes behind a step that has RESET the cells of a twentieth of the weights."""
    (some,) = [step for step in repaired.steps if step.name == "some"]
    assert some.findings["chosen_cells"] == 2 * 851
    arrays = np.load(Path(repaired.folder) / str(some.arrays))
    written = (arrays["sets"] + arrays["resets"]) > 0
    assert 0 < written.sum() <= 2 * 851
    assert accuracy(repaired, "some") > accuracy(repaired, "open_loop") + 0.1
    assert recovered(repaired, "refit") > recovered(repaired, "some")


def test_all_cells_cost_more_pulses_than_some_and_a_wide_window_fewer() -> None:
    wide = f'{RVW}name = "wide"\ntolerance_factor = 1.08\n'
    each = f'{RVW}name = "each"\ntolerance = [{", ".join(["4e-7"] * 10)}]\n'
    pulses, yields = {}, {}
    for name, step in (("some", SOME), ("wide", wide), ("each", each)):
        result = run(step, faults="")
        pulses[name] = result.cost[name].pulses
        yields[name] = float(result.steps[-1].findings["chosen_yield"] or 0)
        assert accuracy(result, name) > accuracy(result, "open_loop")
    assert pulses["some"] < 0.5 * pulses["wide"] < pulses["wide"] < 0.5 * pulses["each"]
    assert min(yields.values()) > 0.75


@cache
def _unstopped(step: str, name: str) -> tuple[float, dict[str, float | int | str | bool | None]]:
    result = run(step)
    return accuracy(result, name), result.steps[-1].findings


@pytest.mark.parametrize(
    ("step", "name"),
    [(FINISHED, "finished"), (OFF, "off")],
    ids=["closed form", "rsa"],
)
def test_a_step_that_is_stopped_at_every_tick_gives_what_it_would_have_given(
    step: str, name: str
) -> None:
    result = _stopped_at_every_tick(step, name, most=60)
    expected, findings = _unstopped(step, name)
    assert accuracy(result, name) == expected
    assert result.steps[-1].findings == findings


def _stopped_at_every_tick(step: str, name: str, most: int) -> RunResult:
    """Stopped at its first tick, resumed until its second, and so on, `most` times at most."""
    begun, ticks = Run.start(*job(step)), 0
    while not begun.is_finished and ticks < most:
        ticks += 1
        begun.execute(*stop_at(name, ticks))
        begun = Run.open(begun.run)
    assert ticks > 4
    return begun.result if begun.is_finished else begun.execute(lambda _: None, lambda: False)


def test_a_selection_that_is_stopped_keeps_to_the_cells_that_it_chose() -> None:
    """A closed loop reads again when it goes on, and so does not give the same bit for bit."""
    result = _stopped_at_every_tick(SOME, "some", most=12)
    step = result.steps[-1]
    arrays = np.load(Path(result.folder) / str(step.arrays))
    written = (arrays["sets"] + arrays["resets"]) > 0
    assert 0 < written.sum() <= 2 * 851
    assert (arrays["sets"] + arrays["resets"]).sum() == step.cost.pulses
    assert recovered(result, "some") > 0.3


def test_a_loop_that_failed_behind_its_last_pass_reads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = Run.start(*job(f'{STEP}method = "rvw"\npasses = 1\n', faults=""))

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "judge", fails)
        with pytest.raises(KeyboardInterrupt):
            begun.execute(lambda _: None, lambda: False)
    before = begun.result.steps[-1].cost.pulses
    result = Run.open(begun.run).execute(lambda _: None, lambda: False)
    assert result.steps[-1].cost.pulses == before > 0
    assert recovered(result, "rvw") > 0.5


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (
            f'{CLOSED}learn_from = "calibration"\nimages = 148\n',
            "step 'closed_form' asks for 148 images, but the calibration set has 147; ask for ",
        ),
        (
            f"{CLOSED}images = 1048\n",
            "asks for 1048 images, but the calibration and train sets have 1047",
        ),
        (f"{RSA}images = 901\n", "the train set has 900; ask for fewer, or set learn_from"),
        (
            f'{CLOSED}finish = {{ images = 901, learn_from = "train" }}\n',
            "the finish of step 'closed_form' asks for 901 images",
        ),
        (f"{RVW}select = 'errx'\nimages = 2000\n", "step 'rvw' asks for 2000 images"),
        (f"{CLOSED}memory_bits = 40000\n", "a fraction of 0.0353 fits, or allow 51223 bits"),
        (f"{RSA}memory_bits = 6000\n", "the 202 numbers of the columns alone take 6464 bits"),
    ],
)
def test_more_than_there_is_is_refused_before_any_device_is_touched(step: str, words: str) -> None:
    begun = Run.start(*job(step))
    with pytest.raises(FileError) as caught:
        begun.execute(lambda _: None, lambda: False, connect_to=_untouched)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def _untouched(_: Run) -> None:  # type: ignore[misc]
    raise AssertionError("a device was asked for")


def test_the_fraction_that_is_said_to_fit_fits() -> None:
    cost = run(f"{CLOSED}memory_bits = 40000\nfraction = 0.0353\n").cost["closed_form"]
    assert 0 < cost.memory_bits <= 40_000


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (f"{RSA}switch_off = true\n", "set replacing = true as well"),
        (f'{RSA}start = "closed_form"\n', "set gains = true and replacing = false"),
        (f"{RVW}fraction = 0.1\n", "fraction belongs to a selection such as select = 'errx'"),
        (
            f'{STEP}method = "rvw"\nhow = "on_chip"\npasses = 2\n',
            "passes belongs to how = 'verify'",
        ),
        (f"{RVW}tolerance_factor = 0.5\ntolerance = [1e-6]\n", "keep one of them"),
        (f'{CLOSED}mask = "erx"\n', "closed_form.mask: input should be"),
        (f"{CLOSED}frction = 0.1\n", "unknown key 'steps.4.recover.closed_form.frction'; did you"),
        (f'{STEP}method = "closed"\n', "unknown method 'closed'; did you mean 'closed_form'?"),
    ],
)
def test_settings_that_mean_nothing_together_are_one_sentence(step: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        job(step)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("step", "words", "mapping"),
    [
        (f"{RVW}tolerance = [1e-6, 1e-6]\n", "names 2 windows for 10 levels", ""),
        (f"{RVW}tolerance_factor = 2.0\n", "more than half of the 4.33 µS between two", ""),
        (f"{RVW}tolerance_factor = 1e-4\n", "one reading step", ""),
        (OFF, "use two_column, or switch_off = false", 'scheme = "one_column"\n'),
        (f'{STEP}method = "rvw"\nhow = "on_chip"\n', "write-verify", ""),
    ],
)
def test_what_a_die_cannot_do_is_refused_before_the_first_pulse(
    step: str, words: str, mapping: str
) -> None:
    text = (HEAD + step).replace("FAULTS", "").replace("[mapping]\n", f"[mapping]\n{mapping}")
    begun = Run.start(check(tomllib.loads(text), JobFile, "job.toml"), text)
    with pytest.raises(Refused) as caught:
        begun.execute(lambda _: None, lambda: False)
    assert words in str(caught.value)
    assert sum(step.cost.pulses for step in begun.result.steps) == 0
