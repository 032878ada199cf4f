"""Before the first pulse: does the job fit the die that it is to run on?

A wrong voltage in the last step must not cost a chip the steps before it. So everything that a
job asks for by itself is compared with the limits of the die: what it applies, where its ramps
start and stop, and the conductances it writes. Nothing is read and nothing is pulsed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rramhil.device import Cells, Kind, PulseLimits, Range, Refused, Spec
from rramhil.job.file import (
    Characterise,
    Evaluate,
    Form,
    JobFile,
    MappingTable,
    Program,
    Refresh,
    Scan,
    Stress,
    Trim,
    Tune,
)
from rramhil.job.fine_tuning import check_programmed
from rramhil.job.on_array import check_products
from rramhil.job.on_chip import check_on_chip
from rramhil.job.recoveries import (
    RecoverAuto,
    RecoverFineTune,
    RecoverProgressive,
    RecoverRSA,
    RecoverRVW,
)
from rramhil.job.row_tables import check_reorder
from rramhil.job.stressing import check_stress
from rramhil.trim import TrimSettings, check_counts, check_trim
from rramhil.units import show
from rramhil.verify import ISPP, SDR, Bias, Recipe

SLACK = 1e-9  # of a limit: rounding of the decimal numbers in a file


def preflight(job: JobFile, spec: Spec) -> None:
    """Compare `job` with `spec`, which is the tighter of the chip's and the station's limits.

    Raises `Refused` in one sentence for the first value that is out of range, with its key and
    the limit. What only a reading can tell (does a cell need forming?) is not asked here.
    """
    limits = _Limits(spec)
    _check_levels(job, limits)
    check_reorder(job, spec)
    if any(step.host_pulses for step in job.steps):
        _check_bias(job.writing, limits)
    for name, step in zip(job.step_names(), job.steps, strict=True):
        where = f"step {name!r}"
        if getattr(step, "products", None) == "array":
            check_products(spec, where, 'set products = "readback"')
        match step:
            case Scan():
                _check_scan(step, where, limits)
            case Form():
                _check_form(step, where, limits)
            case Tune():
                _check_tune(step, where, limits)
            case Program(how="on_chip") | Refresh():
                check_on_chip(spec, job.mapping.levels, where)
            case Stress():
                check_stress(step, spec, where)
            case Trim(settings=TrimSettings(aim="counts")):
                check_counts(spec, job.mapping.levels)
            case Trim():
                check_trim(spec)
            case Characterise():
                _check_characterise(step, where, limits)
            case Program(how="verify") | RecoverAuto(host_pulses=True):
                _check_recipe(step.recipe, f"{where}: recipe", limits)
            case RecoverRVW():
                _check_rvw(step, job.mapping, where, limits)
            case RecoverProgressive(how="verify"):
                _check_recipe(step.recipe, f"{where}: recipe", limits)
            case Evaluate(how="in_situ"):
                check_products(spec, where, 'set how = "readback"')
            case RecoverFineTune():
                check_programmed(job, where)
            case RecoverRSA(switch_off=True):
                _check_switch_off(job.mapping, where, limits)


def check_places(job: JobFile, cells: Cells, spec: Spec) -> None:
    """Refuse a network some of whose `cells` the station bars, if any step may write them."""
    barred = np.intersect1d(cells, spec.barred)
    if barred.size and any(step.writes for step in job.steps):
        raise Refused(
            f"{barred.size} of the network's {cells.size} cells are barred by the station file, "
            f"the first at {spec.name_cell(int(barred[0]))}; set [mapping] around_faults = true, "
            "which places the network beside them"
        )


@dataclass(frozen=True, slots=True)
class _Limits:
    spec: Spec

    def pulse(self, kind: Kind) -> PulseLimits:
        """The limits for pulses of `kind`. Raises `Refused` where the die does none."""
        if kind not in self.spec.pulses:
            raise Refused(
                f"{self.spec.model} does no {kind.name} here, which the job's steps need; "
                "allow it in the station file or run the job on another die"
            )
        return self.spec.pulses[kind]

    def volts(self, key: str, value: float, kind: Kind) -> None:
        """Refuse a BL or SL voltage that a pulse of `kind` may not have."""
        self._line(key, value, self.pulse(kind).volts, kind)

    def gate(self, key: str, value: float, kind: Kind) -> None:
        """Refuse a gate voltage out of range; a die without a gate has nothing to refuse."""
        gate = self.pulse(kind).gate_volts
        if gate is not None:
            self._line(key, value, gate, kind)

    def width(self, key: str, value: float, kind: Kind) -> None:
        """Refuse a pulse width out of range, or off the grid: a width is never rounded."""
        limit = self.pulse(kind).seconds
        if limit.first_outside(value) is None:
            return
        if limit.low <= value <= limit.high:
            raise Refused(
                f"{key} is {show(value, 's')}, not a multiple of the {show(limit.step, 's')} that "
                f"{self.spec.model} allows for {kind.name}; change it in the job file"
            )
        self._refuse(key, value, limit, "s", f"allows for {kind.name}")

    def siemens(self, key: str, value: float) -> None:
        """Refuse a conductance that the die cannot read."""
        reading = self.spec.reading
        if not reading.lowest * (1 - SLACK) <= value <= reading.highest * (1 + SLACK):
            self._refuse(key, value, Range(reading.lowest, reading.highest), "S", "reads")

    def distance(self, key: str, value: float) -> None:
        """Refuse a difference of conductances that the die cannot tell apart."""
        lsb = self.spec.reading.lsb
        if value < lsb * (1 - SLACK):
            raise Refused(
                f"{key} is {show(value, 'S')}, less than the {show(lsb, 'S')} of one reading step "
                f"of {self.spec.model}; raise it in the job file, or mind its unit"
            )

    def _line(self, key: str, value: float, limit: Range, kind: Kind) -> None:
        # The pulses are rounded to the grid when they are made; their range is what counts.
        if limit.first_outside(limit.snap(value)) is not None:
            self._refuse(key, value, limit, "V", f"allows for {kind.name}")

    def _refuse(self, key: str, value: float, limit: Range, unit: str, whose: str) -> None:
        raise Refused(
            f"{key} is {show(value, unit)}, outside the {show(limit.low, unit)} to "
            f"{show(limit.high, unit)} that {self.spec.model} {whose}; change it in the job file"
        )


def _check_levels(job: JobFile, limits: _Limits) -> None:
    mapping = job.mapping
    limits.siemens("mapping.lowest", mapping.lowest)
    limits.siemens("mapping.highest", mapping.highest)
    limits.distance("the distance of two levels of [mapping]", mapping.as_levels().step)
    limits.distance("mapping.tolerance", mapping.tolerance)


def _check_bias(bias: Bias, limits: _Limits) -> None:
    limits.volts("writing.set_volts", bias.set_volts, Kind.SET)
    limits.width("writing.set_seconds", bias.set_seconds, Kind.SET)
    limits.volts("writing.reset_volts", bias.reset_volts, Kind.RESET)
    limits.volts("writing.reset_stop_volts", bias.reset_stop_volts, Kind.RESET)
    limits.gate("writing.reset_gate_volts", bias.reset_gate_volts, Kind.RESET)
    limits.width("writing.reset_seconds", bias.reset_seconds, Kind.RESET)


def _check_scan(step: Scan, where: str, limits: _Limits) -> None:
    limits.gate(f"{where}: set_gate", step.set_gate, Kind.SET)
    for name in ("stuck_lrs_siemens", "stuck_hrs_siemens"):
        limits.siemens(f"{where}: thresholds.{name}", getattr(step.thresholds, name))


def _check_form(step: Form, where: str, limits: _Limits) -> None:
    """A die that does no FORM is refused by the step itself, if a cell needs one."""
    forming = step.forming
    limits.siemens(f"{where}: forming.formed_siemens", forming.formed_siemens)
    if Kind.FORM not in limits.spec.pulses:
        return
    limits.volts(f"{where}: forming.start_volts", forming.start_volts, Kind.FORM)
    limits.volts(f"{where}: forming.stop_volts", forming.stop_volts, Kind.FORM)
    limits.gate(f"{where}: forming.gate_volts", forming.gate_volts, Kind.FORM)
    limits.width(f"{where}: forming.seconds", forming.seconds, Kind.FORM)


def _check_tune(step: Tune, where: str, limits: _Limits) -> None:
    if limits.pulse(Kind.SET).gate_volts is None:
        raise Refused(
            f"{where}: {limits.spec.model} has no gate to sweep; run the job on a 1T1R array"
        )
    limits.gate(f"{where}: first_gate", step.first_gate, Kind.SET)
    limits.gate(f"{where}: last_gate", step.last_gate, Kind.SET)


def _check_characterise(step: Characterise, where: str, limits: _Limits) -> None:
    if limits.pulse(Kind.SET).gate_volts is None:
        raise Refused(
            f"{where}: {limits.spec.model} has no gate to sweep; run the job on a 1T1R array"
        )
    for name in ("first_gate", "last_gate", "full_gate"):
        limits.gate(f"{where}: {name}", getattr(step, name), Kind.SET)
    for gate in step.settle_gates:
        limits.gate(f"{where}: settle_gates", gate, Kind.SET)
    limits.volts(f"{where}: first_sl", step.first_sl, Kind.RESET)
    limits.volts(f"{where}: last_sl", step.last_sl, Kind.RESET)


def _check_rvw(step: RecoverRVW, mapping: MappingTable, where: str, limits: _Limits) -> None:
    levels = mapping.as_levels()
    given = step.tolerance or [levels.tolerance * step.tolerance_factor]
    if step.tolerance is not None and len(given) != levels.count:
        raise Refused(
            f"{where}: tolerance names {len(given)} windows for {levels.count} levels; give one a "
            "level, the lowest first"
        )
    for half in given:
        limits.distance(f"{where}: tolerance", half)
        if half > levels.step / 2:
            raise Refused(
                f"{where}: tolerance is {show(half, 'S')}, more than half of the "
                f"{show(levels.step, 'S')} between two levels; lower it to "
                f"{show(levels.step / 2, 'S')} or map to fewer levels"
            )
    if step.how == "on_chip":
        check_on_chip(limits.spec, levels.count, where)
    else:
        _check_recipe(step.recipe, f"{where}: recipe", limits)


def _check_switch_off(mapping: MappingTable, where: str, limits: _Limits) -> None:
    limits.pulse(Kind.RESET)
    if mapping.rename:
        raise Refused(
            f"{where}: switch_off would switch off cells that other rows share by [mapping] "
            "rename; leave out one of them"
        )
    if not all(mapping.as_scheme(name).low_is_zero for name in mapping.schemes()):
        raise Refused(
            f"{where}: switch_off leaves cells low, and a low cell of the scheme "
            f"{mapping.scheme!r} is a large weight; use two_column, or switch_off = false"
        )


def _check_recipe(recipe: Recipe, where: str, limits: _Limits) -> None:
    """FPPV asks for nothing of its own; a gate ramp may leave the range, and gives up there."""
    if isinstance(recipe, ISPP) and recipe.gate_start_volts is not None:
        limits.gate(f"{where}.gate_start_volts", recipe.gate_start_volts, Kind.SET)
    if isinstance(recipe, SDR):
        for name, kind in (("fine_set", Kind.SET), ("fine_reset", Kind.RESET)):
            ramp = getattr(recipe, name)
            limits.volts(f"{where}.{name}.start", ramp.start, kind)
            limits.volts(f"{where}.{name}.stop", ramp.stop, kind)
