"""Runs that share a network and data that are loaded already."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from rramhil.job import subject
from rramhil.job.file import JobFile
from rramhil.job.subject import Material
from rramhil.nn.network import accuracy_of
from rramhil.run import Run
from rramhil.schema import FileError, check

JOB = """
name = "shared"
seed = 3
network = { name = "digits" }
data = { name = "digits" }
[device]
address = "emulator:statistical?law=multiplicative&sigma=0.1&die=3&seed=3&tiles=1"
[mapping]
lowest = "1 uS"
highest = "40 uS"
tolerance = "2 uS"
[[steps]]
do = "tune"
first_gate = "1 V"
last_gate = "3 V"
points = 5
cells = 32
"""


def started(text: str = JOB) -> Run:
    return Run.start(check(tomllib.loads(text), JobFile, "job.toml"), text)


def test_runs_share_a_network_that_is_loaded_and_judged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = started()
    own = alone.execute(lambda _: None, lambda: False)
    material = Material.load(alone.job)
    judged: list[int] = []

    def counted(*given: Any) -> float:
        judged.append(1)
        return accuracy_of(*given)

    monkeypatch.setattr(subject, "accuracy_of", counted)
    for _ in range(2):
        result = started().execute(lambda _: None, lambda: False, material=material)
        assert result.accuracy.teacher == own.accuracy.teacher
        assert result.accuracy.ideal_mapping == own.accuracy.ideal_mapping
    assert len(judged) == 2  # the teacher, the ideal mapping


def test_material_of_another_network_is_refused() -> None:
    material = Material.load(started().job)
    other = started(JOB.replace('name = "digits"', 'name = "other.safetensors"', 1))
    with pytest.raises(FileError, match="load what it names"):
        other.execute(lambda _: None, lambda: False, material=material)
