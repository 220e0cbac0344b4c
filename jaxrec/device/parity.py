"""Whether an exported file computes what JAX computes: both run on the same inputs, random ones and real clicks, in the real runtime.

Dimensions: k results.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxrec.data.own_history import own_now, past_of
from jaxrec.device.convert import flat_function
from jaxrec.device.signatures import Signature
from jaxrec.errors import InputError
from jaxrec.learning.losses import MASKED
from jaxrec.models.leaves import named

RUNS = 3
"""Calls of each signature with random items, and as many with real clicks; those of `train` follow one another: errors may add up."""

QUICK = {"xla_backend_optimization_level": 0}
"""JAX's side runs three times, so the time goes into its compilation."""

LIMITS = {"recommend": 1e-5, "recommend_all": 1e-5, "step": 1e-5, "score": 1e-5, "train": 1e-4, "loss": 1e-5}
"""Largest difference allowed, absolute, or relative to the largest number of an output that goes beyond 1."""


def measure_parity(signatures: Sequence[Signature], n_items: int, model: bytes, clicks: np.ndarray | None = None) -> dict[str, float]:
    """{NAME_max_abs_error: largest difference} for every signature.

    Args:
      clicks: real ones, one after another, [events] int32; None or fewer than a signature reads: random ones alone.

    Raises:
      InputError: the runtime is not installed.
      RuntimeError: a difference goes beyond its limit.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            f"export: expected the package ai-edge-litert; it cannot be imported ({error}); pip install jaxrec[device]"
        ) from None
    interpreter = Interpreter(model_content=model, num_threads=1)
    rng = np.random.default_rng(0)
    draws = [partial(_random_items, rng, n_items)] * RUNS + ([] if clicks is None else [partial(_real_items, rng, n_items, clicks)] * RUNS)
    errors = {signature.name: _error(signature, interpreter.get_signature_runner(signature.name), draws, rng) for signature in signatures}
    for name, (_, excess) in errors.items():
        if not excess <= LIMITS[name]:
            raise RuntimeError(f"export: {name} of the exported model differs from JAX by {excess:.2g}; expected at most {LIMITS[name]:g}")
    return {f"{name}_max_abs_error": absolute for name, (absolute, _) in errors.items()}


Draw = Callable[[tuple[int, ...]], np.ndarray]
"""Shape -> items."""


def _random_items(rng: np.random.Generator, n_items: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, n_items, shape, dtype=np.int32)


def _real_items(rng: np.random.Generator, n_items: int, clicks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Clicks that followed one another."""
    size = int(np.prod(shape))
    if len(clicks) < size:
        return _random_items(rng, n_items, shape)
    first = rng.integers(0, len(clicks) - size + 1)
    return np.asarray(clicks[first : first + size], np.int32).reshape(shape)


def _error(signature: Signature, runner: Any, draws: Sequence[Draw], rng: np.random.Generator) -> tuple[float, float]:
    """Largest (absolute difference, difference by the limit's measure) over the calls; each side goes on from its own outputs."""
    function, _ = flat_function(signature)
    function, outputs = jax.jit(function, keep_unused=True, compiler_options=QUICK), list(signature.outputs())
    ours = theirs = {name: np.asarray(leaf) for name, leaf in named(signature.example).items()}
    worst = (0.0, 0.0)
    for number, draw in enumerate(draws):
        given = new_inputs(ours, draw, rng, number)
        ours, theirs = ours | given, theirs | given
        want = dict(zip(outputs, map(np.asarray, function(*ours.values())), strict=True))
        got = runner(**theirs)
        worst = tuple(np.maximum(worst, _differences(got, want)))
        ours, theirs = ours | _known(want, ours), theirs | _known(got, ours)
    return float(worst[0]), float(worst[1])


def _known(outputs: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs that are inputs of the next call."""
    return {name: value for name, value in outputs.items() if name in inputs and value.shape == inputs[name].shape}


def new_inputs(inputs: Mapping[str, np.ndarray], draw: Draw, rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    """New values for what call `number` is about; states and parameters stay. The first call is that of a user without a click."""
    values: dict[str, Callable[[tuple[int, ...]], Any]] = dict.fromkeys(("context", "candidates", "items", "item", "negatives"), draw)
    values |= {
        "length": lambda _: np.int32(rng.integers(1, len(inputs["context"]) + 1) if number else 0),
        "exclude_seen": lambda _: np.bool_(number % 2),
        "mask": lambda shape: rng.random(shape) < 0.9,
        "reset": lambda shape: rng.random(shape) < 0.3,
        "learning_rate": lambda _: np.float32(0.1),
        "user_vector": lambda shape: rng.normal(size=shape).astype(np.float32),
    }
    drawn = {name: np.asarray(values[name](value.shape)) for name, value in inputs.items() if name in values}
    return drawn | ({} if "own.items" not in inputs else _own(inputs["own.items"].shape[0], draw, rng, number))


def _own(most: int, draw: Draw, rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    """What is known of the own items of a random user, as inputs by name."""
    sessions = np.split(draw((most,)), np.sort(rng.integers(0, most, 4))) if number else [[]]
    own = own_now(past_of(sessions[:-1]), sessions[-1])
    arrays = {name: np.pad(values, (0, most - len(own.items))) if np.ndim(values) else values for name, values in own._asdict().items()}
    items = np.pad(own.items, (0, most - len(own.items)), constant_values=-1)
    return {f"own.{name}": np.asarray(values, np.float32) for name, values in arrays.items()} | {"own.items": items.astype(np.int32)}


def _differences(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> np.ndarray:
    """Largest (absolute, scaled) difference of two sets of outputs; infinite where items differ that do not tie."""
    worst = np.zeros(2)
    for name, value in want.items():
        live = ~(value <= MASKED / 2)  # places without an item would hide any difference
        if not np.array_equal(live, ~(got[name] <= MASKED / 2)):
            worst[:] = np.inf
        if name == "items":
            found = np.full(2, np.inf) if _wrong_items(got[name], value, want["scores"]) else np.zeros(2)
        else:
            absolute = np.abs(got[name].astype(np.float64) - value)[live].max(initial=0.0)
            found = np.array([absolute, absolute / max(1.0, np.abs(value)[live].max(initial=0.0))])
        # A NaN is no agreement.
        worst = np.maximum(worst, np.nan_to_num(found, nan=np.inf))
    return worst


def _wrong_items(got: np.ndarray, want: np.ndarray, scores: np.ndarray) -> bool:
    """Whether results differ where scores do not tie; the last one may tie with the best that is not returned."""
    gaps = np.abs(np.diff(scores, prepend=np.inf, append=scores[-1:]))
    tied = np.minimum(gaps[:-1], gaps[1:]) <= LIMITS["recommend"] * max(1.0, float(np.abs(scores[scores > MASKED / 2]).max(initial=0.0)))
    return bool(((got != want) & ~tied).any())
