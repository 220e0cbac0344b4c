"""Recall@k and MRR@k as sums that merge: no mean of means.

Recall@k is the share of predictions whose target ranks at k or better; MRR@k the mean of 1 / rank, 0 beyond k (GRU4Rec's definitions).
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.evaluation.ranks import CUTOFFS, Ranks

Sums = dict[str, float]


def per_prediction(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """What each prediction adds to each metric, {metric: [P]}.

    >>> {name: value.tolist() for name, value in per_prediction(np.array([1, 4, 5]), (4,)).items()}
    {'recall@4': [1.0, 1.0, 0.0], 'mrr@4': [1.0, 0.25, 0.0]}
    """
    hit = {k: (ranks <= k).astype(np.float64) for k in cutoffs}
    return {f"recall@{k}": hit[k] for k in cutoffs} | {f"mrr@{k}": hit[k] / ranks for k in cutoffs}


def sums(ranks: Ranks, ties: str = "standard") -> Sums:
    """Sums over predictions, with their number under "predictions"."""
    return {name: float(value.sum()) for name, value in per_prediction(ranks.values(ties)).items()} | {"predictions": len(ranks.greater)}


def merge(*parts: Sums) -> Sums:
    """Sums over several sets of predictions."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def means(total: Sums) -> dict[str, float]:
    """Metrics from sums; zero where nothing was predicted."""
    n = int(total["predictions"])
    return {name: value / max(n, 1) for name, value in total.items() if name != "predictions"} | {"predictions": n}


def metrics(ranks: Ranks, ties: str = "standard") -> dict[str, float]:
    """Recall@k and MRR@k for k = 1, 5, 10, 20 and the number of predictions."""
    return means(sums(ranks, ties))
