"""What the tests of the command line share: reading its answers, made-up results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

from rramhil.cost import Cost
from rramhil.job.folder import RunFolder
from rramhil.job.result import Accuracies, DeviceInfo, Interval, RunResult, StepResult

Call = Callable[..., Result]


def error_of(result: Result) -> str:
    """The one sentence of a failed command, after seeing that it is the only line."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def json_of(result: Result) -> Any:
    """What stands on stdout, which must be one JSON document and nothing else."""
    return json.loads(result.stdout)


def made_up_result(run: str = "20260101-120000-quickstart-ab12", **changes: Any) -> RunResult:
    """A finished run with round numbers."""
    values: dict[str, Any] = {
        "run": run,
        "name": "quickstart",
        "outcome": "finished",
        "address": "emulator:40nm",
        "device": DeviceInfo(model="40nm", serial="40nm-0", tiles=1, rows=256, cols=256),
        "ledger": "/nowhere/ledger.sqlite",
        "ledger_head": "ab" * 32,
        "report": "/nowhere/report.html",
        "folder": "/nowhere",
        "seed": 3,
        "accuracy": Accuracies.model_validate(
            {"teacher": 0.97, "ideal_mapping": 0.965, "open_loop": 0.8, "rsa": 0.95, "rvw": 0.96}
        ),
        "intervals": {"open_loop": Interval(low=0.77, high=0.83, images=600)},
        "cost": {
            "open_loop": Cost(device_seconds=1.25, host_seconds=2.0, pulses=12345, reads=777),
            "rsa": Cost(digital_parameters=321),
        },
        "steps": [StepResult(index=0, name="scan", do="scan", outcome="finished", last_row=9)],
        "warnings": ["a remark with [brackets]"],
    }
    return RunResult(**{**values, **changes})


def stored(result: RunResult) -> RunResult:
    """`result` in a run's folder under RRAMHIL_HOME."""
    folder = RunFolder.create(result.run)
    kept = result.model_copy(update={"folder": str(folder.path)})
    folder.save_result(kept)
    return kept
