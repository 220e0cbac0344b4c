"""Negatives are drawn as often as their popularity says."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.learning.negatives import alias_table, draw_items, sampler


def holds_exactly(weights, rtol=1e-12):
    """What a table gives each item, summed over the columns that can give it, is the item's weight."""
    share, alias = alias_table(weights)
    assert (share >= 0).all() and (share <= 1).all()
    held = share.copy()
    np.add.at(held, alias, 1 - share)
    np.testing.assert_allclose(held / len(weights), weights / weights.sum(), rtol=rtol, atol=0)


@given(st.lists(st.just(0.0) | st.floats(1, 1e12) | st.sampled_from([1.0, 2.0]), min_size=1, max_size=50).filter(any))
def test_alias_table_holds_exactly_the_probabilities(weights):
    holds_exactly(np.array(weights))


@given(st.integers(1, 300), st.floats(1e-3, 1e3))
def test_alias_table_of_equal_weights_keeps_every_column(n, weight):
    holds_exactly(np.full(n, weight))


@pytest.mark.parametrize(
    "weights",
    [
        1 / np.arange(1, 300_001),
        np.random.default_rng(0).permutation(np.arange(300_000) % 2 * 1.0),
        10 ** np.random.default_rng(1).uniform(0, 12, 300_000),
        np.eye(1, 300_000, 7)[0],
    ],
    ids=["by rank", "half of them zero", "twelve orders of magnitude", "one of many"],
)
def test_alias_table_of_many_items_holds_exactly_the_probabilities(weights):
    holds_exactly(weights, rtol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_frequencies_follow_popularity_to_the_power_alpha(alpha):
    counts = np.array([1, 10, 100, 1000, 5])
    drawn = np.bincount(draw_items(sampler(counts, alpha, 0.0), jax.random.key(0), 200_000), minlength=5)
    expected = counts**alpha / (counts**alpha).sum() * 200_000
    chi_square = ((drawn - expected) ** 2 / expected).sum()
    assert chi_square < 18.5, f"chi-square {chi_square:.1f} with 4 degrees of freedom: p < .001, the sampler is off"


def test_offsets_take_popularity_out_as_often_as_it_came_in():
    source = sampler(np.array([1, 100]), 0.5, 1.0)
    np.testing.assert_allclose(source.column_offset, -np.log([1, 100]), rtol=1e-6)
    np.testing.assert_allclose(source.drawn_offset, -0.5 * np.log([1, 100]), rtol=1e-6)


def test_the_same_key_draws_the_same_items():
    source = sampler(np.arange(1, 50), 0.5, 1.0)
    np.testing.assert_array_equal(draw_items(source, jax.random.key(3), 64), draw_items(source, jax.random.key(3), 64))
    assert (np.asarray(draw_items(source, jax.random.key(3), 64)) != np.asarray(draw_items(source, jax.random.key(4), 64))).any()
