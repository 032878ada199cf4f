"""Placement around faults: which word lines and columns of which tile hold a block.

A stuck cell costs as much as the weight that lies on it is moved, and as its input is large. So
the rows of a block are assigned to the word lines of a tile, and its weights' columns to those of
the tile, such that the sum of squared output errors that faults are expected to cause is least.
For fixed columns that is a linear assignment problem in the rows, for fixed rows one in the
columns; the two take turns, block after block, until nothing improves
(`scipy.optimize.linear_sum_assignment`: D. F. Crouse, IEEE Trans. Aerosp. Electron. Syst. 52(4),
1679, 2016). Bad word lines are spared where a tile has others: real faults cluster by row. To have
others, blocks may be cut lower than a tile. Swapping rows against stuck cells: B. Liu et al.,
DAC 2017, doi 10.1145/3061639.3062310, and L. Chen et al., DATE 2017.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rramhil.device import Bools, Floats, Ints, Refused, Spec
from rramhil.mapping.network import MappedLayer, MappedNetwork
from rramhil.mapping.place import Block, block_cells, place

Costs = NDArray[np.float64]

FORBIDDEN = 1e9
"""Cost of a forbidden cell under a weight: more than all errors together."""
AT_ONCE = 1 << 20
"""Cells whose errors are worked out at a time: bounds the memory."""
GAIN = 1e-9
"""Share of its cost by which a block must gain to move."""
ROUND_GAIN = 1e-3
"""Share of the cost below which a round of all blocks was the last."""


@dataclass(frozen=True, eq=False, slots=True)
class Faults:
    """What is known of the cells of a die, each of shape (spec.size,).

    `stuck`: siemens at which a cell stays whatever is written to it, NaN for a good cell.
    `forbidden`: cells that no weight may lie on.
    """

    stuck: Floats
    forbidden: Bools

    def __post_init__(self) -> None:
        if self.stuck.shape != self.forbidden.shape or self.stuck.ndim != 1:
            raise ValueError(
                f"stuck and forbidden must both have one entry a cell of the die, but their shapes "
                f"are {self.stuck.shape} and {self.forbidden.shape}"
            )
        if np.isinf(self.stuck).any() or (self.stuck < 0).any():
            raise ValueError("a cell is stuck at a finite conductance of at least 0 S")

    @property
    def bad(self) -> Bools:
        """Cells that are stuck or forbidden."""
        return np.isfinite(self.stuck) | self.forbidden


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """What a layer's inputs are like: `inputs` E[x^2] (physical rows,), `variance` of its outputs.

    x is the sum of the inputs of all rows that share a physical one, because its error meets them
    all: E[(x1 + x2)^2], which is more than E[x1^2] + E[x2^2] for inputs of one sign.
    """

    inputs: Floats
    variance: float


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """Blocks at their places, and what the faults under them are expected to cost.

    `error`: squared output error over the variance of the outputs, mean over the outputs of a
    layer, added up over layers. `stuck`, `forbidden`: cells of that sort under weights.
    """

    blocks: tuple[Block, ...]
    error: float
    stuck: int
    forbidden: int

    @property
    def cost(self) -> tuple[int, float]:
        """The lower the better: first no forbidden cell, then a small error."""
        return self.forbidden, self.error


def expected_error(
    mapped: MappedNetwork,
    spec: Spec,
    faults: Faults,
    seen: Mapping[str, Seen] | None = None,
    *,
    compensate: bool = True,
) -> Placement:
    """`mapped` as it lies, with what faults are expected to cost there (see `place_around`)."""
    seats = _Seats(mapped, spec, faults, seen, compensate, range(spec.tiles))
    return seats.priced(_blocks_of(mapped))


def place_around(
    mapped: MappedNetwork,
    spec: Spec,
    faults: Faults,
    seen: Mapping[str, Seen] | None = None,
    *,
    tiles: Sequence[int] | None = None,
    compensate: bool = True,
) -> Placement:
    """The best placement found for the blocks of `mapped`; never one worse than it has.

    `seen`: second moments of each layer's inputs; without them all rows count alike. `compensate`:
    the good cells of a weight make up for its stuck ones as far as the scheme can (a write-verify
    that does so follows). `tiles`: those that may be used, all by default. Deterministic. Raises
    `Refused` when a weight would have to lie on a forbidden cell, with what would be enough, and
    ValueError for moments of another number of rows.
    """
    (best,) = deque(
        placing(mapped, spec, faults, seen, tiles=tiles, compensate=compensate), maxlen=1
    )
    return best


def placing(
    mapped: MappedNetwork,
    spec: Spec,
    faults: Faults,
    seen: Mapping[str, Seen] | None = None,
    *,
    tiles: Sequence[int] | None = None,
    compensate: bool = True,
) -> Iterator[Placement]:
    """As `place_around`, but the best so far after each way to cut the layers into blocks."""
    allowed = range(spec.tiles) if tiles is None else sorted(tiles)
    seats = _Seats(mapped, spec, faults, seen, compensate, allowed)
    best = seats.priced(_blocks_of(mapped))
    inside = all(block.tile in allowed for block in best.blocks)
    if best.stuck == best.forbidden == 0 and inside:
        yield best
        return
    own = [best.blocks] if inside else [_cut(mapped, spec, spec.rows, allowed)]
    for number, blocks in enumerate([*own, *_cuts(mapped, spec, faults, allowed)]):
        found = seats.settled(blocks)
        if found.cost < best.cost or (number == 0 and not inside):
            best = found
        yield best
        if best.cost == (0, 0.0):
            return
    if best.forbidden:
        raise Refused(_too_little(mapped, spec, faults, allowed, best.forbidden))


def moved(mapped: MappedNetwork, blocks: Sequence[Block], spec: Spec) -> MappedNetwork:
    """`mapped` with the same weights and targets in other cells: those of `blocks`."""
    layers = []
    for layer in mapped.layers:
        own = tuple(block for block in blocks if block.layer == layer.name)
        layers.append(replace(layer, blocks=own, cells=block_cells(layer.cells.shape, own, spec)))
    return MappedNetwork(tuple(layers))


def _blocks_of(mapped: MappedNetwork) -> tuple[Block, ...]:
    return tuple(block for layer in mapped.layers for block in layer.blocks)


def _cuts(
    mapped: MappedNetwork, spec: Spec, faults: Faults, tiles: Sequence[int]
) -> Iterator[tuple[Block, ...]]:
    """The layers cut lower than a tile, as far as they then still fit: to spare word lines.

    As many lines are spared as the worst tile has bad ones (a quarter of their cells), and as
    many as can be at all.
    """
    bad = faults.bad.reshape(spec.tiles, spec.rows, spec.cols)[list(tiles)].mean(axis=2) > 0.25
    heights = {spec.rows - int(bad.sum(axis=1).max(initial=0))}
    step, lowest = max(spec.rows // 32, 1), spec.rows
    while lowest > step and _fits(mapped, spec, lowest - step, tiles):
        lowest -= step
    tried = [_pieces(_blocks_of(mapped))]
    for height in sorted({*heights, lowest}, reverse=True):
        if _fits(mapped, spec, height, tiles):
            blocks = _cut(mapped, spec, height, tiles)
            if _pieces(blocks) not in tried:
                tried.append(_pieces(blocks))
                yield blocks


def _pieces(blocks: Sequence[Block]) -> set[tuple[str, int, int, int, int]]:
    return {(b.layer, b.row, b.col, b.rows, b.cols) for b in blocks}


def _fits(mapped: MappedNetwork, spec: Spec, height: int, tiles: Sequence[int]) -> bool:
    try:
        return height > 0 and bool(_cut(mapped, spec, height, tiles))
    except Refused:
        return False


def _cut(mapped: MappedNetwork, spec: Spec, height: int, tiles: Sequence[int]) -> tuple[Block, ...]:
    """Blocks of at most `height` rows at the top of their tiles. Raises `Refused` as `place`."""
    shapes = {layer.name: (layer.cells.shape[0], layer.cells.shape[1]) for layer in mapped.layers}
    together = mapped.layers[0].scheme.columns_per_weight
    return place(shapes, together, replace(spec, rows=height), tiles)


@dataclass(eq=False, slots=True)
class _Seat:
    """A block on its way: the tile, word lines (rows,) and first columns (weights,) it has now.

    `kinds`: the different weights it has, as target siemens (kinds, columns a weight), `kind_of`
    each weight (rows, weights). A squared error of a weight, in units of the scale, costs
    `inputs` (rows,) times `outputs` (weights,). `known`: what its rows cost on all word lines, by
    tile, in the columns it has now.
    """

    block: Block
    layer: MappedLayer
    kinds: NDArray[np.float64]
    kind_of: Ints
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    tile: int
    lines: Ints
    starts: Ints
    known: dict[int, Costs] = field(default_factory=dict)

    @property
    def columns(self) -> Ints:
        """Tile columns of the block, (columns,)."""
        return (self.starts[:, None] + np.arange(self.kinds.shape[1])).reshape(-1)


class _Seats:
    """Seats of all blocks of a network on one die, and the search for better ones."""

    def __init__(
        self,
        mapped: MappedNetwork,
        spec: Spec,
        faults: Faults,
        seen: Mapping[str, Seen] | None,
        compensate: bool,
        tiles: Sequence[int],
    ) -> None:
        if faults.stuck.size != spec.size:
            raise ValueError(
                f"the faults are of {faults.stuck.size} cells, but {spec.serial} has {spec.size}"
            )
        if any((layer.scheme.column_of(1, layer.levels) < 0).any() for layer in mapped.layers):
            raise ValueError(
                "a reference column cannot be moved; take a scheme without, as two_column"
            )
        shape = (spec.tiles, spec.rows, spec.cols)
        self.stuck = faults.stuck.reshape(shape)
        self.forbidden = faults.forbidden.reshape(shape)
        self.spec, self.compensate, self.tiles = spec, compensate, tiles
        self.layers = {layer.name: layer for layer in mapped.layers}
        self.worth = {
            layer.name: _worth(layer, None if seen is None else seen[layer.name])
            for layer in mapped.layers
        }

    def priced(self, blocks: Sequence[Block]) -> Placement:
        """`blocks` where they are, with their cost and the cells of each sort under them."""
        return self._placement([self._seat(block) for block in blocks])

    def settled(self, blocks: Sequence[Block]) -> Placement:
        """The placement that turns of rows and columns come to from `blocks`."""
        seats = self._spread([self._seat(block) for block in blocks])
        owner = np.full(self.stuck.shape, -1, dtype=np.int64)
        for number, seat in enumerate(seats):
            owner[seat.tile, seat.lines[:, None], seat.columns[None, :]] = number
        costs = [self._cost(seat) for seat in seats]
        tiles: Sequence[int] | None = self.tiles
        while True:
            before = sum(costs)
            for number, seat in enumerate(seats):
                taken = owner == number
                owner[taken] = -1
                costs[number] = self._take_lines(seat, owner, costs[number], tiles)
                costs[number] = self._take_columns(seat, owner, costs[number])
                owner[seat.tile, seat.lines[:, None], seat.columns[None, :]] = number
            tiles = None
            if sum(costs) >= before * (1 - ROUND_GAIN):
                return self._placement(seats)

    def _seat(self, block: Block) -> _Seat:
        layer = self.layers[block.layer]
        together = layer.scheme.columns_per_weight
        rows = slice(block.row, block.row + block.rows)
        first = block.col // together
        weights = slice(first, first + block.cols // together)
        targets = layer.siemens[rows, block.col : block.col + block.cols].reshape(-1, together)
        kinds, kind_of = np.unique(targets, axis=0, return_inverse=True)
        inputs, outputs = self.worth[layer.name]
        return _Seat(
            block=block,
            layer=layer,
            kinds=kinds.astype(np.float64),
            kind_of=kind_of.reshape(block.rows, -1),
            inputs=inputs[rows],
            outputs=outputs[weights],
            tile=block.tile,
            lines=np.array(block.lines),
            starts=np.array(block.columns)[::together],
        )

    def _spread(self, seats: list[_Seat]) -> list[_Seat]:
        """Whole tiles of blocks to the tiles where they cost least with all word lines free."""
        used = sorted({seat.tile for seat in seats})
        costs = np.zeros((len(used), len(self.tiles)))
        for seat in seats:
            for place_, tile in enumerate(self.tiles):
                matrix = self._row_costs(seat, tile)
                costs[used.index(seat.tile), place_] += matrix[linear_sum_assignment(matrix)].sum()
        own = [list(self.tiles).index(tile) for tile in used]
        rows, columns = linear_sum_assignment(costs)
        if costs[rows, columns].sum() < costs[rows, own].sum() * (1 - GAIN):
            new = {used[row]: self.tiles[column] for row, column in zip(rows, columns, strict=True)}
            for seat in seats:
                seat.tile = new[seat.tile]
        return seats

    def _take_lines(
        self, seat: _Seat, owner: Ints, cost: float, tiles: Sequence[int] | None
    ) -> float:
        """The best word lines that no other block holds in these columns; the cost then."""
        for tile in [seat.tile] if tiles is None else tiles:
            free = np.flatnonzero((owner[tile][:, seat.columns] < 0).all(axis=1))
            if free.size < seat.lines.size:
                continue
            costs = self._row_costs(seat, tile)[:, free]
            rows, chosen = linear_sum_assignment(costs)
            found = float(costs[rows, chosen].sum())
            if found < cost * (1 - GAIN):
                seat.tile, seat.lines, cost = tile, free[chosen], found
        return cost

    def _take_columns(self, seat: _Seat, owner: Ints, cost: float) -> float:
        """The best columns that no other block holds on these word lines; the cost then."""
        together = seat.kinds.shape[1]
        grid = np.arange(self.spec.cols // together) * together + seat.starts[0] % together
        grid = np.union1d(grid[grid + together <= self.spec.cols], seat.starts)
        held = (owner[seat.tile, seat.lines] >= 0).any(axis=0)
        free = grid[~held[grid[:, None] + np.arange(together)].any(axis=1)]
        costs = self._column_costs(seat, free)
        weights, chosen = linear_sum_assignment(costs)
        found = float(costs[weights, chosen].sum())
        if found < cost * (1 - GAIN):
            seat.starts, seat.known, cost = free[chosen], {}, found
        return cost

    def _cost(self, seat: _Seat) -> float:
        rows = np.arange(seat.lines.size)
        return float(self._row_costs(seat, seat.tile)[rows, seat.lines].sum())

    def _row_costs(self, seat: _Seat, tile: int) -> Costs:
        """What each row of a block costs on each word line of a tile, (rows, lines)."""
        forbidden = self.forbidden[tile][:, seat.columns].sum(axis=1)
        return np.asarray(self._row_errors(seat, tile) + FORBIDDEN * forbidden)

    def _row_errors(self, seat: _Seat, tile: int) -> Costs:
        """`_row_costs` of the stuck cells alone."""
        if tile not in seat.known:
            at = seat.starts[:, None] + np.arange(seat.kinds.shape[1])
            stuck = self.stuck[tile][:, at]
            errors = self._added_up(seat, stuck, seat.kind_of.T) * seat.inputs
            seat.known[tile] = errors.T
        return seat.known[tile]

    def _column_costs(self, seat: _Seat, starts: Ints) -> Costs:
        """What the column of each weight costs at each of `starts`, (weights, starts)."""
        at = starts[:, None] + np.arange(seat.kinds.shape[1])
        stuck = self.stuck[seat.tile][seat.lines][:, at].transpose(1, 0, 2)
        errors = self._added_up(seat, stuck, seat.kind_of, seat.inputs)
        forbidden = self.forbidden[seat.tile][seat.lines][:, at].sum(axis=(0, 2))
        return np.asarray(errors.T * seat.outputs[:, None] + FORBIDDEN * forbidden)

    def _added_up(
        self, seat: _Seat, stuck: Floats, kind_of: Ints, factors: Floats | None = None
    ) -> Costs:
        """Squared errors added up along each line of places, (lines, m).

        `stuck`: siemens of the cells of each place, (lines, places, cells). `kind_of`: the kind of
        weight that each of m rows (or columns) would put there, (places, m).
        """
        line, place_ = np.nonzero(np.isfinite(stuck).any(axis=2))
        costs = np.zeros((len(stuck), kind_of.shape[1]))
        worth = seat.outputs if factors is None else factors
        step = max(AT_ONCE // max(kind_of.shape[1], len(seat.kinds)), 1)
        for part in np.split(np.arange(line.size), range(step, line.size, step)):
            here, there = line[part], place_[part]
            if not here.size:
                continue
            table = self._errors(seat, stuck[here, there]) ** 2 * worth[there]
            found = np.take_along_axis(table.T, kind_of[there], axis=1)
            first = np.flatnonzero(np.diff(here, prepend=-1))
            costs[here[first]] += np.add.reduceat(found, first, axis=0)
        return costs

    def _errors(self, seat: _Seat, stuck: Floats) -> NDArray[np.float64]:
        """Errors (kinds, places), in units of the scale, of each kind of weight in places whose
        cells are `stuck` (places, cells) where that is a number."""
        scheme, levels = seat.layer.scheme, seat.layer.levels
        flat = np.tile(seat.kinds, len(stuck))
        at = np.broadcast_to(stuck.reshape(1, -1), flat.shape)
        faulty = np.isfinite(at)
        held = np.where(faulty, at, flat)
        if self.compensate:
            held = np.where(faulty, at, scheme.compensated(flat, held, faulty, levels))
        return np.asarray(scheme.decode(held, levels) - scheme.decode(flat, levels))

    def _placement(self, seats: Sequence[_Seat]) -> Placement:
        blocks, error, stuck, forbidden = [], 0.0, 0, 0
        for seat in seats:
            under = (seat.tile, seat.lines[:, None], seat.columns[None, :])
            stuck += int(np.count_nonzero(np.isfinite(self.stuck[under])))
            forbidden += int(np.count_nonzero(self.forbidden[under]))
            blocks.append(
                replace(seat.block, tile=seat.tile, lines=seat.lines, columns=seat.columns)
            )
            error += float(
                self._row_errors(seat, seat.tile)[np.arange(len(seat.lines)), seat.lines].sum()
            )
        return Placement(tuple(blocks), error, stuck, forbidden)


def _worth(
    layer: MappedLayer, seen: Seen | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(inputs, outputs): what a squared error costs by its physical row and by its column."""
    weights = layer.scheme.decode(layer.siemens, layer.levels) * layer.scale
    counts = np.bincount(layer.row_of)
    inputs = np.asarray(counts if seen is None else seen.inputs, dtype=np.float64)
    if inputs.shape != counts.shape:
        raise ValueError(
            f"the moments of layer {layer.name} are of shape {inputs.shape}, but it has "
            f"{counts.size} physical rows; give one for each"
        )
    variance = (inputs[:, None] * weights**2).sum(axis=0).mean() if seen is None else seen.variance
    # A layer whose outputs never vary (all weights zero) has no error to compare with.
    variance = variance if variance > 0 else 1.0
    return inputs, layer.scale**2 / (variance * layer.scale.size)


def _too_little(
    mapped: MappedNetwork, spec: Spec, faults: Faults, tiles: Sequence[int], left: int
) -> str:
    forbidden = int(np.count_nonzero(faults.forbidden.reshape(spec.tiles, -1)[list(tiles)]))
    return (
        f"{left} of the {mapped.cells.size} cells that the network needs would lie on cells that "
        f"may not be used ({forbidden} of {spec.serial} in {len(tiles)} tiles); free at least "
        f"{left} more cells in whole word lines, allow one more tile, or take a smaller network"
    )
