"""The table that sums up a run: one row a way of getting the network to work. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rramhil.cost import Cost
from rramhil.job.result import Interval, RunResult
from rramhil.units import show

HEADINGS = (
    "", "accuracy", "loss vs ideal", "device time", "pulses", "reads", "digital parameters"
)  # fmt: skip

_TITLES = {
    "teacher": "Teacher (floating point)",
    "ideal_mapping": "Ideal mapping",
    "open_loop": "Open loop",
    "rsa": "RSA",
    "rvw": "R-V-W",
    "closed_form": "Closed form",
}
_BASELINES = ("teacher", "ideal_mapping", "open_loop")
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One way: accuracy as a fraction, loss in points under the ideal mapping, its price.

    `cost` is None where nothing was done (teacher, ideal mapping). Any number may be None:
    the run has not got there.
    """

    name: str
    accuracy: float | None
    loss: float | None
    interval: Interval | None
    cost: Cost | None

    @property
    def title(self) -> str:
        """The name as people say it."""
        return title_of(self.name)

    def texts(self) -> tuple[str, ...]:
        """The row as texts under `HEADINGS`."""
        cost = self.cost
        return (
            self.title,
            percent(self.accuracy),
            points(self.loss),
            NOTHING if cost is None else show(cost.device_seconds, "s"),
            NOTHING if cost is None else count(cost.pulses),
            NOTHING if cost is None else count(cost.reads),
            NOTHING if cost is None else count(cost.digital_parameters),
        )


def summary_table(result: RunResult) -> list[SummaryRow]:
    """Teacher, ideal mapping, open loop, then the repairs in the order of the run."""
    accuracy = accuracies(result)
    names = dict.fromkeys([*_BASELINES, *accuracy, *result.cost])
    ideal = accuracy.get("ideal_mapping")
    return [_row(name, accuracy.get(name), ideal, result) for name in names]


def _row(name: str, accuracy: float | None, ideal: float | None, result: RunResult) -> SummaryRow:
    loss = None
    if accuracy is not None and ideal is not None and name not in _BASELINES[:2]:
        loss = 100 * (ideal - accuracy)
    return SummaryRow(name, accuracy, loss, result.intervals.get(name), result.cost.get(name))


def accuracies(result: RunResult) -> dict[str, float]:
    """Name to fraction, of everything that was measured, repairs in the order of the run."""
    known = result.accuracy.model_dump()
    return {name: float(value) for name, value in known.items() if isinstance(value, (int, float))}


def title_of(name: str) -> str:
    """The name of a way as people say it: 'R-V-W' for 'rvw', else the name itself."""
    return _TITLES.get(name, name)


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.954 as '95.4 %', with a space that does not break."""
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(loss: float | None) -> str:
    """Percentage points under the ideal mapping; a recovery may lie above it."""
    return NOTHING if loss is None else f"{loss:.1f}".replace("-", "−")


def count(number: int) -> str:
    """12345 as '12 345', with a space that does not break."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
