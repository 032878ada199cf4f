"""What masks and selective rewriting rank by, each against its own definition."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.nn.data import load_data
from rramhil.nn.layers import Layer, unrolled
from rramhil.nn.network import Card, Images, Network, images_of, load_network, logits_of
from rramhil.nn.splits import make_splits
from rramhil.recover.losses import distillation, label_loss, matching
from rramhil.recover.masks import ranked_mask
from rramhil.recover.places import Computed
from rramhil.recover.scores import (
    expected_loss_change,
    expected_output_error,
    fisher,
    known_bad,
    magnitude,
    moments,
)


@cache
def network() -> Network:
    return load_network("digits")


@cache
def some() -> Images:
    data = load_data("digits")
    return images_of(data, make_splits(data, network().card.split_seed).calibration[:60])


def off_by(name: str, row: int, column: int, by: float) -> Computed:
    weights = {layer: weight.clone() for layer, weight in network().weights.items()}
    weights[name][row, column] += by
    return Computed(weights, dict(network().biases))


def test_expected_output_error_is_what_one_wrong_weight_does_to_its_layer() -> None:
    """The mean squared change of the layer's outputs over their variance, measured."""
    array = off_by("fc1", 20, 7, 0.3)
    scores = expected_output_error(network(), array, moments(network(), some()))
    pixels = some().pixels.flatten(1)
    right, wrong = pixels @ network().weights["fc1"], pixels @ array.weights["fc1"]
    outputs = right + network().biases["fc1"]
    variance = outputs.var(0, correction=0).mean()
    expected = (wrong - right).square().mean() / variance
    assert float(scores["fc1"][20, 7]) == pytest.approx(float(expected), rel=1e-3)
    assert sum(int(score.count_nonzero()) for score in scores.values()) == 1


def test_known_bad_and_magnitude_are_shares_of_the_layer() -> None:
    array = off_by("fc2", 3, 4, 0.5)
    bad = known_bad(network(), array)
    assert float(bad["fc2"][3, 4]) == pytest.approx(
        0.5 / float(network().weights["fc2"].abs().max()), rel=1e-4
    )
    assert int(bad["fc1"].count_nonzero()) == 0
    assert all(float(s.max()) == 1 for s in magnitude(network().weights).values())


@pytest.mark.parametrize("loss", [label_loss(), distillation(4.0, 0.3) + matching(0.1)])
def test_fisher_is_the_mean_square_of_gradients(loss) -> None:  # type: ignore[no-untyped-def]
    """Against a difference quotient of the loss at one weight, batch by batch."""
    array = off_by("fc3", 5, 5, 0.4)
    score = float(fisher(network(), array, some(), loss, batch=30)["fc3"][10, 3])
    squares = []
    for part in some().batches(30):
        values = []
        for by in (-1e-2, 1e-2):
            moved = {layer: weight.clone() for layer, weight in array.weights.items()}
            moved["fc3"][10, 3] += by
            values.append(_loss(loss, Computed(moved, array.biases), part))
        squares.append(((values[1] - values[0]) / 2e-2) ** 2)
    assert score == pytest.approx(np.mean(squares), rel=0.05)


def _loss(loss, computed: Computed, part: Images) -> float:  # type: ignore[no-untyped-def]
    from rramhil.nn.layers import by_weights
    from rramhil.recover.losses import answers

    layers = network().card.layers
    exact, own = (by_weights(c.weights, c.biases) for c in (network(), computed))
    given, taught = (answers(layers, part.pixels, p, True) for p in (own, exact))
    return float(loss(given, part.labels, taught))


def test_the_expected_change_of_the_loss_asks_for_gradient_and_error() -> None:
    array = off_by("fc3", 5, 5, 0.4)
    squared = fisher(network(), array, some(), label_loss())
    change = expected_loss_change(network(), array, squared)
    assert float(change["fc3"][5, 5]) == pytest.approx(
        float(squared["fc3"][5, 5]) * 0.4**2, rel=1e-4
    )
    assert sum(int(score.count_nonzero()) for score in change.values()) == 1


def test_moments_do_not_depend_on_the_batch() -> None:
    one, many = moments(network(), some()), moments(network(), some(), batch=7)
    for name, values in one.inputs.items():
        torch.testing.assert_close(values, many.inputs[name])
        assert one.outputs[name] == pytest.approx(many.outputs[name])
    assert logits_of(network(), some()).shape == (60, 10)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (5, 1, 0), (1, 2, 0)])
def test_moments_of_a_convolution_are_those_of_its_unrolled_inputs(
    kernel: int, stride: int, padding: int
) -> None:
    layer = Layer(
        name="only", kind="convolution", inputs=2, outputs=3, kernel=kernel, stride=stride,
        padding=padding, relu=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(kernel)
    card = Card(
        name="small", data="any", image_shape=(2, 9, 8), layers=(layer,), script="", recipe="",
        seed=0, split_seed=0, accuracy={},
    )  # fmt: skip
    weight = torch.randn(layer.rows, 3, generator=generator)
    pixels = torch.rand(7, 2, 9, 8, generator=generator)
    network = Network(card, {"only": weight}, {"only": torch.ones(3)})
    seen = moments(network, Images(pixels, torch.zeros(7, dtype=torch.int64)), batch=3)
    x = unrolled(layer, pixels)
    torch.testing.assert_close(seen.inputs["only"], x.square().mean(0))
    assert seen.outputs["only"] == pytest.approx(
        float((x @ weight).var(0, correction=0).mean()), rel=1e-4
    )

    for table in (torch.arange(layer.rows).flip(0), torch.arange(layer.rows) // 2):
        rows = {"only": table.numpy()}
        physical = moments(network, Images(pixels, torch.zeros(7, dtype=torch.int64)), rows=rows)
        added = torch.stack([x[:, table == row].sum(1) for row in range(int(table.max()) + 1)], 1)
        torch.testing.assert_close(physical.inputs["only"], added.square().mean(0))
        assert physical.outputs["only"] == pytest.approx(seen.outputs["only"])


def test_inputs_of_rows_that_share_cells_are_added_before_they_are_squared() -> None:
    count, pixels = network().card.layers[0].rows, some().pixels.flatten(1)
    table = np.random.default_rng(0).permutation(np.arange(count) % (count // 3))
    seen, plain = moments(network(), some(), rows={"fc1": table}), moments(network(), some())
    together = [pixels[:, table == row].sum(1) for row in range(count // 3)]
    torch.testing.assert_close(seen.inputs["fc1"], torch.stack(together, 1).square().mean(0))
    torch.testing.assert_close(seen.inputs["fc2"], plain.inputs["fc2"])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
def test_a_ranked_mask_holds_the_best_and_says_what_its_indices_take(
    rows: int, columns: int, fraction: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scores = {
        "a": torch.from_numpy(random.random((rows, columns))),
        "b": torch.from_numpy(random.random((columns, 3))),
    }
    mask = ranked_mask(scores, fraction)
    total = sum(score.numel() for score in scores.values())
    assert fraction * total - 1 < len(mask) <= fraction * total + 1e-6
    inside = np.concatenate([scores[n].reshape(-1).numpy()[mask.entries[n]] for n in scores])
    outside = np.concatenate(
        [np.delete(scores[n].reshape(-1).numpy(), mask.entries[n]) for n in scores]
    )
    assert not inside.size or not outside.size or inside.min() >= outside.max()
    assert mask.index_bits <= total
    assert (mask.index_bits > 0) == (len(mask) > 0 and any(s.numel() > 1 for s in scores.values()))


def test_layers_are_matched_by_their_own_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    from rramhil.recover.losses import Answers

    taught = {"a": torch.randn(50, 4, generator=generator), "b": 9 * torch.randn(50, 4)}
    given = {name: values + values.std() for name, values in taught.items()}
    labels, logits = torch.zeros(50, dtype=torch.int64), torch.zeros(50, 3)
    value = matching(0.5)(Answers(logits, given), labels, Answers(logits, taught))
    assert float(value) == pytest.approx(0.5 * 2, rel=1e-4)
    with pytest.raises(ValueError, match="share above 0"):
        matching(0)
