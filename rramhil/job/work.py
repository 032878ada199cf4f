"""What the steps of one run share, and the safe points that they yield."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from rramhil.connected import Connected
from rramhil.device import NO_CELLS, Cells, Floats, Refused
from rramhil.job.file import JobFile
from rramhil.job.subject import Subject
from rramhil.recover.correction import Correction
from rramhil.tune import GateCurve
from rramhil.verify import window_yield

Findings = dict[str, float | int | str | bool | None]
Arrays = dict[str, NDArray[Any]]
Ticks = Generator["Tick", None, None]


@dataclass(frozen=True, slots=True)
class Tick:
    """A safe point: how much is done of how much, and what is happening."""

    done: int
    total: int
    text: str


@dataclass(eq=False)
class Work:
    """What the steps of one run share, and what the running step has found so far.

    `stuck`: cells that a scan found bad; `open_loop`: what the mapped cells read after an open-loop
    programming. `done`: cells that an interrupted step had written open loop. `partial`: what a
    closed loop has so far; a step that is resumed goes on from it. `accuracy`: filled by
    a step that evaluates. `digital`: counts of digital parameters and images for the cost.
    `correction`: digital numbers that a finished recovery left beside the array, until cells are
    written; `seen`: what the cells read when it was fitted, or after they were last written;
    `written`: what they read after the first programming. `counted`: codes of products count high
    cells, since a trim. `run`: its id in the ledger.
    """

    job: JobFile
    device: Connected
    subject: Subject
    curve: GateCurve | None = None
    stuck: Cells = field(default_factory=lambda: NO_CELLS)
    correction: Correction | None = None
    seen: Floats | None = None
    written: Floats | None = None
    open_loop: Floats | None = None
    done: int = 0
    partial: Arrays = field(default_factory=dict)
    findings: Findings = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    accuracy: float | None = None
    digital: dict[str, float] = field(default_factory=dict)
    counted: bool = False
    run: str | None = None

    def begin_step(self, done: int = 0) -> None:
        """Forget what the step before found."""
        self.done, self.accuracy = done, None
        self.findings, self.arrays, self.digital, self.partial = {}, {}, {}, {}

    def keep(self, correction: Correction | None) -> None:
        """Use `correction` from now on, and put it among the arrays of this step."""
        self.correction = correction
        if correction is not None:
            self.arrays |= correction.as_arrays()

    def need_curve(self) -> GateCurve:
        """The gate curve of this die. Raises `Refused` when no step has measured it."""
        if self.curve is None:
            raise Refused(
                "the nominal gate voltages are not known yet; put a step 'tune' before 'program'"
            )
        return self.curve


def note_yield(work: Work, siemens: Floats) -> None:
    """Yield and error by an independent reading, which no acceptance has biased."""
    found = window_yield(siemens, work.subject.target(work.curve))
    work.findings |= {
        "yield": found.fraction,
        "rms_error_siemens": found.rms_error_siemens,
        "median_error_siemens": found.median_error_siemens,
        "unreadable": found.unreadable,
    }
