"""The schemes by their names in a job file."""

from __future__ import annotations

from rramhil.mapping.pairs import Differential, TwoColumn
from rramhil.mapping.scheme import Scheme
from rramhil.mapping.single import OneColumn, ReferenceColumn
from rramhil.mapping.slices import BitSlices
from rramhil.words import nearest

USUAL_SLICES = 2

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        TwoColumn(),
        OneColumn(),
        Differential(),
        ReferenceColumn(),
        BitSlices(USUAL_SLICES),
    )
}


def find_scheme(name: str, slices: int | None = None) -> Scheme:
    """The scheme called `name`; `slices`: digits a weight of bit_slices, 2 by default.

    Raises ValueError naming the nearest scheme, and for slices of a scheme that has none.
    """
    if name not in SCHEMES:
        raise ValueError(f"there is no mapping scheme {name!r}{nearest(name, SCHEMES)}")
    if slices is None:
        return SCHEMES[name]
    if name != BitSlices.name:
        raise ValueError(
            f"the scheme {name!r} has no slices; take the scheme 'bit_slices' or leave them out"
        )
    return BitSlices(slices)
