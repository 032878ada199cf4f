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

from rramhil.device import Bools, Cells, Floats, Spec
from rramhil.job.file import JobFile
from rramhil.job.result import Interval
from rramhil.mapping import filled, find_scheme, map_network
from rramhil.nn.data import DataSet, load_data
from rramhil.nn.network import Images, Network, accuracy_of, images_of, load_network
from rramhil.nn.splits import Splits, make_splits
from rramhil.schema import FileError
from rramhil.tune import GateCurve
from rramhil.verify import Target


@dataclass(frozen=True, eq=False)
class Material:
    """A network and its data: what a run needs before it connects to anything.

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
        for name in self.network.weights:
            content.update(np.ascontiguousarray(weights[name], dtype=np.float32).tobytes())
        digest = content.hexdigest()
        if digest not in self.judged:
            matrices = self.network.with_weights(weights)
            self.judged[digest] = accuracy_of(self.network, self.test, matrices)
        return self.judged[digest]


def _named(job: JobFile) -> tuple[str, str, str | None]:
    return job.network.name, job.data.name, job.data.folder


class Subject:
    """A network mapped on a die, with its data."""

    def __init__(self, material: Material, job: JobFile, spec: Spec) -> None:
        """Place the weights on a die of `spec`. Raises `Refused` when they do not fit."""
        self.material = material
        self.network = material.network
        self.splits = material.splits
        self.calibration = material.calibration
        self.validation = material.validation
        self.test = material.test
        self.highest = spec.reading.highest
        self.mapped = map_network(
            material.network.matrices(),
            spec,
            job.mapping.as_levels(),
            find_scheme(job.mapping.scheme),
            percentile=job.mapping.percentile,
            scale_per_column=job.mapping.scale == "column",
        )

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
