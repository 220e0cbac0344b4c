"""The history prior: what the user's own past clicks say by themselves, added to the network's scores.

    score(item) + weight * log(1 + own clicks on the item so far)

A personal count is the strongest single sign of what a user clicks next, and no network of this size holds it.
"""

import jax
import jax.numpy as jnp


def history_bonus(weight: jax.Array | float, counts: jax.Array) -> jax.Array:
    """What own clicks add to the scores.

    Args:
      weight: learnt on the global period; 0 switches the prior off.
      counts: own clicks so far per item, any shape.
    """
    return weight * jnp.log1p(counts)
