"""The recovery steps that write no cell: random sparse adaptation, and the closed form."""

from __future__ import annotations

import numpy as np

from rramhil.job.learning import (
    epochs,
    first_reading,
    held,
    images_of,
    judge_corrected,
    learning_images,
    note_digital,
)
from rramhil.job.recoveries import RecoverClosedForm, RecoverRSA
from rramhil.job.work import Tick, Ticks, Work
from rramhil.recover import closed_form, loop
from rramhil.recover.choosing import choose_mask
from rramhil.recover.cost import digital_cost
from rramhil.recover.loop import Schedule, best_epoch, best_parameters
from rramhil.recover.losses import distillation
from rramhil.recover.masks import Mask
from rramhil.recover.places import Biases, ColumnGains, Place, SparseMemory
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation


def recover_rsa(work: Work, step: RecoverRSA, generator: np.random.Generator) -> Ticks:
    """Train a random few digital parameters on what the cells hold; no cell is written.

    The reading that it is trained on and the one that it is judged on are two.
    """
    subject, total = work.subject, step.epochs + 1
    images = images_of(work, step)
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    siemens = first_reading(work, step.delay)
    array = held(subject, siemens)
    settings = RsaSettings(
        fraction=step.fraction,
        gains=step.gains,
        label_share=step.label_share,
        temperature=step.temperature,
        epochs=step.epochs,
        learning_rate=step.learning_rate,
        batch=step.batch,
        seed=int(generator.integers(2**31)),
    )
    recovery = random_sparse_adaptation(settings, array)
    last = yield from epochs(work, recovery, array, images, total=total)
    parameters = best_parameters(recovery, array, last)
    judge_corrected(work, recovery.places, parameters)
    labels = len(images) if step.label_share > 0 else 0
    note_digital(
        work,
        digital_cost(recovery.places, array, len(images), labels, len(subject.validation)),
    )
    work.findings |= {"best_epoch": best_epoch(last)}
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def recover_closed_form(
    work: Work, step: RecoverClosedForm, generator: np.random.Generator
) -> Ticks:
    """Solve gains, biases and a sparse memory, layer by layer; then distil, if asked to."""
    subject, finish = work.subject, step.finish
    images = images_of(work, step)
    layers = len(subject.network.card.layers)
    total = layers + 1 + (finish.epochs if finish else 0)
    yield Tick(0, total, f"reading {subject.cells.size} cells")
    siemens = first_reading(work, step.delay)
    array = held(subject, siemens)
    seed = int(generator.integers(2**31))
    mask = choose_mask(step.mask, step.fraction, subject.network, array, images, seed)
    parameters = closed_form.start_parameters(subject.network, array, mask)
    ridge = closed_form.Ridge(strength=step.ridge, seed=seed)
    fitted = []
    for layer in closed_form.fit(subject.network, array, mask, images, ridge, parameters):
        fitted.append(layer)
        text = f"{layer.layer}: {layer.error_before:.1%} of the variance wrong, now "
        yield Tick(len(fitted), total, f"{text}{layer.error_after:.1%}")
    places = places_of(mask)
    learnt, validation = len(images), 0
    if finish is not None:
        more = learning_images(
            subject, finish.learn_from, finish.images or step.images, "the finish"
        )
        recovery = loop.Recovery(
            places,
            distillation(finish.temperature, 0.0),
            Schedule(finish.epochs, finish.learning_rate, finish.batch, seed),
        )
        last = yield from epochs(work, recovery, array, more, parameters, layers, total)
        parameters = best_parameters(recovery, array, last)
        work.findings |= {"best_epoch": best_epoch(last)}
        learnt, validation = max(learnt, len(more)), len(subject.validation)
    judge_corrected(work, places, parameters)
    note_digital(work, digital_cost(places, array, learnt, 0, validation))
    work.arrays |= {
        "error_before": np.array([layer.error_before for layer in fitted]),
        "error_after": np.array([layer.error_after for layer in fitted]),
    }
    yield Tick(total, total, f"accuracy {work.accuracy:.2%}")


def places_of(mask: Mask) -> tuple[Place, ...]:
    """The places of a closed form, in its order."""
    return (ColumnGains(), SparseMemory(mask), Biases())
