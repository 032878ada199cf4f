"""What rungs of the ladder should cost, and what they did cost by the die's ledger."""

from __future__ import annotations

from rramhil.device import Kind
from rramhil.job.work import Work
from rramhil.ledger import LedgerReader
from rramhil.recover.cost import NUMBER_BITS
from rramhil.recover.ladder import Price, Rung


def paid_in(work: Work, first_row: int) -> Price:
    """Device time without chosen delays, and pulses, of this run's rows from `first_row` on."""
    ledger = work.device.ledger
    ledger.flush()
    with LedgerReader(ledger.path) as reader:
        totals = reader.totals(work.run, first_row)
    busy = totals.device_seconds - totals.waiting_seconds
    return Price(busy, sum(totals.pulses[kind] for kind in Kind))


def priced(work: Work, rung: Rung, pulses: int, reading: float, passes: int, labels: int) -> Price:
    """What `rung` should cost, at most in memory; `reading`: seconds for one of all cells.

    Write-verify reads a cell before each of its `pulses`, and all cells after each of `passes`;
    a pulse takes as long as one has taken on this die so far.
    """
    network, size = work.subject.network, work.subject.cells.size
    weights = {name: weight.numel() for name, weight in network.weights.items()}
    count, sparse, bits = sum(weights.values()), 0, 0
    if rung.fraction is not None:
        sparse = int(rung.fraction * count + 1e-9)
        numbers = sparse + 2 * sum(weight.shape[1] for weight in network.weights.values())
        index = max((n - 1).bit_length() for n in weights.values())
        bits = NUMBER_BITS * numbers + min(sparse * index, count)
    seconds = reading
    if rung.rewrite:
        seconds += pulses * (_pulse_seconds(work, reading) + reading / size) + passes * reading
    return Price(seconds, pulses, rung.fraction or 0.0, bits, rung.images, labels)


def _pulse_seconds(work: Work, reading: float) -> float:
    """Device time of a pulse to a cell: the mean of this die's ledger, readings taken away."""
    ledger = work.device.ledger
    ledger.flush()
    with LedgerReader(ledger.path) as reader:
        totals = reader.totals()
    pulses = sum(totals.pulses.values())
    if not pulses:
        return work.job.writing.set_seconds
    busy = totals.device_seconds - totals.waiting_seconds
    return max(busy - totals.reads * reading / work.subject.cells.size, 0.0) / pulses
