"""The recovery step that goes through the network layer by layer, with the chip in the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from rramhil.device import Cells, Floats
from rramhil.job.learning import images_learnt, images_of, note_digital, settings_of
from rramhil.job.on_array import note_in_situ, products_of
from rramhil.job.recoveries import RecoverProgressive
from rramhil.job.work import Tick, Ticks, Work
from rramhil.nn.layers import Product, by_weights
from rramhil.nn.network import accuracy_by
from rramhil.recover.chip import MappedChip, Writing, read_product
from rramhil.recover.correction import Correction
from rramhil.recover.cost import DigitalCost
from rramhil.recover.places import Biases, ColumnGains
from rramhil.recover.progressive import (
    Progress,
    ProgressiveSettings,
    Tuned,
    progressive,
    tuned,
)
from rramhil.verify import Target, program, settled_reading, write_open_loop

CHECKPOINT = "progressive/"
"""Where the checkpoint lies among the arrays of a stopped step."""


def recover_progressive(
    work: Work, step: RecoverProgressive, generator: np.random.Generator
) -> Ticks:
    """Measure, train what lies behind, write the next layer; then judge the whole afresh."""
    subject, network = work.subject, work.subject.network
    images, layers = images_of(work, step), len(network.card.layers)
    settings = settings_of(ProgressiveSettings, step, generator)
    total = layers * (step.epochs + 1)
    yield Tick(0, total, "the first layer, as it lies in the array")
    measured = products_of(work) if step.products == "array" else None
    by_reading = read_product(work.device, subject.mapped, network)
    chip = MappedChip(subject.mapped, _writing(work, step), measured or by_reading)
    stored = {n[len(CHECKPOINT) :]: v for n, v in work.partial.items() if n.startswith(CHECKPOINT)}
    course = work.partial.get("course", np.zeros(0)).tolist()
    checkpoint = stored or None
    for now in progressive(network, chip, images, subject.validation, settings, checkpoint):
        checkpoint = now.checkpoint
        if now.phase == "measured":
            course.append(now.validation_accuracy)
        _remember(work, now, course)
        yield Tick(now.number * (step.epochs + 1) + now.epoch, total, _text(now))
    assert checkpoint is not None  # every network has a layer, and it was measured
    done = tuned(network, checkpoint)
    _judge(work, step, done, measured)
    labels = len(images) if step.label_share > 0 else 0
    learnt = images_learnt(work, step, len(images), measured)
    writes = _trained(work, step.epochs * math.ceil(len(images) / step.batch))
    note_digital(work, _price(work, step, learnt, labels), more_writes=writes)
    work.findings |= {"layers_written": layers - 1, "validation_accuracy": course[-1]}
    work.arrays["course"] = np.array(course)
    for name, values in checkpoint.items():
        if name.split("/")[0] in ("weights", "gains", "biases"):
            work.arrays[name.replace("/", ".")] = values
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def _writing(work: Work, step: RecoverProgressive) -> Writing:
    """How a layer is written; cells that a stopped step has written open loop are not again."""

    def writing(cells: Cells, siemens: Floats) -> Iterator[object]:
        levels, bias = work.subject.mapped.levels, work.job.writing
        gates = work.need_curve().nominal_gate(siemens, levels.tolerance)
        if step.how == "verify":
            target = Target(*levels.windows(siemens), gates)
            yield from program(work.device, cells, target, step.recipe, bias)
        else:
            start = int(work.partial.get("written", np.array(0)))
            for count in write_open_loop(work.device, cells[start:], gates[start:], bias):
                work.partial = {**work.partial, "written": np.array(start + count)}
                yield count
        work.device.clock.sleep(step.delay)

    return writing


def _remember(work: Work, now: Progress, course: list[float]) -> None:
    """What a stopped step goes on from."""
    arrays = {CHECKPOINT + name: values for name, values in now.checkpoint.items()}
    work.partial = {**work.partial, **arrays, "course": np.array(course)}
    if now.phase == "measured":
        work.partial["written"] = np.array(0)


def _text(now: Progress) -> str:
    if now.phase == "writing":
        return f"writing {now.layer}"
    what = "measured" if now.phase == "measured" else f"behind it: epoch {now.epoch}"
    return f"{now.layer} {what}, validation {now.validation_accuracy:.2%}"


def _judge(work: Work, step: RecoverProgressive, done: Tuned, measured: Product | None) -> None:
    """The accuracy `delay` after the last write, from products or from a fresh reading."""
    subject = work.subject
    numbers = {ColumnGains.name: done.gains, Biases.name: done.biases}
    work.keep(Correction.of((ColumnGains(), Biases()), numbers))
    if measured is not None:
        work.device.clock.sleep(step.delay)
        accuracy = accuracy_by(subject.network, subject.test, done.around(measured))
        note_in_situ(work, accuracy, measured)
        return
    siemens = settled_reading(work.device, subject.cells, step.delay)
    none = {name: torch.zeros_like(bias) for name, bias in subject.network.biases.items()}
    read = by_weights(subject.weights(siemens), none)
    work.accuracy = accuracy_by(subject.network, subject.test, done.around(read))
    work.findings["accuracy"] = work.accuracy
    work.arrays["siemens"] = siemens


def _trained(work: Work, steps: int) -> int:
    """Writes of biases in training: those of a layer are trained behind each layer before it."""
    biases = work.subject.network.biases
    layers = work.subject.network.card.layers
    return steps * sum(n * biases[layer.name].numel() for n, layer in enumerate(layers))


def _price(work: Work, step: RecoverProgressive, images: int, labels: int) -> DigitalCost:
    columns = sum(bias.numel() for bias in work.subject.network.biases.values())
    return DigitalCost(
        parameters={"biases": columns, "gains": columns if step.affine else 0},
        weights=work.subject.mapped.weight_count,
        index_bits=0,
        images=images,
        labels=labels,
        validation_images=len(work.subject.validation),
    )
