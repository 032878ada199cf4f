"""Layers of small networks by name: what can be trained without writing them down."""

from __future__ import annotations

from rramhil.nn.layers import Layer

DIGITS = (
    Layer(name="fc1", kind="linear", inputs=64, outputs=128),
    Layer(name="fc2", kind="linear", inputs=128, outputs=64),
    Layer(name="fc3", kind="linear", inputs=64, outputs=10, relu=False),
)
LENET5 = (
    Layer(name="conv1", kind="convolution", inputs=1, outputs=6, kernel=5, padding=2, pool=2),
    Layer(name="conv2", kind="convolution", inputs=6, outputs=16, kernel=5, pool=2),
    Layer(name="fc1", kind="linear", inputs=400, outputs=120),
    Layer(name="fc2", kind="linear", inputs=120, outputs=84),
    Layer(name="fc3", kind="linear", inputs=84, outputs=10, relu=False),
)
"""Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86(11), 1998, with max pooling."""

SHAPES: dict[str, tuple[Layer, ...]] = {"digits": DIGITS, "lenet5": LENET5}
