"""Bytes that one user's device keeps, gets and may send, from the shapes in the manifest of an export.

Dimensions: N candidates, R x T steps of a training block, dim of item rows and user vectors.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

NUMBER = 4
"""Bytes of an item's index, of its bias and of a row's scale."""
ROW_BYTES = {"float32": lambda dim: 4 * dim, "float16": lambda dim: 2 * dim, "int8": lambda dim: dim + NUMBER}
"""dim -> bytes of an item row, by the precision of the file."""


def sizes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is and what it weighs beside its file.

    Returns:
      items; units of each layer, the lowest first; train_rows R and train_steps T of an update, 0 where nothing is trained; candidates N;
      personal_bytes: the personal parameters of one user, float32; personal_state_bytes: the same and the optimizer's state;
      candidates_bytes: what sending N candidates takes, rows at the file's precision;
      user_vector_bytes: what a device would send to be ranked for elsewhere.
    """
    inputs, outputs = _leaves(manifest, "inputs"), _leaves(manifest, "outputs")
    (dim,), (candidates,) = outputs["user_vector"]["shape"], inputs["candidates"]["shape"]
    rows, steps = inputs["mask"]["shape"] if "mask" in inputs else (0, 0)
    click = manifest["signatures"]["step"]["inputs"]
    layers = sorted((name for name in click if name.startswith("hidden.")), key=lambda name: int(name.removeprefix("hidden.")))
    return {
        "items": manifest["items"],
        "units": [click[name]["shape"][-1] for name in layers],
        "train_rows": rows,
        "train_steps": steps,
        "candidates": candidates,
        "personal_bytes": _weight(of for name, of in inputs.items() if name.startswith("personal.")),
        "personal_state_bytes": _weight(of for name, of in inputs.items() if name.startswith(("personal.", "optimizer."))),
        "candidates_bytes": candidates * candidate_bytes(manifest["precision"], dim),
        "user_vector_bytes": _weight([outputs["user_vector"]]),
    }


def candidate_bytes(precision: str, dim: int) -> int:
    """What sending one candidate takes: its index, bias and item row; to train and with the history prior three numbers more."""
    return 2 * NUMBER + ROW_BYTES[precision](dim)


def _leaves(manifest: Mapping[str, Any], side: str) -> dict[str, Mapping[str, Any]]:
    """Inputs or outputs of all signatures; those with one name have one shape."""
    return {name: of for signature in manifest["signatures"].values() for name, of in signature[side].items()}


def _weight(leaves: Iterable[Mapping[str, Any]]) -> int:
    return sum(math.prod(of["shape"]) * np.dtype(of["dtype"]).itemsize for of in leaves)
