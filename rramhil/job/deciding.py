"""What a scan decides: the scheme of the mapping, and where the weights lie around the faults.

Until then the mapping is provisional. What was decided lies among the arrays of the scan, so that
steps that follow, a resumed run and a replay work on the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rramhil.device import Cells, Floats, Ints, Refused, Spec
from rramhil.job.file import JobFile, Program
from rramhil.job.subject import Decision, Subject
from rramhil.job.work import Arrays, Findings, Tick, Ticks, Work
from rramhil.mapping import MappedNetwork, filled
from rramhil.mapping.placement import Faults, Placement, Seen, expected_error, moved, placing
from rramhil.mapping.row_table import first_rows
from rramhil.nn.network import Images, Network
from rramhil.recover.scores import moments

IMAGES = 512
"""Calibration images, without labels, that the inputs of each row are known from."""
MARGIN, NEGLIGIBLE = 1.1, 1e-3
"""A scheme is as good as the best within this ratio, or this share of the outputs' variance."""


@dataclass(frozen=True, eq=False, slots=True)
class _Option:
    """A scheme on this die: as it would lie, what faults cost there and before, and rounding."""

    mapped: MappedNetwork
    before: Placement
    after: Placement
    rounding: float

    @property
    def error(self) -> float:
        """Expected squared error of the outputs, by their variance, over the layers."""
        return self.after.error + self.rounding

    @property
    def siemens(self) -> float:
        """Siemens of the targets of all cells for each weight."""
        return float(self.mapped.siemens.sum() / self.mapped.weight_count)


def decide(work: Work, census: Arrays) -> Ticks:
    """Decide what is open by the arrays of a scan; findings and arrays of the step say it."""
    subject, job, spec = work.subject, work.job, work.device.spec
    few = Images(subject.calibration.pixels[:IMAGES], subject.calibration.labels[:IMAGES])
    tables = {layer.name: layer.row_of for layer in subject.mapped.layers}
    seen = seen_by(subject.network, few, tables)
    candidates = subject.candidates()
    if not job.mapping.around_faults:  # nothing would move them off the cells that are barred
        candidates = {
            n: m for n, m in candidates.items() if not np.isin(m.cells, spec.barred).any()
        }
    options: dict[str, _Option] = {}
    for name, mapped in candidates.items():
        yield Tick(len(options), len(candidates) + 1, f"placing the mapping {name}")
        for option in _options(mapped, job, spec, census, seen, subject):
            options[name] = option
            yield Tick(len(options), len(candidates) + 1, f"placing the mapping {name}")
    name = _chosen(options)
    chosen = options[name]
    decision = Decision(name, chosen.after.blocks)
    work.arrays |= decision.as_arrays()
    work.findings |= _findings(name, options, job)
    work.findings |= {"images_seen": min(IMAGES, len(subject.calibration))}
    held = moved(chosen.mapped, decision.blocks, spec).cells
    rows = np.unique(held // spec.cols)
    bad = census["bad_rows"]
    spared = ~np.isin(bad[:, 0] * spec.rows + bad[:, 1], rows)
    work.findings |= {
        "bad_rows_spared": int(spared.sum()),
        "bad_mapped_cells": int(np.isin(held, _bad(census)).sum()),
    }


def _options(
    mapped: MappedNetwork,
    job: JobFile,
    spec: Spec,
    census: Arrays,
    seen: Mapping[str, Seen],
    subject: Subject,
) -> Iterator[_Option]:
    """The option that `mapped` is, better and better."""
    rounding = _rounding(mapped, subject, seen)
    compensate = _compensates(job)
    faults = faults_of(spec, census)
    before = expected_error(mapped, spec, faults, seen, compensate=compensate)
    if not job.mapping.around_faults:
        yield _Option(mapped, before, before, rounding)
        return
    try:
        for placed in placing(mapped, spec, faults, seen, compensate=compensate):
            yield _Option(mapped, before, placed, rounding)
    except Refused:
        # Cells that do not answer are taken for open, as readback takes them, where they must be.
        faults = faults_of(spec, census, unreadable_forbidden=False)
        for placed in placing(mapped, spec, faults, seen, compensate=compensate):
            yield _Option(mapped, before, placed, rounding)


def _chosen(options: Mapping[str, _Option]) -> str:
    """Of the schemes whose error is about the least, the one that draws the least current."""
    least = min(option.error for option in options.values())
    good = [n for n, o in options.items() if o.error <= max(MARGIN * least, least + NEGLIGIBLE)]
    return min(good, key=lambda name: options[name].siemens)


def _findings(name: str, options: Mapping[str, _Option], job: JobFile) -> Findings:
    chosen = options[name]
    found: Findings = {"scheme": name}
    for other, option in options.items():
        if len(options) > 1:
            found[f"{other}_expected_error"] = option.error
            found[f"{other}_weight_siemens"] = option.siemens
    if len(options) > 1:
        found["why"] = _why(name, options)
    found |= {"expected_error_before": chosen.before.error, "stuck_before": chosen.before.stuck}
    if job.mapping.around_faults:
        found |= {"expected_error": chosen.after.error, "stuck_under_weights": chosen.after.stuck}
    return found


def _why(name: str, options: Mapping[str, _Option]) -> str:
    """The choice in a sentence: error and current against the other schemes."""
    chosen = options[name]
    against = [
        f"{other} {option.error:.2g} at {option.siemens / chosen.siemens:.2g} times the current"
        for other, option in options.items()
        if other != name
    ]
    return (
        f"{name} is expected to make a squared error of {chosen.error:.2g} of the outputs' "
        f"variance (levels and faults); {', '.join(against)}"
    )


def seen_by(
    network: Network, images: Images, rows: Mapping[str, Ints] | None = None
) -> dict[str, Seen]:
    """Second moments of the inputs and variance of the outputs of each layer, on `images`.

    `rows`: the row tables of the layers that have one.
    """
    found = moments(network, images, rows=rows)
    return {
        name: Seen(found.inputs[name].numpy().astype(np.float64), found.outputs[name])
        for name in found.inputs
    }


def _rounding(mapped: MappedNetwork, subject: Subject, seen: Mapping[str, Seen]) -> float:
    """What levels and clipping alone cost, in the measure of `Placement.error`."""
    ideal, exact = mapped.ideal_weights(), subject.network.matrices()
    total = 0.0
    for own in mapped.layers:
        name, layer, physical = own.name, seen[own.name], first_rows(own.row_of)
        squares = (ideal[name] - exact[name])[physical] ** 2
        total += float((layer.inputs @ squares).mean() / (layer.variance or 1.0))
    return total


def faults_of(spec: Spec, census: Arrays, *, unreadable_forbidden: bool = True) -> Faults:
    """The faults of a die by the arrays of a scan, and what its station bars."""
    stuck = np.full(spec.size, np.nan)
    forbidden = np.zeros(spec.size, dtype=bool)
    forbidden[list(spec.barred)] = True
    cells, highest = census["cells"], spec.reading.highest
    for kind, reading in (("stuck_lrs", "after_reset"), ("stuck_hrs", "after_set")):
        here = census[kind]
        stuck[cells[here]] = _siemens(census[reading][here], highest)
    silent = cells[census["unreadable"]]
    stuck[silent] = 0.0
    forbidden[silent] |= unreadable_forbidden
    return Faults(stuck, forbidden)


def _siemens(readings: Floats, highest: float) -> Floats:
    return np.asarray(filled(readings, highest), dtype=np.float64)


def _bad(census: Arrays) -> Cells:
    bad = census["stuck_lrs"] | census["stuck_hrs"] | census["unreadable"]
    return np.asarray(census["cells"][bad], dtype=np.int64)


def _compensates(job: JobFile) -> bool:
    """Whether the first programming lets good cells make up for the stuck ones of a weight."""
    first = next(step for step in job.steps if isinstance(step, Program))
    return first.how == "verify" and first.compensate and first.passes > 1
