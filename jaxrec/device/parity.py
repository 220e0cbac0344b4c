"""Whether an exported file computes what JAX computes: both run on the same random inputs, in the real runtime.

Dimensions: k results.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrec.device.convert import flat_function
from jaxrec.device.signatures import Signature
from jaxrec.errors import InputError
from jaxrec.models.leaves import named

RUNS = 3
"""Calls of each signature; those of `train` follow one another, so that errors may add up."""

QUICK = {"xla_backend_optimization_level": 0}
"""JAX's side runs three times, so the time goes into its compilation."""

LIMITS = {"recommend": 1e-5, "recommend_all": 1e-5, "step": 1e-5, "train": 1e-4}
"""Largest difference allowed, absolute, or relative to the largest number of an output that goes beyond 1."""


def measure_parity(signatures: Sequence[Signature], n_items: int, model: bytes) -> dict[str, float]:
    """{NAME_max_abs_error: largest difference} for every signature.

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
    errors = {signature.name: _error(signature, interpreter.get_signature_runner(signature.name), n_items, rng) for signature in signatures}
    for name, (_, excess) in errors.items():
        if not excess <= LIMITS[name]:
            raise RuntimeError(f"export: {name} of the exported model differs from JAX by {excess:.2g}; expected at most {LIMITS[name]:g}")
    return {f"{name}_max_abs_error": absolute for name, (absolute, _) in errors.items()}


def _error(signature: Signature, runner: Any, n_items: int, rng: np.random.Generator) -> tuple[float, float]:
    """Largest (absolute difference, difference by the limit's measure) over the runs; each side goes on from its own outputs."""
    function, _ = flat_function(signature)
    function, outputs = jax.jit(function, keep_unused=True, compiler_options=QUICK), list(signature.outputs())
    ours = theirs = {name: np.asarray(leaf) for name, leaf in named(signature.example).items()}
    worst = (0.0, 0.0)
    for _ in range(RUNS):
        given = random_inputs(ours, n_items, rng)
        ours, theirs = ours | given, theirs | given
        want = dict(zip(outputs, map(np.asarray, function(*ours.values())), strict=True))
        got = runner(**theirs)
        worst = tuple(np.maximum(worst, _differences(got, want)))
        ours, theirs = ours | _known(want, ours), theirs | _known(got, ours)
    return float(worst[0]), float(worst[1])


def _known(outputs: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs that are inputs of the next call."""
    return {name: value for name, value in outputs.items() if name in inputs and value.shape == inputs[name].shape}


def random_inputs(inputs: Mapping[str, np.ndarray], n_items: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """New values for what a call is about; states and parameters stay."""
    drawn = {}
    for name in ("context", "candidates", "items", "item", "negatives"):
        drawn[name] = lambda shape: rng.integers(0, n_items, shape, dtype=np.int32)
    drawn["length"] = lambda _: np.int32(rng.integers(1, len(inputs["context"]) + 1))
    drawn["bonus"] = lambda shape: (rng.poisson(0.3, shape) * rng.normal(size=shape)).astype(np.float32)
    drawn["mask"] = lambda shape: rng.random(shape) < 0.9
    drawn["learning_rate"] = lambda _: np.float32(0.1)
    return {name: np.asarray(drawn[name](value.shape)) for name, value in inputs.items() if name in drawn}


def _differences(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> np.ndarray:
    """Largest (absolute, scaled) difference of two sets of outputs; infinite where items differ that do not tie."""
    worst = np.zeros(2)
    for name, value in want.items():
        if name == "items":
            found = np.full(2, np.inf) if _wrong_items(got[name], value, want["scores"]) else np.zeros(2)
        else:
            absolute = np.abs(got[name].astype(np.float64) - value).max(initial=0.0)
            found = np.array([absolute, absolute / max(1.0, np.abs(value).max(initial=0.0))])
        # A NaN is no agreement.
        worst = np.maximum(worst, np.nan_to_num(found, nan=np.inf))
    return worst


def _wrong_items(got: np.ndarray, want: np.ndarray, scores: np.ndarray) -> bool:
    """Whether results differ where scores do not tie; the last one may tie with the best that is not returned."""
    gaps = np.abs(np.diff(scores, prepend=np.inf, append=scores[-1:]))
    tied = np.minimum(gaps[:-1], gaps[1:]) <= LIMITS["recommend"] * max(1.0, float(np.abs(scores).max()))
    return bool(((got != want) & ~tied).any())
