"""Fine-tuning of the device itself: train on what it holds, write open loop, read, again.

No write is verified. The errors that a write makes are measured on the device, from the first
programming; a round trains the weights that it will write against fresh draws of them, with all
other cells as they were read, so that it makes up for those. After the last round the digital
biases are refreshed. H. Lv, L. Zhang, Y. Wang, IEEE TCAD 44(6), 2024, doi
10.1109/TCAD.2024.3521195 compare such strategies (the paper is closed; the recipes are ours):

halving           the worst half of the weights, then of those left the worst again: 50, 25,
                  12.5, 6.25 % of all
last_layer        the last layer's weights in each round
threshold         train all, write the cells that are off by more than `sigmas` spreads
rewrite_all       train all, write all
biases_and_norms  write nothing: digital gains and biases alone
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rramhil.device import Device, Floats, Refused
from rramhil.mapping import filled
from rramhil.nn.network import Images, Matrices, Network
from rramhil.nn.written import Kept, WrittenNetwork
from rramhil.recover.correction import Correction
from rramhil.recover.loop import Epoch, Recovery, Schedule, adapt, best_parameters, latest
from rramhil.recover.losses import Loss, distillation, matching
from rramhil.recover.places import Biases, ColumnGains, Computed, Parameters, Place
from rramhil.recover.rewriting import (
    Freed,
    RewrittenCells,
    all_weights,
    last_layer,
    worst_weights,
    worth_writing,
)
from rramhil.recover.scores import expected_output_error, known_bad, moments
from rramhil.schema import Strict
from rramhil.verify import Bias, settled_reading, write_open_loop

Strategy = Literal["halving", "last_layer", "threshold", "rewrite_all", "biases_and_norms"]
Arrays = dict[str, NDArray[Any]]


class FineTuneSettings(Strict):
    """`rounds` of writing, `epochs` of training in each; then `refresh_epochs` for the biases.

    `sigmas`: a freed cell nearer to its new target than so many measured spreads is left alone
    (None: 0 for rewrite_all, which writes all, and 1 for the others). `writes_a_cell`: how often
    a cell may be written on average; more is refused beforehand. `rank`: halving frees the weights
    with the largest error, or with the largest expected error of the layer's output. `gains`: the
    refresh trains column gains as well (None: only for biases_and_norms).
    """

    strategy: Strategy = "halving"
    rounds: int = Field(default=4, ge=1, le=20)
    epochs: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    refresh_epochs: int = Field(default=2, ge=1)
    refresh_rate: float = Field(default=3e-3, gt=0)
    batch: int = Field(default=50, ge=1)
    label_share: float = Field(default=0.3, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    match: float = Field(default=0.3, ge=0, description="share of the matching of layer outputs")
    gains: bool | None = None
    rank: Literal["error", "output_error"] = "error"
    sigmas: float | None = Field(default=None, ge=0)
    writes_a_cell: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)

    @property
    def loss(self) -> Loss:
        """The loss of training and refresh."""
        taught = distillation(self.temperature, self.label_share)
        return taught + matching(self.match) if self.match else taught

    @property
    def write_rounds(self) -> int:
        """Rounds in which cells are written."""
        return 0 if self.strategy == "biases_and_norms" else self.rounds

    @property
    def spreads(self) -> float:
        """How near a cell must be to be left alone, in measured spreads."""
        if self.sigmas is not None:
            return self.sigmas
        return 0.0 if self.strategy == "rewrite_all" else 1.0

    def share(self, round_: int) -> float:
        """The share of all weights that halving frees in round `round_` (from 1)."""
        return 0.5**round_


def most_writes(settings: FineTuneSettings, weights: Mapping[str, Tensor]) -> float:
    """Writes a cell, at most, that `settings` may ask for after the first programming."""
    if settings.strategy == "halving":
        return sum(settings.share(n + 1) for n in range(settings.rounds))
    sizes = [weight.numel() for weight in weights.values()]
    each = sizes[-1] / sum(sizes) if settings.strategy == "last_layer" else 1.0
    return settings.write_rounds * each


def check_budget(settings: FineTuneSettings, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError when `settings` may write more than their own budget allows."""
    allowed, most = settings.writes_a_cell, most_writes(settings, weights)
    if allowed is None or most <= allowed + 1e-9:
        return
    fitting = [
        (n, most_writes(settings.model_copy(update={"rounds": n}), weights))
        for n in range(1, settings.rounds)
    ]
    fitting = [(n, writes) for n, writes in fitting if writes <= allowed + 1e-9]
    remedy = f"take rounds = {fitting[-1][0]}, " if fitting else ""
    raise ValueError(
        f"{settings.strategy} in {settings.rounds} rounds writes a cell up to {most:.3g} times, "
        f"more than the {allowed:.3g} of writes_a_cell; {remedy}allow {most:.3g}, or use strategy "
        "biases_and_norms, which writes none"
    )


@dataclass(frozen=True, eq=False, slots=True)
class Progress:
    """What just happened, at a safe point; `state` goes on from here. `phase`: read, train,
    write or refresh; `round`: from 1, the refresh comes after the last."""

    round: int
    phase: str
    text: str
    state: Arrays


@dataclass(eq=False)
class FineTuning:
    """The state of a fine-tuning: what the array reads, what it should, the digital biases.

    `siemens`: last reading of the cells; `aimed`: their targets; `wanted`: weights behind them.
    `writes`: times each cell was written. `planned`: cells of the running round to write, of
    which `done` are written. `loop`: the checkpoint of a training under way.
    """

    siemens: Floats
    aimed: NDArray[np.float64]
    wanted: Matrices
    biases: Matrices
    writes: NDArray[np.int32]
    round: int = 1
    planned: NDArray[np.int64] | None = None
    done: int = 0
    loop: Arrays | None = None

    @classmethod
    def begun(cls, network: Network, written: WrittenNetwork, siemens: Floats) -> FineTuning:
        """Before the first round, with the cells reading `siemens`."""
        wanted = {name: weight.clone() for name, weight in network.weights.items()}
        return cls(
            siemens=siemens,
            aimed=written.mapped.siemens.astype(np.float64),
            wanted=wanted,
            biases={name: bias.clone() for name, bias in network.biases.items()},
            writes=np.zeros(siemens.size, np.int32),
        )

    def as_arrays(self) -> Arrays:
        """For a file; `resumed` reads it."""
        arrays: Arrays = {
            "siemens": self.siemens,
            "aimed": self.aimed,
            "writes": self.writes.copy(),
            "numbers": np.array([self.round, self.done]),
        }
        for kind, tensors in (("wanted", self.wanted), ("biases", self.biases)):
            arrays |= {f"{kind}.{n}": t.detach().numpy().copy() for n, t in tensors.items()}
        if self.planned is not None:
            arrays["planned"] = self.planned
        if self.loop is not None:
            arrays |= {f"loop.{name}": values for name, values in self.loop.items()}
        return arrays

    @classmethod
    def resumed(cls, network: Network, arrays: Arrays) -> FineTuning:
        """From `as_arrays`. Raises ValueError when it is of another network."""
        tensors: dict[str, Matrices] = {}
        for kind, like in (("wanted", network.weights), ("biases", network.biases)):
            stored = {name: arrays.get(f"{kind}.{name}") for name in like}
            if any(v is None or v.shape != tuple(like[n].shape) for n, v in stored.items()):
                raise ValueError(
                    f"this fine-tuning was stopped with another network than {network.card.name}; "
                    "start it anew"
                )
            tensors[kind] = {n: torch.from_numpy(np.array(v)) for n, v in stored.items()}
        number, done = (int(v) for v in arrays["numbers"])
        loop = {
            name.removeprefix("loop."): values
            for name, values in arrays.items()
            if name.startswith("loop.")
        }
        return cls(
            arrays["siemens"], arrays["aimed"], tensors["wanted"], tensors["biases"],
            arrays["writes"].copy(), number, arrays.get("planned"), done, loop or None,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Chip:
    """What a fine-tuning acts on. `gates`: nominal gate volts for target siemens (None: no
    writes). `highest`: siemens that stand for a reading above the range. `written`: the mapped
    network with the device's errors and stuck cells. `delay`: seconds before a reading."""

    device: Device
    written: WrittenNetwork
    gates: Callable[[NDArray[np.float64]], Floats] | None
    highest: float
    bias: Bias
    delay: float = 1.0

    def held(self, siemens: Floats, biases: Matrices) -> Computed:
        """What the array computes as it reads `siemens`, with digital `biases`."""
        readable = filled(siemens, self.highest)
        return Computed(self.written.weights_from(readable), biases)


def fine_tune(
    chip: Chip,
    network: Network,
    images: Images,
    validation: Images,
    settings: FineTuneSettings,
    state: FineTuning,
) -> Iterator[Progress]:
    """Carry `state` through all rounds and the refresh, yielding at each safe point.

    `state` changes in place; from any yielded arrays it goes on (`FineTuning.resumed`) and trains
    what it would have trained, bit for bit. Its loop ends up holding the refresh: see
    `refreshed`. Raises ValueError for images that do not fit or a budget that is too small,
    `Refused` for a device without gate voltages to write with.
    """
    check_budget(settings, network.weights)
    if settings.write_rounds and chip.gates is None:
        raise Refused(
            f"fine-tuning by {settings.strategy} writes cells, but the gate voltages of this "
            "device are not known; sweep its gate first, or use strategy biases_and_norms"
        )
    while state.round <= settings.write_rounds:
        if state.planned is None:
            yield from _train(chip, network, images, validation, settings, state)
        yield from _write(chip, state)
        state.siemens = settled_reading(chip.device, chip.written.mapped.cells, chip.delay)
        state.planned, state.done, state.round = None, 0, state.round + 1
        yield Progress(state.round - 1, "read", "cells read again", state.as_arrays())
    recovery, array = refresh(settings, state, chip)
    for epoch in adapt(recovery, network, array, images, validation, state.loop):
        state.loop = dict(epoch.checkpoint)
        text = f"biases, epoch {epoch.number}: validation {epoch.validation_accuracy:.2%}"
        yield Progress(state.round, "refresh", text, state.as_arrays())


def refresh(settings: FineTuneSettings, state: FineTuning, chip: Chip) -> tuple[Recovery, Computed]:
    """The digital end of a fine-tuning, and the array that it starts from."""
    digital: tuple[Place, ...] = (Biases(),)
    norms = settings.strategy == "biases_and_norms"
    if norms if settings.gains is None else settings.gains:
        digital = (ColumnGains(), Biases())
    schedule = Schedule(
        settings.refresh_epochs, settings.refresh_rate, settings.batch, settings.seed
    )
    return Recovery(digital, settings.loss, schedule), chip.held(state.siemens, state.biases)


def refreshed(settings: FineTuneSettings, state: FineTuning, chip: Chip) -> Correction:
    """The digital numbers that `fine_tune` leaves beside the cells it wrote.

    Raises ValueError before the refresh has begun.
    """
    if state.round <= settings.write_rounds or state.loop is None:
        raise ValueError("the fine-tuning has not come to its refresh yet; run it to the end")
    recovery, array = refresh(settings, state, chip)
    return Correction.of(recovery.places, best_parameters(recovery, array, state.loop))


def _train(
    chip: Chip,
    network: Network,
    images: Images,
    validation: Images,
    settings: FineTuneSettings,
    state: FineTuning,
) -> Iterator[Progress]:
    """Train the weights of a round; ends with its cells planned."""
    array = chip.held(state.siemens, state.biases)
    freed = _freed(network, chip.written, images, settings, state, array)
    around = settings.strategy in ("threshold", "rewrite_all")
    wanted = array.weights if around else state.wanted
    seed = settings.seed + 7919 * state.round
    kept = Kept(filled(state.siemens, chip.highest), settings.spreads)
    cells = RewrittenCells(chip.written, freed, wanted, kept, not around, seed)
    schedule = Schedule(settings.epochs, settings.learning_rate, settings.batch, seed)
    recovery = Recovery((cells, Biases()), settings.loss, schedule)
    epoch: Epoch | None = None
    for epoch in adapt(recovery, network, array, images, validation, state.loop):
        state.loop = dict(epoch.checkpoint)
        text = f"round {state.round}, epoch {epoch.number}: expects {epoch.validation_accuracy:.2%}"
        yield Progress(state.round, "train", text, state.as_arrays())
    assert state.loop is not None
    _plan(chip.written, kept, state, freed, latest(recovery, array, state.loop))


def _plan(
    written: WrittenNetwork,
    kept: Kept,
    state: FineTuning,
    freed: Freed,
    trained: Parameters,
) -> None:
    """Take over what was trained, and choose the cells to write."""
    for name, mask in freed.items():
        state.wanted[name] = torch.where(mask, trained["cells"][name], state.wanted[name])
    state.biases = {n: b.detach().clone() for n, b in trained["biases"].items()}
    aimed = written.aimed(state.wanted)
    chosen = worth_writing(written, freed, kept, aimed)
    state.aimed = aimed
    state.planned, state.done, state.loop = np.flatnonzero(chosen), 0, None


def _freed(
    network: Network,
    written: WrittenNetwork,
    images: Images,
    settings: FineTuneSettings,
    state: FineTuning,
    array: Computed,
) -> Freed:
    if settings.strategy == "last_layer":
        return last_layer(array.weights)
    if settings.strategy != "halving":
        return all_weights(array.weights)
    aimed = state.aimed if state.round == 1 else written.landed(state.aimed, None)
    aim = Network(network.card, written.weights_from(aimed), state.biases)
    if settings.rank == "error":
        scores = known_bad(aim, array)
    else:
        scores = expected_output_error(aim, array, moments(network, images))
    return worst_weights(scores, settings.share(state.round))


def _write(chip: Chip, state: FineTuning) -> Iterator[Progress]:
    """Write what is planned and not written yet, open loop, each cell once."""
    assert state.planned is not None
    assert chip.gates is not None
    left = state.planned[state.done :]
    before, gates = state.done, chip.gates(state.aimed[left])
    cells = chip.written.mapped.cells[left]
    for count in write_open_loop(chip.device, cells, gates, chip.bias):
        state.writes[state.planned[state.done : before + count]] += 1
        state.done = before + count
        text = f"round {state.round}: {state.done} of {state.planned.size} cells written"
        yield Progress(state.round, "write", text, state.as_arrays())
