"""Mapped layers and networks: where each weight lives, what its cells should be, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Bools, Cells, Floats, Ints, Spec
from rramhil.mapping.levels import Levels
from rramhil.mapping.place import Block, block_cells, place
from rramhil.mapping.row_table import by_physical_row, checked_table, first_rows, marked_rows, tied
from rramhil.mapping.scheme import Scheme, Weights
from rramhil.words import nearest


@dataclass(frozen=True, eq=False)
class MappedLayer:
    """One weight matrix (rows = inputs, columns = outputs) in cells.

    `cells` and `siemens` (targets): (physical rows, physical columns). `scale`: a column, weight
    units of a full-span cell; kept digitally, as are biases. `clipped`: how many weights were
    beyond the scale and stand at it. `row_of`: the physical row of each row of the matrix,
    (rows,); rows may be permuted and may share one (see `rramhil.mapping.row_table`).
    """

    name: str
    cells: Cells
    siemens: Floats
    scale: Floats
    scheme: Scheme
    levels: Levels
    blocks: tuple[Block, ...]
    clipped: int
    row_of: Ints

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the weight matrix."""
        return int(self.row_of.size), int(self.scale.size)

    @property
    def shares_rows(self) -> bool:
        """Whether rows of the matrix share a physical one."""
        return bool(self.row_of.size > self.cells.shape[0])

    def weights_from(self, siemens: ArrayLike) -> Weights:
        """Weights (rows, columns) from siemens, flat or (physical rows, physical columns)."""
        measured = np.asarray(siemens, dtype=np.float64).reshape(self.cells.shape)
        held = np.asarray(self.scheme.decode(measured, self.levels) * self.scale)
        return np.asarray(held[self.row_of])

    def targets(self, weights: ArrayLike) -> Floats:
        """Target siemens, (physical rows, physical columns), of other weights (rows, columns) at
        the same scale: clipped and on levels. Raises ValueError for another shape, and where
        rows that share a physical row differ (see `tied`)."""
        held = by_physical_row(self.name, self._of_its_shape(weights), self.row_of)
        return self.scheme.encode(np.clip(held / self.scale, -1, 1), self.levels)

    def tied(self, weights: ArrayLike) -> Weights:
        """Weights (rows, columns) with the mean of those rows that share a physical one: what of
        `weights` can be written. Raises ValueError for another shape."""
        return tied(self._of_its_shape(weights), self.row_of)

    def cells_of(self, weights: ArrayLike) -> Bools:
        """Which `cells` hold the marked `weights`, bools (rows, columns); references do not."""
        held = marked_rows(np.asarray(weights, dtype=bool).reshape(self.shape), self.row_of)
        column_of = self.scheme.column_of(self.shape[1], self.levels)
        return np.asarray(held[:, column_of] & (column_of >= 0))

    def sharing(self, weights: ArrayLike) -> Bools:
        """The marked `weights`, bools (rows, columns), and those that share their cells."""
        held = marked_rows(np.asarray(weights, dtype=bool).reshape(self.shape), self.row_of)
        return np.asarray(held[self.row_of])

    def _of_its_shape(self, weights: ArrayLike) -> NDArray[np.float64]:
        matrix = _matrix(self.name, weights)
        if matrix.shape != self.shape:
            raise ValueError(f"layer {self.name} has shape {self.shape}, not {matrix.shape}")
        return matrix

    def ideal_weights(self) -> Weights:
        """What the targets stand for: clipped and on levels, with no error of the array."""
        return self.weights_from(self.siemens)


@dataclass(frozen=True, eq=False)
class MappedNetwork:
    """All layers of a network in one die. Flat arrays run layer by layer, row by row."""

    layers: tuple[MappedLayer, ...]

    def __post_init__(self) -> None:
        if np.unique(self.cells).size != self.cells.size:
            raise ValueError("two weights share a cell; give each layer blocks of its own")

    @cached_property
    def cells(self) -> Cells:
        """Flat indices of all cells in use, shape (cells,)."""
        return np.concatenate([layer.cells.reshape(-1) for layer in self.layers])

    @cached_property
    def siemens(self) -> Floats:
        """Target siemens of `cells`, shape (cells,)."""
        return np.concatenate([layer.siemens.reshape(-1) for layer in self.layers])

    @property
    def levels(self) -> Levels:
        """The levels that all layers share."""
        return self.layers[0].levels

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tiles in use, ascending."""
        return tuple(sorted({block.tile for layer in self.layers for block in layer.blocks}))

    def high_cells(self, tile: int, spec: Spec) -> tuple[Bools, list[tuple[Ints, Ints]]]:
        """Which cells of `tile` should conduct more than the middle level, (tile rows, tile
        columns), and the (word lines, columns) of each block there."""
        per_tile = spec.rows * spec.cols
        cells = self.cells[self.siemens > self.levels.middle]
        high = np.zeros(per_tile, dtype=bool)
        high[cells[cells // per_tile == tile] - tile * per_tile] = True
        blocks = [block for layer in self.layers for block in layer.blocks if block.tile == tile]
        lines = [(block.lines, block.columns) for block in blocks]
        return high.reshape(spec.rows, spec.cols), lines

    @property
    def weight_count(self) -> int:
        """Number of weights that live in cells."""
        return sum(layer.shape[0] * layer.shape[1] for layer in self.layers)

    def cells_of(self, entries: Mapping[str, Ints]) -> Bools:
        """Which of `cells` hold the weights at `entries`: flat indices (row-major) by layer."""
        marked = []
        for layer in self.layers:
            weights = np.zeros(layer.shape[0] * layer.shape[1], dtype=bool)
            weights[entries[layer.name]] = True
            marked.append(layer.cells_of(weights).reshape(-1))
        return np.concatenate(marked)

    def weights_from(self, siemens: ArrayLike) -> dict[str, Weights]:
        """Weights (rows, columns) of each layer from the siemens of `cells`, in that order.

        Raises ValueError when there are not as many as `cells`.
        """
        flat = np.asarray(siemens, dtype=np.float64)
        if flat.shape != self.cells.shape:
            raise ValueError(
                f"siemens has shape {flat.shape}, but the network has {self.cells.size} cells; "
                "read them with device.read(network.cells)"
            )
        ends = np.cumsum([layer.cells.size for layer in self.layers])[:-1]
        parts = np.split(flat, ends)
        return {
            layer.name: layer.weights_from(part)
            for layer, part in zip(self.layers, parts, strict=True)
        }

    def compensated(self, measured: ArrayLike, faulty: ArrayLike) -> Floats:
        """Targets of `cells` that make up for the faulty ones (see `Scheme.compensated`)."""
        values, bad = np.asarray(measured, dtype=np.float64), np.asarray(faulty, dtype=bool)
        ends = np.cumsum([layer.cells.size for layer in self.layers])[:-1]
        targets = [
            layer.scheme.compensated(
                layer.siemens,
                part.reshape(layer.siemens.shape),
                broken.reshape(layer.siemens.shape),
                layer.levels,
            ).reshape(-1)
            for layer, part, broken in zip(
                self.layers, np.split(values, ends), np.split(bad, ends), strict=True
            )
        ]
        return np.concatenate(targets)

    def ideal_weights(self) -> dict[str, Weights]:
        """Weights of each layer with every cell exactly at its target."""
        return {layer.name: layer.ideal_weights() for layer in self.layers}


def map_network(
    weights: Mapping[str, ArrayLike],
    spec: Spec,
    levels: Levels,
    scheme: Scheme,
    *,
    percentile: float = 99.5,
    scale_per_column: bool = False,
    tiles: Sequence[int] | None = None,
    rows: Mapping[str, ArrayLike] | None = None,
) -> MappedNetwork:
    """Choose scale, targets and cells for every layer of a network.

    `weights`: (rows, columns) of each layer, in order; a convolution comes unrolled to
    (channels x k x k, outputs). A layer's scale is the `percentile` of its |w| (of each
    column's |w| with `scale_per_column`); weights beyond it are clipped and counted. `tiles`:
    the tiles that may be used. `rows`: the physical row of each row, by layer, for layers whose
    rows are reordered or shared. Raises ValueError for weights that are no finite matrix and for
    a table that does not fit them, `Refused` when the network does not fit the die.
    """
    if not weights:
        raise ValueError("a network without layers cannot be mapped; give at least one matrix")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile:g} is outside 0 to 100; 99.5 is usual")
    matrices = {name: _matrix(name, values) for name, values in weights.items()}
    tables = _row_tables(matrices, rows or {})
    shapes = {
        name: (first_rows(tables[name]).size, scheme.physical_columns(matrix.shape[1], levels))
        for name, matrix in matrices.items()
    }
    blocks = place(shapes, scheme.columns_per_weight, spec, tiles)
    layers = []
    for name, matrix in matrices.items():
        own = tuple(block for block in blocks if block.layer == name)
        scale = weight_scale(matrix, percentile, scale_per_column)
        held = by_physical_row(name, matrix, tables[name])
        layers.append(
            MappedLayer(
                name=name,
                cells=block_cells(shapes[name], own, spec),
                siemens=scheme.encode(np.clip(held / scale, -1, 1), levels),
                scale=scale,
                scheme=scheme,
                levels=levels,
                blocks=own,
                clipped=int(np.count_nonzero(np.abs(matrix) > scale)),
                row_of=tables[name],
            )
        )
    return MappedNetwork(tuple(layers))


def weight_scale(
    matrix: NDArray[np.float64], percentile: float, per_column: bool
) -> NDArray[np.float64]:
    """The weight of a full-span cell for each column: a percentile of |w|, never 0.

    Where the percentile is 0 (mostly zeros), the largest |w| stands in; where all are 0, 1.
    """
    sizes = np.abs(matrix)
    axis = 0 if per_column else None
    scale = np.atleast_1d(np.percentile(sizes, percentile, axis=axis))
    scale = np.where(scale > 0, scale, np.atleast_1d(sizes.max(axis=axis)))
    scale = np.where(scale > 0, scale, 1.0)
    return np.array(np.broadcast_to(scale, (matrix.shape[1],)))


def _row_tables(
    matrices: Mapping[str, NDArray[np.float64]], rows: Mapping[str, ArrayLike]
) -> dict[str, Ints]:
    for name in rows:
        if name not in matrices:
            raise ValueError(f"there is no layer {name!r} to reorder{nearest(name, matrices)}")
    return {
        name: checked_table(name, rows.get(name), matrix.shape[0])
        for name, matrix in matrices.items()
    }


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(
            f"layer {name} must be a matrix of finite numbers (rows, columns), but its shape is "
            f"{matrix.shape}; unroll a convolution to (channels x k x k, outputs)"
        )
    return matrix
