"""What a job's network should take on a die: the activity of calibration images, estimated with."""

from __future__ import annotations

import torch

from rramhil.device import Spec
from rramhil.estimate import Activity, Periphery, Quantity, activity_of, estimate, product_limits
from rramhil.job.subject import Subject
from rramhil.nn.in_situ import activation_ranges, fed_codes
from rramhil.nn.layers import by_weights, walk
from rramhil.nn.network import Images

IMAGES = 50
"""Calibration images whose activity is measured."""


def estimates_of(
    subject: Subject, spec: Spec, periphery: Periphery | None = None
) -> list[Quantity]:
    """Estimates of the mapped network of `subject`, with products as the job's [in_situ] has them.

    Raises `Refused` on a die without products.
    """
    product_limits(spec)
    calibration = subject.calibration
    few = Images(calibration.pixels[:IMAGES], calibration.labels[:IMAGES])
    activity = network_activity(subject, spec, few)
    repeats = subject.in_situ.repeats
    return list(estimate(subject.mapped, activity, len(few), spec, periphery, repeats))


def network_activity(subject: Subject, spec: Spec, images: Images) -> dict[str, Activity]:
    """What `images` make each layer do, by the activations of the network computed exactly.

    Every product once; codes are those of `rramhil.job.on_array.products_of`.
    """
    network = subject.network
    percentile = subject.in_situ.input_percentile
    ranges = activation_ranges(network, subject.calibration, percentile=percentile)
    cells = {layer.name: layer for layer in subject.mapped.layers}
    exact = by_weights(network.weights, network.biases)
    found = {}
    with torch.no_grad():
        for step in walk(network.card.layers, images.pixels, exact):
            own = cells[step.layer.name]
            codes = fed_codes(step.layer, own, step.inputs, ranges, spec)
            found[own.name] = activity_of(own, codes, spec)
    return found
