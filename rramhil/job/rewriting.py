"""The recovery step that writes cells again: read-verify-write of all of them, or of some."""

from __future__ import annotations

import numpy as np

from rramhil.device import Bools, Floats
from rramhil.job.closed_loop import Scope, closed_loop
from rramhil.job.learning import held, images_of, judge, note_digital
from rramhil.job.on_chip import write_on_chip
from rramhil.job.recoveries import RecoverRVW
from rramhil.job.subject import Subject
from rramhil.job.work import Tick, Ticks, Work
from rramhil.recover.choosing import choose_mask
from rramhil.recover.cost import digital_cost
from rramhil.recover.rules import RULES, Rule
from rramhil.verify import window_yield

RANKED_BY: dict[str, Rule] = {**{rule: rule for rule in RULES}, "sensitivity": "fisher"}


def recover_rvw(work: Work, step: RecoverRVW, generator: np.random.Generator) -> Ticks:
    """Read-verify-write the chosen cells into their windows, then evaluate from a fresh reading."""
    subject = work.subject
    if step.select != "all" and "chosen" not in work.partial:
        yield Tick(0, 1, f"reading {subject.cells.size} cells to choose from")
        work.partial = {"chosen": _chosen(work, step, int(generator.integers(2**31)))}
    everything = np.ones(subject.cells.size, bool)
    scope = Scope(work.partial.get("chosen", everything), _tolerance(step, subject))
    if step.how == "on_chip":
        yield from write_on_chip(work, step.delay, scope)
    else:
        yield from closed_loop(work, step.recipe, step.passes, step.delay, step.compensate, scope)
    siemens = work.arrays["siemens"]
    own = window_yield(siemens[scope.chosen], scope.target(subject, work.curve).take(scope.chosen))
    work.findings |= {"chosen_cells": own.cells, "chosen_yield": own.fraction}
    judge(work, siemens)
    if step.looks_at_images:
        count = len(images_of(work, step))
        note_digital(work, digital_cost((), held(subject, siemens), count, 0, 0))
    assert work.accuracy is not None
    size = subject.cells.size
    yield Tick(size, size, f"accuracy {work.accuracy:.2%}")


def _chosen(work: Work, step: RecoverRVW, seed: int) -> Bools:
    """The cells of the weights that `step` selects, by a reading of now."""
    subject = work.subject
    array = held(subject, work.device.read(subject.cells))
    rule = RANKED_BY[step.select]
    mask = choose_mask(rule, step.fraction, subject.network, array, images_of(work, step), seed)
    return subject.mapped.cells_of(mask.entries)


def _tolerance(step: RecoverRVW, subject: Subject) -> Floats:
    """Siemens of half a window, for each mapped cell by its level."""
    levels = subject.mapped.levels
    nearest = levels.nearest(subject.mapped.siemens)
    if step.tolerance is None:
        return np.full(nearest.size, levels.tolerance * step.tolerance_factor)
    return np.asarray(step.tolerance)[nearest]
