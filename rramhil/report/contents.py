"""What a run's folder holds, read once and forgivingly: a missing piece is absence, no error."""

from __future__ import annotations

import json
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rramhil.job.result import RunResult, StepResult
from rramhil.schema import FileError

Arrays = Mapping[str, NDArray[Any]]
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """A run as its folder tells it.

    `job` is the parsed job file ({} when it cannot be parsed), `layout` the mapping's arrays,
    `arrays` those of each step by the step's index. `missing` says in sentences what was
    named but could not be read.
    """

    result: RunResult
    job_text: str = ""
    job: Mapping[str, Any] = field(default_factory=dict)
    layout: Arrays = field(default_factory=dict)
    arrays: Mapping[int, Arrays] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    missing: tuple[str, ...] = ()

    def steps_doing(self, what: str) -> Iterator[tuple[StepResult, Arrays]]:
        """Steps of one kind ('scan', 'program', ...) and their arrays, in order."""
        for step in self.result.steps:
            if step.do == what:
                yield step, self.arrays.get(step.index, {})

    def job_table(self, name: str) -> Mapping[str, Any]:
        """A table of the job file, {} when there is none."""
        table = self.job.get(name)
        return table if isinstance(table, dict) else {}


def read_contents(folder: Path) -> Contents:
    """Everything in `folder`. Raises `FileError` without a readable result.json."""
    result = _read_result(folder / "result.json")
    missing: list[str] = []
    text = _read_text(folder / "job.toml")
    layout = _read_arrays(folder, "arrays/layout.npz", missing, wanted=False)
    arrays = {
        step.index: _read_arrays(folder, step.arrays, missing, wanted=True)
        for step in result.steps
        if step.arrays is not None
    }
    events = tuple(_read_events(folder / "events.jsonl"))
    return Contents(result, text, _parse(text), layout, arrays, events, tuple(missing))


def _read_result(path: Path) -> RunResult:
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise FileError(
            f"{path} is no result of a run ({type(error).__name__}); name the folder of a run"
        ) from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _read_arrays(folder: Path, relative: str, missing: list[str], *, wanted: bool) -> Arrays:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        missing.append(f"{relative} lies outside the run's folder and was not read.")
        return {}
    if not path.exists() and not wanted:
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        missing.append(f"{relative} could not be read ({type(error).__name__}).")
        return {}


def _read_events(path: Path) -> Iterator[Mapping[str, Any]]:
    for line in _read_text(path).splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a killed run may be cut
        if isinstance(event, dict):
            yield event
