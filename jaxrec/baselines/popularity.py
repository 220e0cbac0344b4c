"""Counting baselines: popularity of all sessions, of the current session, of the user's own clicks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrec.baselines.counts import before_others, event_counts, filling, own_counts, session_counts
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Ranks every item by how often it was clicked, whatever the session (POP of the GRU4Rec papers).

    Attributes:
      counts: clicks of each item in the sessions it was fitted on, [items].
    """

    counts: np.ndarray

    def encode(self, block: SessionBlock) -> int:
        return len(block.predictions()[0])

    def scores(self, encoded: int, start: int, stop: int) -> np.ndarray:
        return np.broadcast_to(self.counts[start:stop].astype(np.float32), (encoded, stop - start))


@dataclasses.dataclass(frozen=True)
class SessionPopularity:
    """Ranks first what the current session clicked, by how often; then and among equals by popularity (S-POP).

    Attributes:
      fill: popularity in [0, 1), [items].
    """

    fill: np.ndarray

    def encode(self, block: SessionBlock) -> SessionBlock:
        return block

    def scores(self, encoded: SessionBlock, start: int, stop: int) -> np.ndarray:
        return session_counts(encoded, start, stop) + self.fill[start:stop].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class UserHistory:
    """Ranks first what the user ever clicked, by how often, the current session included; then and among equals by popularity.

    Attributes:
      fill: popularity in [0, 1), [items].
    """

    fill: np.ndarray

    def encode(self, block: SessionBlock) -> SessionBlock:
        return block

    def scores(self, encoded: SessionBlock, start: int, stop: int) -> np.ndarray:
        return own_counts(encoded, start, stop) + self.fill[start:stop].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class UserHistoryDecayed:
    """Ranks first what the user ever clicked, recent sessions counting more; equal ones and all others by popularity.

    A click counts 1 / (1 + n) where it lies n of the user's sessions back (`jaxrec.data.blocks.Past`): 1 in the current session.

    Attributes:
      fill: popularity in [0, 1), [items].
    """

    fill: np.ndarray

    def encode(self, block: SessionBlock) -> SessionBlock:
        return block._replace(history_counts=block.history_decayed)

    def scores(self, encoded: SessionBlock, start: int, stop: int) -> np.ndarray:
        return before_others(own_counts(encoded, start, stop), self.fill[start:stop])


def fit_popularity(dataset: Dataset, sessions: Sequence[int]) -> Popularity:
    """Count the clicks of the given sessions."""
    return Popularity(event_counts(dataset, sessions))


def fit_session_popularity(dataset: Dataset, sessions: Sequence[int]) -> SessionPopularity:
    """Count the clicks of the given sessions, for the items that the current session does not have."""
    return SessionPopularity(filling(event_counts(dataset, sessions)))


def fit_user_history(dataset: Dataset, sessions: Sequence[int]) -> UserHistory:
    """Count the clicks of the given sessions, for the items that a user does not have."""
    return UserHistory(filling(event_counts(dataset, sessions)))


def fit_user_history_decayed(dataset: Dataset, sessions: Sequence[int]) -> UserHistoryDecayed:
    """Count the clicks of the given sessions, for the items that a user does not have."""
    return UserHistoryDecayed(filling(event_counts(dataset, sessions)))
