"""Saved states of a volatile die, one file each beside its ledger: states/ROW.zst."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import zstandard

from rramhil.ledger.schema import LedgerError, Row

KEPT = 2


def save_state(folder: Path, row: int, state: bytes) -> dict[str, Any]:
    """Write the state that ledger row `row` will name, whole or not at all.

    Returns the data of that row. Raises `LedgerError` when it cannot be written.
    """
    packed = zstandard.ZstdCompressor(level=1).compress(state)
    path = folder / f"{row}.zst"
    try:
        folder.mkdir(exist_ok=True)
        path.with_suffix(".part").write_bytes(packed)
        os.replace(path.with_suffix(".part"), path)
    except OSError as error:
        raise LedgerError(
            f"the state of the die cannot be saved in {folder} ({error.strerror or error}); make "
            "room there or choose another folder"
        ) from None
    return {"sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}


def drop_old_states(folder: Path, newest: int) -> None:
    """Delete all states but the last `KEPT`, up to and with row `newest`."""
    states = sorted((p for p in folder.glob("*.zst") if p.stem.isdigit()), key=_number)
    older = [path for path in states if _number(path) <= newest]
    for path in older[:-KEPT]:
        path.unlink(missing_ok=True)


def load_state(folder: Path, row: Row) -> bytes | None:
    """The state that a `state` row names, or None when its file is gone or was changed."""
    try:
        packed = (folder / f"{row.row}.zst").read_bytes()
    except OSError:
        return None
    if hashlib.sha256(packed).hexdigest() != row.data.get("sha256"):
        return None
    return zstandard.ZstdDecompressor().decompress(packed)


def _number(path: Path) -> int:
    return int(path.stem)
