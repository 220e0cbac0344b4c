"""The history prior: what the user's own past clicks say by themselves, added to the network's scores.

    score(i) + w . f(i)    for items that the user clicked before,    score(i)    for all others

so that, where scores are log-probabilities, P(i) is proportional to P_network(i) exp(w . f(i)); f are the features of
`jaxrec.data.own_history`, counts of own clicks and how popular the item is with everybody. What a user returns to is the strongest single
sign of the next click, and no network of this size holds it; where nobody returns, the weights push own items down.
"""

import jax
import jax.numpy as jnp


def with_bonus(scores: jax.Array, prediction: jax.Array, items: jax.Array, bonus: jax.Array, start: int) -> jax.Array:
    """Scores of a slice of the items with the bonus of own ones.

    Args:
      scores: of items start, start + 1, ..., [P, width].
      prediction, items, bonus: own items and what is added to their scores, [E] each; those outside the slice do not matter.
    """
    place = items - start
    outside = scores.shape[1]  # a negative place would count from the end
    return scores.at[prediction, jnp.where(place < 0, outside, place)].add(bonus, mode="drop")
