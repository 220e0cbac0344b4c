"""Models that were evaluated, side by side: figures with their intervals, every cutoff, and parts of the predictions."""

from collections.abc import Mapping
from typing import Any

from jaxrec.report.tables import count, metric, table, within

Models = Mapping[str, Mapping[str, Any]]
"""Figures of each model, as the stage `evaluate` writes them."""
HEADLINE = {"recall@20": "Recall@20", "mrr@20": "MRR@20", "ndcg@20": "NDCG@20"}
LISTS = ("coverage@20", "popularity@20")


def evaluated(models: Models) -> str:
    """All that the terminal shows of an evaluation; the rest stands in its file."""
    first = next(iter(models.values()))
    text = (
        f"In brackets: 95 % intervals, bootstrap over {count(first['clusters'])} users, or sessions where no user is known. "
        f"Coverage (share of the catalogue) and popularity (mean percentile of items by clicks) are of {count(first['lists'])} lists of 20."
    )
    return "\n\n".join([headline_table(models), text, _cutoff_table(models), _group_table(models)])


def headline_table(models: Models) -> str:
    """The main metrics with their intervals, one row per model."""
    header = ("model", *HEADLINE.values(), "mean rank", *LISTS, "predictions")
    rows = [
        (
            *(name, *(within(one[key], one["ci95"][key]) for key in HEADLINE), f"{one['mean_rank']:,.1f}"),
            *(metric(one[key]) for key in LISTS),
            count(one["predictions"]),
        )
        for name, one in models.items()
    ]
    return table(header, rows)


def _cutoff_table(models: Models) -> str:
    """Every metric at every cutoff, and what only some models have."""
    keys = dict.fromkeys(key for one in models.values() for key in one if isinstance(one[key], float))
    shown = [key for key in keys if key not in (*HEADLINE, *LISTS, "mean_rank")]
    return table(("metric", *models), [(key, *(metric(one.get(key)) for one in models.values())) for key in shown])


def _group_table(models: Models) -> str:
    """Recall@20 by part of the predictions."""
    groups = next(iter(models.values()))["groups"]
    rows = [
        (name.replace("_", " "), count(one["predictions"]), *(metric(model["groups"][name]["recall@20"]) for model in models.values()))
        for name, one in groups.items()
    ]
    return table(("Recall@20 of", "predictions", *models), rows)
