"""Why rows miss is said of those rows, and only where they miss."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rramhil_drivers.emulator.chipfile import load_chip
from rramhil_drivers.twin import causes, page, topics
from rramhil_drivers.twin.causes import CAUSES as SHIPPED
from rramhil_drivers.twin.causes import Cause
from rramhil_drivers.twin.rows import Compared, Curve

KNOWN = (Cause("sweeps", r"SET spread.*: 1000 ns", "cells end at one conductance"),)


def row(distance: float, group: str = "1000 ns, WL 2 V", half: float = 0.05) -> Compared:
    low, high = distance - half, distance + half
    return Compared("SET spread", group, 1.0, 1.0, distance, 0.3, low, high, "uS", "made up")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "CAUSES", KNOWN)


def test_nothing_is_said_where_all_hold() -> None:
    assert list(causes.causes("sweeps", [row(0.1), row(-0.3)], known=True)) == []


def test_what_may_be_chance_is_counted_as_such() -> None:
    (said,) = causes.causes("sweeps", [row(0.1), row(-0.33), row(0.4, half=0.2)], known=True)
    assert said.startswith("2 rows of 2 that miss may do so by chance")


def test_a_cause_is_printed_with_the_rows_that_it_explains() -> None:
    said = list(
        causes.causes("sweeps", [row(0.9), row(-0.9), row(0.8, "200 ns, WL 2 V")], known=True)
    )
    assert said == [
        "*SET spread* (2 rows, 1000 ns, WL 2 V and on): cells end at one conductance.",
        "*SET spread* (1 row, 200 ns, WL 2 V): no cause was found.",
    ]


def test_a_cause_of_another_topic_explains_nothing() -> None:
    (said,) = causes.causes("forming", [row(0.9)], known=True)
    assert said.endswith("no cause was found.")


def test_of_other_cells_no_cause_is_claimed() -> None:
    (said,) = causes.causes("sweeps", [row(0.9)], known=False)
    assert said.endswith("no cause was found.")
    laws = load_chip("40nm").cells
    assert laws is not None
    assert causes.shipped(laws)
    law = laws.set.model_copy(update={"kinetic_volts": 0.06})
    assert not causes.shipped(laws.model_copy(update={"set": law}))


def test_every_cause_is_of_a_topic_and_reads_as_a_sentence_part() -> None:
    for cause in SHIPPED:
        assert cause.topic in topics.TOPICS
        re.compile(cause.rows)
        assert not cause.why.endswith(".")


def test_the_page_says_it_below_the_table(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "page.md"
    x = np.arange(3)
    lines = [Curve("one", "a", x, x, True, "x", "y")]
    page.write_page(file, load_chip("40nm"), {"sweeps": [row(0.9)]}, lines, "made")
    text = file.read_text()
    assert text.index("Why rows miss") > text.index("| SET spread |")
    assert "cells end at one conductance" in text
    page.write_page(file, load_chip("40nm"), {"sweeps": [row(0.1)]}, lines, "made")
    assert "Why rows miss" not in file.read_text()
