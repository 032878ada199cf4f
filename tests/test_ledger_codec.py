"""Arrays come back from the ledger bit for bit, and small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rramhil.ledger import codec

LSB = 1e-7


def same(given_array, found):
    given_array = np.asarray(given_array)
    assert found.shape == given_array.shape
    assert found.dtype == given_array.dtype
    assert found.tobytes() == given_array.tobytes()


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(0, 40),
        elements=st.one_of(
            st.floats(width=32), st.integers(0, 4000).map(lambda n: float(np.float32(n * LSB)))
        ),
    ),
    st.sampled_from([0.0, LSB, 0.005, 1.0]),
)
def test_any_floats_come_back_bit_for_bit(values, grid):
    same(values, codec.decode(codec.encode({"volts": values}, {"volts": grid}))["volts"])


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.lists(st.integers(-(2**62), 2**62), max_size=30),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=12),
        st.just([100, 256, 2**63 - 2, 2**63 - 2, -(2**63) + 1, -128]),
        st.lists(st.integers(0, 300), max_size=60),
        st.lists(st.integers(0, 70000), max_size=60, unique=True).map(sorted),
        st.lists(st.integers(0, 2**20), max_size=20),
    )
)
def test_any_integers_come_back(values):
    cells = np.array(values, dtype=np.int64)
    same(cells, codec.decode(codec.encode({"cells": cells}))["cells"])


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.bool_, hnp.array_shapes(max_dims=2, max_side=20)))
def test_flags_and_shapes_come_back(flags):
    same(flags, codec.decode(codec.encode({"ok": flags}))["ok"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, 65534 * LSB])
def test_special_readings_among_codes(dtype, special):
    values = (np.arange(3000) % 777 * LSB).astype(dtype)
    values[::7] = special
    same(values, codec.decode(codec.encode({"siemens": values}, {"siemens": LSB}))["siemens"])


@pytest.mark.parametrize(
    ("dtype", "product"),
    [
        (np.float32, lambda codes: (codes * LSB).astype(np.float32)),
        (np.float32, lambda codes: codes.astype(np.float32) * np.float32(LSB)),
        (np.float32, lambda codes: (codes / 1e7).astype(np.float32)),
        (np.float64, lambda codes: codes * 0.005),
        (np.float64, lambda codes: 0.8 + codes * 0.05),
    ],
)
def test_readings_and_voltages_on_a_grid_are_small(dtype, product):
    codes = np.random.default_rng(0).integers(0, 50, 5000)
    values = product(codes).astype(dtype)
    grid = LSB if dtype is np.float32 else 0.005
    body = codec.encode({"siemens": values}, {"siemens": grid})
    same(values, codec.decode(body)["siemens"])
    assert len(body) < 1.1 * values.size


def test_cells_are_small_however_they_are_chosen():
    rng = np.random.default_rng(1)
    whole = np.arange(65536)
    half, few = np.flatnonzero(rng.random(65536) < 0.5), np.flatnonzero(rng.random(65536) < 0.02)
    for cells, most in ((whole, 64), (half, half.size // 2), (few, 1.7 * few.size)):
        assert len(codec.encode({"cells": cells})) < most


def test_one_array_of_many_and_a_damaged_body():
    body = codec.encode({"cells": np.arange(9), "volts": np.linspace(0, 1, 9)})
    assert set(codec.decode(body, frozenset({"volts"}))) == {"volts"}
    with pytest.raises(codec.CodecError, match="cannot be decoded"):
        codec.decode(body[:-4])
    with pytest.raises(codec.CodecError):
        codec.decode(b"nonsense")
