"""The step that fine-tunes the device itself with open-loop writes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Refused
from rramhil.job.file import JobFile, Program
from rramhil.job.learning import held, images_of, note_digital, settings_of, updates_of
from rramhil.job.recoveries import RecoverFineTune
from rramhil.job.work import Tick, Ticks, Work
from rramhil.mapping import filled
from rramhil.nn.network import accuracy_of
from rramhil.nn.written import WrittenNetwork, measure_errors
from rramhil.recover.cost import digital_cost
from rramhil.recover.fine_tune import (
    Chip,
    FineTuneSettings,
    FineTuning,
    fine_tune,
    most_writes,
    refresh,
    refreshed,
)
from rramhil.verify import settled_reading

NOT_OPEN_LOOP = (
    "fine_tune learns how open-loop writes err from the first programming, and this one was not "
    "open loop; program with how = 'open_loop', or recover with method 'rvw'"
)


def recover_fine_tune(work: Work, step: RecoverFineTune, generator: np.random.Generator) -> Ticks:
    """Rounds of training, open-loop writing and reading; judged from another reading.

    What the step has stored is used only if the ledger knows of no later write: a process that
    was killed begins its rounds anew, from what the cells hold now.
    """
    subject, partial = work.subject, work.partial
    settings = settings_of(FineTuneSettings, step, generator)
    images = images_of(work, step)
    total = settings.write_rounds * (settings.epochs + 3) + settings.refresh_epochs + 2
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    state = FineTuning.resumed(subject.network, partial) if partial else None
    if state is None or int(state.writes.sum()) + int(partial["lost"]) != work.done:
        _check_lost(work, settings)
        siemens = settled_reading(work.device, subject.cells, step.delay)
        written = _written(work, filled(siemens, subject.highest))
        state, lost = FineTuning.begun(subject.network, written, siemens), work.done
    else:
        written, lost = _written(work, partial["stuck"]), int(partial["lost"])
    kept = {"stuck": written.stuck, "lost": np.array(lost)}
    chip = Chip(
        work.device,
        written,
        None if work.curve is None else lambda g: subject.target(work.curve, g).gate_volts,
        subject.highest,
        work.job.writing,
        step.delay,
    )
    done = 0
    for progress in fine_tune(chip, subject.network, images, subject.validation, settings, state):
        work.partial = {**progress.state, **kept}
        work.done = int(state.writes.sum()) + lost
        done += progress.phase != "write"
        yield Tick(min(done, total - 1), total, progress.text)
    _judge(work, settings, state, chip)
    _note(work, step, settings, state, chip, lost, len(images))
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def check_programmed(job: JobFile, where: str) -> None:
    """Raises `Refused` when the job has no open-loop programming to learn write errors from."""
    if not any(isinstance(step, Program) and step.how == "open_loop" for step in job.steps):
        raise Refused(f"{where}: {NOT_OPEN_LOOP}")


def _check_lost(work: Work, settings: FineTuneSettings) -> None:
    """Raises `Refused` when rounds that begin anew may write more than `writes_a_cell` in all."""
    lost = work.done / work.subject.cells.size
    most = most_writes(settings, work.subject.network.weights)
    allowed = settings.writes_a_cell
    if allowed is None or not lost or lost + most <= allowed + 1e-9:
        return
    raise Refused(
        f"a killed process has written a cell {lost:.3g} times here, and rounds that begin anew "
        f"up to {most:.3g} times more, which is more than the {allowed:.3g} of writes_a_cell; run "
        f"the job again from its programming, or allow {lost + most:.3g} in a job of its own"
    )


def _written(work: Work, held_siemens: NDArray[np.float64]) -> WrittenNetwork:
    """The mapped network with what is known of its cells: how writes err, which are stuck."""
    mapped = work.subject.mapped
    if work.open_loop is None:
        raise Refused(NOT_OPEN_LOOP)
    bad = np.isin(mapped.cells, work.stuck)
    errors = measure_errors(mapped.levels, mapped.siemens, work.open_loop, ~bad)
    return WrittenNetwork(mapped, errors, np.where(bad, held_siemens, np.nan))


def _judge(work: Work, settings: FineTuneSettings, state: FineTuning, chip: Chip) -> None:
    subject = work.subject
    again = settled_reading(work.device, subject.cells, 0.0)
    correction = refreshed(settings, state, chip)
    work.keep(correction)
    repaired = correction.applied(chip.held(again, state.biases))
    work.accuracy = accuracy_of(subject.network, subject.test, repaired.weights, repaired.biases)
    biases = {f"best.biases.{name}": bias.numpy() for name, bias in repaired.biases.items()}
    work.arrays |= {"siemens": again, "writes": state.writes, "aimed": state.aimed, **biases}


def _note(
    work: Work,
    step: RecoverFineTune,
    settings: FineTuneSettings,
    state: FineTuning,
    chip: Chip,
    lost: int,
    images: int,
) -> None:
    size = work.subject.cells.size
    errors = chip.written.errors
    labels = images if settings.label_share > 0 else 0
    recovery, _ = refresh(settings, state, chip)
    array = held(work.subject, state.siemens)
    price = digital_cost(recovery.places, array, images, labels, len(work.subject.validation))
    trained = settings.write_rounds * settings.epochs * math.ceil(images / settings.batch)
    writes = trained * price.parameters["biases"]
    note_digital(work, price, updates_of(recovery.schedule, images), writes)
    work.findings |= {
        "accuracy": work.accuracy,
        "rounds": settings.write_rounds,
        "writes_per_cell": (int(state.writes.sum()) + lost) / size,
        "cells_left_alone": int(np.count_nonzero(state.writes == 0)),
        "stuck_cells": int(np.isfinite(chip.written.stuck).sum()),
        "highest_level_spread_siemens": float(errors.spread[-1]),
    }
