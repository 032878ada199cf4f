"""After-care at work: time passes, a few columns are read, digital numbers are fitted again."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from rramhil.device import Floats, Refused
from rramhil.job.after_care import Care, Recalibrate, Wait, Watch
from rramhil.job.learning import first_reading, held, judge, learning_images, note_digital
from rramhil.job.work import Tick, Ticks, Work
from rramhil.nn.network import Images, accuracy_of, logits_of
from rramhil.recover.correction import Correction
from rramhil.recover.cost import digital_cost
from rramhil.recover.ladder import Rung
from rramhil.recover.predict import corrections, refreshed
from rramhil.recover.scores import moments
from rramhil.recover.watch import Movement, log_spaced, movement, sampled_columns
from rramhil.units import show
from rramhil.verify import settled_reading

SLICE_SECONDS = 10.0
"""On a bench a wait is stopped after at most this long; an emulated die jumps."""


COURSE = ("seconds", "output_error", "recalibrated", "accuracy_without", "accuracy_with")
"""What `care` keeps of each time that it looked."""


def wait(work: Work, step: Wait) -> Ticks:
    """Let `seconds` pass on the device's clock; a step that goes on waits for the rest."""
    until = _began(work) + step.seconds
    yield from _sleep_until(work, until, step.seconds)
    work.findings |= {"waited_seconds": step.seconds}
    yield Tick(100, 100, f"waited {show(step.seconds, 's')}")


def _began(work: Work) -> float:
    """Device time at which the running step began, also when it was stopped meanwhile."""
    if "began" not in work.partial:
        work.partial = {**work.partial, "began": np.array(work.device.clock.now())}
    return float(work.partial["began"])


def _sleep_until(
    work: Work, until: float, seconds: float, done: int = 0, total: int = 100
) -> Ticks:
    """Sleep on the device's clock until its time `until`, with a tick before each slice."""
    clock = work.device.clock
    longest = seconds if work.device.spec.volatile else SLICE_SECONDS
    while (left := until - clock.now()) > 0:
        yield Tick(done, total, f"{show(left, 's')} left to wait")
        clock.sleep(min(left, longest))


def watch(work: Work, step: Watch, generator: np.random.Generator) -> Ticks:
    """Read a few columns of each layer and compare them with what calibration saw."""
    images = learning_images(work.subject, step.learn_from, step.images, _where(step))
    yield Tick(0, 1, f"reading {step.columns} columns of each layer")
    moved = _movement(work, step, images, generator)
    _note_movement(work, moved, step.threshold)
    assert work.seen is not None  # or the look would have been refused
    note_digital(work, digital_cost((), held(work.subject, work.seen), len(images), 0, 0))
    yield Tick(1, 1, f"movement makes {moved.output_error:.2%} of the outputs")


def _movement(
    work: Work, step: Watch | Care, images: Images, generator: np.random.Generator
) -> Movement:
    subject, mapped = work.subject, work.subject.mapped
    before = work.seen
    if before is None:
        raise Refused(
            "nothing is known of what the cells held when they were last written; put a step "
            "'program' or 'recover' behind the last step that writes"
        )
    sampled = sampled_columns(mapped, step.columns, generator)
    now = np.full(mapped.cells.size, np.nan, np.float32)
    now[sampled] = work.device.read(mapped.cells[sampled])
    rows = {layer.name: layer.row_of for layer in mapped.layers}
    seen = moments(subject.network, images, rows=rows)
    return movement(mapped, before, now, sampled, seen)


def _note_movement(work: Work, moved: Movement, threshold: float) -> None:
    work.findings |= {
        "cells": moved.cells,
        "unreadable": moved.unreadable,
        "rms_change_siemens": moved.rms_siemens,
        "median_change_siemens": moved.median_siemens,
        "output_error_share": moved.output_error,
        "moved": moved.output_error > threshold,
    }


def recalibrate(work: Work, step: Recalibrate, generator: np.random.Generator) -> Ticks:
    """Fit the digital numbers again, gains and biases first; then judge as before and after."""
    subject, before = work.subject, work.correction
    images = learning_images(subject, step.learn_from, step.images, _where(step))
    layers = len(subject.network.card.layers)
    total = 2 * layers + 3
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    siemens = first_reading(work, 0.0)
    seed = int(generator.integers(2**31))
    chosen = yield from _recalibrated(work, step, siemens, images, seed, total)
    again = settled_reading(work.device, subject.cells, 0.0)
    work.findings["accuracy_before"] = _accuracy(work, again, before)
    work.keep(chosen.correction)
    judge(work, again)
    work.arrays["siemens"] = siemens
    _note_choice(work, chosen, siemens, len(images))
    yield Tick(total, total, f"{chosen.how}: accuracy {work.accuracy:.2%}")


@dataclass(frozen=True, eq=False, slots=True)
class _Choice:
    """The correction that was chosen, how it came about, and validation accuracies by how."""

    how: str
    correction: Correction | None
    validation: dict[str, float]


def _recalibrated(
    work: Work,
    step: Recalibrate | Care,
    siemens: Floats,
    images: Images,
    seed: int,
    total: int,
) -> Generator[Tick, None, _Choice]:
    """Gains and biases on top of what there is; sparse numbers anew where that is not enough.

    Enough is what calibration reached, less the tolerance. The best on validation images wins,
    what is kept already taking part; between equals the lowest cross-entropy.
    """
    subject, own = work.subject, work.correction
    array, done = held(subject, siemens), 0
    found: dict[str, Correction | None] = {"kept": own}
    seen = siemens if work.seen is None else work.seen
    wanted = _validated(work, seen, own)[0] - step.tolerance / 100
    validation = {"kept": _validated(work, siemens, own)}
    now = array if own is None else own.applied(array)
    steps = refreshed(subject.network, now, images, seed)
    while True:
        try:
            fitted = next(steps)
        except StopIteration as end:
            found["affine"] = end.value if own is None else own.then(end.value)
            break
        done += 1
        yield Tick(done, total, f"{fitted.layer}: gain and bias of each column")
    validation["affine"] = _validated(work, siemens, found["affine"])
    sparse = _fraction(work, step)
    if max(validation.values())[0] < wanted and sparse > 0:
        rung = Rung("sparse", sparse, len(images))
        anew = corrections(rung, subject.network, array, images, subject.validation, seed)
        while True:
            try:
                next(anew)
            except StopIteration as end:
                found["sparse"] = end.value
                break
            done += 1
            yield Tick(done, total, f"{sparse:.1%} of the weights anew")
        validation["sparse"] = _validated(work, siemens, found["sparse"])
    how = max(validation, key=lambda name: validation[name])
    return _Choice(how, found[how], {name: seen[0] for name, seen in validation.items()})


def _fraction(work: Work, step: Recalibrate | Care) -> float:
    """Sparse numbers over weights: as the job says, or as many as the correction has."""
    if step.fraction is not None:
        return step.fraction
    numbers = 0 if work.correction is None else work.correction.sparse
    return numbers / work.subject.mapped.weight_count


def _validated(work: Work, siemens: Floats, own: Correction | None) -> tuple[float, float]:
    """Validation accuracy, and minus the cross-entropy, which tells equals apart."""
    array, images = held(work.subject, siemens), work.subject.validation
    now = array if own is None else own.applied(array)
    logits = logits_of(work.subject.network, images, now.weights, now.biases)
    accuracy = float((logits.argmax(1) == images.labels).float().mean())
    return accuracy, -functional.cross_entropy(logits, images.labels).item()


def _accuracy(work: Work, siemens: Floats, own: Correction | None) -> float:
    """Test accuracy of what the cells read with `own` beside them."""
    array = held(work.subject, siemens)
    now = array if own is None else own.applied(array)
    return accuracy_of(work.subject.network, work.subject.test, now.weights, now.biases)


def _note_choice(work: Work, chosen: _Choice, siemens: Floats, images: int) -> None:
    own, subject = chosen.correction, work.subject
    places = () if own is None else own.places
    price = digital_cost(places, held(subject, siemens), images, 0, len(subject.validation))
    note_digital(work, price, int(chosen.how != "kept"))
    work.findings |= {
        "how": chosen.how,
        **{f"validation_{how}_accuracy": share for how, share in chosen.validation.items()},
    }


def care(work: Work, step: Care, generator: np.random.Generator) -> Ticks:
    """At each time: watch; recalibrate where cells moved; judge with and without."""
    images = learning_images(work.subject, step.learn_from, step.images, _where(step))
    times, first, seed = _times(step), work.correction, int(generator.integers(2**31))
    rows = work.partial.get("rows", np.zeros((0, len(COURSE))))
    if len(rows):
        work.correction, work.seen = Correction.from_arrays(work.partial), work.partial["seen"]
    began, each = _began(work), 2 * len(work.subject.network.card.layers) + 3
    total = each * len(times) + 1
    for number in range(len(rows), len(times)):
        done, random = number * each, np.random.default_rng([seed, number])
        yield from _sleep_until(work, began + times[number], times[-1], done, total)
        moved = _movement(work, step, images, random)
        siemens = work.device.read(work.subject.cells)
        without = _accuracy(work, siemens, first)
        recalibrated = moved.output_error > step.threshold
        if recalibrated:
            ticks = _recalibrated(work, step, siemens, images, int(random.integers(2**31)), each)
            chosen = yield from _shifted(ticks, done, total)
            recalibrated = chosen.how != "kept"
            if recalibrated:
                work.correction, work.seen = chosen.correction, siemens
            siemens = work.device.read(work.subject.cells)
        now = _accuracy(work, siemens, work.correction)
        row = [times[number], moved.output_error, recalibrated, without, now]
        rows = np.vstack([rows, row])
        _checkpoint(work, rows)
        text = f"after {show(times[number], 's')}: {now:.2%}, without {without:.2%}"
        yield Tick(done + each, total, text)
    _finish(work, rows, len(images))
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def _times(step: Care) -> NDArray[np.float64]:
    """Seconds from the beginning of the step."""
    if step.every is None:
        return log_spaced(step.first, step.horizon, step.points)
    return np.arange(step.every, step.horizon * (1 + 1e-9), step.every)


def _shifted(
    ticks: Generator[Tick, None, _Choice], done: int, total: int
) -> Generator[Tick, None, _Choice]:
    """The ticks of a part, counted as those of the whole."""
    while True:
        try:
            tick = next(ticks)
        except StopIteration as end:
            chosen: _Choice = end.value
            return chosen
        yield Tick(done + tick.done, total, tick.text)


def _checkpoint(work: Work, rows: NDArray[np.float64]) -> None:
    own = {} if work.correction is None else work.correction.as_arrays()
    seen = {} if work.seen is None else {"seen": work.seen}
    began = {"began": work.partial["began"]}
    work.partial = {"rows": rows, **began, **seen, **own}


def _finish(work: Work, rows: NDArray[np.float64], images: int) -> None:
    """Accuracy over time with and without recalibration, and what is kept from here on."""
    assert work.seen is not None  # or the first look would have been refused
    work.accuracy = float(rows[-1, -1])
    work.keep(work.correction)
    work.arrays |= {"siemens": work.seen, **dict(zip(COURSE, rows.T, strict=True))}
    own, array = work.correction, held(work.subject, work.seen)
    places = () if own is None else own.places
    price = digital_cost(places, array, images, 0, len(work.subject.validation))
    note_digital(work, price, int(rows[:, 2].sum()))
    work.findings |= {
        "accuracy": work.accuracy,
        "accuracy_without": float(rows[-1, 3]),
        "lowest_accuracy": float(rows[:, 4].min()),
        "lowest_accuracy_without": float(rows[:, 3].min()),
        "recalibrations": int(rows[:, 2].sum()),
        "checks": len(rows),
        "horizon_seconds": float(rows[-1, 0]),
    }


def _where(step: Watch | Recalibrate | Care) -> str:
    return f"step {step.name or step.default_name!r}"
