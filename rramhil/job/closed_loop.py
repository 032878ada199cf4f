"""Read-verify-write of a mapped network, in passes, resumable where it was stopped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Bools, Floats
from rramhil.job.subject import Subject
from rramhil.job.work import Arrays, Tick, Ticks, Work, note_yield
from rramhil.rounds import Counts, Round
from rramhil.tune import GateCurve
from rramhil.verify import Recipe, Target, program, settled_reading


@dataclass(frozen=True, eq=False, slots=True)
class Scope:
    """Which of the mapped cells a step writes, and half of the window of each in siemens."""

    chosen: Bools
    tolerance: Floats | None

    @classmethod
    def everything(cls, subject: Subject) -> Scope:
        """All mapped cells, with the windows of the mapping."""
        return cls(np.ones(subject.cells.size, bool), None)

    def target(
        self, subject: Subject, curve: GateCurve | None, centre: Floats | None = None
    ) -> Target:
        """The windows of all mapped cells, as wide as this scope has them."""
        return subject.target(curve, centre, self.tolerance)


def closed_loop(
    work: Work,
    recipe: Recipe,
    passes: int,
    delay: float,
    compensate: bool,
    scope: Scope | None = None,
) -> Ticks:
    """Write-verify in `passes`, each `delay` after the one before; then read independently.

    Cells relax after a write; a later pass takes back those that left their window (iterative
    programming narrows the distribution: W. Wan et al., Nature 608, 504, 2022, Methods). Cells
    that a pass gave up are left as they are; with `compensate` the later passes move their
    partners.
    """
    subject, curve = work.subject, work.need_curve()
    scope = scope or Scope.everything(subject)
    size = subject.cells.size
    goes_on, kept = "passed" in work.partial, dict(work.partial)
    so_far = _Loop.resumed(work.partial if goes_on else {}, subject)
    siemens: Floats | None = None
    for number in range(so_far.passed, passes):
        later = number > 0 or goes_on
        now = recipe.model_copy(update={"first_reset": False}) if later else recipe
        left = np.flatnonzero(scope.chosen & ~so_far.given_up)
        target = scope.target(subject, curve, so_far.centre).take(left)
        sets, resets = so_far.sets.copy(), so_far.resets.copy()
        for round_ in program(work.device, subject.cells[left], target, now, work.job.writing):
            so_far.add(round_, left, sets, resets)
            work.partial = kept | so_far.as_arrays()
            text = f"round {len(so_far.open_cells)}: {round_.open_cells} cells outside their window"
            yield Tick(number * size + size - round_.open_cells, passes * size + 1, text)
        so_far.given_up[left[round_.given_up]] = True
        so_far.passed = number + 1
        siemens = settled_reading(work.device, subject.cells, delay)
        if compensate:
            so_far.centre = subject.compensated(siemens, so_far.given_up)
        work.partial = kept | so_far.as_arrays()
    if siemens is None:  # stopped behind the last pass
        siemens = settled_reading(work.device, subject.cells, 0.0)
    moved = np.count_nonzero(so_far.centre != subject.mapped.siemens) if passes > 1 else 0
    note_yield(work, siemens)
    work.findings |= {
        "rounds": len(so_far.open_cells),
        "given_up": int(so_far.given_up.sum()),
        "compensating_cells": int(moved),
        "pulses_per_cell": float((so_far.sets + so_far.resets).mean()),
    }
    work.arrays |= {
        "open_cells": np.array(so_far.open_cells),
        "siemens_before": so_far.before,
        "siemens": siemens,
        "sets": so_far.sets,
        "resets": so_far.resets,
        "given_up": so_far.given_up,
    }


@dataclass(eq=False)
class _Loop:
    """What a closed loop in passes has done so far; survives a stop as arrays."""

    passed: int
    centre: Floats
    given_up: NDArray[np.bool_]
    sets: NDArray[np.int32]
    resets: NDArray[np.int32]
    before: Floats
    open_cells: list[int]

    @classmethod
    def resumed(cls, stored: Arrays, subject: Subject) -> _Loop:
        """From what a stopped step had stored, or from the beginning."""
        size = subject.cells.size
        if stored:
            return cls(
                passed=int(stored["passed"]),
                centre=stored["centre"],
                given_up=stored["given_up"].copy(),
                sets=stored["sets"],
                resets=stored["resets"],
                before=stored["before"],
                open_cells=stored["open_cells"].tolist(),
            )
        zeros = np.zeros(size, np.int32)
        unread = np.full(size, np.nan, np.float32)
        return cls(0, subject.mapped.siemens, zeros.astype(bool), zeros, zeros, unread, [])

    def add(self, round_: Round, left: NDArray[np.int64], sets: Counts, resets: Counts) -> None:
        """Take in a round of the cells `left`; `sets`, `resets`: counts before this pass."""
        if np.isnan(self.before).all():
            self.before = round_.siemens
        self.open_cells.append(round_.open_cells)
        self.sets, self.resets = sets.copy(), resets.copy()
        self.sets[left] += round_.sets
        self.resets[left] += round_.resets

    def as_arrays(self) -> Arrays:
        """For a file; `resumed` reads it."""
        return {
            "passed": np.array(self.passed),
            "centre": self.centre,
            "given_up": self.given_up.copy(),
            "sets": self.sets,
            "resets": self.resets,
            "before": self.before,
            "open_cells": np.array(self.open_cells, np.int64),
        }
