"""A `Spec` as plain JSON data and back, so that a run's header says what the die allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from rramhil.device import (
    Kind,
    KnobLimits,
    MvmLimits,
    ProgramLimits,
    PulseLimits,
    Range,
    ReadLimits,
    Spec,
)

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Dataclasses, enums, mappings and tuples as dicts, texts and lists that JSON knows.

    JSON has no infinity and no NaN: those become the texts "inf", "-inf" and "nan".
    """
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def spec_from(data: Mapping[str, Any]) -> Spec:
    """The `Spec` that `plain` took apart. A field that this version does not know is left out."""
    pulses = {Kind(kind): _pulse_limits(limits) for kind, limits in data["pulses"].items()}
    knobs = {name: _with_ranges(KnobLimits, limits) for name, limits in data["knobs"].items()}
    reading = {**data["reading"], "references": tuple(data["reading"]["references"])}
    rest = {
        "reading": _only_known(ReadLimits, reading),
        "pulses": MappingProxyType(pulses),
        "knobs": MappingProxyType(knobs),
        "mvm": _only_known(MvmLimits, data["mvm"]) if data["mvm"] else None,
        "program": _only_known(ProgramLimits, data["program"]) if data["program"] else None,
        "barred": tuple(data.get("barred", ())),
    }
    return _only_known(Spec, {**data, **rest})


def _pulse_limits(data: Mapping[str, Any]) -> PulseLimits:
    return _with_ranges(PulseLimits, data)


def _with_ranges(make: type[T], data: Mapping[str, Any]) -> T:
    ranged = {k: _only_known(Range, v) if isinstance(v, Mapping) else v for k, v in data.items()}
    return _only_known(make, ranged)


def _only_known(make: type[T], data: Mapping[str, Any]) -> T:
    known = {f.name: str(f.type) for f in fields(make)}  # type: ignore[arg-type]
    return make(**{key: _number(known[key], data[key]) for key in data if key in known})


def _number(kind: str, value: Any) -> Any:
    return float(value) if kind.startswith("float") and isinstance(value, str) else value
