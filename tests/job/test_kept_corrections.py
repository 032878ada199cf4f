"""Whatever repaired the network, the steps behind it judge the repaired one."""

from typing import Any

import pytest

from rramhil.job.file import JobFile
from rramhil.job.folder import RunFolder
from rramhil.run import Run

WAYS: dict[str, dict[str, Any]] = {
    "closed_form": {"images": 100},
    "rsa": {"epochs": 6, "gains": True, "images": 400},
    "low_rank": {"epochs": 10, "images": 400},
    "progressive": {"epochs": 3, "images": 400},
    "fine_tune": {"rounds": 1, "images": 400, "epochs": 3, "refresh_epochs": 3},
}


def job(method: str) -> JobFile:
    return JobFile.model_validate(
        {
            "name": "kept",
            "device": {"address": "emulator:statistical?law=multiplicative&sigma=0.5&die=5"},
            "network": {"name": "digits"},
            "data": {"name": "digits"},
            "mapping": {"lowest": "1 uS", "highest": "40 uS", "tolerance": "2.1 uS"},
            "steps": [
                {"do": "tune", "first_gate": "1 V", "last_gate": "3 V", "cells": 4096},
                {"do": "program"},
                {"do": "evaluate", "name": "before"},
                {"do": "recover", "method": method, **WAYS[method]},
                {"do": "evaluate", "name": "after"},
            ],
        }
    )


@pytest.mark.parametrize("method", WAYS)
def test_an_evaluation_behind_a_repair_is_of_the_repaired_network(method: str) -> None:
    run = Run.start(job(method), "", folder=RunFolder.create(f"kept-{method}"))
    result = run.execute(watch=lambda _: None, should_stop=lambda: False)
    accuracy = result.accuracy.model_dump()
    assert accuracy["after"] == pytest.approx(accuracy[method], abs=0.01)
    assert accuracy["after"] > accuracy["before"] + 0.02


@pytest.mark.parametrize("method", ["closed_form", "low_rank", "progressive"])
def test_an_evaluation_in_situ_behind_a_repair_is_of_the_repaired_network(method: str) -> None:
    settings = {**WAYS[method], "products": "array"}
    raw = job(method).model_dump(exclude_unset=True)
    wide = {
        **raw,
        "device": {"address": "emulator:wide?die=3"},
        "mapping": {},
        "steps": [
            {"do": "tune"},
            {"do": "program", "how": "verify"},
            {"do": "recover", "method": method, **settings},
            {"do": "evaluate", "name": "after", "how": "in_situ"},
        ],
    }
    run = Run.start(JobFile.model_validate(wide), "", folder=RunFolder.create(f"in-situ-{method}"))
    result = run.execute(watch=lambda _: None, should_stop=lambda: False)
    accuracy = result.accuracy.model_dump()
    assert accuracy[method] > 0.7
    assert accuracy["after"] == pytest.approx(accuracy[method], abs=0.03)
