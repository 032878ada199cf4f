"""What a recovery minimises: one signature, (logits, labels, teacher's logits) -> scalar."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the labels; the teacher is not asked."""
    return functional.cross_entropy(logits, labels)


def distillation(temperature: float, label_share: float) -> Loss:
    """`label_share` of cross-entropy, the rest T^2 KL(teacher || logits) at temperature T.

    G. E. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
    A `label_share` of 0 needs no labels. Raises ValueError for a temperature not above 0 or a
    share outside 0 to 1.
    """
    if not temperature > 0 or not 0 <= label_share <= 1:
        raise ValueError(
            f"distillation needs a temperature above 0 (it is {temperature:g}) and a label share "
            f"of 0 to 1 (it is {label_share:g})"
        )

    def loss(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        softened = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(teacher / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        taught = (1 - label_share) * temperature**2 * softened
        if label_share == 0:
            return taught
        return taught + label_share * functional.cross_entropy(logits, labels)

    return loss
