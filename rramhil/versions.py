"""Versions of what a run was made with, for the head of a session. Loads nothing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rramhil", "numpy", "torch")


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that results depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
