"""Small logs for baselines, and what a baseline fitted on them says in one running session."""

import importlib.util

import numpy as np
import pytest

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset

FACTORISING = ["bpr_mf", "als", "als_session"]
HAS_IMPLICIT = importlib.util.find_spec("implicit") is not None
needs_implicit = pytest.mark.skipif(not HAS_IMPLICIT, reason="implicit is not installed: pip install implicit")
RUNNABLE = [name for name in BASELINES if HAS_IMPLICIT or name not in FACTORISING]
NAMES = [pytest.param(name, marks=[needs_implicit] if name in FACTORISING else []) for name in BASELINES]
"""Every baseline as a parameter of a test."""


def dataset_of(sessions: list[list[int]], n_items: int, users: list[int] | None = None) -> Dataset:
    """Sessions in the order given, all in the global period."""
    items = np.concatenate(sessions).astype(np.int32)
    return Dataset(
        items=items,
        times=np.arange(len(items), dtype=np.int64),
        offsets=np.cumsum([0, *map(len, sessions)]),
        users=np.array(users or [-1] * len(sessions), np.int32),
        period_offsets=(0, len(sessions), len(sessions), len(sessions)),
        item_counts=np.bincount(items, minlength=n_items),
        n_users=max(users) + 1 if users else 0,
    )


def block_of(session: list[int], history: list[int] = (), decayed: dict[int, float] | None = None, user: int = 0) -> SessionBlock:
    """One session of a user who clicked `history` before; `decayed` is `history_decayed` by item, by default the counts."""
    items, counts = np.unique(np.array(history, np.int32), return_counts=True)
    worth = counts if decayed is None else [decayed[item] for item in items.tolist()]
    return SessionBlock(
        items=np.array([session], np.int32),
        mask=np.ones((1, len(session) - 1), bool),
        sessions=np.zeros(1, np.int64),
        users=np.full(1, user, np.int32),
        history_items=np.append(items, -1)[None].astype(np.int32),
        history_counts=np.append(counts, 0)[None].astype(np.float32),
        history_decayed=np.append(worth, 0)[None].astype(np.float32),
        history_ago=np.zeros((1, len(items) + 1), np.float32),
    )


def scores_of(name: str, train: list[list[int]], session: list[int], n_items: int, history: list[int] = ()) -> np.ndarray:
    """Scores after each step of one session of a user who clicked `history` before, [T, items]."""
    fitted = BASELINES[name](dataset_of(train, n_items), range(len(train)))
    block = block_of(session, history)
    return np.asarray(fitted.scores(fitted.encode(block), 0, n_items))
