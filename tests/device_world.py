"""Small models with random parameters, and calls of signatures by name."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec.device.export import export
from jaxrec.device.signatures import ExportOptions, ship, signatures
from jaxrec.learning.step import Rule
from jaxrec.models.recommender import Model, ModelOptions, Params

ITEMS, WEIGHTS = 30, (0.7, -0.2, 0.5, 0.3, 1.1, -0.4, -0.9)
OPTIONS = ExportOptions(context_length=4, candidates=6, top_k=3, train_rows=2, train_steps=3, train_negatives=5)
MODELS = {
    "dense": ModelOptions(units=(12,), embedding_dim=8),
    "layers": ModelOptions(units=(24, 16), embedding_dim=8, table="separate"),
    "no head": ModelOptions(units=(8,), embedding_dim=8, dense=False),
}
RULES = {"dense": Rule(in_batch=False), "layers": Rule(in_batch=False, momentum=0.5), "no head": Rule(in_batch=False, optimizer="adam")}
OFFSETS = np.linspace(-1, 1, ITEMS).astype(np.float32)


def random_model(name: str, seed: int = 0) -> tuple[Model, Params]:
    """One of `MODELS`, every parameter random: initial biases are zero and would hide mistakes."""
    model = Model(MODELS[name], ITEMS)
    rng = np.random.default_rng(seed)
    return model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.4, model.init(jax.random.key(seed)))


@functools.cache
def functions(name: str, precision: str = "float32") -> dict[str, Any]:
    """The signatures' functions by name, in JAX."""
    model, params = random_model(name)
    shipped, personal = ship(model, params, OFFSETS, RULES[name], precision)
    return {entry.name: jax.jit(entry.function) for entry in signatures(shipped, personal, OPTIONS)}


def export_to(folder: Path, name: str, precision: str = "float32", seed: int = 0) -> dict[str, Any]:
    """Export one of `MODELS`; returns the manifest."""
    model, params = random_model(name, seed)
    return export(model, params, WEIGHTS, OFFSETS, dataclasses.replace(OPTIONS, precision=precision), folder, RULES[name])


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
