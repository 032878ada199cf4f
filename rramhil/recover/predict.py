"""What a rung of the ladder should reach, from readings alone: no pulse, no further reading.

A recovery in digital numbers is carried out on the host as it would be, on what was read. A
rewriting is played through with the errors that open-loop writes made on this die: write-verify
repeats a write until it lands in its window, so a cell ends as one of the errors of its level
that lie inside, after as many writes as it takes, or stays where it is.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Bools, Floats, Ints
from rramhil.mapping import Levels, MappedNetwork
from rramhil.nn.network import Images, Network, logits_of
from rramhil.recover.closed_form import Fitted, Ridge, fit, start_parameters
from rramhil.recover.correction import Correction
from rramhil.recover.ladder import Judged, Rung
from rramhil.recover.loop import Epoch, Recovery, Schedule, adapt, best_parameters
from rramhil.recover.losses import distillation
from rramhil.recover.masks import Mask, ranked_mask
from rramhil.recover.places import Biases, ColumnGains, Computed, SparseMemory
from rramhil.recover.scores import expected_output_error, moments

FEW_IMAGES = 1000
"""Below this many the ridge is 3 %, from there on 1 % of each unknown's second moment."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Label-free distillation behind a closed form; `learning_rate` is where its cosine starts."""

    temperature: float = 4.0
    learning_rate: float = 1e-3
    batch: int = 50


def corrections(
    rung: Rung,
    network: Network,
    array: Computed,
    images: Images,
    validation: Images,
    seed: int,
    finish: Finish = Finish(),
) -> Generator[Fitted | Epoch, None, Correction | None]:
    """Fit the digital numbers of `rung` to `array`; yields each layer and epoch, returns them
    (None for a rung without any).

    `images` are unlabelled; validation images choose the epoch of a distillation, and a closed
    form looks at none. Raises ValueError for images of another shape, or none.
    """
    if rung.fraction is None:
        return None
    learn = Images(images.pixels[: rung.images], images.labels[: rung.images])
    scores = expected_output_error(network, array, moments(network, learn))
    mask = ranked_mask(scores, rung.fraction)
    parameters = start_parameters(network, array, mask)
    ridge = Ridge(0.03 if len(learn) < FEW_IMAGES else 0.01, seed=seed)
    yield from fit(network, array, mask, learn, ridge, parameters)
    places = (ColumnGains(), SparseMemory(mask), Biases())
    if rung.epochs:
        schedule = Schedule(rung.epochs, finish.learning_rate, finish.batch, seed)
        recovery = Recovery(places, distillation(finish.temperature, 0.0), schedule)
        for epoch in adapt(recovery, network, array, learn, validation, start=parameters):
            yield epoch
        parameters = best_parameters(recovery, array, epoch.checkpoint)
    return Correction.of(places, parameters)


def refreshed(
    network: Network, array: Computed, images: Images, seed: int
) -> Generator[Fitted, None, Correction]:
    """Gains and biases that bring `array`, already corrected, back to the teacher.

    Two numbers a column, pulled to 1 and to the biases that there are; to be put on top of the
    correction with `Correction.then`. Raises ValueError as `corrections` does.
    """
    nothing = Mask({name: np.zeros(0, np.int64) for name in array.weights}, 0)
    places = (ColumnGains(), Biases())
    memory = SparseMemory(nothing)
    start = {place.name: place.start(array) for place in (*places, memory)}
    ridge = Ridge(0.03 if len(images) < FEW_IMAGES else 0.01, seed=seed)
    yield from fit(network, array, nothing, images, ridge, start)
    return Correction.of(places, start)


def right_answers(network: Network, images: Images, computed: Computed) -> Bools:
    """Which images `computed` classifies as labelled, (n,)."""
    answers = logits_of(network, images, computed.weights, computed.biases).argmax(1)
    return np.asarray((answers == images.labels).numpy(), dtype=bool)


def judged(right: Bools, ideal: Bools) -> Judged:
    """`right` answers (n,) beside those of the ideal mapping to the same images."""
    pairs = int(np.count_nonzero(right & ~ideal)), int(np.count_nonzero(ideal & ~right))
    return Judged(right.size, int(right.sum()), *pairs)


@dataclass(frozen=True, eq=False, slots=True)
class Writes:
    """Open-loop writes on this die: siemens read of cells (n,), the level each was meant for."""

    siemens: Floats
    level: Ints
    levels: Levels

    def inside(self, level: int) -> NDArray[np.float64]:
        """Siemens of those writes to `level` that landed in its window."""
        landed = self.siemens[self.level == level].astype(np.float64)
        inside = np.abs(landed - self.levels.siemens[level]) <= self.levels.tolerance
        return np.asarray(landed[inside])

    def share(self, level: int) -> float:
        """Of the writes to `level`, how many landed in its window."""
        return self.inside(level).size / max(int(np.count_nonzero(self.level == level)), 1)


@dataclass(frozen=True, eq=False, slots=True)
class Rewritten:
    """Siemens of all cells after write-verify, the pulses that it should take, and which cells
    it should give up."""

    siemens: Floats
    pulses: int
    given_up: Bools


def rewritten(
    writes: Writes,
    siemens: Floats,
    chosen: Bools,
    stuck: Bools,
    max_pulses: int,
    random: np.random.Generator,
) -> Rewritten:
    """Play write-verify through on the `chosen` cells (n,) that read outside their window.

    Every write is a RESET and a SET; a cell that is still outside after `max_pulses`, one of a
    level that no write ever reached, and `stuck` ones are given up: they stay where they are and
    cost all pulses.
    """
    levels, after, pulses = writes.levels, siemens.copy(), 0
    away = np.abs(siemens.astype(np.float64) - levels.siemens[writes.level]) > levels.tolerance
    given_up = np.zeros(siemens.size, dtype=bool)
    most = max(max_pulses // 2, 1)
    for level in range(levels.count):
        cells = np.flatnonzero(chosen & away & (writes.level == level))
        landed = writes.inside(level)
        tries = random.geometric(max(writes.share(level), 1e-9), cells.size)
        lost = stuck[cells] | (tries > most)
        pulses += 2 * int(np.where(lost, most, tries).sum())
        given_up[cells[lost]] = True
        arrived = cells[~lost]
        if arrived.size:
            after[arrived] = random.choice(landed, arrived.size)
    return Rewritten(after, pulses, given_up)


def compensated(
    result: Rewritten, mapped: MappedNetwork, levels: Levels, random: np.random.Generator
) -> Rewritten:
    """`result` after a second pass in which partners of given-up cells took over their error.

    They are taken to arrive anywhere in the window about their new target, with one RESET and
    one SET: the ramps of a write-verify know the way by then.
    """
    target = mapped.compensated(result.siemens, result.given_up)
    moved = (target != mapped.siemens) & ~result.given_up
    near = random.uniform(-levels.tolerance, levels.tolerance, int(moved.sum()))
    after = result.siemens.copy()
    after[moved] = target[moved] + near
    return Rewritten(after, result.pulses + 2 * int(moved.sum()), result.given_up)
