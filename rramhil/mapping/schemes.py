"""The schemes by their names in a job file."""

from __future__ import annotations

from rramhil.mapping.pairs import Differential, TwoColumn
from rramhil.mapping.scheme import Scheme
from rramhil.mapping.single import OneColumn
from rramhil.words import nearest

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme for scheme in (TwoColumn(), OneColumn(), Differential())
}


def find_scheme(name: str) -> Scheme:
    """The scheme called `name`. Raises ValueError naming the nearest one."""
    if name not in SCHEMES:
        raise ValueError(f"there is no mapping scheme {name!r}{nearest(name, SCHEMES)}")
    return SCHEMES[name]
