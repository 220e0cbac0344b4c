"""Models that were evaluated, side by side: figures with their intervals, every cutoff, and parts of the predictions."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxrec.report.tables import MISSING, Table, as_text, count, metric, significant, within

Models = Mapping[str, Mapping[str, Any]]
"""Figures of each model, as the stage `evaluate` writes them; older ones lack intervals, groups and lists."""
HEADLINE = {"recall@20": "Recall@20", "mrr@20": "MRR@20", "ndcg@20": "NDCG@20"}
BRIEF = ("recall@20", "mrr@20")
"""Metrics of each of several runs."""
LISTS = ("coverage@20", "popularity@20")
AT_ONE = ("mrr@1", "ndcg@1")
"""The same as Recall@1."""


def evaluated(models: Models) -> str:
    """All that the terminal shows of an evaluation; the rest stands in its file."""
    tables = (cutoff_table(models), group_table(models))
    return "\n\n".join([as_text(headline_table(models)), reading(models), *(as_text(one) for one in tables if one.rows)])


def by_recall(models: Models) -> Models:
    """The same, the highest Recall@20 first."""
    return {name: models[name] for name in order([models])}


def order(evaluations: Iterable[Models]) -> list[str]:
    """Names of the models of several runs, the highest Recall@20 in any of them first.

    >>> order([{"a": {"recall@20": 0.2}, "b": {"recall@20": 0.3}}, {"a": {"recall@20": 0.4}, "c": {}}])
    ['a', 'b', 'c']
    """
    best: dict[str, float] = {}
    for name, one in (pair for models in evaluations for pair in models.items()):
        best[name] = max(best.get(name, 0.0), one.get("recall@20", 0.0))
    return sorted(best, key=lambda name: -best[name])


def reading(models: Models, brief: bool = False) -> str:
    """How to read the main metrics; empty where they stand without intervals."""
    known = [one for one in models.values() if "ci95" in one]
    if not known:
        return ""
    clusters, lists = (count(known[0].get(key)) for key in ("clusters", "lists"))
    text = f"In brackets: 95 % intervals, bootstrap over {clusters} users, or sessions where no user is known."
    if brief:
        return text
    return f"{text} Coverage (share of the catalogue) and popularity (mean percentile of items by clicks) are of {lists} lists of 20."


def headline_table(models: Models, brief: bool = False) -> Table:
    """The main metrics with their intervals, one row per model; what no model has is left out."""

    def column(key: str, show: Any) -> list[str]:
        return [show(one.get(key)) for one in models.values()]

    columns = {
        HEADLINE[key]: [within(one.get(key), one.get("ci95", {}).get(key)) for one in models.values()]
        for key in (BRIEF if brief else HEADLINE)
    }
    if not brief:
        columns |= {"mean rank": column("mean_rank", significant), **{key: column(key, metric) for key in LISTS}}
        columns["predictions"] = column("predictions", count)
    shown = {name: cells for name, cells in columns.items() if set(cells) != {MISSING}}
    return Table(("model", *shown), list(zip(models, *shown.values(), strict=True)))


def cutoff_table(models: Models) -> Table:
    """Every metric at every cutoff, and what only some models have."""
    keys = dict.fromkeys(key for one in models.values() for key in one if isinstance(one[key], float))
    shown = [key for key in keys if key not in (*HEADLINE, *LISTS, *AT_ONE, "mean_rank")]
    return Table(("metric", *models), [(_label(key), *(metric(one.get(key)) for one in models.values())) for key in shown])


def group_table(models: Models) -> Table:
    """Recall@20 by part of the predictions; without rows where no model was measured by parts."""
    groups = {name: one for model in models.values() for name, one in model.get("groups", {}).items()}
    rows = [
        (_label(name), count(one.get("predictions")), *(metric(_recall_of(model, name)) for model in models.values()))
        for name, one in groups.items()
    ]
    return Table(("Recall@20 of", "predictions", *models), rows)


def _recall_of(model: Mapping[str, Any], group: str) -> float | None:
    return model.get("groups", {}).get(group, {}).get("recall@20")


def _label(key: str) -> str:
    """What a metric or a group is called in a table."""
    return key.replace("recall", "Recall").replace("mrr", "MRR").replace("ndcg", "NDCG").replace("_", " ")
