"""What a job file may not say: each wrong value is one sentence, found when it is loaded."""

from __future__ import annotations

import tomllib

import pytest

from rramhil.job.file import JobFile, load_job, shipped_jobs
from rramhil.job.recoveries import RecoverRSA
from rramhil.mapping import SCHEMES
from rramhil.recover.rsa import RsaSettings
from rramhil.schema import FileError, check

HEAD = """
name = "job"
network = { name = "digits" }
data = { name = "digits" }
"""
TUNE, PROGRAM, EVALUATE = '{ do = "tune" }', '{ do = "program" }', '{ do = "evaluate" }'
RSA, RVW = '{ do = "recover", method = "rsa" }', '{ do = "recover", method = "rvw" }'


def load(*steps: str, more: str = "") -> JobFile:
    text = f"{HEAD}steps = [{', '.join(steps)}]\n{more}"
    return check(tomllib.loads(text), JobFile, "job.toml")


def refusal(*steps: str, more: str = "") -> str:
    with pytest.raises(FileError) as caught:
        load(*steps, more=more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_job_in_order_is_taken() -> None:
    assert load(TUNE, PROGRAM, EVALUATE, RSA, RVW).step_names()[-1] == "rvw"
    assert load('{ do = "scan" }', '{ do = "report" }').step_names() == ["scan", "report"]
    for name in shipped_jobs():
        load_job(name)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([PROGRAM, TUNE], "put a step 'tune' before 'program'"),
        ([EVALUATE, TUNE, PROGRAM], "put a step 'program' before 'evaluate'"),
        ([TUNE, RSA, PROGRAM], "put a step 'program' before 'rsa'"),
        ([TUNE, RVW], "put a step 'program' before 'rvw'"),
        ([TUNE, PROGRAM, '{ do = "evaluate" }', '{ do = "evaluate" }'], "two steps are called"),
    ],
)
def test_a_step_without_what_it_builds_on_is_refused(steps: list[str], words: str) -> None:
    assert words in refusal(*steps)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('{ do = "toon" }', "unknown step 'toon'; did you mean 'tune'?"),
        ('{ do = "recover", method = "rvv" }', "unknown method 'rvv'; did you mean 'rvw'?"),
        ('{ do = "recover" }', "the key 'method' is missing; add it"),
        ("{ points = 3 }", "the key 'do' is missing; add it"),
        (
            '{ do = "program", recipe = { algorithm = "isp" } }',
            "unknown algorithm 'isp'; did you mean 'ispp'?",
        ),
        ('{ do = "tune", first_gate = "3 V", last_gate = "2 V" }', "first_gate 3 V does not lie"),
        ('{ do = "tune", first_gate = "2 V", last_gate = "2 V" }', "does not lie below last_gate"),
        ('{ do = "tune", first_gate = "-1 V" }', "tune.first_gate: input should be greater than"),
        ('{ do = "characterise", last_gate = 1 }', "first_gate 1.8 V does not lie below last_gate"),
        ('{ do = "characterise", first_sl = 3 }', "first_sl 3 V does not lie below last_sl 3 V"),
        ('{ do = "tune", cells = 4097 }', "tune.cells: input should be less than or equal to 4096"),
        ('{ do = "scan", set_gate = inf }', "set_gate: input should be a finite number"),
        ('{ do = "scan", thresholds = { bad_row_share = 2 } }', "bad_row_share"),
        ('{ do = "scan", thresholds = { noisy_siemens = -1e-6 } }', "noisy_siemens"),
        ('{ do = "form", forming = { seconds = 0 } }', "forming.seconds"),
        ('{ do = "form", forming = { start_volts = -1 } }', "forming.start_volts"),
    ],
)
def test_a_wrong_step_is_one_sentence(step: str, words: str) -> None:
    assert words in refusal(step)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('{ do = "evaluate", delay = "-1 s" }', "evaluate.delay"),
        ('{ do = "evaluate", delay = "1 V" }', "write for example '100 ns'"),
        ('{ do = "recover", method = "rsa", temperature = inf }', "temperature"),
        ('{ do = "recover", method = "rsa", delay = nan }', "rsa.delay"),
        (
            '{ do = "recover", method = "closed_form", finish = { learning_rate = inf } }',
            "finish.learning_rate: input should be a finite number",
        ),
        ('{ do = "care", every = 3600, points = 4 }', "points says how times are spaced"),
        ('{ do = "care", every = 3600, first = "2 s" }', "first says how times are spaced"),
    ],
)
def test_a_wrong_later_step_is_one_sentence(step: str, words: str) -> None:
    assert words in refusal(TUNE, PROGRAM, step)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ('algorithm = "ispp", gate_step_volts = 0', "gate_step_volts"),
        ('algorithm = "ispp", gate_lead_volts = -0.1', "gate_lead_volts"),
        ('algorithm = "sdr", fine_set = { start = 2, step = 0.1, stop = 1 }', "lies below the"),
        ('algorithm = "sdr", fine_reset = { start = 1, step = 0, stop = 2 }', "never takes"),
        ('algorithm = "sdr", fine_set = { start = 1, step = -0.1, stop = 2 }', "fine_set.step"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(recipe: str, words: str) -> None:
    assert words in refusal(TUNE, f'{{ do = "program", recipe = {{ {recipe} }} }}')


def test_a_ramp_of_one_voltage_needs_no_step() -> None:
    recipe = 'recipe = { algorithm = "sdr", fine_set = { start = 1, step = 0, stop = 1 } }'
    load(TUNE, f'{{ do = "program", how = "verify", {recipe} }}')
    load(TUNE, more="[writing]\nreset_volts = 2.5\nreset_step_volts = 0\nreset_stop_volts = 2.5")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[writing]\nset_volts = "-2 V"', "writing.set_volts"),
        ("[writing]\nset_seconds = 0", "writing.set_seconds"),
        ("[writing]\nreset_step_volts = -0.1", "writing.reset_step_volts"),
        ("[writing]\nreset_step_volts = 0", "the RESET's step 0 V never takes the ramp"),
        ('[writing]\nreset_stop_volts = "2.2 V"', "the RESET's stop 2.2 V lies below"),
        ("[writing]\nreset_volts = nan", "writing.reset_volts: input should be a finite number"),
        ('[mapping]\nlowest = "20 us"', "write for example '20 uS'"),
        ("[mapping]\nhighest = inf", "mapping.highest: input should be a finite number"),
    ],
)
def test_a_wrong_table_is_one_sentence(table: str, words: str) -> None:
    assert words in refusal(TUNE, more=table)


@pytest.mark.parametrize("key", ["passes = 3", "compensate = false", 'recipe = {algorithm="sdr"}'])
def test_keys_of_another_way_of_programming_are_refused(key: str) -> None:
    text = f"""
name = "job"
network = {{ name = "digits" }}
data = {{ name = "digits" }}
[[steps]]
do = "tune"
[[steps]]
do = "program"
{key}
"""
    with pytest.raises(FileError, match=r"belongs to how = 'verify' and means nothing"):
        check(tomllib.loads(text), JobFile, "job.toml")


def test_a_job_sets_all_that_random_sparse_adaptation_takes_but_its_seed() -> None:
    assert set(RsaSettings.model_fields) - set(RecoverRSA.model_fields) == {"seed"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('scheme = "diferential"', "did you mean 'differential'?"),
        ("slices = 3", "the scheme 'two_column' has no slices; take the scheme 'bit_slices'"),
        ('scheme = "bit_slices"\nslices = 1', "greater than or equal to 2"),
        ('scheme = "bit_slices"\nslices = 8', "8 digits of 10 levels are finer than 24 bits"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(keys: str, words: str) -> None:
    assert words in refusal(TUNE, more=f"[mapping]\n{keys}\n")


def test_each_scheme_can_be_asked_for() -> None:
    table = load(TUNE, more='[mapping]\nscheme = "bit_slices"\nslices = 3\n').mapping
    assert table.as_scheme().columns_per_weight == 6
    for name in SCHEMES:
        assert load(TUNE, more=f'[mapping]\nscheme = "{name}"\n').mapping.as_scheme().name == name
