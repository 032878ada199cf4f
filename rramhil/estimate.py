"""What a mapped network should take on a macro: area, current, energy, latency, programming.

    activity = {"fc1": activity_of(layer, codes, spec), ...}   # codes of calibration images
    for quantity in estimate(mapped, activity, images, spec, Periphery()):
        print(quantity.name, quantity.value, quantity.unit, quantity.formula, quantity.source)

Every number carries its formula and where what goes into it comes from. What neither the device's
spec nor `Periphery` says is None ("not known"), never a guess; where a source leaves room there is
a range. Conductances are those of the targets: no variation, no drift. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rramhil.device import Ints, MvmLimits, Refused, Spec
from rramhil.ledger.tally import conversions
from rramhil.mapping import Block, MappedLayer, MappedNetwork
from rramhil.schema import Strict

DENSITY = "97.8 GOPS/mm2: W. Li et al., JSSC 2022, doi 10.1109/JSSC.2022.3163197"
MULTIPLEXER = "8:1 column multiplexer: G. Krishnan et al., IEEE TCAD 2022"
ENERGY = "joules of a conversion in the spec"


class Periphery(Strict):
    """What stands around the cells and no spec says. Publications of the 40 nm macro by default.

    `ops_per_second_per_m2`: compute density, a product and a sum an operation each; the source
    does not say how many columns it converts at once: all (`columns_at_once` None), or as many as
    `multiplexer` leaves. `cell_m2`: area of a cell; no source is known to us, so none by default.
    """

    ops_per_second_per_m2: float | None = Field(97.8e9 / 1e-6, gt=0)
    multiplexer: int = Field(8, ge=1)
    cell_m2: float | None = Field(None, gt=0)


class Quantity(BaseModel):
    """One number: `value` None is not known; `low`, `high`: the range that its sources leave."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    unit: str
    formula: str
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What some input vectors of a layer make its macro do, all of them together.

    `conversions`: of one column, a number for each block of the layer. `summed`: siemens on,
    added up over conversions and the columns of the layer.
    """

    conversions: tuple[int, ...]
    summed: float


def activity_of(layer: MappedLayer, codes: Ints, spec: Spec) -> Activity:
    """What input `codes` (vectors, physical rows) of `layer` do. Raises `Refused` without product.

    A conversion is counted as the ledger counts it (`rramhil.ledger.tally.conversions`).
    """
    limits = product_limits(spec)
    counted, summed = [], 0.0
    for block in layer.blocks:
        part = codes[:, block.row : block.row + block.rows].astype(np.int64)
        counted.append(conversions(limits, part, spec.rows))
        summed += float(_digits(limits, part) @ _siemens(layer, block).sum(axis=1))
    return Activity(tuple(counted), summed)


def estimate(
    mapped: MappedNetwork,
    activity: Mapping[str, Activity],
    images: int,
    spec: Spec,
    periphery: Periphery | None = None,
    repeats: int = 1,
) -> Iterator[Quantity]:
    """All quantities of `mapped` on a die of `spec`; `activity` of each layer over `images`.

    `repeats`: times that every product is measured. Raises `Refused` on a die without a product,
    ValueError below 1.
    """
    if repeats < 1:
        raise ValueError(f"a product cannot be measured {repeats} times; take 1 or more")
    limits, periphery = product_limits(spec), periphery or Periphery()
    yield from _sizes(mapped, spec)
    yield from _areas(mapped, spec, limits, periphery)
    total = _Work.of(mapped, activity, images, repeats)
    yield from _currents(mapped, total, spec, limits)
    yield from _energies(total, spec, limits)
    yield from _times(total, limits, periphery)
    yield from _programming(mapped, spec)


@dataclass(frozen=True, slots=True)
class _Work:
    """Work of one image: conversions of one column, all blocks after each other or those of a
    layer in different tiles at once; of used columns; siemens summed in them. All of them with
    the `repeats` of every product."""

    conversions: float
    at_once: float
    of_columns: float
    summed: float
    repeats: int

    @classmethod
    def of(
        cls, mapped: MappedNetwork, activity: Mapping[str, Activity], images: int, repeats: int
    ) -> _Work:
        every, parallel, columns, summed = 0.0, 0.0, 0.0, 0.0
        for layer in mapped.layers:
            own = activity[layer.name]
            tiles: dict[int, int] = {}
            for block, count in zip(layer.blocks, own.conversions, strict=True):
                every += count
                columns += count * block.cols
                tiles[block.tile] = tiles.get(block.tile, 0) + count
            parallel += max(tiles.values())
            summed += own.summed
        factor = repeats / images
        return cls(every * factor, parallel * factor, columns * factor, summed * factor, repeats)

    @property
    def repeated(self) -> str:
        """What formulas of single conversions say of the repeats."""
        return "" if self.repeats == 1 else f" x {self.repeats} repeats of a product"

    @property
    def counted(self) -> str:
        """What formulas call the conversions."""
        return "conversions" + ("" if self.repeats == 1 else f" (of all {self.repeats} repeats)")


def _sizes(mapped: MappedNetwork, spec: Spec) -> Iterator[Quantity]:
    blocks = [block for layer in mapped.layers for block in layer.blocks]
    cells, tiles = mapped.cells.size, len(mapped.tiles)
    share = cells / (tiles * spec.rows * spec.cols)
    here = "the mapping"
    yield Quantity(
        name="weights", value=mapped.weight_count, unit="", formula="rows x columns", source=here
    )
    yield Quantity(
        name="cells", value=cells, unit="", formula="physical rows x columns", source=here
    )
    yield Quantity(name="tiles", value=tiles, unit="", formula="tiles with a cell", source=here)
    for name, count in (
        ("physical rows", sum(block.rows for block in blocks)),
        ("physical columns", sum(block.cols for block in blocks)),
    ):
        yield Quantity(name=name, value=count, unit="", formula="sum over blocks", source=here)
    yield Quantity(
        name="share of the tiles used",
        value=share,
        unit="share",
        formula=f"cells / ({tiles} x {spec.rows} x {spec.cols})",
        source=f"the mapping; tiles of {spec.model}",
    )


def _areas(
    mapped: MappedNetwork, spec: Spec, limits: MvmLimits, periphery: Periphery
) -> Iterator[Quantity]:
    density, each = periphery.ops_per_second_per_m2, None
    if density is not None and limits.seconds:
        each = 2 * limits.rows_at_once * spec.cols / limits.seconds / density
    area = None if each is None else each * len(mapped.tiles)
    yield Quantity(
        name="area of the tiles",
        value=area,
        low=None if area is None else area / periphery.multiplexer,
        high=area,
        unit="m2",
        formula="tiles x 2 x rows at once x columns at once / seconds of a conversion / density; "
        f"low: columns behind a {periphery.multiplexer}:1 multiplexer",
        source=f"{DENSITY}; {MULTIPLEXER}",
    )
    cell = periphery.cell_m2
    yield Quantity(
        name="area of the cells alone",
        value=None if cell is None else cell * mapped.cells.size,
        unit="m2",
        formula="cells x area of a cell",
        source="given" if cell is not None else "no area of a cell is known",
    )


def _currents(
    mapped: MappedNetwork, work: _Work, spec: Spec, limits: MvmLimits
) -> Iterator[Quantity]:
    volts = spec.reading.volts
    mean = volts * work.summed / work.of_columns if work.of_columns else 0.0
    yield Quantity(
        name="read current of a column, mean",
        value=mean,
        unit="A",
        formula="read volts x sum of the conductances on, over conversions and columns in use",
        source="targets of the mapping; activity of the calibration images",
    )
    yield Quantity(
        name="read current of a column, highest",
        value=volts * limits.rows_at_once * float(mapped.siemens.max()),
        unit="A",
        formula="read volts x rows at once x highest target",
        source="the mapping and the spec",
    )


def _energies(work: _Work, spec: Spec, limits: MvmLimits) -> Iterator[Quantity]:
    known = bool(limits.joules)
    yield Quantity(
        name="conversions of an image",
        value=work.conversions,
        unit="",
        formula=f"shots x bit planes{work.repeated}, over blocks, as the ledger counts them",
        source="activity of the calibration images",
    )
    yield Quantity(
        name="energy of an image",
        value=work.conversions * spec.cols * limits.joules if known else None,
        low=work.of_columns * limits.joules if known else None,
        high=work.conversions * spec.cols * limits.joules if known else None,
        unit="J",
        formula=f"{work.counted} x columns of a tile x joules; low: columns in use alone",
        source=ENERGY if known else "the spec says no joules of a conversion",
    )
    yield Quantity(
        name="of it in the cells",
        value=spec.reading.volts**2 * work.summed * limits.seconds if limits.seconds else None,
        unit="J",
        formula=f"read volts^2 x conductances on x seconds of a conversion{work.repeated}",
        source="targets of the mapping; activity; the spec",
    )


def _times(work: _Work, limits: MvmLimits, periphery: Periphery) -> Iterator[Quantity]:
    seconds = limits.seconds or None
    value = None if seconds is None else work.conversions * seconds
    yield Quantity(
        name="latency of an image",
        value=value,
        low=None if seconds is None else work.at_once * seconds,
        high=None if value is None else value * periphery.multiplexer,
        unit="s",
        formula=f"{work.counted} x seconds, block after block, all columns at once; low: tiles of "
        f"a layer at once; high: {periphery.multiplexer} columns share a converter",
        source=f"seconds of a conversion in the spec; {MULTIPLEXER}",
    )
    yield Quantity(
        name="images a second",
        value=1 / value if value else None,
        unit="1/s",
        formula="1 / latency",
        source="as the latency",
    )


def _programming(mapped: MappedNetwork, spec: Spec) -> Iterator[Quantity]:
    own, reading, count = spec.program, spec.reading, mapped.cells.size
    groups = -(-count // reading.cells_at_once)
    most = None
    if own is not None and spec.pulses:
        width = min(limit.seconds.low for limit in spec.pulses.values())
        pulsed = -(-count // own.cells_at_once)
        most = groups * (own.attempts + 1) * reading.seconds + pulsed * own.attempts * width
    yield Quantity(
        name="programming time on the chip",
        value=None,
        low=groups * reading.seconds if own is not None else None,
        high=most,
        unit="s",
        formula="low: one reading of every cell; high: every attempt, each of the shortest pulse "
        "and a reading, without what the lines take",
        source="the spec; how many pulses a cell takes only a run tells"
        if own is not None
        else "the spec has no write-verify on the chip",
    )
    yield Quantity(
        name="programming energy on the chip",
        value=None,
        unit="J",
        formula="volts^2 x conductance x width, over pulses",
        source="the chip chooses its voltages, and the spec does not say them",
    )


def product_limits(spec: Spec) -> MvmLimits:
    """What a die of `spec` multiplies with. Raises `Refused` where it does not."""
    if spec.mvm is None:
        raise Refused(
            f"{spec.model} computes no product, so there is no latency and no energy of one to "
            "estimate; name a device that does, such as emulator:40nm"
        )
    return spec.mvm


def _siemens(layer: MappedLayer, block: Block) -> NDArray[np.float64]:
    rows = slice(block.row, block.row + block.rows)
    return np.asarray(layer.siemens[rows, block.col : block.col + block.cols], dtype=np.float64)


def _digits(limits: MvmLimits, codes: Ints) -> NDArray[np.float64]:
    """Sum of the input digits of each row over vectors and slices, as a share of a full digit."""
    full = 2**limits.bits_at_once - 1
    total = np.zeros(codes.shape[1])
    for first in range(0, limits.input_bits, limits.bits_at_once):
        total += ((codes >> first) & full).sum(axis=0) / full
    return total
