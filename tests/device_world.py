"""Small models with random parameters, and calls of signatures by name."""

import atexit
import dataclasses
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec.data.own_history import OwnNow, own_now, past_of, popularity
from jaxrec.device.export import Contents, export
from jaxrec.device.shipped import ExportOptions, ship
from jaxrec.device.signatures import Signature, signatures
from jaxrec.learning.personalize import drawn_offsets
from jaxrec.learning.step import Rule
from jaxrec.models.recommender import Model, ModelOptions, Params

ITEMS, HISTORY = 30, (0.7, -0.2, 0.5, 0.3, 1.1, -0.4, -0.9, -0.6)
OPTIONS = ExportOptions(
    context_length=4, candidates=6, own_items=12, top_k=3, train_rows=2, train_steps=3, train_negatives=5, streamed_rows=12
)
MODELS = {
    "dense": ModelOptions(units=(12,), embedding_dim=8),
    "layers": ModelOptions(units=(24, 16), embedding_dim=8, table="separate"),
    "no head": ModelOptions(units=(8,), embedding_dim=8, dense=False),
}
RULES = {
    "dense": Rule(in_batch=False),
    "layers": Rule(in_batch=False, loss="bpr-max", momentum=0.5),
    "no head": Rule(in_batch=False, optimizer="sgd", momentum=0.5),
}
WEIGHTS = np.linspace(1, 9, ITEMS)
POPULAR = popularity(np.arange(ITEMS) % 7)
OFFSETS = drawn_offsets(WEIGHTS / WEIGHTS.sum(), OPTIONS.train_negatives).astype(np.float32)
NOBODY = OwnNow(np.full(12, -1, np.int32), *(np.zeros(12, np.float32) for _ in range(4)), np.float32(0), np.float32(0))


def random_model(name: str, seed: int = 0) -> tuple[Model, Params]:
    """One of `MODELS`, every parameter random: initial biases are zero and would hide mistakes."""
    model = Model(MODELS[name], ITEMS)
    rng = np.random.default_rng(seed)
    return model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.4, model.init(jax.random.key(seed)))


@functools.cache
def functions(name: str, precision: str = "float32") -> dict[str, Any]:
    """The signatures' functions by name, in JAX."""
    return {entry.name: jax.jit(entry.function) for entry in entries(name, precision)}


def entries(name: str, precision: str = "float32", change: Any = lambda params: params, offsets: np.ndarray = OFFSETS) -> list[Signature]:
    """The signatures of one of `MODELS`."""
    model, params = random_model(name)
    shipped, personal = ship(model, change(params), offsets, POPULAR, RULES[name], HISTORY, precision)
    return signatures(shipped, personal, dataclasses.replace(OPTIONS, precision=precision))


def contents(name: str, seed: int = 0) -> Contents:
    """One of `MODELS` as it is exported."""
    clicks = np.random.default_rng(seed).integers(0, ITEMS, 50, dtype=np.int32)
    advice = {"learning_rate": 0.05, "epochs": 2}
    return Contents(*random_model(name, seed), WEIGHTS, POPULAR, HISTORY, RULES[name], advice, clicks=clicks)


def export_to(folder: Path, name: str, precision: str = "float32", seed: int = 0, **more: Any) -> dict[str, Any]:
    """Export one of `MODELS`; returns the manifest."""
    return export(contents(name, seed), dataclasses.replace(OPTIONS, precision=precision, **more), folder)


@functools.cache
def exported(name: str, precision: str = "float32", **more: Any) -> Path:
    """A folder with one of `MODELS`, exported once for all tests that only read it."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    export_to(folder, name, precision, **more)
    return folder


def own_inputs(sessions: list[list[int]], running: list[int]) -> OwnNow:
    """What is known of the own items of a user with these sessions, filled up."""
    own = own_now(past_of(sessions), running)
    missing = OPTIONS.own_items - len(own.items)
    arrays = [np.float32(np.pad(values, (0, missing)) if np.ndim(values) else values) for values in own]
    return OwnNow(*arrays)._replace(items=np.pad(own.items, (0, missing), constant_values=-1).astype(np.int32))


def random_block(
    rng: np.random.Generator, rows: int = OPTIONS.train_rows, steps: int = OPTIONS.train_steps
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(items, mask, negatives) of one update, rows of different length."""
    mask = np.arange(steps) < rng.integers(1, steps + 1, (rows, 1))
    return (
        rng.integers(0, ITEMS, (rows, steps + 1), dtype=np.int32),
        mask,
        rng.integers(0, ITEMS, OPTIONS.train_negatives, dtype=np.int32),
    )
