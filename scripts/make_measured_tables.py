#!/usr/bin/env python3
"""Make the tables of measured quantiles that CI checks the presets against.

    python scripts/make_measured_tables.py DATA

DATA is a folder of measured Parquet tables (docs/twin.md). For each topic of the twin that offers
`tables(data)`, fixtures/measured/TOPIC.json gets what it returns: means and quantiles with their
source, no data.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rramhil_drivers.twin import topics
from rramhil_drivers.twin.sources import open_folder

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of measured Parquet tables")
    data = open_folder(parser.parse_args().data)
    FOLDER.mkdir(exist_ok=True)
    for name in topics.chosen(data, ()):
        tables = getattr(topics.module(name), "tables", None)
        if tables is None:
            continue
        file = FOLDER / f"{name}.json"
        file.write_text(json.dumps(tables(data), indent=1) + "\n", encoding="utf-8")
        print(f"{file.relative_to(FOLDER.parent.parent)}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
