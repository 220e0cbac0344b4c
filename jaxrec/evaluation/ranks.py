"""Exact ranks over the whole catalogue, streamed in blocks of predictions x blocks of items.

Dimensions: P predictions, `width` items of a slice.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.evaluation.scorer import Scorer

CUTOFFS = (1, 5, 10, 20, 50)
TIES = ("standard", "conservative", "median")
COUNTED_AT_ONCE = 2**16 - 1
"""Items whose numbers above and equal fit into the halves of one 32-bit sum."""


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How many items beat and tie with the target, per prediction; int32, for there are many of them.

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

    def where(self, chosen: np.ndarray) -> "Ranks":
        """Those of some predictions, by a mask or places of them."""
        return Ranks(**{name: column[chosen] for name, column in vars(self).items()})


def scores_at_once() -> int:
    """Upper bound of predictions x items in memory at a time: on CPUs what a cache holds (16 MiB of float32), elsewhere 128 MiB.

    Counting them takes as much again.
    """
    return 2**22 if jax.default_backend() == "cpu" else 2**25


def item_slices(n_items: int, predictions: int) -> list[tuple[int, int]]:
    """(start, stop) of the slices of the catalogue, in order, whose scores after so many predictions are in memory at a time."""
    width = max(1, scores_at_once() // predictions)
    return [(start, min(start + width, n_items)) for start in range(0, n_items, width)]


def predictions_at_once(n_items: int) -> int:
    """Predictions per block, a power of two: as many as can be scored with the whole catalogue at once, from 64 to 2048.

    Where not even 64 can, the catalogue comes in slices, which are worth reading for 512.
    """
    fitting = scores_at_once() // max(n_items, 1)
    return 512 if fitting < 64 else 1 << (min(fitting, 2048).bit_length() - 1)


def rank_sessions(scorer: Scorer, blocks: Iterable[SessionBlock], n_items: int) -> Ranks:
    """Rank every event but the first of every session among all items; order: by session, then by step."""
    return rank_by_all({"": scorer}, blocks, n_items)[""]


def rank_by_all(scorers: Mapping[str, Scorer], blocks: Iterable[SessionBlock], n_items: int) -> dict[str, Ranks]:
    """`rank_sessions` by several scorers, a block after another, so that no more than one has to be in memory."""
    places: list[tuple[np.ndarray, ...]] = []
    counts: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in scorers}
    for block in blocks:
        row, step = np.nonzero(block.mask)
        places.append((block.sessions[row], step, block.users[row]))
        for name, scorer in scorers.items():
            counts[name].append(_rank_block(scorer, block, n_items))
    sessions, steps, users = _columns(places, 3)
    order = np.lexsort((steps, sessions))
    where = [column[order] for column in (sessions, steps, users)]  # the same arrays for all scorers
    return {name: Ranks(*where, *(column[order] for column in _columns(own, 2))) for name, own in counts.items()}


def _columns(parts: Sequence[tuple[np.ndarray, ...]], number: int) -> list[np.ndarray]:
    nothing = np.zeros(0, np.int32)
    return [np.concatenate([nothing, *(part[i] for part in parts)], dtype=np.int32, casting="same_kind") for i in range(number)]


def changed(before: Ranks, after: Ranks) -> float:
    """Share of the same predictions whose standard rank differs; 0 where there are none.

    >>> one = np.zeros(4, int)
    >>> changed(Ranks(one, one, one, one, one), Ranks(one, one, one, np.array([0, 2, 0, 0]), one))
    0.25
    """
    return float((before.greater != after.greater).mean()) if len(before.greater) else 0.0


def _rank_block(scorer: Scorer, block: SessionBlock, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    row, step = block.predictions()
    greater, equal = _count_items(scorer, scorer.encode(block), block.items[row, step + 1], n_items, block.mask.size)
    size = np.count_nonzero(block.mask)
    # The target ties with itself, unless it is not a number: then it beats nothing and ties with nothing.
    return greater[:size], np.maximum(equal[:size] - 1, 0)


def _count_items(scorer: Scorer, encoded: Any, targets: np.ndarray, n_items: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Items above and equal to the target's score, [P] each, slice by slice of the catalogue; P is `most` at most."""
    slices = item_slices(n_items, most)
    if len(slices) == 1:
        return _as_numbers(_count_whole(jnp.asarray(scorer.scores(encoded, 0, n_items)), targets))
    of_target = np.zeros(len(targets), np.float32)
    for start, stop in slices:
        of_target = _pick(jnp.asarray(scorer.scores(encoded, start, stop)), targets, start, of_target)
    greater = equal = np.zeros(len(targets), np.int64)
    for start, stop in slices:
        more, same = _as_numbers(_count(jnp.asarray(scorer.scores(encoded, start, stop)), of_target))
        greater, equal = greater + more, equal + same
    return greater, equal


def _as_numbers(counts: tuple[jax.Array, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(counts[0], np.int64), np.asarray(counts[1], np.int64)


@jax.jit
def _count(scores: jax.Array, of_target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Items above and equal to the target's score, [P] each; NaN counts as above, so a broken model ranks last.

    Both numbers in one sum, of halves that cannot overflow: two sums take XLA several times as long on a CPU.
    """
    of_target = of_target[:, None]
    greater = equal = jnp.zeros(len(scores), jnp.uint32)
    for start in range(0, scores.shape[1], COUNTED_AT_ONCE):
        some = scores[:, start : start + COUNTED_AT_ONCE]
        both = jnp.where(some <= of_target, (some == of_target).astype(jnp.uint32), jnp.uint32(1 << 16)).sum(-1)
        greater, equal = greater + (both >> 16), equal + (both & 0xFFFF)
    return greater, equal


@jax.jit
def _count_whole(scores: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _count(scores, jnp.take_along_axis(scores, targets[:, None], -1)[:, 0])


@jax.jit
def _pick(scores: jax.Array, targets: jax.Array, start: int, otherwise: jax.Array) -> jax.Array:
    """Scores of the targets that lie in this slice of items; `otherwise` elsewhere."""
    place = targets - start
    inside = (place >= 0) & (place < scores.shape[1])
    found = jnp.take_along_axis(scores, jnp.clip(place, 0, scores.shape[1] - 1)[:, None], -1)[:, 0]
    return jnp.where(inside, found, otherwise)
