"""Small worlds for tests: datasets built by hand or drawn at random, and a small model."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import load_dataset, write_dataset
from jaxrec.models.recommender import Model, ModelOptions

N_ITEMS = 30


def small_model(units: tuple[int, ...] = (6,), dense: bool = True, table: str = "shared", n_items: int = N_ITEMS) -> tuple[Model, dict]:
    """A model of few units and its parameters."""
    options = ModelOptions(units=units, embedding_dim=5 if dense else units[-1], dense=dense, table=table)
    model = Model(options, n_items)
    return model, model.init(jax.random.key(7))


def random_sessions(seed: int = 0, sessions: int = 40, n_items: int = N_ITEMS, longest: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """(items [events], offsets [sessions + 1]) of sessions of 2 to `longest` events."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(2, longest + 1, sessions))])
    return generator.integers(0, n_items, offsets[-1]).astype(np.int32), offsets


def dataset_of(
    sessions: list[list[int]], users: list[int] | None = None, periods: tuple[int, int] | None = None, n_items: int = N_ITEMS
) -> Dataset:
    """A dataset of sessions in order of time; `periods` are the numbers of the first personal and of the first test session."""
    items = np.array([item for session in sessions for item in session], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(session) for session in sessions])])
    first = periods or (len(sessions), len(sessions))
    own = np.array(users if users is not None else [-1] * len(sessions), np.int32)
    counts = np.bincount(items[: offsets[first[0]]], minlength=n_items)
    period_offsets = (0, first[0], first[1], len(sessions))
    return Dataset(items, np.arange(len(items)) * 10, offsets, own, period_offsets, counts, int(own.max(initial=-1)) + 1)


def written(dataset: Dataset, folder: Path, users: list[str] | None = None) -> Dataset:
    """The dataset as it comes back from disk; `users` are their names there."""
    names = [f"i{number}" for number in range(dataset.n_items)], users or [f"u{number}" for number in range(dataset.n_users)]
    manifest = {"users": dataset.n_users, "cuts": {"personal_from": None, "test_from": None}}
    write_dataset(dataclasses.replace(dataset, manifest=manifest), *names, folder)
    return load_dataset(folder)


@dataclasses.dataclass(frozen=True)
class Looked:
    """Scores that stand in a table, [sessions + 1, T, items]; the last row is what padding rows get."""

    table: np.ndarray

    def encode(self, block):
        row, step = block.predictions()
        return self.table[block.sessions[row], step]

    def scores(self, encoded, start, stop):
        return encoded[..., start:stop]
