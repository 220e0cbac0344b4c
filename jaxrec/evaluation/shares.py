"""Probabilities that a network gives to a few items, exact over the whole catalogue, streamed in slices of items.

Dimensions: P predictions, E own items at them, `width` items of a slice.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.own_history import OwnItems, filled_up
from jaxrec.evaluation.ranks import item_slices
from jaxrec.evaluation.scorer import Scorer


def log_shares(scorer: Scorer, block: SessionBlock, own: OwnItems, n_items: int, temperatures: Sequence[float]) -> np.ndarray:
    """Logarithms of softmax(temperature x scores) at the own items of a block, [temperatures, E] float64."""
    encoded, filled, scales = scorer.encode(block), filled_up(own), np.asarray(temperatures, np.float32)
    total = np.full((len(scales), len(block.predictions()[0])), -np.inf, np.float32)
    of_own = np.zeros(len(filled.items), np.float32)
    for start, stop in item_slices(n_items, block.mask.size):
        scores = jnp.asarray(scorer.scores(encoded, start, stop))
        total, of_own = _add_slice(scores, scales, filled.prediction, filled.items - start, total, of_own)
    size = len(own.items)
    return np.float64(scales)[:, None] * np.float64(of_own)[:size] - np.float64(total)[:, own.prediction]


@jax.jit
def _add_slice(
    scores: jax.Array, scales: jax.Array, prediction: jax.Array, place: jax.Array, total: jax.Array, of_own: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(log of the sum over items so far [temperatures, P], scores of own items so far [E])."""
    here = jax.lax.map(lambda scale: jax.nn.logsumexp(scale * scores, axis=-1), scales)
    inside = (place >= 0) & (place < scores.shape[1])
    found = scores.at[prediction, jnp.clip(place, 0, scores.shape[1] - 1)].get(mode="clip")
    return jnp.logaddexp(total, here), jnp.where(inside, found, of_own)
