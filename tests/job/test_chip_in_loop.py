"""Steps whose products the array computes itself: they recover on a die with faults, they stop
anywhere, and a die without a product is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rramhil.address import open_device
from rramhil.device import Refused
from rramhil.job.file import JobFile
from rramhil.job.preflight import preflight
from rramhil.job.result import RunResult
from rramhil.rerun import replay
from rramhil.run import Run
from rramhil.schema import FileError, check
from rramhil.session import Progress

HEAD = """
name = "in-the-loop"
seed = 3
device = { address = "emulator:CHIPdie=3&stuck_lrs=0.005&stuck_hrs=0.02" }
network = { name = "digits" }
data = { name = "digits" }
[[steps]]
do = "tune"
[[steps]]
do = "program"
how = "HOW"
[[steps]]
do = "evaluate"
name = "readback"
"""
IN_SITU = '[[steps]]\ndo = "evaluate"\nname = "in_situ"\nhow = "in_situ"\n'
STEP = '[[steps]]\ndo = "recover"\n'
CLOSED = f'{STEP}method = "closed_form"\nproducts = "array"\n'
FINISHED = f'{CLOSED}name = "finished"\nfinish = {{ epochs = 1 }}\n'
RSA = f'{STEP}method = "rsa"\nproducts = "array"\nmask = "errx"\ngains = true\n'
RSA += 'start = "closed_form"\nimages = 200\nepochs = 2\nlearning_rate = 1e-3\n'
LOW_RANK = f'{STEP}method = "low_rank"\n'
PROGRESSIVE = f'{STEP}method = "progressive"\nepochs = 2\n'
MEASURED = f'{PROGRESSIVE}name = "measured"\nproducts = "array"\n'
ON_ARRAY = ["closed_form", "finished", "rsa", "measured"]


def job(steps: str, chip: str = "wide?", how: str = "verify") -> tuple[JobFile, str]:
    text = HEAD.replace("CHIP", chip).replace("HOW", how) + steps
    return check(tomllib.loads(text), JobFile, "job.toml"), text


def run(steps: str, chip: str = "wide?", how: str = "verify") -> RunResult:
    return Run.start(*job(steps, chip, how)).execute(lambda _: None, lambda: False)


def accuracy(result: RunResult, name: str) -> float:
    return float(result.accuracy.model_dump()[name])


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Columns untrimmed, and cells stuck: every way that has the array in its loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("repaired")))
        result = run("".join([IN_SITU, CLOSED, FINISHED, RSA, MEASURED]))
        recorded, replayed = replay(result.run, lambda _: None, lambda: False)
    assert replayed.accuracy == recorded.accuracy
    return result


@pytest.mark.parametrize("name", ON_ARRAY)
def test_what_the_array_computes_recovers(repaired: RunResult, name: str) -> None:
    assert accuracy(repaired, "readback") < 0.92
    assert accuracy(repaired, "in_situ") < 0.5
    assert accuracy(repaired, name) > 0.9  # the ideal mapping gives 0.97
    (step,) = [step for step in repaired.steps if step.name == name]
    assert step.findings["in_situ"] is True
    noise = [float(step.findings[f"product_noise_fc{n}"] or 0) for n in (1, 2, 3)]
    assert 0.02 < min(noise) < max(noise) < 0.3


def test_products_are_counted(repaired: RunResult) -> None:
    """Each layer of digits lies in blocks; a block of a tile takes a product for an image."""
    cost = {name: repaired.cost[name] for name in ("in_situ", *ON_ARRAY)}
    judged = cost["in_situ"].products
    assert cost["in_situ"].reads == cost["in_situ"].pulses == 0
    assert judged >= 3 * (600 + 2 * 50)
    assert judged % (600 + 2 * 50) == 0
    blocks = judged // (600 + 2 * 50)
    assert cost["closed_form"].products - judged == blocks * 128
    assert cost["finished"].products - judged == blocks * (128 + 128 + 2 * 150)
    assert cost["measured"].products - judged == blocks * (900 + 150)
    assert cost["measured"].pulses > 0
    images = {name: cost[name].images for name in cost}  # 147 of them for the ranges
    learnt = {"closed_form": 147, "finished": 147, "rsa": 347, "measured": 900 + 147}
    assert images == {"in_situ": 147, **learnt}
    assert cost["in_situ"].labels == repaired.cost["readback"].images == 0
    assert cost["measured"].memory_writes == 404 + 2 * 18 * (64 + 2 * 10)
    assert repaired.cost["readback"].products == 0


def test_products_are_repeated_as_the_job_says(repaired: RunResult) -> None:
    text = f"[in_situ]\nrepeats = 3\ninput_percentile = 98\n{IN_SITU}{CLOSED}"
    often = run(text)
    for name in ("in_situ", "closed_form"):
        assert often.cost[name].products == 3 * repaired.cost[name].products
        assert often.cost[name].reads == repaired.cost[name].reads
        (own,), (before,) = (
            [s.findings for s in r.steps if s.name == name] for r in (often, repaired)
        )
        assert float(own["product_noise_fc2"] or 0) < 0.7 * float(before["product_noise_fc2"] or 0)
    assert accuracy(often, "closed_form") > 0.9


@pytest.mark.parametrize(
    ("name", "least"), [("progressive", 0.78), ("low_rank", 0.93), ("verified", 0.9)]
)
def test_ways_by_readings_recover_on_a_die_with_faults(name: str, least: float) -> None:
    """Open loop the last layer keeps what its own writes do to it, but for gains and offsets."""
    steps = {
        "progressive": PROGRESSIVE,
        "low_rank": LOW_RANK,
        "verified": f'{PROGRESSIVE}name = "verified"\nhow = "verify"\nrecipe = {{ max_pulses = 30'
        ', algorithm = "sdr" }\n',
    }
    result = run(steps[name], how="open_loop")
    cost = result.cost[name]
    assert accuracy(result, "readback") < least - 0.1
    assert accuracy(result, name) > least
    assert cost.products == 0
    assert (cost.pulses > 0) == (name != "low_rank")
    assert (cost.images, cost.labels, cost.validation_images) == (900, 900, 150)
    if name == "low_rank":
        assert cost.digital_parameters == 2 * (192 + 192 + 74) + 404


@cache
def _unstopped(step: str, name: str) -> tuple[float, dict[str, float | int | str | bool | None]]:
    result = run(step)
    return accuracy(result, name), result.steps[-1].findings


def stop_at(name: str, ticks: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        if progress.name == name:
            seen.append(progress)

    return watch, lambda: len(seen) >= ticks


@pytest.mark.parametrize(("step", "name"), [(CLOSED, "closed_form"), (MEASURED, "measured")])
def test_a_step_that_is_stopped_at_every_tick_gives_what_it_would_have_given(
    step: str, name: str
) -> None:
    begun, ticks = Run.start(*job(step)), 0
    while not begun.is_finished and ticks < 40:
        ticks += 1
        begun.execute(*stop_at(name, ticks))
        begun = Run.open(begun.run)
    result = begun.result if begun.is_finished else begun.execute(lambda _: None, lambda: False)
    expected, findings = _unstopped(step, name)
    assert ticks > 3
    assert accuracy(result, name) == expected
    assert result.steps[-1].findings == findings


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (CLOSED, "step 'closed_form': memory computes no product on the array; set products ="),
        (RSA, "step 'rsa': memory computes no product on the array; set products = \"readback\""),
        (MEASURED, "step 'measured': memory computes no product"),
        (
            IN_SITU,
            "step 'in_situ': memory computes no product on the array; set how = \"readback\"",
        ),
    ],
)
def test_a_die_without_a_product_is_refused_before_the_first_pulse(step: str, words: str) -> None:
    spec = open_device("emulator:wide?").spec
    preflight(job(step)[0], spec)
    with pytest.raises(Refused) as caught:
        preflight(job(step)[0], replace(spec, mvm=None, model="memory"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (f'{PROGRESSIVE}recipe = {{ algorithm = "sdr", max_pulses = 9 }}\n', "recipe belongs to"),
        (f"{CLOSED.replace('array', 'aray')}", "closed_form.products: input should be"),
        (f"{LOW_RANK}rank = 0\n", "rank"),
        (f"{IN_SITU.replace('in_situ', 'insitu')}", "how"),
    ],
)
def test_settings_that_mean_nothing_are_one_sentence(step: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        job(step)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rank_too_high_says_which_is_enough() -> None:
    begun = Run.start(*job(f"{LOW_RANK}rank = 9\n", how="open_loop"))
    with pytest.raises(FileError, match="layer fc3 has weights, 64 x 10; give a rank of at most"):
        begun.execute(lambda _: None, lambda: False)
    assert not begun.result.ledger  # no device was touched


@pytest.mark.parametrize("after", ["recalibrate", "care"])
def test_gains_cannot_be_fitted_on_top_of_low_rank(after: str) -> None:
    later = f'[[steps]]\ndo = "{after}"\n'
    with pytest.raises(FileError, match=f"the step '{after}' cannot fit gains on top of"):
        job(f"{LOW_RANK}{later}")
    job(f"{LOW_RANK}{CLOSED}{later}")
    job(f'{LOW_RANK}[[steps]]\ndo = "recover"\nmethod = "rvw"\n{later}')


def test_the_weights_that_were_written_are_kept(repaired: RunResult) -> None:
    (step,) = [step for step in repaired.steps if step.name == "measured"]
    arrays = np.load(Path(repaired.folder) / str(step.arrays))
    assert arrays["weights.fc2"].shape == (128, 64)
    assert arrays["gains.fc3"].shape == (10,)
    assert not np.array_equal(arrays["gains.fc3"], np.ones(10))
