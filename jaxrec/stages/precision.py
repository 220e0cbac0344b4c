"""Scorers at other precisions than float32: what evaluation ranks is what devices decode."""

import dataclasses

import jax.numpy as jnp

from jaxrec.compression.rows import as_encoded
from jaxrec.evaluation.networks import GlobalScorer, WithHistory
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.within import WithinCandidates


def at_precision(scorer: Scorer, precision: str) -> Scorer:
    """The scorer with its network at another precision; one without a network comes back as it is.

    Args:
      precision: bfloat16: products of such rows and vectors, summed in float32; float16 or int8: rows and frozen matrices as a device
        decodes them.
    """
    if isinstance(scorer, WithHistory | WithinCandidates):
        return dataclasses.replace(scorer, base=at_precision(scorer.base, precision))
    if not hasattr(scorer, "scored"):
        return scorer
    part = "params" if isinstance(scorer, GlobalScorer) else "shared"
    params = getattr(scorer, part)
    if precision == "bfloat16":
        return dataclasses.replace(scorer, scored=jnp.asarray(params["item_table"], jnp.bfloat16))
    # What all users share is frozen, whatever it is called: with adapters it holds the parts that they adapt.
    trained = scorer.model.personal_parts if part == "params" else ()
    return dataclasses.replace(scorer, **{part: as_encoded(params, trained, precision)})
