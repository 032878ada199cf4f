"""The recovery steps at work: a generator for each method, and what they share.

What a step has read and learnt lies in `work.partial` at every tick, so that a step that was
stopped goes on where it was, with the reading that it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from rramhil.device import Floats
from rramhil.job.closed_loop import closed_loop
from rramhil.job.images import learning_images
from rramhil.job.recoveries import (
    Learning,
    RecoverClosedForm,
    RecoverRSA,
    RecoverRVW,
    Recovery,
)
from rramhil.job.subject import Subject
from rramhil.job.work import Arrays, Tick, Ticks, Work
from rramhil.nn.network import Images, accuracy_of
from rramhil.recover import closed_form, loop
from rramhil.recover.choosing import choose_mask
from rramhil.recover.cost import DigitalCost, digital_cost
from rramhil.recover.loop import Checkpoint, Schedule, adapt, best_epoch, best_parameters
from rramhil.recover.losses import distillation
from rramhil.recover.masks import Mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Parameters,
    Place,
    SparseMemory,
    corrected,
)
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation
from rramhil.verify import settled_reading

Method = Callable[[Work, Any, np.random.Generator], Ticks]

LOOP = "loop/"
"""Where the checkpoint of a loop lies among the arrays of a stopped step."""


def recover(work: Work, step: Recovery, generator: np.random.Generator) -> Ticks:
    """Carry out one recovery step."""
    return METHODS[type(step)](work, step, generator)


def judge(work: Work, siemens: Floats) -> None:
    """The accuracy of what the cells hold, as the finding of the step."""
    subject = work.subject
    work.accuracy = accuracy_of(subject.network, subject.test, subject.weights(siemens))
    work.findings["accuracy"] = work.accuracy
    work.arrays.setdefault("siemens", siemens)


def recover_rvw(work: Work, step: RecoverRVW, _: np.random.Generator) -> Ticks:
    """Read-verify-write every cell into its window, then evaluate from a fresh reading."""
    yield from closed_loop(work, step.recipe, step.passes, step.delay, step.compensate)
    judge(work, work.arrays["siemens"])
    assert work.accuracy is not None
    size = work.subject.cells.size
    yield Tick(size, size, f"accuracy {work.accuracy:.2%}")


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


def judge_corrected(work: Work, places: tuple[Place, ...], parameters: Parameters) -> None:
    """The accuracy of a second reading with the digital numbers beside it.

    They are kept as arrays `best.PLACE.LAYER`.
    """
    subject = work.subject
    again = settled_reading(work.device, subject.cells, 0.0)
    repaired = corrected(places, parameters, held(subject, again))
    work.accuracy = accuracy_of(subject.network, subject.test, repaired.weights, repaired.biases)
    work.findings["accuracy"] = work.accuracy
    for place, tensors in parameters.items():
        for layer, tensor in tensors.items():
            work.arrays[f"best.{place}.{layer}"] = tensor.numpy()


def note_digital(work: Work, price: DigitalCost) -> None:
    """Digital memory and images for the cost of the step."""
    work.digital |= {
        "digital_parameters": price.digital_parameters,
        "sparse_parameters": price.parameters.get("sparse", 0),
        "sparse_share": price.sparse_fraction,
        "retrained_biases": price.parameters.get("biases", 0),
        "column_gains": price.parameters.get("gains", 0),
        "index_bits": price.index_bits,
        "images": price.images,
        "labels": price.labels,
        "validation_images": price.validation_images,
    }


METHODS: dict[type[Recovery], Method] = {
    RecoverRVW: recover_rvw,
    RecoverRSA: recover_rsa,
    RecoverClosedForm: recover_closed_form,
}
"""What carries out each method; a new one is a line here."""
