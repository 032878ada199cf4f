"""What the recovery steps share: images, readings, the loop with its checkpoints, the judgement.

What a step has read and learnt lies in `work.partial` at every tick, so that a step that was
stopped goes on where it was, with the reading that it began with.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from rramhil.device import Floats
from rramhil.job.after_care import Care, Recalibrate, Watch
from rramhil.job.file import JobFile
from rramhil.job.integers import check_gradients
from rramhil.job.on_array import judge_in_situ
from rramhil.job.recoveries import (
    ImageSets,
    Learning,
    RecoverAuto,
    RecoverClosedForm,
    RecoverFineTune,
    RecoverLowRank,
    Sparse,
)
from rramhil.job.subject import Material, Subject
from rramhil.job.work import Arrays, Tick, Work
from rramhil.nn.layers import Product
from rramhil.nn.network import Images, Matrices, accuracy_of
from rramhil.recover import loop
from rramhil.recover.correction import Correction
from rramhil.recover.cost import NUMBER_BITS, DigitalCost
from rramhil.recover.fine_tune import FineTuneSettings, check_budget
from rramhil.recover.loop import Checkpoint, Schedule, adapt
from rramhil.recover.places import Computed, LowRank, Parameters, Place, corrected
from rramhil.schema import FileError, Strict
from rramhil.verify import settled_reading

LOOP = "loop/"
"""Where the checkpoint of a loop lies among the arrays of a stopped step."""


Settings = TypeVar("Settings", bound=Strict)


def settings_of(model: type[Settings], step: Strict, generator: np.random.Generator) -> Settings:
    """The library's settings as a step gives them, with a seed drawn from `generator`."""
    names = set(model.model_fields) & set(type(step).model_fields) - {"seed"}
    values: dict[str, Any] = {name: getattr(step, name) for name in names}
    return model(**values | {"seed": int(generator.integers(2**31))})


class Sets(Protocol):
    """What has images to learn from."""

    @property
    def train(self) -> Images: ...
    @property
    def calibration(self) -> Images: ...


def learning_images(sets: Sets, learn_from: ImageSets, count: int | None, where: str) -> Images:
    """The first `count` images (all: None) of a set; of both, those of the calibration set first.

    Raises `FileError` when there are fewer; `where` names who asks.
    """
    first: tuple[Images, ...] = () if learn_from == "train" else (sets.calibration,)
    enough = count is not None and 0 < count <= sum(len(part) for part in first)
    # The train set is large, and unpacked only where it is needed.
    parts = first if enough or learn_from == "calibration" else (*first, sets.train)
    there = sum(len(part) for part in parts)
    wanted = there if count is None else count
    if wanted > there:
        whose = f"{learn_from} set has" if len(parts) == 1 else "calibration and train sets have"
        more = "" if learn_from == "both" else ", or set learn_from = 'both'"
        raise FileError(
            f"{where} asks for {wanted} images, but the {whose} {there}; ask for fewer{more}"
        )
    if len(parts) == 1:
        return Images(parts[0].pixels[:wanted], parts[0].labels[:wanted])
    left = wanted - len(parts[0])
    return Images(
        torch.cat([parts[0].pixels, parts[1].pixels[:left]]),
        torch.cat([parts[0].labels, parts[1].labels[:left]]),
    )


def distinct_images(sets: Sets, *taken: tuple[ImageSets, int]) -> int:
    """How many different images several `learning_images` are together."""
    of_calibration, of_train = 0, 0
    for learn_from, count in taken:
        first = 0 if learn_from == "train" else min(count, len(sets.calibration))
        of_calibration, of_train = max(of_calibration, first), max(of_train, count - first)
    return of_calibration + of_train


def check_lessons(job: JobFile, material: Material) -> None:
    """Refuse, before any device is touched, a step that asks for more than there is."""
    for name, step in zip(job.step_names(), job.steps, strict=True):
        if material.network.is_integer:
            check_gradients(step, name)
        if isinstance(step, Learning):
            check_learning(material, material.network.weights, name, step)
        elif isinstance(step, (Watch, Recalibrate, Care)):
            learning_images(material, step.learn_from, step.images, f"step {name!r}")
        elif isinstance(step, RecoverAuto):
            step.goal().check(step.labels(len(material.validation)))


def check_learning(sets: Sets, weights: Matrices, name: str, step: Learning) -> None:
    """Refuse what images and memory cannot give to a step.

    Raises `FileError` naming the set and its size, or the share of weights that would fit.
    """
    where = f"step {name!r}"
    if step.looks_at_images:
        learning_images(sets, step.learn_from, step.images, where)
    if isinstance(step, RecoverClosedForm) and step.finish is not None:
        wanted = step.finish.images or step.images
        learning_images(sets, step.finish.learn_from, wanted, f"the finish of {where}")
    if isinstance(step, RecoverLowRank):
        _check_rank(weights, where, step)
    if isinstance(step, RecoverFineTune):
        _check_writes(weights, where, step)
    if isinstance(step, Sparse) and step.memory_bits is not None:
        _check_memory(weights, where, step, step.memory_bits)


def _check_rank(weights: Matrices, where: str, step: RecoverLowRank) -> None:
    try:
        LowRank(step.rank, seed=0).start(Computed(weights, {}))
    except ValueError as error:
        raise FileError(f"{where}: {error}") from None


def _check_writes(weights: Matrices, where: str, step: RecoverFineTune) -> None:
    try:
        check_budget(settings_of(FineTuneSettings, step, np.random.default_rng(0)), weights)
    except ValueError as error:
        raise FileError(f"{where}: {error}") from None


def _check_memory(weights: Matrices, where: str, step: Sparse, budget: int) -> None:
    """Numbers and indices are counted as they would be at most, wherever the mask lies."""
    count = sum(weight.numel() for weight in weights.values())
    columns = step.numbers_a_column * sum(weight.shape[1] for weight in weights.values())
    index = 0
    if step.mask != "random":
        index = max(max(weight.numel() - 1, 1).bit_length() for weight in weights.values())
    entries = int(step.fraction * count + 1e-9)
    needed = NUMBER_BITS * (columns + entries) + min(index * entries, count)
    if needed <= budget:
        return
    left = budget - NUMBER_BITS * columns
    if left < 0:
        raise FileError(
            f"{where}: the {columns} numbers of the columns alone take {NUMBER_BITS * columns} "
            f"bits, and memory_bits is {budget}; allow at least {needed} bits for this step"
        )
    enough = left // (NUMBER_BITS + index) / count
    raise FileError(
        f"{where}: a fraction of {step.fraction:g} takes up to {needed} bits, and memory_bits is "
        f"{budget}; a fraction of {math.floor(enough * 1e5) / 1e5:g} fits, or allow {needed} bits"
    )


def judge(work: Work, siemens: Floats) -> None:
    """The accuracy of what the cells hold, with what is kept beside them, as the step's finding."""
    subject, array = work.subject, held(work.subject, siemens)
    now = array if work.correction is None else work.correction.applied(array)
    work.accuracy = accuracy_of(subject.network, subject.test, now.weights, now.biases)
    work.findings["accuracy"] = work.accuracy
    work.arrays.setdefault("siemens", siemens)


def images_of(work: Work, step: Learning) -> Images:
    """The images that `step` learns from. Raises `FileError` when there are too few."""
    where = f"step {step.name or step.default_name!r}"
    return learning_images(work.subject, step.learn_from, step.images, where)


def held(subject: Subject, siemens: Floats) -> Computed:
    """What the network is computed with when the cells hold `siemens`."""
    return Computed(subject.weights(siemens), dict(subject.network.biases))


def first_reading(work: Work, delay: float) -> Floats:
    """The reading that the step learns from; a step that goes on keeps its own."""
    if "siemens" not in work.partial:
        siemens = settled_reading(work.device, work.subject.cells, delay)
        work.partial = {**work.partial, "siemens": siemens}
    siemens = work.partial["siemens"]
    work.arrays["siemens"] = siemens
    return siemens


def epochs(
    work: Work,
    recovery: loop.Recovery,
    array: Computed,
    images: Images,
    start: Parameters | None = None,
    done: int = 0,
    total: int = 0,
) -> Generator[Tick, None, Checkpoint]:
    """Run the loop, from where it was stopped if it was; returns its last checkpoint.

    `done` of `total` ticks of the step lie before it.
    """
    subject = work.subject
    stored = {k.removeprefix(LOOP): v for k, v in work.partial.items() if k.startswith(LOOP)}
    checkpoint: Checkpoint | None = stored or None
    history = work.partial.get("history", np.zeros((0, 3)))
    for epoch in adapt(
        recovery, subject.network, array, images, subject.validation, checkpoint, start
    ):
        checkpoint = epoch.checkpoint
        history = np.vstack([history, [epoch.number, epoch.loss, epoch.validation_accuracy]])
        work.partial = {
            **work.partial,
            "history": history,
            **{LOOP + name: values for name, values in checkpoint.items()},
        }
        text = f"epoch {epoch.number}: validation {epoch.validation_accuracy:.2%}"
        yield Tick(done + epoch.number, total, text)
    assert checkpoint is not None  # a schedule has an epoch at least
    work.arrays |= _courses(history)
    return checkpoint


def _courses(history: Floats) -> Arrays:
    return {
        "epoch": history[:, 0].astype(np.int64),
        "loss": history[:, 1],
        "validation_accuracy": history[:, 2],
    }


def judge_corrected(
    work: Work,
    places: tuple[Place, ...],
    parameters: Parameters,
    array: Computed | None = None,
    products: Product | None = None,
) -> None:
    """The accuracy of a second reading with the digital numbers beside it.

    They are kept for the steps that follow, and as arrays `best.PLACE.LAYER`. With `products`: of
    what the array itself computes, the numbers beside those of `array`.
    """
    work.keep(Correction.of(places, parameters))
    if products is not None and array is not None:
        judge_in_situ(work, products, array, corrected(places, parameters, array))
    else:
        judge(work, settled_reading(work.device, work.subject.cells, 0.0))
    for place, tensors in parameters.items():
        for layer, tensor in tensors.items():
            work.arrays[f"best.{place}.{layer}"] = tensor.numpy()


def images_learnt(work: Work, step: Learning, count: int, products: Product | None) -> int:
    """Distinct images behind a step of `count`: `products` took their ranges from others."""
    if products is None:
        return count
    ranges: tuple[ImageSets, int] = ("calibration", len(work.subject.calibration))
    return distinct_images(work.subject, (step.learn_from, count), ranges)


def updates_of(schedule: Schedule, images: int) -> int:
    """How often a training writes each number."""
    return schedule.epochs * math.ceil(images / schedule.batch)


def note_digital(work: Work, price: DigitalCost, updates: int = 1, more_writes: int = 0) -> None:
    """Digital memory and images for the cost of the step; `updates` of each number in all.

    `more_writes`: of numbers that were written more often, or are not kept.
    """
    work.digital |= {
        "digital_parameters": price.digital_parameters,
        "sparse_parameters": price.parameters.get("sparse", 0),
        "sparse_share": price.sparse_fraction,
        "retrained_biases": price.parameters.get("biases", 0),
        "column_gains": price.parameters.get("gains", 0),
        "index_bits": price.index_bits,
        "memory_bits": price.memory_bits,
        "memory_writes": updates * price.digital_parameters + more_writes,
        "images": price.images,
        "labels": price.labels,
        "validation_images": price.validation_images,
    }
