"""SI prefixes: what is printed can be read again, and a wrong unit is an error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramhil.units import PREFIXES, parse, show


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("0.8 V", "V", 0.8),
        ("40uS", "S", 40e-6),
        ("40 µS", "S", 40e-6),
        ("40 μS", "S", 40e-6),
        (" 1e-6 s ", "s", 1e-6),
        ("-2.5 mV", "V", -2.5e-3),
        ("+.5 kS", "S", 500.0),
        ("3.", "V", 3.0),
        ("100 ns", "s", 1e-7),
        ("1 ms", "s", 1e-3),
        (3, "V", 3.0),
        (2.5e-6, "S", 2.5e-6),
    ],
)
def test_quantities_are_read(text: str | float, unit: str, value: float) -> None:
    assert parse(text, unit) == value


@pytest.mark.parametrize(
    "text", ["3 S", "3 v", "", "V", "three V", "3 xV", "1,5 V", "3 V V", "nan"]
)
def test_a_wrong_quantity_names_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text, "V")
    assert repr(text) in str(error.value)
    assert "write for example '1.5 V'" in str(error.value)


def test_true_is_no_number() -> None:
    with pytest.raises(ValueError, match="True"):
        parse(True, "V")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (41.3e-6, "41.3 µS"),
        (0.0, "0 S"),
        (999.6e-6, "1 mS"),
        (999.4e-6, "999 µS"),
        (1e-15, "0.001 pS"),
        (-2e-9, "-2 nS"),
        (2.5e12, "2500 GS"),
        (math.inf, "inf S"),
        (math.nan, "nan S"),
    ],
)
def test_values_are_shown(value: float, shown: str) -> None:
    assert show(value, "S") == shown


@given(st.floats(1e-12, 1e11), st.sampled_from([-1.0, 1.0]))
def test_law_what_is_shown_can_be_read_again(size: float, sign: float) -> None:
    value = sign * size
    assert parse(show(value, "S", digits=12), "S") == pytest.approx(value, rel=1e-9)
    assert parse(show(value, "S"), "S") == pytest.approx(value, rel=6e-3)


@given(st.decimals(-999, 999, places=3), st.sampled_from(sorted(PREFIXES)))
def test_law_a_prefix_multiplies_exactly_as_written(number: object, prefix: str) -> None:
    assert parse(f"{number} {prefix}V", "V") == pytest.approx(
        float(str(number)) * PREFIXES[prefix], rel=1e-14, abs=0
    )


@pytest.mark.parametrize(("unit", "example"), [("S", "20 uS"), ("s", "100 ns"), ("V", "1.5 V")])
def test_the_example_in_an_error_is_of_a_usual_size(unit: str, example: str) -> None:
    with pytest.raises(ValueError, match=f"write for example '{example}'"):
        parse("7 X", unit)
