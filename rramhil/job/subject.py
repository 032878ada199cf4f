"""What a run is about: the network, its data, and where its weights lie in the array."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rramhil.device import Bools, Cells, Floats, Ints, Refused, Spec
from rramhil.job.file import InSituTable, JobFile
from rramhil.job.result import Interval
from rramhil.mapping import Block, MappedNetwork, filled, map_network
from rramhil.mapping.placement import Faults, moved, place_around
from rramhil.nn.data import DataSet, load_data
from rramhil.nn.network import Images, Network, accuracy_of, images_of, load_network
from rramhil.nn.splits import Splits, make_splits
from rramhil.schema import FileError
from rramhil.tune import GateCurve
from rramhil.verify import Target


@dataclass(frozen=True, eq=False)
class Material:
    """A network and its data: what a run needs before it connects to anything.

    `rows`: row tables by layer, `teacher`: the network as it was trained, where rows were merged.
    Runs of the same network on the same data can share one: what was judged on the test images
    without an array (the teacher, the ideal mapping) is judged once.
    """

    network: Network
    data: DataSet
    splits: Splits
    calibration: Images
    validation: Images
    test: Images
    named: tuple[str, str, str | None]
    judged: dict[str, float] = field(default_factory=dict, repr=False)
    rows: Mapping[str, Ints] = field(default_factory=dict)
    teacher: Network | None = None

    @classmethod
    def load(cls, job: JobFile) -> Material:
        """Load network and data.

        Raises `FileError` when files do not belong together, `DataError` when data is missing.
        """
        network = load_network(job.network.name)
        if network.card.data != job.data.name:
            raise FileError(
                f"network {network.card.name!r} was trained on {network.card.data!r}, but the job "
                f"names the data {job.data.name!r}; set [data] name = {network.card.data!r}"
            )
        folder = Path(job.data.folder) if job.data.folder else None
        data = load_data(job.data.name, folder)
        splits = make_splits(data, network.card.split_seed)
        return cls(
            network=network,
            data=data,
            splits=splits,
            calibration=images_of(data, splits.calibration),
            validation=images_of(data, splits.validation),
            test=images_of(data, splits.test),
            named=_named(job),
        )

    @cached_property
    def train(self) -> Images:
        """The train set; float32 takes four times the memory of its file."""
        return images_of(self.data, self.splits.train)

    def check(self, job: JobFile) -> None:
        """Raises `FileError` when `job` names another network, other data or another folder."""
        if _named(job) != self.named:
            raise FileError(
                f"the job names network and data {_named(job)}, but was given {self.named}; load "
                "what it names"
            )

    def accuracy(self, weights: Mapping[str, NDArray[Any]]) -> float:
        """Test accuracy with the matrices `weights`; known where the same were judged before."""
        content = hashlib.sha256()
        for name, bias in self.network.biases.items():
            content.update(np.ascontiguousarray(weights[name], dtype=np.float32).tobytes())
            content.update(bias.numpy().tobytes())
        digest = content.hexdigest()
        if digest not in self.judged:
            matrices = self.network.with_weights(weights)
            self.judged[digest] = accuracy_of(self.network, self.test, matrices)
        return self.judged[digest]


def _named(job: JobFile) -> tuple[str, str, str | None]:
    return job.network.name, job.data.name, job.data.folder


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """What a scan decided of the mapping: its scheme, and where its blocks lie."""

    scheme: str
    blocks: tuple[Block, ...]

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; `from_arrays` reads it."""
        blocks = self.blocks
        sizes = [(b.row, b.col, b.tile, b.rows, b.cols) for b in blocks]
        return {
            "mapping_scheme": np.array(self.scheme),
            "block_layers": np.array([block.layer for block in blocks]),
            "blocks": np.array(sizes, dtype=np.int64),
            "block_lines": np.concatenate([block.lines for block in blocks]),
            "block_columns": np.concatenate([block.columns for block in blocks]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Decision | None:
        """From the arrays of a scan; None when it decided nothing."""
        if "mapping_scheme" not in arrays:
            return None
        numbers = arrays["blocks"]
        lines = np.split(arrays["block_lines"], np.cumsum(numbers[:-1, 3]))
        columns = np.split(arrays["block_columns"], np.cumsum(numbers[:-1, 4]))
        places = zip(arrays["block_layers"], numbers.tolist(), lines, columns, strict=True)
        blocks = [Block(str(name), n[0], n[1], n[2], on, at) for name, n, on, at in places]
        return cls(str(arrays["mapping_scheme"]), tuple(blocks))


class Subject:
    """A network mapped on a die, with its data.

    `decision`: what a scan has decided of the mapping; where the job leaves it something to
    decide, the mapping is provisional without.
    """

    def __init__(
        self, material: Material, job: JobFile, spec: Spec, decision: Decision | None = None
    ) -> None:
        """Place the weights on a die of `spec`. Raises `Refused` when they do not fit."""
        self.material, self._job, self._spec = material, job, spec
        self.provisional = job.mapping.is_decided_by_scan and decision is None
        self.network = material.network
        self.splits = material.splits
        self.calibration = material.calibration
        self.validation = material.validation
        self.test = material.test
        self.highest = spec.reading.highest
        if decision is not None:
            self.mapped = moved(self._mapped_by(decision.scheme), decision.blocks, spec)
        else:
            self.mapped = next(iter(self.candidates().values()))
            if job.mapping.around_faults and spec.barred:
                self.mapped = moved(self.mapped, self._beside_barred(), spec)

    def candidates(self) -> dict[str, MappedNetwork]:
        """The mappings that the job leaves to choose from, in natural order of places, by scheme.

        Raises `Refused` when none fits the die.
        """
        names = self._job.mapping.schemes()
        found = {}
        for name in names:
            try:
                found[name] = self._mapped_by(name)
            except Refused:
                if not found and name == names[-1]:
                    raise
        return found

    def decided(self, decision: Decision) -> Subject:
        """The same network and data, mapped as a scan has decided."""
        subject = Subject(self.material, self._job, self._spec, decision)
        known = {"teacher"} | ({"ideal"} if self.scheme == subject.scheme else set())
        subject.__dict__.update({k: v for k, v in self.__dict__.items() if k in known})
        return subject

    def _mapped_by(self, scheme: str) -> MappedNetwork:
        mapping = self._job.mapping
        return map_network(
            self.network.matrices(),
            self._spec,
            mapping.as_levels(),
            mapping.as_scheme(scheme),
            percentile=mapping.percentile,
            scale_per_column=mapping.scale == "column",
            rows=self.material.rows,
        )

    def _beside_barred(self) -> tuple[Block, ...]:
        barred = np.zeros(self._spec.size, dtype=bool)
        barred[list(self._spec.barred)] = True
        faults = Faults(np.full(self._spec.size, np.nan), barred)
        return place_around(self.mapped, self._spec, faults).blocks

    @property
    def in_situ(self) -> InSituTable:
        """How the job takes products on the array."""
        return self._job.in_situ

    @property
    def scheme(self) -> str:
        """The name of the mapping's scheme."""
        return self.mapped.layers[0].scheme.name

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tiles that the network uses; all that it may come to use while that is open."""
        return tuple(range(self._spec.tiles)) if self.provisional else self.mapped.tiles

    @property
    def cells_to_form(self) -> Cells:
        """The mapped cells; all that may come to be mapped while that is open."""
        if not self.provisional:
            return self.cells
        return np.setdiff1d(np.arange(self._spec.size), self._spec.barred)

    @property
    def train(self) -> Images:
        """The train set."""
        return self.material.train

    @property
    def cells(self) -> Cells:
        """Flat indices of all mapped cells, layer after layer."""
        return self.mapped.cells

    def weights(self, siemens: Floats) -> dict[str, Tensor]:
        """The network's matrices as the conductances `siemens` (one a mapped cell) give them.

        A cell above the range counts as the highest readable conductance, one that does not
        answer as open.
        """
        readable = filled(siemens, self.highest)
        return self.network.with_weights(self.mapped.weights_from(readable))

    def compensated(self, siemens: Floats, faulty: Bools) -> Floats:
        """Targets in siemens by which good cells make up for the faulty ones of their weight."""
        return self.mapped.compensated(filled(siemens, self.highest), faulty)

    @cached_property
    def teacher(self) -> float:
        """Test accuracy of the network in floating point."""
        if self.material.teacher is not None:
            return accuracy_of(self.material.teacher, self.test)
        return self.material.accuracy(self.network.matrices())

    @cached_property
    def ideal(self) -> float:
        """Test accuracy with every cell exactly at its level."""
        return self.material.accuracy(self.mapped.ideal_weights())

    def target(
        self,
        curve: GateCurve | None,
        centre: Floats | None = None,
        tolerance: Floats | None = None,
    ) -> Target:
        """The window of each mapped cell about its level, or about `centre` siemens, and the
        nominal gate voltage for it; not a number without a curve (the chip writes by itself).
        `tolerance`: siemens a cell, where it is not the mapping's."""
        centre = self.mapped.siemens if centre is None else centre
        levels = self.mapped.levels
        windows = levels.windows(centre, tolerance)
        if curve is None:
            return Target(*windows, np.full(centre.shape, np.nan))
        return Target(*windows, curve.nominal_gate(centre, levels.tolerance))

    def layout(self) -> dict[str, NDArray[Any]]:
        """What a report needs to know of the mapping, as arrays."""
        sizes = [layer.cells.size for layer in self.mapped.layers]
        centre = self.mapped.siemens
        levels = self.mapped.levels
        low, high = levels.windows(centre)
        return {
            "cells": self.cells,
            "layer": np.repeat(np.arange(len(sizes)), sizes),
            "layer_names": np.array([layer.name for layer in self.mapped.layers]),
            "target": centre.astype(np.float32),
            "low": low,
            "high": high,
            "level": levels.nearest(centre),
            "levels": levels.siemens,
        }


def wilson(fraction: float, count: int, z: float = 1.959964) -> Interval:
    """The Wilson score interval of a share of `count` images (95 % by default)."""
    middle = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z
        * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
        / (1 + z * z / count)
    )
    return Interval(low=middle - half, high=middle + half, images=count)
