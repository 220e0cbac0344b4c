"""Recall@k, MRR@k, NDCG@k and the mean rank as sums that merge: no mean of means.

Every prediction has one target. Recall@k is the share of predictions whose target ranks at k or better; MRR@k the mean of 1 / rank, NDCG@k
the mean of 1 / log2(rank + 1), both 0 beyond k (Recall and MRR as in Hidasi et al., ICLR 2016; NDCG as in Järvelin and Kekäläinen, ACM TOIS
2002, whose ideal list with one target has gain 1). A middle rank of ties may lie half-way between two places: all three formulas take it
as it stands, and it is within k only if it is k at most.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxrec.evaluation.ranks import CUTOFFS, Ranks

Sums = dict[str, float]


def per_prediction(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """What each prediction adds to each metric, {metric: [P]}.

    >>> {name: value.tolist() for name, value in per_prediction(np.array([1, 3, 5]), (4,)).items()}
    {'recall@4': [1.0, 1.0, 0.0], 'mrr@4': [1.0, 0.3333333333333333, 0.0], 'ndcg@4': [1.0, 0.5, 0.0], 'mean_rank': [1.0, 3.0, 5.0]}
    """
    return dict(_shares(ranks, cutoffs))


def _shares(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> Iterator[tuple[str, np.ndarray]]:
    """`per_prediction` metric by metric: where they are summed, no more than one has to be in memory."""
    for name, gain in (("recall", 1.0), ("mrr", 1 / ranks), ("ndcg", 1 / np.log2(ranks + 1))):
        for k in cutoffs:
            yield f"{name}@{k}", np.where(ranks <= k, gain, 0.0)
    yield "mean_rank", ranks.astype(np.float64)


def sums(ranks: Ranks, ties: str = "standard") -> Sums:
    """Sums over predictions, with their number under "predictions"."""
    return {name: float(value.sum()) for name, value in _shares(ranks.values(ties))} | {"predictions": len(ranks.greater)}


def sums_by(part: np.ndarray, parts: int, ranks: Ranks, ties: str = "standard") -> dict[str, np.ndarray]:
    """`sums` of each part of the predictions, {metric: [parts]}.

    Args:
      part: number of the part that each prediction belongs to, [P].
    """
    total = {name: np.bincount(part, value, parts) for name, value in _shares(ranks.values(ties))}
    return total | {"predictions": np.bincount(part, minlength=parts).astype(np.float64)}


def merge(*parts: Sums) -> Sums:
    """Sums over several sets of predictions."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def means(total: Sums) -> dict[str, float]:
    """Metrics from sums; zero where nothing was predicted."""
    n = int(total["predictions"])
    return {name: value / max(n, 1) for name, value in total.items() if name != "predictions"} | {"predictions": n}


def metrics(ranks: Ranks, ties: str = "standard") -> dict[str, float]:
    """Recall@k, MRR@k and NDCG@k for k of `CUTOFFS`, the mean rank and the number of predictions."""
    return means(sums(ranks, ties))
