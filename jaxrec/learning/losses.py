"""Losses of one prediction against its negatives (GRU4Rec, Hidasi et al. 2016 and 2018).

Every loss takes the target's score [...], the scores of C columns [..., C] and which columns count [..., C], and gives one value per
prediction [...]. The target is no column of its own. No gather is used, so the gradient converts to the device's operations.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# Far below any score, yet finite: the device's arithmetic has no infinity.
MASKED = -1e30


def cross_entropy(target: jax.Array, others: jax.Array, counts: jax.Array) -> jax.Array:
    """Softmax over the target and the columns.

    >>> float(cross_entropy(jnp.array(0.0), jnp.array([0.0, 5.0]), jnp.array([True, False])))  # log 2
    0.6931471824645996
    """
    others = jnp.where(counts, others, MASKED)
    highest = jax.lax.stop_gradient(jnp.maximum(others.max(-1), target))
    total = jnp.exp(target - highest) + jnp.exp(others - highest[..., None]).sum(-1)
    return jnp.log(total) + highest - target


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy}
