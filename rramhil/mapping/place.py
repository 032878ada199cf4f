"""Tiling: matrices larger than a tile are split, and the blocks are packed into tiles.

Blocks are packed on shelves, tallest first (first-fit decreasing height: Coffman, Garey,
Johnson, Tarjan, SIAM J. Comput. 9(4), 1980): simple, deterministic, and near the optimum for
the few blocks of a network. Partial sums of row blocks are added after conversion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rramhil.device import Cells, Ints, Refused, Spec


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """A rectangle of one layer's physical matrix and the lines of a tile that hold it.

    (`row`, `col`) is its corner in the matrix. `lines`: the word line of each of its rows,
    `columns`: the column of each of its columns, int64, in any order and with gaps between.
    """

    layer: str
    row: int
    col: int
    tile: int
    lines: Ints
    columns: Ints

    @property
    def rows(self) -> int:
        """Rows of the rectangle."""
        return int(self.lines.size)

    @property
    def cols(self) -> int:
        """Columns of the rectangle."""
        return int(self.columns.size)


@dataclass(slots=True)
class _Shelf:
    """A strip of rows of a tile, filled from the left."""

    tile: int
    top: int
    rows: int
    used_cols: int


@dataclass(frozen=True, slots=True)
class _Piece:
    layer: str
    row: int
    col: int
    rows: int
    cols: int


def place(
    shapes: Mapping[str, tuple[int, int]],
    columns_per_weight: int,
    spec: Spec,
    tiles: Sequence[int] | None = None,
) -> tuple[Block, ...]:
    """Blocks of all layers, each at a place of its own, tile by tile.

    `shapes`: (rows, physical columns) of each layer. `tiles`: the tiles that may be used, all
    by default. The columns of one weight are never parted. Raises `Refused` when the network
    does not fit, saying how many tiles it needs.
    """
    allowed = list(range(spec.tiles)) if tiles is None else list(tiles)
    pieces = [
        piece
        for layer, (rows, cols) in shapes.items()
        for piece in _split(layer, rows, cols, columns_per_weight, spec)
    ]
    shelves: list[_Shelf] = []
    blocks = []
    for piece in sorted(pieces, key=lambda piece: -piece.rows):
        shelf = _find_shelf(shelves, piece, spec)
        blocks.append((piece, shelf.tile, shelf.top, shelf.used_cols))
        shelf.used_cols += piece.cols
    needed = max((shelf.tile for shelf in shelves), default=-1) + 1
    if needed > len(allowed):
        raise Refused(
            f"the network needs {needed} tiles of {spec.rows} x {spec.cols} cells, but "
            f"{len(allowed)} of {spec.serial} may be used; take a die with {needed} tiles, a "
            "mapping with fewer columns a weight, or a smaller network"
        )
    return tuple(
        Block(p.layer, p.row, p.col, allowed[tile], _run(top, p.rows), _run(left, p.cols))
        for p, tile, top, left in blocks
    )


def _run(first: int, count: int) -> Ints:
    return np.arange(first, first + count, dtype=np.int64)


def block_cells(shape: tuple[int, int], blocks: Sequence[Block], spec: Spec) -> Cells:
    """Flat cell indices (rows, physical columns) of one layer from its blocks."""
    cells = np.full(shape, -1, dtype=np.int64)
    for block in blocks:
        flat = spec.cells(block.tile, block.lines[:, None], block.columns[None, :])
        flat = flat.reshape(block.rows, block.cols)
        cells[block.row : block.row + block.rows, block.col : block.col + block.cols] = flat
    return cells


def _split(layer: str, rows: int, cols: int, columns_per_weight: int, spec: Spec) -> list[_Piece]:
    widest = spec.cols // columns_per_weight * columns_per_weight
    if widest == 0:
        raise Refused(
            f"{columns_per_weight} columns a weight do not fit a tile of {spec.cols} columns; "
            "take fewer slices or the scheme one_column"
        )
    return [
        _Piece(layer, row, col, min(spec.rows, rows - row), min(widest, cols - col))
        for row in range(0, rows, spec.rows)
        for col in range(0, cols, widest)
    ]


def _find_shelf(shelves: list[_Shelf], piece: _Piece, spec: Spec) -> _Shelf:
    """The first shelf with room, or a new one in the first tile with enough rows left."""
    for shelf in shelves:
        if piece.rows <= shelf.rows and piece.cols <= spec.cols - shelf.used_cols:
            return shelf
    used_rows: dict[int, int] = {}
    for shelf in shelves:
        used_rows[shelf.tile] = max(used_rows.get(shelf.tile, 0), shelf.top + shelf.rows)
    tile = 0
    while used_rows.get(tile, 0) + piece.rows > spec.rows:
        tile += 1
    shelf = _Shelf(tile, used_rows.get(tile, 0), piece.rows, 0)
    shelves.append(shelf)
    return shelf
