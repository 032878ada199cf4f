"""Row reorder: the expected error is what conversions really err, and reordering lowers it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.mapping.conversions import STEPS, Conversion, Conversions, NoiseLaw
from rramhil.mapping.reorder import greedy_order, reorder

LAWS = [
    NoiseLaw("constant", 0.3),
    NoiseLaw("sqrt", 0.25),
    NoiseLaw("linear", 0.25, 0.05),
    NoiseLaw("linear", 0.0),
]


def block(seed: int, law: NoiseLaw, rows: int = 40, compared: bool = False) -> Conversions:
    random = np.random.default_rng(seed)
    inputs = random.integers(0, 4, size=(60, rows)) * (random.random((60, rows)) < 0.5)
    cells = random.integers(0, 2, size=(rows, 6)).astype(float)
    return Conversions(inputs, cells, 2 * np.eye(6), Conversion(7, 3, law), compared)


@pytest.mark.parametrize("law", LAWS)
def test_errors_of_a_conversion_are_those_of_many_drawn_ones(law: NoiseLaw) -> None:
    sums = np.array([0.0, 0.5, 1.0, 3.3, 6.5, 7.0, 8.2])
    mean, variance = Conversion(7, 3, law).errors(sums)
    noise = np.random.default_rng(1).standard_normal((200_000, 1))
    codes = np.clip(np.rint(sums + law.sigma(sums) * noise), 0, 7)
    sure = law.sigma(sums) > 0
    np.testing.assert_allclose(mean[sure], codes.mean(0)[sure] - sums[sure], atol=0.01)
    np.testing.assert_allclose(variance[sure], codes.var(0)[sure], atol=0.01)
    whole = (sums == np.rint(sums)) & (sums <= 7) & ~sure
    np.testing.assert_allclose(mean[whole] ** 2 + variance[whole], 0, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_sums_are_those_of_the_next_seven_rows_with_a_non_zero_bit(seed: int, rows: int) -> None:
    found = block(seed, LAWS[1], rows)
    order = np.random.default_rng(seed).permutation(rows)
    expected = []
    for vector in found.inputs:
        for bit in range(found.input_bits):
            active = [row for row in order if vector[row] >> bit & 1]
            groups = [active[start : start + 7] for start in range(0, len(active), 7)]
            expected += [found.cells[group].sum(0) for group in groups]
    sums = found.sums(order) / STEPS
    assert len(sums) == len(expected)
    if expected:
        np.testing.assert_array_equal(sums, np.array(expected))


@pytest.mark.parametrize("compared", [False, True])
@pytest.mark.parametrize("law", LAWS[:3])
def test_the_expected_error_is_the_mean_of_drawn_ones(law: NoiseLaw, compared: bool) -> None:
    found = block(4, law, compared=compared)
    order = np.random.default_rng(0).permutation(40)
    sums = found.sums(order) / STEPS
    random = np.random.default_rng(2)
    drawn = []
    for _ in range(300):
        codes = np.clip(np.rint(sums + law.sigma(sums) * random.standard_normal(sums.shape)), 0, 7)
        errors = np.zeros((60, 6))
        weights = found.bit_weights[found.line, None]
        np.add.at(errors, found.line // found.input_bits, 2 * weights * (codes - sums))
        errors -= errors.mean(1, keepdims=True) if compared else 0
        drawn.append(np.square(errors).mean())
    assert np.mean(drawn) == pytest.approx(found.expected_error(order), rel=0.01)


def test_reordering_lowers_the_error_also_of_inputs_that_it_did_not_see() -> None:
    law = NoiseLaw("linear", 0.25)
    random = np.random.default_rng(0)
    dense = random.permutation(np.linspace(0.1, 0.9, 40))
    cells = (random.random((40, 6)) < dense[:, None]).astype(float)
    inputs = random.integers(0, 4, size=(400, 40)) * (random.random((400, 40)) < 0.5)
    seen, unseen = (
        Conversions(part, cells, np.eye(6), Conversion(7, 3, law))
        for part in (inputs[:200], inputs[200:])
    )
    rounds = list(reorder(seen, np.random.default_rng(1), iterations=250))
    assert [round_.iteration for round_ in rounds] == [0, 100, 200, 250]
    errors = [round_.error for round_ in rounds]
    assert errors == sorted(errors, reverse=True)
    last = rounds[-1]
    assert seen.expected_error(last.order) == last.error
    assert last.error < 0.97 * last.natural
    assert unseen.expected_error(last.order) < 0.98 * unseen.expected_error(np.arange(40))


def test_the_same_seed_gives_the_same_permutation() -> None:
    found = block(1, LAWS[1])
    one, two, other = (
        [*reorder(found, np.random.default_rng(seed), 150)][-1].order for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.sort(one), np.arange(40))
    np.testing.assert_array_equal(np.sort(greedy_order(found)), np.arange(40))


def test_there_is_nothing_to_gain_where_the_noise_does_not_depend_on_the_sum() -> None:
    random = np.random.default_rng(0)
    cells = random.integers(0, 2, size=(30, 4)).astype(float)
    inputs = random.integers(0, 4, size=(50, 30))
    wide = Conversion(7, 8, NoiseLaw("constant", 0.4))
    held_up = Conversions(inputs, cells + 20, np.eye(4), wide)  # sums away from both ends
    last = [*reorder(held_up, np.random.default_rng(0), 100)][-1]
    assert last.error == pytest.approx(last.natural, rel=1e-3)


def test_a_single_row_and_no_input_at_all_are_fine() -> None:
    one = Conversions(np.zeros((2, 1), int), np.ones((1, 2)), np.eye(2), Conversion(7, 3, LAWS[0]))
    assert [*reorder(one, np.random.default_rng(0), 10)][-1].order.tolist() == [0]


def test_what_does_not_fit_is_refused() -> None:
    conversion, inputs = Conversion(7, 3, LAWS[0]), np.ones((3, 4), int)
    with pytest.raises(ValueError, match="do not fit 5 rows"):
        Conversions(inputs, np.ones((5, 2)), np.eye(2), conversion)
    with pytest.raises(ValueError, match="unsigned"):
        Conversions(-inputs, np.ones((4, 2)), np.eye(2), conversion)
    with pytest.raises(ValueError, match="readout of 3 columns does not fit 2"):
        Conversions(inputs, np.ones((4, 2)), np.eye(3), conversion)
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        NoiseLaw("linear", -0.1)
