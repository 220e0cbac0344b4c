"""Exact ranks over the whole catalogue, streamed in blocks of predictions x blocks of items.

Dimensions: P predictions, rows x T steps of a block, `width` items of a slice.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.evaluation.scorer import Scorer

CUTOFFS = (1, 5, 10, 20)
TIES = ("standard", "conservative", "median")
SCORES_AT_ONCE = 2**25
"""Upper bound of predictions x items that are in memory at a time (128 MiB of float32)."""


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How many items beat and tie with the target, per prediction.

    Attributes:
      sessions, steps, users: which prediction it is, [P] each: session number, step within it, user index (-1 without users).
      greater: items with a score above the target's (or not a number), [P].
      equal: other items with exactly the target's score, [P].
    """

    sessions: np.ndarray
    steps: np.ndarray
    users: np.ndarray
    greater: np.ndarray
    equal: np.ndarray

    def values(self, ties: str = "standard") -> np.ndarray:
        """Rank of the target, 1 is best, [P]: standard #(>) + 1, conservative #(>=), median the middle of both.

        >>> one = np.zeros(1, int)
        >>> [float(Ranks(one, one, one, one + 2, one + 3).values(ties)[0]) for ties in TIES]
        [3.0, 6.0, 4.5]
        """
        share = {"standard": 0.0, "conservative": 1.0, "median": 0.5}[ties]
        return self.greater + 1 + share * self.equal


def predictions_at_once(n_items: int) -> int:
    """Predictions per block that keep whole-catalogue scores within `SCORES_AT_ONCE`, between 64 and 2048."""
    return int(np.clip(SCORES_AT_ONCE // max(n_items, 1), 64, 2048))


def rank_sessions(scorer: Scorer, blocks: Iterable[SessionBlock], n_items: int) -> Ranks:
    """Rank every event but the first of every session among all items; order: by session, then by step."""
    parts = [_rank_block(scorer, block, n_items) for block in blocks]
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Ranks(nothing, nothing, nothing, nothing, nothing)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return Ranks(*(column[order] for column in columns))


def _rank_block(scorer: Scorer, block: SessionBlock, n_items: int) -> tuple[np.ndarray, ...]:
    encoded = scorer.encode(block)
    targets = block.items[:, 1:]
    width = max(1, SCORES_AT_ONCE // targets.size)
    slices = [(start, min(start + width, n_items)) for start in range(0, n_items, width)]
    greater = np.zeros(targets.shape, np.int64)
    equal = np.full(targets.shape, -1, np.int64)  # the target ties with itself
    if len(slices) == 1:
        more, same = _count_whole(jnp.asarray(scorer.scores(encoded, 0, n_items)), targets)
        greater, equal = greater + np.asarray(more), equal + np.asarray(same)
    else:
        of_target = np.zeros(targets.shape, np.float32)
        for start, stop in slices:
            of_target = _pick(jnp.asarray(scorer.scores(encoded, start, stop)), targets, start, of_target)
        for start, stop in slices:
            more, same = _count(jnp.asarray(scorer.scores(encoded, start, stop)), of_target)
            greater, equal = greater + np.asarray(more), equal + np.asarray(same)
    row, step = np.nonzero(block.mask)
    # A target that is not a number beats nothing and ties with nothing, itself included.
    return block.sessions[row], step, block.users[row], greater[row, step], np.maximum(equal[row, step], 0)


@jax.jit
def _count(scores: jax.Array, of_target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Items above and equal to the target's score; NaN counts as above, so a broken model ranks last."""
    of_target = of_target[..., None]
    return (~(scores <= of_target)).sum(-1), (scores == of_target).sum(-1)


@jax.jit
def _count_whole(scores: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _count(scores, jnp.take_along_axis(scores, targets[..., None], -1)[..., 0])


@jax.jit
def _pick(scores: jax.Array, targets: jax.Array, start: int, otherwise: jax.Array) -> jax.Array:
    """Scores of the targets that lie in this slice of items; `otherwise` elsewhere."""
    place = targets - start
    inside = (place >= 0) & (place < scores.shape[-1])
    found = jnp.take_along_axis(scores, jnp.clip(place, 0, scores.shape[-1] - 1)[..., None], -1)[..., 0]
    return jnp.where(inside, found, otherwise)
