"""`recover` makes a job from words and runs it, or writes it; what is mistyped is one sentence."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.cli import complete
from rramhil.job.file import load_job, shipped_jobs
from rramhil.job.making import base_for, recovery_job
from rramhil.job.recoveries import RecoverClosedForm, methods
from rramhil.schema import FileError

FAULTY = "law=multiplicative&sigma=0.5&die=4&stuck_lrs=0.0175&stuck_hrs=0.0904"


def test_a_die_with_faults_is_recovered_by_one_command(rramhil: Call) -> None:
    device = f"emulator:statistical?{FAULTY}"
    words = ("closed_form", "--device", device, "--fraction", "0.05", "--set", "images=100")
    result = json_of(rramhil("recover", *words, "--seed", "2", "--json"))
    accuracy = result["accuracy"]
    assert accuracy["open_loop"] < 0.8
    assert accuracy["closed_form"] > 0.93
    assert result["cost"]["closed_form"]["images"] == 100
    assert (result["seed"], result["outcome"]) == (2, "finished")
    assert Path(result["report"]).exists()


def test_what_is_written_is_the_job_that_would_have_run(rramhil: Call, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    words = ("recover", "rvw", "--select", "errx", "--fraction", "0.1", "--write", str(path))
    more = ("--set", "recipe.algorithm=ispp", "--set", "tolerance_factor=0.5", "--json")
    assert json_of(rramhil(*words, *more)) == {"files": [str(path)]}
    job, _ = load_job(str(path))
    assert job.step_names() == ["scan", "tune", "program", "open_loop", "rvw", "report"]
    settings = {"select": "errx", "fraction": 0.1, "recipe": {"algorithm": "ispp"}}
    made, _ = recovery_job(
        "rvw", {**settings, "tolerance_factor": 0.5}, "quickstart", "emulator:40nm"
    )
    assert job == made
    again = rramhil(*words)
    assert again.exit_code == 2
    assert "exists and is not overwritten" in error_of(again)


def test_the_data_are_those_of_the_network_and_the_mapping_that_of_the_chip() -> None:
    assert base_for("emulator:statistical?sigma=0.3") == "statistical"
    assert base_for("serial:/dev/ttyUSB0") == "quickstart"
    job, text = recovery_job("rsa", {}, "quickstart", "emulator:40nm", "lenet5-mnist", seed=4)
    assert (job.network.name, job.data.name, job.seed) == ("lenet5-mnist", "mnist", 4)
    assert "None" not in text


STATION = 'name = "mine"\naddress = "emulator:40nm?die=5"\n'


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ([], "emulator:40nm"),
        (["--like", "statistical"], "emulator:statistical?law=multiplicative&sigma=0.5"),
        (["--like", "statistical", "--station", "mine.toml"], "emulator:40nm?die=5"),
        (["--device", "emulator:40nm?die=9", "--station", "mine.toml"], "emulator:40nm?die=9"),
    ],
)
def test_the_device_is_the_one_given_else_the_stations_else_the_patterns(
    rramhil: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    address: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(STATION)
    json_of(rramhil("recover", "rsa", *words, "--write", "job.toml", "--json"))
    device = load_job("job.toml")[0].device
    station = str(tmp_path / "mine.toml") if "--station" in words else None
    assert (device.address, device.station) == (address, station)


def test_a_network_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = files("rramhil_fixtures") / "networks" / "digits.safetensors"
    Path("mine.safetensors").write_bytes(shipped.read_bytes())
    job, _ = recovery_job("rsa", {}, "quickstart", network="mine.safetensors")
    assert job.network.name == str(tmp_path / "mine.safetensors")


def test_a_job_that_programs_nothing_is_no_pattern() -> None:
    with pytest.raises(FileError, match="put a step 'program' before 'closed_form'"):
        recovery_job("closed_form", {}, "characterise", "emulator:40nm")


@pytest.mark.parametrize("like", [name for name in shipped_jobs() if name != "characterise"])
def test_every_other_shipped_job_can_be_the_pattern(like: str) -> None:
    job, _ = recovery_job("closed_form", {"finish": {"epochs": 2}}, like, "emulator:40nm")
    (step,) = [s for s in job.steps if isinstance(s, RecoverClosedForm)]
    assert step.finish is not None
    assert step.finish.epochs == 2
    assert job.mapping == load_job(like)[0].mapping


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["closd_form"], "no recovery method 'closd_form'; did you mean 'closed_form'?"),
        (["rsa", "--set", "epohs=3"], "did you mean 'epochs'?"),
        (["rsa", "--mask", "erx"], "(it is 'erx'); did you mean 'errx'?"),
        (["rsa", "--set", "epochs"], "no KEY=VALUE"),
        (["rvw", "--epochs", "3"], "unknown key"),
        (["closed_form", "--set", "finish=5", "--set", "finish.epochs=3"], "keep one of the two"),
        (["closed_form", "--set", "finish.epochs=3", "--set", "finish=5"], "keep one of the two"),
        (["rsa", "--set", "epochs=3", "--set", "epochs=4"], "'epochs' is given twice"),
        (["rsa", "--fraction", "0.1", "--set", "fraction=0.2"], "'fraction' is given twice"),
        (["rsa", "--set", "method=rvw"], "changes what METHOD says"),
        (["rsa", "--set", "do=evaluate"], "changes what METHOD says"),
        (["rsa", "--like", "quikstart"], "did you mean 'quickstart'?"),
        (["rsa", "--device", "emulatr:40nm"], "did you mean 'emulator'?"),
        (["rsa", "--network", "digit"], "did you mean 'digits'?"),
    ],
)
def test_what_is_mistyped_is_one_sentence(rramhil: Call, words: list[str], hint: str) -> None:
    result = rramhil("recover", *words)
    assert result.exit_code == 2
    assert hint in error_of(result)


def test_methods_rules_and_networks_are_completed() -> None:
    assert complete.methods("clo") == ["closed_form"]
    assert complete.methods("") == sorted(methods())
    assert complete.rules("err") == ["errx"]
    assert complete.networks("digits-t") == ["digits-ternary"]
