"""A mask by the name of its rule: which scores it ranks by, and what it asks for."""

from __future__ import annotations

import numpy as np

from rramhil.nn.network import Images, Network
from rramhil.recover import scores
from rramhil.recover.losses import distillation
from rramhil.recover.masks import Mask, random_mask, ranked_mask
from rramhil.recover.places import Computed
from rramhil.recover.rules import ASKS_IMAGES, RULES, Rule

TEMPERATURE = 4.0
GRADIENT_IMAGES = 600
"""Images that gradients are averaged over, at most."""


def choose_mask(
    rule: Rule, fraction: float, network: Network, array: Computed, images: Images, seed: int
) -> Mask:
    """The `fraction` of the weights that `rule` ranks first; `random` draws from `seed`.

    Nothing looks at labels. Raises ValueError for a rule that looks at activations without images.
    """
    if rule == "random":
        return random_mask(array.weights, fraction, np.random.default_rng(seed))
    return ranked_mask(scores_by(rule, network, array, images), fraction)


def scores_by(rule: Rule, network: Network, array: Computed, images: Images) -> scores.Scores:
    """Scores (rows, columns) of each layer by a `rule` other than random.

    Gradients are those of label-free distillation. Raises ValueError as `choose_mask`.
    """
    if rule in ASKS_IMAGES and not len(images):
        others = ", ".join(name for name in RULES if name not in ASKS_IMAGES)
        raise ValueError(
            f"the rule {rule} looks at what images do in the network, and there are none; give "
            f"images, or choose one of {others}"
        )
    match rule:
        case "magnitude":
            return scores.magnitude(network.weights)
        case "known_bad":
            return scores.known_bad(network, array)
        case "errx":
            seen = scores.moments(network, images)
            return scores.expected_output_error(network, array, seen)
    few = Images(images.pixels[:GRADIENT_IMAGES], images.labels[:GRADIENT_IMAGES])
    squared = scores.fisher(network, array, few, distillation(TEMPERATURE, 0.0))
    if rule == "fisher":
        return squared
    return scores.expected_loss_change(network, array, squared)
