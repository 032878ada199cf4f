"""Products that the array computes itself, in the steps of a job."""

from __future__ import annotations

import torch
from torch import Tensor

from rramhil.device import Refused, Spec
from rramhil.job.work import Work
from rramhil.nn.in_situ import activation_ranges, array_product, averaged, whole_tile
from rramhil.nn.layers import Layer, Product, biased
from rramhil.nn.network import Images, accuracy_by
from rramhil.recover.on_array import by_array, product_noise
from rramhil.recover.places import Computed

NOISE_IMAGES = 50
"""Calibration images that are multiplied twice, to say how noisy the products are."""


def check_products(spec: Spec, where: str, key: str) -> None:
    """Refuse a die that computes no product; `key` is what asks for it, with what else to set."""
    if spec.mvm is None:
        raise Refused(f"{where}: {spec.model} computes no product on the array; {key}")


def products_of(work: Work) -> Product:
    """Products of the network's layers by whole tiles, without bias.

    What a full input code stands for comes from the calibration images; both, and how often each
    is measured, as the job's table [in_situ] says.
    """
    subject, spec, settings = work.subject, work.device.spec, work.job.in_situ
    ranges = activation_ranges(
        subject.network, subject.calibration, percentile=settings.input_percentile
    )
    block = whole_tile(work.device.mvm, spec.rows)
    once = array_product(subject.mapped, ranges, block, spec, counted=work.counted)
    return averaged(once, settings.repeats)


def measured_once(work: Work, products: Product) -> Product:
    """`products` for a step that asks for each layer once; a step that goes on keeps them."""

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        key = f"products/{layer.name}"
        if key not in work.partial:
            work.partial = {**work.partial, key: products(layer, inputs).numpy()}
        return torch.from_numpy(work.partial[key])

    return product


def judge_in_situ(
    work: Work, products: Product, array: Computed | None = None, repaired: Computed | None = None
) -> None:
    """The accuracy of what the array computes, and the noise of its products, as findings.

    With `repaired`: with the digital numbers by which it differs from `array`.
    """
    network, test = work.subject.network, work.subject.test
    if array is None or repaired is None:
        product = biased(products, network.biases)
    else:
        product = by_array(array, products)(repaired)
    note_in_situ(work, accuracy_by(network, test, product), products)


def note_in_situ(work: Work, accuracy: float, products: Product) -> None:
    """An accuracy that was measured in situ, and the noise of each layer's products: their
    standard deviation from one measurement to the next over that of the products."""
    calibration = work.subject.calibration
    few = Images(calibration.pixels[:NOISE_IMAGES], calibration.labels[:NOISE_IMAGES])
    noise = product_noise(work.subject.network, products, few)
    work.accuracy = accuracy
    work.findings |= {"accuracy": accuracy, "in_situ": True}
    work.findings |= {f"product_noise_{name}": share for name, share in noise.items()}
