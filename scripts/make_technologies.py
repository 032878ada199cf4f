"""Make the presets techA, techB and techC from the preset 40nm and the relaxation data.

    python scripts/make_technologies.py DATA

DATA holds the Parquet tables of docs/twin.md. What happens after a write is fitted to each
technology (`rramhil twin fit --only ...`); how a write works was not measured on them, so it is
borrowed: the laws of 40nm with every conductance scaled by the full scales. To be run again when
those laws change.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.twin import topics
from rramhil_drivers.twin.chipwriter import write_chip
from rramhil_drivers.twin.relaxation import FULL_SCALE
from rramhil_drivers.twin.sources import open_folder

FOLDER = Path(__file__).parent.parent / "fixtures" / "chips"
BORROWED = ("set", "reset", "hrs", "form", "disturb", "endurance")
FITTED = ("noise", "relaxation", "retention")
CONDUCTANCES = ("siemens", "siemens_per_volt", "siemens_per_code")


def scaled(value: Any, by: float) -> Any:
    """A table with every conductance in it multiplied by `by`."""
    if isinstance(value, dict):
        return {
            key: times(one, by) if key.endswith(CONDUCTANCES) else scaled(one, by)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [scaled(one, by) for one in value]
    return value


def times(value: Any, by: float) -> Any:
    """A number or a list of numbers, multiplied."""
    return [times(v, by) for v in value] if isinstance(value, (list, tuple)) else value * by


def borrowed(name: str) -> ChipFile:
    """The chip 40nm with its conductances at the full scale of technology `name`."""
    table = load_chip("40nm").model_dump(exclude_none=True)
    by = FULL_SCALE[name] / FULL_SCALE["A"]
    table["faults"] = scaled(table["faults"], by)
    table["converter"] = scaled(table["converter"], by)
    for key in BORROWED:
        if key in table["cells"]:
            law = scaled(table["cells"][key], by)
            law["source"] = (
                f"borrowed: conductances times {by:.4g}, else as in 40nm: {law['source']}"
            )
            table["cells"][key] = law
    full = 1e6 * FULL_SCALE[name]
    table["name"] = f"tech{name}"
    table["about"] = (
        f"Cells that relax like technology {name} of the RRAM relaxation master model (A. Levy "
        f"2021, MIT; maker and node not named), full scale {full:.0f} uS. Writing was not measured "
        "on it: those laws are borrowed from the preset 40nm, with conductances scaled to the "
        "full scale; so are geometry and periphery."
    )
    return ChipFile.model_validate(table)


def main() -> None:
    """Fit and write the three presets."""
    data = open_folder(Path(sys.argv[1]))
    for name in FULL_SCALE:
        chip = borrowed(name)
        laws = chip.cells
        assert laws is not None
        for topic in FITTED:
            laws = topics.module(topic).fit(data.part("fit"), laws, print)
        chip = chip.model_copy(update={"cells": laws})
        print(write_chip(chip, FOLDER / f"tech{name}.toml"))


if __name__ == "__main__":
    main()
