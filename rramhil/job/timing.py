"""What the ways of a run take in device time, by the ledger or by other timings and parallelism.

    seconds = ledger + pulses (t_w / P_w - t_w0 / P_w0) + reads (t_r / P_r - t_r0 / P_r0) + memory

t is the time of a group of at most P cells; with 0 those of the device that was there. What else
the device did (products) stays as the ledger has it. memory: the updates of digital numbers, each
step of a training counted, at one time a number. The first programming is common to all ways, so
each time is given without it and with it, and so is the ratio to read-verify-write.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rramhil.cost import Cost
from rramhil.device import Kind, Spec
from rramhil.job.result import RunResult, Timings, WayTime
from rramhil.schema import Seconds, Strict

Positive = Annotated[Seconds, Field(gt=0)]


class TimingTable(Strict):
    """[timing]: timings of another periphery, to compare ways by. What is left out is the die's.

    The literature has 6.5 us to 4.5 ms for the read-verify-write of a cell.
    """

    write_seconds: Positive | None = Field(None, description="of one pulse, a group of cells")
    read_seconds: Positive | None = Field(None, description="of one reading, a group of cells")
    writes_at_once: int | None = Field(None, ge=1, description="cells of a group")
    reads_at_once: int | None = Field(None, ge=1, description="cells of a group")
    sram_write_seconds: Positive = Field(1e-9, description="of a number in digital memory")

    @property
    def overrides(self) -> bool:
        """Whether anything but the ledger is asked for."""
        return self != TimingTable(sram_write_seconds=self.sram_write_seconds)


def timings_of(
    result: RunResult, table: TimingTable, spec: Spec, repairs: dict[str, str]
) -> Timings | None:
    """The times of every repair that is done; None before the first programming.

    `repairs`: the method of each repair by its step's name. The first that is read-verify-write
    is what the others are compared with.
    """
    programmed = next((s for s in result.steps if s.do == "program" and s.cost.pulses), None)
    done = {name: result.cost[name] for name in repairs if name in result.cost}
    if programmed is None or not done:
        return None
    own = _own(programmed.cost, spec)
    given = own.model_copy(
        update={
            "source": "job" if table.overrides else "ledger",
            "write_seconds": table.write_seconds or own.write_seconds,
            "read_seconds": table.read_seconds or own.read_seconds,
            "writes_at_once": table.writes_at_once or own.writes_at_once,
            "reads_at_once": table.reads_at_once or own.reads_at_once,
            "sram_write_seconds": table.sram_write_seconds,
        }
    )
    first = _seconds(programmed.cost, own, given)
    seconds = {name: _seconds(cost, own, given) for name, cost in done.items()}
    against = next((name for name, method in repairs.items() if method == "rvw"), None)
    slow = seconds.get(against) if against is not None else None
    ways = {
        name: WayTime(
            device_seconds=own_time,
            with_programming_seconds=first + own_time,
            speed_up=slow / own_time if slow and own_time else None,
            speed_up_with_programming=(first + slow) / (first + own_time) if slow else None,
        )
        for name, own_time in seconds.items()
    }
    update = {"programming_seconds": first, "compared_with": against if slow else None}
    return given.model_copy(update={**update, "ways": ways})


def _own(programmed: Cost, spec: Spec) -> Timings:
    """Timings and parallelism of the die itself; the time of a write as the ledger has it."""
    pulses, reading = spec.pulses.get(Kind.SET), spec.reading
    at_once = 1 if pulses is None else pulses.cells_at_once
    reads = programmed.reads * reading.seconds / reading.cells_at_once
    left = max(programmed.device_seconds - reads, 0.0)
    return Timings(
        source="ledger",
        write_seconds=left * at_once / programmed.pulses,
        read_seconds=reading.seconds,
        writes_at_once=at_once,
        reads_at_once=reading.cells_at_once,
        sram_write_seconds=0.0,
        programming_seconds=0.0,
    )


def _seconds(cost: Cost, own: Timings, given: Timings) -> float:
    write = given.write_seconds / given.writes_at_once - own.write_seconds / own.writes_at_once
    read = given.read_seconds / given.reads_at_once - own.read_seconds / own.reads_at_once
    of_cells = cost.device_seconds + cost.pulses * write + cost.reads * read
    return max(of_cells, 0.0) + cost.memory_writes * given.sram_write_seconds
