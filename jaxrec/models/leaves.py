"""Names of the arrays in a tree of parameters or state: in checkpoints, in stores, on the device."""

from typing import Any

import jax


def named(tree: Any) -> dict[str, Any]:
    """Leaves by the path that leads to them, in the order of `jax.tree.leaves`.

    >>> named({"personal": {"last": {"w_in": 1}}, "hidden": (2, 3)})
    {'hidden.0': 2, 'hidden.1': 3, 'personal.last.w_in': 1}
    """
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
