"""Check a device against every promise of `rramhil.device`, in CI and on the bench.

    for finding in check(device, scratch=device.spec.cells(0, 0, range(16))):
        print(finding)

Only `scratch` cells are ever pulsed, the calls that must be refused included: a driver that
is wrong would land them. Without scratch cells a die keeps its state, and the promises about
pulses are reported as not checked. The device is closed at the end: closing is a promise too.

A promise is a function whose docstring says it. It returns what it saw, or raises `_Broken`
or `_NotChecked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from numpy.typing import ArrayLike

from rramhil.conformance import beyond, pulsing, reading
from rramhil.conformance.bench import Bench, Broken, NotChecked
from rramhil.device import Device

PATIENCE_SECONDS = 10.0


class Outcome(Enum):
    """What became of a promise."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of the contract, whether the device keeps it, and what was seen."""

    promise: str
    outcome: Outcome
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome.value}: {self.promise}" + (
            f" ({self.detail})" if self.detail else ""
        )


def check(
    device: Device,
    scratch: ArrayLike | None = None,
    *,
    seed: int = 0,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[Finding]:
    """Findings on every promise, in a fixed order; closes the device.

    `scratch`: flat indices of cells that may be pulsed. None: 32 cells chosen by `seed` on a
    volatile die that was born now, no cell on any other. `patience`: host seconds after which
    a call under close() counts as hanging. Raises `Refused` when a scratch cell does not exist.
    """
    bench = Bench(device, scratch, seed, patience)
    for promise in PROMISES:
        yield _examine(promise, bench)


def _examine(promise: Callable[[Bench], str], bench: Bench) -> Finding:
    name = " ".join((promise.__doc__ or promise.__name__).split()).rstrip(".")
    try:
        return Finding(name, Outcome.PASSED, promise(bench))
    except NotChecked as reason:
        return Finding(name, Outcome.NOT_CHECKED, str(reason))
    except Broken as reason:
        return Finding(name, Outcome.FAILED, str(reason))
    except Exception as error:
        return Finding(name, Outcome.FAILED, f"raised {type(error).__name__}: {error}")


PROMISES: tuple[Callable[[Bench], str], ...] = (
    reading.shape,
    reading.grid,
    reading.order,
    reading.no_cells,
    reading.read_twice,
    reading.read_outside,
    reading.read_wrongly,
    reading.clock,
    pulsing.absent_kinds,
    pulsing.no_pulse,
    pulsing.limits_outside,
    pulsing.limits_inside,
    pulsing.terminals,
    pulsing.pulse_addresses,
    pulsing.atomic,
    pulsing.set_raises,
    pulsing.reset_lowers,
    pulsing.exactly_once,
    beyond.product,
    beyond.product_wrongly,
    beyond.write_verify,
    beyond.knobs,
    beyond.freeze,
    beyond.close_while_reading,
    beyond.close_twice,
    beyond.after_close,
)
