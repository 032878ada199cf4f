"""SI prefixes live here and nowhere else: read "0.8 V", print 41.3 µS.

>>> parse("0.8 V", "V")
0.8
>>> show(41.3e-6, "S")
'41.3 µS'
"""

from __future__ import annotations

import math
import re

PREFIXES = {
    "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "": 1.0,
    "k": 1e3, "M": 1e6, "G": 1e9,
}  # fmt: skip
_EXAMPLES = {"S": "20 uS", "s": "100 ns"}
_PRINTED = ("p", "n", "µ", "m", "", "k", "M", "G")
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*\Z")


def parse(text: str | float, unit: str) -> float:
    """Read a quantity such as '0.8 V', '40 uS' or '1e-6 s' as SI.

    A bare number is SI already. Raises ValueError naming the input and what was expected;
    a wrong unit is an error, never a conversion.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    match = _NUMBER.match(str(text))
    example = _EXAMPLES.get(unit, f"1.5 {unit}")
    wrong = f"{text!r} is not a quantity in {unit}; write for example {example!r}"
    if match is None:
        raise ValueError(wrong)
    number, tail = match.groups()
    if not tail:
        return float(number)
    if not tail.endswith(unit) or tail[: -len(unit)] not in PREFIXES:
        raise ValueError(wrong)
    value = float(f"{number}") * PREFIXES[tail[: -len(unit)]]
    return float(f"{value:.15g}")


def show(value: float, unit: str, digits: int = 3) -> str:
    """Print an SI value with the prefix that leaves 1 to 999 before the point."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g} {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3), -4), 3)
    scaled = value / 10.0 ** (3 * power)
    if abs(float(f"{scaled:.{digits}g}")) >= 1000 and power < 3:
        power += 1
        scaled = value / 10.0 ** (3 * power)
    shown = f"{scaled:.{digits}g}"
    if "e" in shown:
        shown = f"{scaled:.0f}"
    return f"{shown} {_PRINTED[power + 4]}{unit}"
