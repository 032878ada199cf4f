"""What a recovery minimises: what the array answers, the labels, what the teacher answers.

Losses add up: `distillation(4.0, 0.3) + matching(0.3)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional

from rramhil.nn.layers import Layer, Product, last_of, walk


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """`logits` (n, classes); `outputs`: of each layer before its activation, by name.

    The outputs are there only when a loss asks for them.
    """

    logits: Tensor
    outputs: Mapping[str, Tensor] = field(default_factory=dict)


def answers(layers: tuple[Layer, ...], pixels: Tensor, product: Product, outputs: bool) -> Answers:
    """Logits of `pixels` by `product`, with the outputs of each layer when a loss asks."""
    steps = walk(layers, pixels, product)
    if not outputs:
        return Answers(last_of(steps))
    kept = list(steps)
    return Answers(kept[-1].activation, {step.layer.name: step.outputs for step in kept})


@dataclass(frozen=True, slots=True)
class Loss:
    """`of` (the array's answers, labels (n,), the teacher's answers) is a scalar.

    `asks_labels`, `asks_outputs`: what it looks at, for the cost and for the forward pass.
    """

    of: Callable[[Answers, Tensor, Answers], Tensor]
    asks_labels: bool = False
    asks_outputs: bool = False

    def __call__(self, answers: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        return self.of(answers, labels, teacher)

    def __add__(self, other: Loss) -> Loss:
        def both(answers: Answers, labels: Tensor, teacher: Answers) -> Tensor:
            return self.of(answers, labels, teacher) + other.of(answers, labels, teacher)

        labels, outputs = self.asks_labels or other.asks_labels, self.asks_outputs
        return Loss(both, labels, outputs or other.asks_outputs)


def label_loss() -> Loss:
    """Cross-entropy with the labels; the teacher is not asked."""
    return Loss(lambda array, labels, _: functional.cross_entropy(array.logits, labels), True)


def distillation(temperature: float, label_share: float) -> Loss:
    """`label_share` of cross-entropy, the rest T^2 KL(teacher || logits) at temperature T.

    G. E. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
    A `label_share` of 0 needs no labels, one of 1 is `label_loss`. Raises ValueError for a
    temperature not above 0 or a share outside 0 to 1.
    """
    if not temperature > 0 or not 0 <= label_share <= 1:
        raise ValueError(
            f"distillation needs a temperature above 0 (it is {temperature:g}) and a label share "
            f"of 0 to 1 (it is {label_share:g})"
        )
    if label_share == 1:
        return label_loss()

    def loss(array: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        softened = functional.kl_div(
            functional.log_softmax(array.logits / temperature, dim=1),
            functional.log_softmax(teacher.logits / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        taught = (1 - label_share) * temperature**2 * softened
        if label_share == 0:
            return taught
        return taught + label_share * functional.cross_entropy(array.logits, labels)

    return Loss(loss, asks_labels=label_share > 0)


def matching(share: float = 1.0) -> Loss:
    """`share` times the sum over layers of ||y - y_teacher||^2 / var(y_teacher), a mean each.

    A. Romero et al., "FitNets", ICLR 2015, with every layer its own hint. Needs no labels.
    Raises ValueError for a share not above 0.
    """
    if not share > 0:
        raise ValueError(f"matching of layers needs a share above 0; it is {share:g}")

    def loss(array: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        parts = [
            (array.outputs[name] - taught).square().mean() / taught.var().clamp_min(1e-30)
            for name, taught in teacher.outputs.items()
        ]
        return share * sum(parts[1:], parts[0])

    return Loss(loss, asks_outputs=True)
