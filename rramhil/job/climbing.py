"""`method = "auto"` at work: measure, predict, carry out, verify, climb; then one judgement.

`rramhil.recover.ladder` decides. Here the readings are taken, the predictions made and the rungs
carried out; all of it lies in `work.partial` at every tick. Until the ladder has ended, nothing
looks at the test images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rramhil.device import Bools, Floats, Refused
from rramhil.job.closed_loop import Scope, closed_loop
from rramhil.job.learning import first_reading, held, judge, learning_images, note_digital
from rramhil.job.pricing import paid_in, priced
from rramhil.job.recoveries import RecoverAuto
from rramhil.job.work import Tick, Ticks, Work
from rramhil.nn.network import Images
from rramhil.recover.correction import Correction
from rramhil.recover.cost import digital_cost
from rramhil.recover.ladder import (
    Candidate,
    CarryOut,
    Done,
    Judged,
    Predict,
    Price,
    Rung,
    after_writing,
    cheapest_first,
    next_move,
    paid_so_far,
)
from rramhil.recover.masks import ranked_mask
from rramhil.recover.places import from_readback
from rramhil.recover.predict import (
    Finish,
    Rewritten,
    Writes,
    compensated,
    corrections,
    judged,
    rewritten,
    right_answers,
)
from rramhil.recover.scores import expected_output_error, moments
from rramhil.verify import settled_reading

LOOKED_AT = "ladder_images"
"""How many images have been looked at, among the arrays of a stopped step."""


def climb(work: Work, step: RecoverAuto, generator: np.random.Generator) -> Ticks:
    """Carry out the cheapest rung that should reach the target, and climb where it falls short."""
    ladder = _Ladder(work, step, int(generator.integers(2**31)))
    yield Tick(0, ladder.total, f"reading {work.subject.cells.size} cells")
    ladder.measure()
    while True:
        match next_move(ladder.candidates, ladder.goal, ladder.budget):
            case Predict(place):
                yield from ladder.predict(place)
            case CarryOut(place):
                yield from ladder.carry_out(place)
            case Done(place, shown):
                break
    ladder.finish(place, shown)
    yield Tick(ladder.total, ladder.total, f"accuracy {work.accuracy:.2%}")


class _Ladder:
    """The candidates of one step, and what has been learnt of them."""

    def __init__(self, work: Work, step: RecoverAuto, seed: int) -> None:
        self.work, self.step, self.seed = work, step, seed
        self.goal, self.budget = step.goal(), step.budget.as_budget()
        subject = work.subject
        there = len(learning_images(subject, step.learn_from, None, "the ladder"))
        self.rungs = [rung for rung in step.chosen_rungs() if rung.images <= there]
        self.left_out = len(step.chosen_rungs()) - len(self.rungs)
        if not self.rungs:
            raise Refused(
                f"all rungs named learn from more than the {there} images that there are; name "
                "others, or set learn_from = 'both'"
            )
        most = max(rung.images for rung in self.rungs)
        self.images = learning_images(subject, step.learn_from, most, "the ladder")
        self.validation = _first(subject.validation, step.labels(len(subject.validation)))
        ideal = from_readback(subject.network, subject.mapped.ideal_weights())
        self.ideal = right_answers(subject.network, self.validation, ideal)
        self.total = 4 * len(self.rungs) + 1
        self.candidates: list[Candidate] = []
        self.fitted: dict[int, Correction | None] = {}

    @property
    def siemens(self) -> Floats:
        """What the cells held when they were last read to learn from."""
        return self.work.partial["siemens"]

    def measure(self) -> None:
        """Read the cells and price the rungs; a step that goes on keeps both."""
        work, ledger = self.work, self.work.device.ledger
        if "ladder" in work.partial:
            self.candidates = _unpacked(work.partial["ladder"], self.rungs)
            return
        first = ledger.row + 1
        first_reading(work, self.step.delay)
        reading = paid_in(work, first).device_seconds
        labels = len(self.validation)
        candidates = []
        for rung in self.rungs:
            pulses = self._simulated(rung).pulses if rung.rewrite else 0
            price = priced(work, rung, pulses, reading, self.step.passes, labels)
            candidates.append(Candidate(rung, price))
        self.candidates = cheapest_first(candidates, self.step.prefer)
        self._save()

    def predict(self, place: int) -> Ticks:
        """Say what a rung should reach on the validation images, from readings alone."""
        rung = self.candidates[place].rung
        siemens = self._simulated(rung).siemens if rung.rewrite else self.siemens
        own = yield from self._corrected(place, siemens)
        if not rung.rewrite:
            self.fitted[place] = own
        predicted = self._judged(siemens, own)
        self.candidates[place] = replace(self.candidates[place], predicted=predicted)
        self._save()
        yield self._tick(f"{rung.name} should reach {predicted.accuracy:.2%}")

    def carry_out(self, place: int) -> Ticks:
        """Do it, and judge it on the validation images from a fresh reading."""
        work, rung = self.work, self.candidates[place].rung
        if "first_row" not in work.partial:
            row = np.array(work.device.ledger.row + 1)
            work.partial = {**work.partial, "first_row": row}
        if rung.rewrite:
            yield from self._write(rung)
        if place not in self.fitted:
            self.fitted[place] = yield from self._corrected(place, self.siemens)
        own = self.fitted[place]
        siemens = settled_reading(work.device, work.subject.cells, 0.0)
        reached = self._judged(siemens, own)
        paid = paid_in(work, int(work.partial["first_row"]))
        price = self.candidates[place].price
        bits = 0 if own is None else own.memory_bits
        paid = replace(price, device_seconds=paid.device_seconds, pulses=paid.pulses)
        paid = replace(paid, memory_bits=bits)
        self.candidates[place] = replace(self.candidates[place], reached=reached, paid=paid)
        if rung.rewrite:
            self.candidates = after_writing(self.candidates, place)
            self.fitted = {place: own}
        ours = ("siemens", "ladder", "tried.")
        work.partial = {k: v for k, v in work.partial.items() if k.startswith(ours)}
        self._keep(place, own)
        self._save()
        yield self._tick(f"{rung.name} reached {reached.accuracy:.2%}")

    def finish(self, place: int, shown: bool) -> None:
        """Keep the correction of the candidate at `place`, judge it on test images, report."""
        work = self.work
        work.arrays["siemens"] = self.siemens
        own = self._tried(place)
        work.keep(own)
        judge(work, settled_reading(work.device, work.subject.cells, 0.0))
        array = held(work.subject, self.siemens)
        places = () if own is None else own.places
        looked_at = int(work.partial.get(LOOKED_AT, np.array(0)))
        price = digital_cost(places, array, looked_at, 0, len(self.validation))
        note_digital(work, price, 0, self._memory_writes())
        self._report(place, shown)

    def _tried(self, place: int) -> Correction | None:
        """What was fitted when the candidate at `place` was carried out."""
        prefix, partial = f"tried.{place}.", self.work.partial
        names = (name for name in partial if name.startswith(prefix))
        return Correction.from_arrays({n.removeprefix(prefix): partial[n] for n in names})

    def _memory_writes(self) -> int:
        """Writes to digital memory of all rungs that were carried out."""
        writes = 0
        for place, candidate in enumerate(self.candidates):
            own, rung = self._tried(place), candidate.rung
            numbers = 0 if own is None else sum(own.counts.values())
            writes += numbers * (1 + rung.epochs * math.ceil(rung.images / Finish().batch))
        return writes

    def _look_at(self, count: int) -> None:
        """Remember that the first `count` images were looked at, by whatever rung."""
        most = np.maximum(count, self.work.partial.get(LOOKED_AT, np.array(0)))
        self.work.partial = {**self.work.partial, LOOKED_AT: np.array(most)}

    def _corrected(self, place: int, siemens: Floats) -> Generator[Tick, None, Correction | None]:
        """Fit the digital numbers of a rung to readings, with a tick for each layer and epoch."""
        subject, rung = self.work.subject, self.candidates[place].rung
        array = held(subject, siemens)
        self._look_at(rung.images)
        steps = corrections(rung, subject.network, array, self.images, self.validation, self.seed)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                fitted: Correction | None = end.value
                return fitted
            yield self._tick(f"fitting {rung.name}")

    def _judged(self, siemens: Floats, own: Correction | None) -> Judged:
        array = held(self.work.subject, siemens)
        now = array if own is None else own.applied(array)
        right = right_answers(self.work.subject.network, self.validation, now)
        return judged(right, self.ideal)

    def _chosen(self, rung: Rung) -> Bools:
        """The cells that a rung rewrites: those of the weights whose errors matter most."""
        subject = self.work.subject
        if rung.rewrite == 1:
            return np.ones(subject.cells.size, dtype=bool)
        network, array = subject.network, held(subject, self.siemens)
        learn = _first(self.images, max(rung.images, 1))
        self._look_at(len(learn))
        scores = expected_output_error(network, array, moments(network, learn))
        entries = ranked_mask(scores, rung.rewrite).entries
        return subject.mapped.cells_of(entries)

    def _simulated(self, rung: Rung) -> Rewritten:
        """Write-verify played through with the errors of the first programming."""
        work, mapped = self.work, self.work.subject.mapped
        levels = mapped.levels
        # Rungs that write the same cells are played through with the same luck.
        random = np.random.default_rng([self.seed, round(1000 * rung.rewrite)])
        first = self.siemens if work.written is None else work.written
        writes = Writes(first, levels.nearest(mapped.siemens), levels)
        stuck = np.isin(mapped.cells, work.stuck)
        chosen, most = self._chosen(rung), self.step.recipe.max_pulses
        result = rewritten(writes, self.siemens, chosen, stuck, most, random)
        return result if self.step.passes == 1 else compensated(result, mapped, levels, random)

    def _write(self, rung: Rung) -> Ticks:
        """Write-verify the cells of `rung`, as a step of its own would; then learn from those."""
        work, step = self.work, self.step
        if "all_written" in work.partial:
            return
        if "rewritten" not in work.partial:
            chosen = self._chosen(rung)
            work.partial = {**work.partial, "rewritten": chosen}
        scope = Scope(work.partial["rewritten"], None)
        recipe = step.recipe.model_copy(update={"first_reset": False})
        for tick in closed_loop(work, recipe, step.passes, step.delay, True, scope):
            yield self._tick(f"{rung.name}: {tick.text}")
        done = {"siemens": work.arrays["siemens"], "all_written": np.array(1)}
        work.partial = {**work.partial, **done}

    def _keep(self, place: int, own: Correction | None) -> None:
        arrays = {} if own is None else own.as_arrays()
        tried = {f"tried.{place}.{name}": values for name, values in arrays.items()}
        self.work.partial = {**self.work.partial, **tried}

    def _save(self) -> None:
        self.work.partial = {**self.work.partial, "ladder": _packed(self.candidates)}

    def _tick(self, text: str) -> Tick:
        done = sum((c.predicted is not None) + 3 * (c.reached is not None) for c in self.candidates)
        return Tick(min(done + 1, self.total - 1), self.total, text)

    def _report(self, place: int, shown: bool) -> None:
        """What was tried, predicted, reached and paid, for result.json and the report."""
        work, chosen = self.work, self.candidates[place]
        assert chosen.reached is not None
        spent = paid_so_far(self.candidates)
        work.findings |= {
            "rung": chosen.rung.name,
            "target": str(self.goal),
            "target_shown": shown,
            "validation_accuracy": chosen.reached.accuracy,
            "validation_images": chosen.reached.count,
            "lower_end": self.goal.lower_end(chosen.reached),
            "carried_out": sum(own.reached is not None for own in self.candidates),
            "predicted": sum(own.predicted is not None for own in self.candidates),
            "left_out": self.left_out,
            "paid_pulses": spent.pulses,
            "paid_seconds": spent.device_seconds,
        }
        for own in self.candidates:
            if said := self._said(own, own is chosen):
                work.findings[f"rung_{own.rung.name}"] = said
        rows = [self._row(own, own is chosen) for own in self.candidates]
        work.arrays["ladder"] = np.array(json.dumps({"wanted": self._wanted, "rungs": rows}))

    @property
    def _ideal(self) -> float:
        """Validation accuracy of the ideal mapping."""
        return float(self.ideal.mean())

    @property
    def _wanted(self) -> float:
        """The target as an accuracy on the validation images."""
        return self.goal.wanted + (0.0 if self.goal.accuracy is not None else self._ideal)

    def _row(self, own: Candidate, kept: bool) -> dict[str, Any]:
        """A line of the report's table; ends of intervals as accuracies."""
        row: dict[str, Any] = {"name": own.rung.name, "kept": kept, "price": asdict(own.price)}
        row["paid"] = None if own.paid is None else asdict(own.paid)
        base = 0.0 if self.goal.accuracy is not None else self._ideal
        for what, seen in (("predicted", own.predicted), ("reached", own.reached)):
            ends = None if seen is None else (seen.accuracy, base + self.goal.lower_end(seen))
            row[what] = ends
        return row

    def _said(self, own: Candidate, kept: bool) -> str:
        parts = [
            f"{what} {judged_.accuracy:.2%} (lower end {self.goal.lower_end(judged_):.4f})"
            for what, judged_ in (("predicted", own.predicted), ("reached", own.reached))
            if judged_ is not None
        ]
        return ", ".join([*parts, "kept"] if kept else parts)


def _first(images: Images, count: int) -> Images:
    return Images(images.pixels[:count], images.labels[:count])


def _packed(candidates: list[Candidate]) -> np.ndarray[Any, np.dtype[np.str_]]:
    """The candidates as JSON, in an array of one text."""
    return np.array(json.dumps([asdict(own) for own in candidates]))


def _unpacked(stored: np.ndarray[Any, np.dtype[Any]], rungs: list[Rung]) -> list[Candidate]:
    named = {rung.name: rung for rung in rungs}

    def judged_of(own: dict[str, Any] | None) -> Judged | None:
        return None if own is None else Judged(**own)

    return [
        Candidate(
            rung=named[own["rung"]["name"]],
            price=Price(**own["price"]),
            predicted=judged_of(own["predicted"]),
            reached=judged_of(own["reached"]),
            paid=None if own["paid"] is None else Price(**own["paid"]),
        )
        for own in json.loads(str(stored))
    ]
