"""`init` writes files that load as they are, say what they say, and overwrite nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cli_calls import Call, error_of, json_of

from rramhil.address import parse_address
from rramhil.cli.init import JOB, STATION
from rramhil.job.file import JobFile, load_job
from rramhil.schema import check
from rramhil.station import Station, load_station


def test_what_init_writes_loads_unchanged(rramhil: Call, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bench"
    result = rramhil("init", str(folder), "--json")
    assert json_of(result)["files"] == [str(folder / "job.toml"), str(folder / "station.toml")]
    job, _ = load_job(str(folder / "job.toml"))
    parse_address(job.device.address)
    repairs = ["closed_form", "rsa", "rvw"]
    assert job.step_names() == ["scan", "tune", "program", "open_loop", *repairs, "report"]
    station, whose = load_station(folder / "station.toml")
    assert not station.pulses.form.allowed
    assert "station.toml" in whose


def test_nothing_is_overwritten(rramhil: Call, tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text("mine")
    result = rramhil("init", str(tmp_path))
    assert result.exit_code == 2
    assert "station.toml exists" in error_of(result)
    assert not (tmp_path / "job.toml").exists()
    assert (tmp_path / "station.toml").read_text() == "mine"


def test_a_file_is_no_folder(rramhil: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file; name a folder" in error_of(rramhil("init", str(tmp_path / "file")))


def uncommented(text: str) -> str:
    """The text with every line that is a commented-out key or table switched on."""
    return re.sub(r"(?m)^# (?=\w+ = |\[+[a-z.]+\]+)", "", text)


def test_what_is_commented_out_is_right_as_well() -> None:
    check(tomllib.loads(uncommented(STATION)), Station, "station.toml")
    job = check(tomllib.loads(uncommented(JOB)), JobFile, "job.toml")
    assert "form" in job.step_names()


def test_the_keys_that_stand_in_the_job_stand_at_their_defaults() -> None:
    table = tomllib.loads(JOB)
    bare = {**table, "mapping": {}, "writing": {}}
    whole, short = (check(t, JobFile, "job.toml") for t in (table, bare))
    assert whole.mapping == short.mapping
    assert whole.writing == short.writing


def test_every_word_that_a_comment_offers_exists() -> None:
    offered = re.findall(r'(?m)^(scale|scheme|how) *= *"\w+".*?# .*?"(\w+)"', JOB)
    assert [key for key, _ in offered] == ["scheme", "scale", "how"]
    for key, word in offered:
        if key == "how":
            continue
        changed = re.sub(rf'(?m)^{key} = "\w+"', f'{key} = "{word}"', JOB)
        assert getattr(check(tomllib.loads(changed), JobFile, "job.toml").mapping, key) == word
