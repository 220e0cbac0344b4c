"""Laws of encoded item tables."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrec.compression.rows import ENCODINGS, LARGEST, float16_rows, int8_rows, quantize_rows

NUMBERS = st.floats(-1e4, 1e4, width=32).map(lambda x: x if abs(x) > 1e-30 else 0.0)
TABLES = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=NUMBERS)


@given(TABLES)
@settings(deadline=None)
def test_int8_is_within_half_a_scale(table):
    values, scale = quantize_rows(table)
    error = np.abs(values.astype(np.float64) * scale[:, None] - table)
    assert (error <= scale[:, None] * (0.5 + 1e-4)).all()
    assert np.abs(values.astype(int)).max() <= LARGEST


def test_rows_have_scales_of_their_own():
    values, scale = quantize_rows(np.array([[0.0, 0.0], [1e-3, -5e-4], [127.0, 1.0]], np.float32))
    np.testing.assert_array_equal(values, [[0, 0], [127, -64], [127, 1]])
    np.testing.assert_allclose(scale, [0, 1e-3 / 127, 1], rtol=1e-6)


@given(hnp.arrays(np.float32, (6, 5), elements=NUMBERS))
@settings(deadline=None, max_examples=50)
def test_float16_is_exact_to_eleven_bits(table):
    rows = np.asarray(float16_rows(table)[jnp.arange(len(table))])
    np.testing.assert_allclose(rows, table, rtol=2**-11, atol=2**-25)


def test_float16_has_no_infinity():
    assert np.isfinite(float16_rows(np.array([[1e9, -1e9]], np.float32))[jnp.array([0])]).all()


@pytest.mark.parametrize("precision", ENCODINGS)
def test_an_encoded_table_reads_like_an_array(precision):
    rng = np.random.default_rng(0)
    table, vector = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    encoded = ENCODINGS[precision](table)
    every = np.asarray(encoded[jnp.arange(9)])
    np.testing.assert_array_equal(encoded[jnp.array([[3, 3], [0, 8]])], every[[[3, 3], [0, 8]]])
    np.testing.assert_allclose(encoded @ vector, every @ vector, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(every, table, atol=0.02)


def test_int8_takes_a_quarter():
    encoded = int8_rows(np.ones((100, 64), np.float32))
    assert encoded.values.nbytes + encoded.scale.nbytes == 100 * (64 + 4)
