"""Tables written as TOML read back as they were."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rramhil.schema import toml_of

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
plain = st.booleans() | numbers | texts
inline = st.recursive(plain, lambda v: st.lists(v) | st.dictionaries(texts, v), max_leaves=8)


@given(st.dictionaries(texts, inline))
def test_a_table_reads_back_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml_of(table)) == table


def test_values_come_before_tables_and_nothing_is_written_for_none() -> None:
    table = {"steps": [{"do": "scan", "name": None}], "name": "x", "device": {"station": None}}
    text = toml_of(table)
    assert text.startswith('name = "x"\n')
    assert tomllib.loads(text) == {"name": "x", "device": {}, "steps": [{"do": "scan"}]}
