"""[mapping] rename and reorder: which physical row each row of a layer gets, before it is mapped.

Decided once, from calibration images and the seed of the job, before the first pulse; kept in the
run's folder, so that a run that is resumed maps as it did before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rramhil.device import Floats, Ints, MvmLimits, Refused, Spec
from rramhil.job.file import JobFile
from rramhil.job.result import ConverterError, RowsOfLayer
from rramhil.job.subject import Material
from rramhil.job.work import Tick
from rramhil.mapping import MappedLayer, map_network
from rramhil.mapping.conversions import Conversion, Conversions, NoiseLaw
from rramhil.mapping.rename import Renaming, check_mergeable, equal_rows, merged_rows
from rramhil.mapping.reorder import reorder
from rramhil.mapping.row_table import fed, shots
from rramhil.nn.in_situ import activation_ranges, code_unit
from rramhil.nn.layers import by_weights, unrolled, walk
from rramhil.nn.network import Images, Network
from rramhil.schema import FileError
from rramhil.words import nearest

MOST_VECTORS = 5000
"""Inputs of a layer that a renaming looks at."""

SHOWN = (
    NoiseLaw("constant", 0.25),
    NoiseLaw("sqrt", 0.25),
    NoiseLaw("linear", 0.25),
    NoiseLaw("linear", 0.4),
)
"""Noise laws for which the expected error is told beside the job's own."""

Arrays = dict[str, NDArray[Any]]
Arranging = Generator[Tick, None, "Arrangement"]
Told = Callable[[Tick], None]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """`network`: with the rows that were merged; `rows`: the row table of each layer in it."""

    network: Network
    rows: dict[str, Ints]
    told: dict[str, RowsOfLayer]

    def as_arrays(self) -> Arrays:
        """For a file; `restored` reads it."""
        kept: Arrays = {f"{name}/rows": table for name, table in self.rows.items()}
        for name in self.rows:
            kept[f"{name}/weights"] = self.network.weights[name].numpy()
            kept[f"{name}/bias"] = self.network.biases[name].numpy()
        return kept

    def material(self, before: Material) -> Material:
        """`before` with this network; the one that was trained stays the teacher."""
        return replace(before, network=self.network, teacher=before.network, rows=self.rows)


def arranged(material: Material, job: JobFile, spec: Spec, told: Told) -> Arrangement | None:
    """What `arrange` ends with, `told` its ticks; None where [mapping] asks for nothing."""
    if not job.mapping.rename and job.mapping.reorder is None:
        return None
    arranging = arrange(material, job, spec)
    while True:
        try:
            told(next(arranging))
        except StopIteration as done:
            found: Arrangement = done.value
            return found


def restored(material: Material, arrays: Mapping[str, NDArray[Any]]) -> Arrangement:
    """What `as_arrays` kept, for the same network."""
    names = [key.removesuffix("/rows") for key in arrays if key.endswith("/rows")]
    network = material.network
    for name in names:
        network = _with(network, name, arrays[f"{name}/weights"], arrays[f"{name}/bias"])
    return Arrangement(network, {name: arrays[f"{name}/rows"] for name in names}, {})


def check_rows(job: JobFile, material: Material) -> None:
    """Refuse, before any device is touched, rows that [mapping] cannot rename or reorder.

    Raises `FileError` for a layer that there is not, more rows than it has, and rows to merge whose
    weights have too many values.
    """
    weights, settings = material.network.weights, job.mapping.reorder
    asked = {
        "rename": list(job.mapping.rename),
        "reorder.layers": [] if settings is None else settings.layers or [],
    }
    for key, names in asked.items():
        for name in names:
            if name not in weights:
                raise FileError(
                    f"[mapping] {key} names {name!r}, which is no layer of "
                    f"{material.network.card.name}{nearest(name, weights)}"
                )
    for name, wanted in job.mapping.rename.items():
        if wanted == "equal":
            continue
        try:
            check_mergeable(weights[name].numpy(), wanted)
        except ValueError as error:
            raise FileError(f"[mapping] rename of {name}: {error}") from None
    if settings is not None and settings.images > len(material.calibration):
        raise FileError(
            f"[mapping] reorder.images asks for {settings.images} images, but the calibration set "
            f"has {len(material.calibration)}; ask for fewer"
        )


def check_reorder(job: JobFile, spec: Spec) -> None:
    """Refuse to reorder rows for a macro that does not take the next non-zero ones.

    Raises `Refused` in one sentence.
    """
    if job.mapping.reorder is None:
        return
    mvm = spec.mvm
    if mvm is None:
        raise Refused(
            f"[mapping] reorder: {spec.model} computes no product on the array; leave it out"
        )
    if mvm.row_order != "next_nonzero" or mvm.bits_at_once != 1:
        raise Refused(
            f"[mapping] reorder: {spec.model} does not sum the next rows with a non-zero input "
            "bit, so that their order changes nothing; leave it out, or take the 40nm macro"
        )


def arrange(material: Material, job: JobFile, spec: Spec) -> Arranging:
    """Rename, then reorder, as [mapping] says; ticks while it does.

    Raises as `check_rows`, `check_reorder` and `rramhil.mapping.rename` do.
    """
    check_rows(job, material)
    check_reorder(job, spec)
    network, renamed = material.network, dict[str, Renaming]()
    for name, wanted in job.mapping.rename.items():
        yield Tick(0, 1, f"renaming the rows of {name}")
        weights = network.weights[name].numpy()
        if wanted == "equal":
            renamed[name] = equal_rows(weights)
            continue
        inputs = _inputs(network, material.calibration, name, MOST_VECTORS, job.seed)
        renamed[name] = merged_rows(weights, inputs, wanted)
        shift = renamed[name].shift
        bias = network.biases[name].numpy() + (np.rint(shift) if network.is_integer else shift)
        network = _with(network, name, renamed[name].weights, bias)
    rows = {name: renaming.row_of for name, renaming in renamed.items()}
    told = {name: _told(network, name, renaming) for name, renaming in renamed.items()}
    settings = job.mapping.reorder
    if settings is not None and spec.mvm is not None:
        named = [layer.name for layer in network.card.layers]
        for name in dict.fromkeys(settings.layers or named):
            order, errors = yield from _reordered(material, network, rows, name, job, spec)
            before = rows.get(name, np.arange(len(network.weights[name])))
            rows[name] = np.argsort(order)[before]
            known = told.get(name) or _told(network, name, None)
            told[name] = known.model_copy(update={"converter_error": errors})
    return Arrangement(network, rows, told)


def _reordered(
    material: Material,
    network: Network,
    rows: Mapping[str, Ints],
    name: str,
    job: JobFile,
    spec: Spec,
) -> Generator[Tick, None, tuple[Ints, list[ConverterError]]]:
    """The order of a layer's physical rows, each block of a tile's rows within itself."""
    settings, mvm = job.mapping.reorder, spec.mvm
    assert settings is not None
    assert mvm is not None
    layer = _mapped(network, rows, name, job, spec)
    codes = _physical_codes(material, network, layer, job, mvm)
    products = len(codes) / settings.images  # of an output, whose errors add up as of blocks
    own = NoiseLaw(settings.noise, settings.strength, settings.floor)
    generator = np.random.default_rng([job.seed, 1])
    order, last = [], name == network.card.layers[-1].name
    per_code = mvm.amps_per_code / spec.reading.volts
    readout = layer.scheme.decode(np.eye(layer.cells.shape[1]), layer.levels)
    readout = readout - layer.scheme.decode(np.zeros((1, layer.cells.shape[1])), layer.levels)
    errors = {law: np.zeros(2) for law in dict.fromkeys((own, *SHOWN))}
    for start in range(0, layer.cells.shape[0], spec.rows):
        block = slice(start, start + spec.rows)
        cells = layer.siemens[block] / per_code

        def conversions(law: NoiseLaw, block: slice = block, cells: Floats = cells) -> Conversions:
            conversion = Conversion(mvm.rows_at_once, mvm.converter_bits, law)
            whole = len(cells) == layer.cells.shape[0]
            readout_codes = readout * per_code * layer.scale
            return Conversions(codes[:, block], cells, readout_codes, conversion, last and whole)

        for round_ in reorder(conversions(own), generator, settings.iterations):
            gained = 1 - round_.error / round_.natural if round_.natural else 0.0
            text = f"reordering {name}: expected converter error -{gained:.1%}"
            yield Tick(round_.iteration, round_.total, text)
        natural = np.arange(len(cells))
        for law, sums in errors.items():
            of_law = conversions(law)
            sums += [products * of_law.expected_error(o) for o in (natural, round_.order)]
        order.append(start + round_.order)
    return np.concatenate(order), [
        ConverterError(
            noise=law.law, strength=law.strength, floor=law.floor, before=sums[0], after=sums[1]
        )
        for law, sums in errors.items()
    ]


def _mapped(
    network: Network, rows: Mapping[str, Ints], name: str, job: JobFile, spec: Spec
) -> MappedLayer:
    """The layer alone, as it will be mapped, but for its order."""
    known = {name: rows[name]} if name in rows else {}
    mapped = map_network(
        {name: network.weights[name].numpy()},
        spec,
        job.mapping.as_levels(),
        job.mapping.as_scheme(),
        percentile=job.mapping.percentile,
        scale_per_column=job.mapping.scale == "column",
        rows=known,
    )
    return mapped.layers[0]


def _physical_codes(
    material: Material,
    network: Network,
    layer: MappedLayer,
    job: JobFile,
    mvm: MvmLimits,
) -> Ints:
    """Input codes of physical rows, (vectors, physical rows), from calibration images.

    The vectors of each product ("shot") that shared rows need follow those of the one before.
    Raises `Refused` for codes that the macro does not take.
    """
    assert job.mapping.reorder is not None
    calibration, percentile = material.calibration, job.in_situ.input_percentile
    inputs = _inputs(network, calibration, layer.name, job.mapping.reorder.images, job.seed)
    highest = 2**mvm.input_bits - 1
    own = next(own for own in network.card.layers if own.name == layer.name)
    largest = own.input_codes or highest
    unit = code_unit(own, activation_ranges(network, calibration, percentile=percentile), highest)
    codes = np.minimum(np.rint(inputs / (unit or 1.0)), largest).astype(np.int64)
    return np.concatenate(
        [fed(codes, layer.row_of, shot) for shot in shots(layer.row_of, largest, highest)]
    )


def _inputs(
    network: Network, images: Images, name: str, count: int, seed: int
) -> NDArray[np.float32]:
    """Inputs of a layer's rows, (vectors, rows): one an image, a convolution at a random place."""
    few = Images(images.pixels[:count], images.labels[:count])
    random = np.random.default_rng([seed, 0])
    parts = []
    with torch.no_grad():
        for part in few.batches(500):
            steps = walk(
                network.card.layers, part.pixels, by_weights(network.weights, network.biases)
            )
            step = next(step for step in steps if step.layer.name == name)
            places = step.outputs[0, 0].numel() if step.outputs.ndim == 4 else 1
            chosen = np.arange(len(part)) * places + random.integers(places, size=len(part))
            parts.append(unrolled(step.layer, step.inputs, torch.from_numpy(chosen)))
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _with(network: Network, name: str, weights: Any, bias: Any) -> Network:
    """`network` with other numbers in one layer."""
    tensors = (torch.as_tensor(np.asarray(values, dtype=np.float32)) for values in (weights, bias))
    weight, shift = tensors
    return replace(
        network,
        weights={**network.weights, name: weight},
        biases={**network.biases, name: shift},
    )


def _told(network: Network, name: str, renaming: Renaming | None) -> RowsOfLayer:
    """What the result says of a layer; without a renaming, of one that is reordered only."""
    found = renaming or Renaming(
        np.arange(len(network.weights[name])), np.zeros((1, 1)), np.zeros(1)
    )
    layer = next(layer for layer in network.card.layers if layer.name == name)
    codes = layer.input_codes
    return RowsOfLayer(
        rows=found.rows,
        physical_rows=found.physical_rows,
        saved_share=found.saved,
        index_bits=found.index_bits,
        most_shared=found.most_shared,
        input_bits=None if codes is None else found.input_bits(codes),
        output_error=found.error,
    )
