"""Estimates of a mapped network as a table: value, range, formula, source."""

from __future__ import annotations

from collections.abc import Sequence

from rramhil.estimate import Quantity
from rramhil.report.summary import count, percent
from rramhil.units import show

HEAD = ("Quantity", "Estimate", "Range", "Formula", "Source")
UNKNOWN = "not known"


def estimate_lines(found: Sequence[Quantity]) -> list[list[str]]:
    """A line for each quantity, under `HEAD`."""
    return [
        [
            one.name,
            UNKNOWN if one.value is None else _shown(one.value, one.unit),
            _range(one),
            one.formula,
            one.source,
        ]
        for one in found
    ]


def _range(one: Quantity) -> str:
    if one.low is None or one.high is None or one.low == one.high:
        return ""
    return f"{_shown(one.low, one.unit)} to {_shown(one.high, one.unit)}"


def _shown(value: float, unit: str) -> str:
    if unit == "share":
        return percent(value)
    if unit == "m2":
        return f"{1e6 * value:.3g} mm\N{SUPERSCRIPT TWO}"
    if unit == "1/s":
        return f"{value:.3g} a second"
    if not unit:
        return count(round(value))
    return show(value, unit)
