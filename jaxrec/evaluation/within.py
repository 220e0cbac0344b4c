"""Ranking within candidates: a user's list, what the device holds anyway, and nothing else.

A device ranks its candidates, the items of the running session and the user's own earlier ones: it has their rows, because it was sent
them or has shown them before. A target that is none of these is a miss: it ranks last, behind the whole catalogue.

Dimensions: P predictions, N candidates of a list, E entries of own items.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.own_history import filled_up, own_items
from jaxrec.evaluation.ranks import Ranks
from jaxrec.evaluation.scorer import Scorer

LOOKED_UP_AT_ONCE = 2**22
"""Places of lists that targets are compared with at a time."""


class Targets(NamedTuple):
    """What has to be predicted, by session, then by step, [P] each.

    Attributes:
      sessions, steps, users: which prediction it is, as in `Ranks`.
      items: the target.
      own: whether the user clicked it before, in the session or ahead of it.
    """

    sessions: np.ndarray
    steps: np.ndarray
    users: np.ndarray
    items: np.ndarray
    own: np.ndarray


@dataclasses.dataclass(frozen=True)
class WithinCandidates:
    """Any scorer, with -inf for items that the user's device does not rank.

    Attributes:
      lists: candidates of every user index, -1 behind the end, [users, N] int32; a row without a user has own items alone.
    """

    base: Scorer
    lists: np.ndarray

    def encode(self, block: SessionBlock) -> Any:
        users = block.users[block.predictions()[0]]
        own, listed = filled_up(own_items(block, None)), np.where(users[:, np.newaxis] < 0, -1, self.lists[users])
        return self.base.encode(block), listed, own.prediction, own.items

    def scores(self, encoded: Any, start: int, stop: int) -> jax.Array:
        inner, *ranked = encoded
        return _only(jnp.asarray(self.base.scores(inner, start, stop)), *ranked, start)


def targets_of(blocks: Iterable[SessionBlock]) -> Targets:
    """Targets of all predictions of the blocks."""
    parts = [Targets(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int32, np.int32, bool))), *map(_targets, blocks)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return Targets(*(column[order] for column in columns))


def _targets(block: SessionBlock) -> Targets:
    row, step = np.nonzero(block.mask)
    items, own = block.items[row, step + 1], own_items(block, None)
    clicked = np.zeros(len(row), bool)
    clicked[own.prediction[own.items == items[own.prediction]]] = True
    return Targets(block.sessions[row], step, block.users[row], items, clicked)


def place_in(lists: np.ndarray, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Place of each item in its row of the lists, N where it is not there, [P].

    >>> place_in(np.array([[4, 7], [2, -1]]), np.array([0, 1, 1]), np.array([7, 2, 7]))
    array([1, 0, 2])
    """
    found, size = np.full(len(items), lists.shape[1]), max(1, LOOKED_UP_AT_ONCE // lists.shape[1])
    for start in range(0, len(items), size):
        some = slice(start, start + size)
        same = lists[rows[some]] == items[some, np.newaxis]
        found[some] = np.where(same.any(axis=1), same.argmax(axis=1), lists.shape[1])
    return found


def inside(lists: np.ndarray, targets: Targets) -> np.ndarray:
    """Whether the device ranks each target at all, [P] bool: the ceiling of every ranking within candidates."""
    return targets.own | ((targets.users >= 0) & (place_in(lists, targets.users, targets.items) < lists.shape[1]))


def missed_last(ranks: Ranks, ranked: np.ndarray, n_items: int) -> Ranks:
    """The ranks, with targets that are not `ranked` [P] behind all other items: among ties of -inf they would stand before many."""
    greater, equal = np.where(ranked, ranks.greater, n_items - 1), np.where(ranked, ranks.equal, 0)
    return dataclasses.replace(ranks, greater=greater, equal=equal)


@jax.jit
def _only(scores: jax.Array, listed: jax.Array, prediction: jax.Array, own: jax.Array, start: int) -> jax.Array:
    """Scores of items start, start + 1, ..., -inf but for those listed [P, N] and the own ones [E] of a prediction [E]."""

    def place(items):
        return jnp.where(items < start, scores.shape[1], items - start)  # outside: a negative one would count from the end

    ranked = jnp.zeros(scores.shape, bool)
    ranked = ranked.at[jnp.arange(len(scores))[:, None], place(listed)].set(True, mode="drop")
    ranked = ranked.at[prediction, place(own)].set(True, mode="drop")
    return jnp.where(ranked, scores, -jnp.inf)
