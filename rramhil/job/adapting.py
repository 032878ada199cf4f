"""The recovery steps that adapt digital numbers: random sparse adaptation, the closed form."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from rramhil.device import Floats
from rramhil.job.learning import (
    distinct_images,
    epochs,
    first_reading,
    held,
    images_learnt,
    images_of,
    judge_corrected,
    learning_images,
    note_digital,
    settings_of,
    updates_of,
)
from rramhil.job.on_array import measured_once, products_of
from rramhil.job.recoveries import ImageSets, RecoverClosedForm, RecoverLowRank, RecoverRSA
from rramhil.job.work import Tick, Ticks, Work
from rramhil.nn.layers import Product
from rramhil.nn.network import Images
from rramhil.recover import closed_form
from rramhil.recover.choosing import choose_mask
from rramhil.recover.cost import digital_cost
from rramhil.recover.loop import Recovery, Schedule, best_epoch, best_parameters
from rramhil.recover.losses import distillation
from rramhil.recover.low_rank import LowRankSettings, low_rank_adaptation
from rramhil.recover.masks import Mask
from rramhil.recover.on_array import by_array
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Parameters,
    Place,
    ReplacingMemory,
    SparseMemory,
    masked,
)
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation
from rramhil.verify import reset_pulse

OFF_TRIES = 5
"""RESETs that a cell may need before it is off; one that does not go off stays as it reads."""


def recover_rsa(work: Work, step: RecoverRSA, generator: np.random.Generator) -> Ticks:
    """Train a few digital parameters on what the cells hold; none is written unless asked for.

    The reading that it is trained on and the one that it is judged on are two.
    """
    subject, total = work.subject, step.epochs + 1
    images = images_of(work, step)
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    array = held(subject, first_reading(work, step.delay))
    settings = settings_of(RsaSettings, step, generator)
    mask = choose_mask(step.mask, step.fraction, subject.network, array, images, settings.seed)
    if step.switch_off:
        yield Tick(0, total, f"switching the cells of {len(mask)} weights off")
        array = held(subject, _switched_off(work, mask, step.delay))
    recovery = random_sparse_adaptation(settings, array, mask)
    products = products_of(work) if step.products == "array" else None
    start = _start(step, work, array, mask, images, settings.seed, products)
    recovery = in_loop(recovery, array, products)
    last = yield from epochs(work, recovery, array, images, start, total=total)
    judge_corrected(work, recovery.places, best_parameters(recovery, array, last), array, products)
    labels = len(images) if recovery.loss.asks_labels else 0
    learnt = images_learnt(work, step, len(images), products)
    price = digital_cost(recovery.places, array, learnt, labels, len(subject.validation))
    note_digital(work, price, updates_of(recovery.schedule, len(images)))
    work.findings |= {"best_epoch": best_epoch(last)}
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def in_loop(recovery: Recovery, array: Computed, products: Product | None) -> Recovery:
    """`recovery` with forward passes by `products` measured on the array, where there are any."""
    if products is None:
        return recovery
    return replace(recovery, forward=by_array(array, products))


def _start(
    step: RecoverRSA,
    work: Work,
    array: Computed,
    mask: Mask,
    images: Images,
    seed: int,
    products: Product | None,
) -> Parameters | None:
    """Where the numbers begin; None: without effect."""
    if step.start == "no_effect":
        return None
    network = work.subject.network
    parameters = closed_form.start_parameters(network, array, mask)
    if step.start == "closed_form":
        ridge, once = closed_form.Ridge(seed=seed), kept(work, products)
        for _ in closed_form.fit(network, array, mask, images, ridge, parameters, once):
            pass
    if step.replacing:
        parameters[ReplacingMemory.name] = masked(network.weights, mask)
    return parameters


def _switched_off(work: Work, mask: Mask, delay: float) -> Floats:
    """A reading after the cells of the masked weights were RESET; done once, whatever stops."""
    if "siemens_off" not in work.partial:
        device, subject, bias = work.device, work.subject, work.job.writing
        levels = subject.mapped.levels
        left = subject.cells[subject.mapped.cells_of(mask.entries)]
        count = left.size
        for _ in range(OFF_TRIES):
            volts = np.full(left.size, bias.reset_stop_volts)
            device.apply(reset_pulse(left, volts, bias, device.spec))
            left = left[~(device.read(left) <= levels.lowest + levels.tolerance)]
            if not left.size:
                break
        device.clock.sleep(delay)
        siemens = device.read(subject.cells)
        off = {"siemens_off": siemens, "cells_off": np.array([count, left.size])}
        work.partial = {**work.partial, **off}
    count, stayed = work.partial["cells_off"].tolist()
    work.findings |= {"cells_off": count - stayed, "cells_that_stayed_on": stayed}
    work.arrays["siemens"] = work.partial["siemens_off"]
    return work.arrays["siemens"]


def recover_low_rank(work: Work, step: RecoverLowRank, generator: np.random.Generator) -> Ticks:
    """Train two thin matrices beside each layer on what the cells hold; no cell is written."""
    subject, total = work.subject, step.epochs + 1
    images = images_of(work, step)
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    array = held(subject, first_reading(work, step.delay))
    products = products_of(work) if step.products == "array" else None
    settings = settings_of(LowRankSettings, step, generator)
    recovery = in_loop(low_rank_adaptation(settings, array), array, products)
    last = yield from epochs(work, recovery, array, images, total=total)
    judge_corrected(work, recovery.places, best_parameters(recovery, array, last), array, products)
    labels = len(images) if recovery.loss.asks_labels else 0
    learnt = images_learnt(work, step, len(images), products)
    price = digital_cost(recovery.places, array, learnt, labels, len(subject.validation))
    note_digital(work, price, updates_of(recovery.schedule, len(images)))
    work.findings |= {
        "best_epoch": best_epoch(last),
        "low_rank_parameters": price.parameters["low_rank"],
    }
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def kept(work: Work, products: Product | None) -> Product | None:
    """`products` measured once for each layer, also by a step that goes on after a stop."""
    return None if products is None else measured_once(work, products)


def recover_closed_form(
    work: Work, step: RecoverClosedForm, generator: np.random.Generator
) -> Ticks:
    """Solve gains, biases and a sparse memory, layer by layer; then distil, if asked to.

    A stopped step solves again from its own reading and products: that takes less than a second.
    """
    subject, seed = work.subject, int(generator.integers(2**31))
    images, layers = images_of(work, step), len(subject.network.card.layers)
    total = layers + 1 + (step.finish.epochs if step.finish else 0)
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    array = held(subject, first_reading(work, step.delay))
    mask = choose_mask(step.mask, step.fraction, subject.network, array, images, seed)
    parameters = closed_form.start_parameters(subject.network, array, mask)
    ridge = closed_form.Ridge(strength=step.ridge, seed=seed)
    products = products_of(work) if step.products == "array" else None
    once, fitted = kept(work, products), []
    for layer in closed_form.fit(subject.network, array, mask, images, ridge, parameters, once):
        fitted.append(layer)
        text = f"{layer.layer}: {layer.error_before:.1%} of the variance wrong, now "
        yield Tick(len(fitted), total, f"{text}{layer.error_after:.1%}")
    places: tuple[Place, ...] = (ColumnGains(), SparseMemory(mask), Biases())
    learnt, validation, updates = images_learnt(work, step, len(images), products), 0, 1
    if step.finish is not None:
        parameters, more = yield from _finished(
            work, step, places, array, parameters, seed, total, products
        )
        taken: tuple[tuple[ImageSets, int], ...] = (
            (step.learn_from, len(images)),
            (step.finish.learn_from, more),
        )
        if products is not None:
            taken = (*taken, ("calibration", len(subject.calibration)))
        learnt, validation = distinct_images(subject, *taken), len(subject.validation)
        updates += step.finish.epochs * math.ceil(more / step.finish.batch)
    judge_corrected(work, places, parameters, array, products)
    note_digital(work, digital_cost(places, array, learnt, 0, validation), updates)
    work.arrays |= {
        "error_before": np.array([layer.error_before for layer in fitted]),
        "error_after": np.array([layer.error_after for layer in fitted]),
    }
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def _finished(
    work: Work,
    step: RecoverClosedForm,
    places: tuple[Place, ...],
    array: Computed,
    start: Parameters,
    seed: int,
    total: int,
    products: Product | None,
) -> Generator[Tick, None, tuple[Parameters, int]]:
    """Distil on from `start`, label-free: the best parameters, and how many images it took."""
    finish, subject = step.finish, work.subject
    assert finish is not None
    wanted = finish.images or step.images
    images = learning_images(subject, finish.learn_from, wanted, "the finish")
    recovery = Recovery(
        places,
        distillation(finish.temperature, 0.0),
        Schedule(
            finish.epochs, finish.learning_rate, finish.batch, seed, finish.shift, finish.mirror
        ),
    )
    recovery = in_loop(recovery, array, products)
    done = total - 1 - finish.epochs
    last = yield from epochs(work, recovery, array, images, start, done, total)
    work.findings |= {"best_epoch": best_epoch(last)}
    return best_parameters(recovery, array, last), len(images)
