"""The ladder: which way of recovery to take, as data and a pure decision.

A rung is a way of recovery. Each is predicted from readings alone, without touching the chip
(`rramhil.recover.predict`); the cheapest that should reach the target within the budget is
carried out and judged again from a fresh reading, and when it falls short the next one is.

    while True:
        match next_move(candidates, target, budget):
            case Predict(place): ...
            case CarryOut(place): ...
            case Done(place): ...

What has to lie within the target is the lower end of a confidence interval, in the prediction
as in the verification, on validation images. Nothing here sees test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from rramhil.device import Refused
from rramhil.recover.confidence import accuracy_bound, difference_bound, fewest_images


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of recovery.

    `rewrite`: share of the weights whose cells are read, verified and written (1: all);
    `fraction`: of the weights that a closed form gives a digital number (0: gains and biases
    alone, None: no digital numbers); `images`: unlabelled ones that it learns from; `epochs`: of
    label-free distillation behind it.
    """

    name: str
    fraction: float | None = None
    images: int = 0
    epochs: int = 0
    rewrite: float = 0.0


NOTHING = Rung("nothing")


def _closed(percent: int, images: int, epochs: int = 0) -> Rung:
    finish = "_distilled" if epochs else ""
    return Rung(f"sparse_{percent}_percent_{images}{finish}", percent / 100, images, epochs)


RUNGS = (
    NOTHING,
    Rung("affine_128", 0.0, 128),
    *(_closed(percent, images) for percent in (1, 3, 5, 8) for images in (128, 1000)),
    *(_closed(percent, 1000, epochs=5) for percent in (3, 8)),
    Rung("rewrite_10_percent", 0.0, 128, rewrite=0.1),
    Rung("rewrite_all", rewrite=1.0),
    Rung("rewrite_all_sparse_1_percent", 0.01, 128, rewrite=1.0),
)
"""The rungs in the order of their making; what is cheapest follows from their prices."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a rung costs, or has cost. Labels are those of the images that it is judged with."""

    device_seconds: float = 0.0
    pulses: int = 0
    digital_fraction: float = 0.0
    memory_bits: int = 0
    images: int = 0
    labels: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """At most this much of each; None is no limit. Device time and pulses add up over rungs."""

    device_seconds: float | None = None
    pulses: int | None = None
    digital_fraction: float | None = None
    memory_bits: int | None = None
    images: int | None = None
    labels: int | None = None

    def exceeded(self, price: Price, spent: Price = Price()) -> list[str]:
        """What `price` needs beyond this budget after `spent`, each with the limit, in words."""
        total = _with_spent(price, spent)
        return [
            f"{name} = {_shown(getattr(total, name))} instead of {_shown(limit)}"
            for name in (field.name for field in fields(self))
            if (limit := getattr(self, name)) is not None and getattr(total, name) > limit
        ]


def _with_spent(price: Price, spent: Price) -> Price:
    return replace(
        price,
        device_seconds=price.device_seconds + spent.device_seconds,
        pulses=price.pulses + spent.pulses,
    )


def _shown(value: float) -> str:
    """Rounded up to three digits, so that a budget of what is shown is enough."""
    if isinstance(value, int) or value == 0:
        return f"{value}"
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit - 1e-9) * unit:.3g}"


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers to `count` validation images: `right` ones; `gained` where only this network is
    right, `lost` where only the ideal mapping is."""

    count: int
    right: int
    gained: int
    lost: int

    @property
    def accuracy(self) -> float:
        return self.right / self.count

    @property
    def loss(self) -> float:
        """Lost to the ideal mapping, as a fraction (negative: better)."""
        return (self.lost - self.gained) / self.count


@dataclass(frozen=True, slots=True)
class Goal:
    """Either at least `accuracy`, or at most `loss` under the ideal mapping (both fractions).

    The one-sided lower end at `confidence` has to reach it: Wilson's for an accuracy, Tango's
    of pairs for a loss.
    """

    accuracy: float | None = None
    loss: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.loss is None):
            raise ValueError("a ladder needs either a target accuracy or a target loss; give one")

    def lower_end(self, judged: Judged) -> float:
        """Of the accuracy, or of minus the loss."""
        if self.accuracy is not None:
            return accuracy_bound(judged.right, judged.count, self.confidence)
        return difference_bound(judged.gained, judged.lost, judged.count, self.confidence)

    @property
    def wanted(self) -> float:
        """What `lower_end` has to reach."""
        return self.accuracy if self.accuracy is not None else -(self.loss or 0.0)

    def is_shown_by(self, judged: Judged) -> bool:
        """Whether the lower end reaches the target."""
        return self.lower_end(judged) >= self.wanted

    def check(self, count: int) -> None:
        """Raise `Refused` when not even faultless answers to `count` images could show it."""
        if self.is_shown_by(Judged(count, count, 0, 0)):
            return
        margin = 1 - self.wanted if self.accuracy is not None else self.loss or 0.0
        enough = f"at least {fewest_images(margin, self.confidence)}" if margin > 0 else "other"
        raise Refused(
            f"{count} labelled validation images cannot show {self} with a confidence of "
            f"{self.confidence:.0%}; that takes {enough} of them, or a wider target"
        )

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"an accuracy of {self.accuracy:.2%}"
        return f"a loss of at most {100 * (self.loss or 0.0):.2g} points under the ideal mapping"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung, what it should cost and reach, and what it did cost and reach; None: not yet."""

    rung: Rung
    price: Price
    predicted: Judged | None = None
    reached: Judged | None = None
    paid: Price | None = None


Preference = Literal["writes", "memory", "time"]
_FIRST: dict[Preference, tuple[str, ...]] = {
    "writes": ("pulses", "memory_bits", "images", "device_seconds"),
    "memory": ("memory_bits", "pulses", "images", "device_seconds"),
    "time": ("device_seconds", "pulses", "memory_bits", "images"),
}
"""What counts first, second, ... when two rungs are compared. Pulses wear the chip for good."""


def cheapest_first(candidates: Sequence[Candidate], prefer: Preference) -> list[Candidate]:
    """Ordered by price; `prefer` says which part of it counts first."""
    return sorted(candidates, key=lambda c: tuple(getattr(c.price, n) for n in _FIRST[prefer]))


@dataclass(frozen=True, slots=True)
class Predict:
    """Say what the candidate at `place` should reach."""

    place: int


@dataclass(frozen=True, slots=True)
class CarryOut:
    """Carry out the candidate at `place` and judge it."""

    place: int


@dataclass(frozen=True, slots=True)
class Done:
    """Keep what the candidate at `place` reached; `shown`: it reached the target."""

    place: int
    shown: bool


def next_move(
    candidates: Sequence[Candidate], goal: Goal, budget: Budget
) -> Predict | CarryOut | Done:
    """What to do next; `candidates` are ordered from cheap to expensive.

    Raises `Refused` when nothing has been carried out and nothing within the budget should
    reach the target; the sentence says what would be enough.
    """
    tried = [place for place, own in enumerate(candidates) if own.reached is not None]
    shown = [place for place in tried if _shows(goal, candidates[place].reached)]
    if shown:
        return Done(shown[0], shown=True)
    spent = paid_so_far(candidates)
    left = range(max(tried, default=-1) + 1, len(candidates))
    affordable = [p for p in left if not budget.exceeded(candidates[p].price, spent)]
    for place in affordable:
        if candidates[place].predicted is None:
            return Predict(place)
        if _shows(goal, candidates[place].predicted):
            return CarryOut(place)
    if tried:
        return Done(_best(candidates, goal), shown=False)
    for place in left:
        if candidates[place].predicted is None:
            return Predict(place)
        if _shows(goal, candidates[place].predicted):
            raise Refused(_too_dear(candidates[place], goal, budget))
    raise Refused(_out_of_reach(candidates, goal))


def paid_so_far(candidates: Sequence[Candidate]) -> Price:
    """Device time and pulses of all rungs carried out."""
    paid = [own.paid for own in candidates if own.paid is not None]
    return Price(sum(p.device_seconds for p in paid), sum(p.pulses for p in paid))


def after_writing(candidates: Sequence[Candidate], place: int) -> list[Candidate]:
    """The candidates once the one at `place` has written cells: what was predicted of those
    behind it was about an array that is no more."""
    return [
        replace(own, predicted=None) if number > place else own
        for number, own in enumerate(candidates)
    ]


def _shows(goal: Goal, judged: Judged | None) -> bool:
    return judged is not None and goal.is_shown_by(judged)


def _best(candidates: Sequence[Candidate], goal: Goal) -> int:
    """The best that can still be had: of those tried since cells were last written."""
    tried = [place for place, own in enumerate(candidates) if own.reached is not None]
    wrote = [place for place in tried if candidates[place].rung.rewrite > 0]
    valid = [place for place in tried if place >= max(wrote, default=0)]
    return max(valid, key=lambda place: goal.lower_end(candidates[place].reached))  # type: ignore[arg-type]


def _too_dear(candidate: Candidate, goal: Goal, budget: Budget) -> str:
    needs = " and ".join(budget.exceeded(candidate.price))
    return (
        f"no recovery within the budget should reach {goal}; {candidate.rung.name!r} should, "
        f"but needs {needs}"
    )


def _out_of_reach(candidates: Sequence[Candidate], goal: Goal) -> str:
    known = [own for own in candidates if own.predicted is not None]
    best = max(known, key=lambda own: goal.lower_end(own.predicted))  # type: ignore[arg-type]
    end = goal.lower_end(best.predicted)  # type: ignore[arg-type]
    enough = f"no more than {end:.2%}" if goal.accuracy is not None else f"{-100 * end:.2f} points"
    return (
        f"no recovery should reach {goal}; {best.rung.name!r} comes closest and could show "
        f"{enough}; ask for that, or give more validation images"
    )
