"""Write a chip file, every table with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rramhil.schema import FileError

from ..emulator.chipfile import ChipFile, load_chip

DIGITS = 5


def write_chip(chip: ChipFile, path: Path) -> Path:
    """Write `chip` as TOML to `path`, numbers to five digits, whole or not at all.

    The file is loaded again before it takes its place. Raises `FileError` when it cannot be
    written or tomli-w is not installed.
    """
    try:
        import tomli_w
    except ImportError:
        raise FileError(
            "writing a chip file needs tomli-w; install it with pip install 'rramhil[twin]'"
        ) from None
    text = tomli_w.dumps(rounded(chip.model_dump(mode="json")), multiline_strings=False)
    partial = path.with_name(f".{path.name}.partial.toml")
    try:
        partial.write_text(text, encoding="utf-8")
        load_chip(f"{partial}")
        partial.replace(path)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}); choose another file"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def rounded(value: Any) -> Any:
    """What of a dumped chip file is written: no absent keys, numbers to five digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value
