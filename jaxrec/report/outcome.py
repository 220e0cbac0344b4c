"""The parts of the report about the global model and the device."""

from functools import partial
from typing import Any

from jaxrec.report.device_tables import beside_published, operations, overview, timings
from jaxrec.report.models import Models, by_recall, cutoff_table, group_table, headline_table, order, reading
from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, significant


def test_period(runs: Runs) -> Section | None:
    """Every evaluated model over the whole test: the main metrics with intervals, every cutoff, parts of the predictions."""
    brief = len(runs) > 1
    builders = (partial(headline_table, brief=brief), cutoff_table, group_table)
    found = [joined(runs, lambda summary, build=build: build(ranked(summary))) for build in builders]
    if found[0] is None:
        return None
    names = order(map(ranked, runs.values()))
    found[0].rows.sort(key=lambda row: names.index(row[0]))
    texts = (
        "Every model ranks the whole catalogue after every event of every test session.",
        "Within candidates, where a row says so, any other target is a miss." if any(map(_within, runs.values())) else "",
        "The model called personal is what devices ship." if "personal" in names else "",
        *(reading(ranked(one), brief) for one in runs.values()),
    )
    tables = tuple(one for one in found if one is not None)
    return Section("The whole test period", " ".join(dict.fromkeys(filter(None, texts))), tables, figures=("models_recall", "models_mrr"))


def ranked(summary: dict[str, Any]) -> Models:
    """Figures over the whole test of every model that has them, the highest Recall@20 first; the global model's own where no other are."""
    trained = {} if summary["global"] is None else {"global": {key: summary["global"][key] for key in summary["global"] if _is_figure(key)}}
    within = ", within candidates" if _within(summary) else ""
    return by_recall(trained | {f"{name}{within}": one for name, one in (summary["evaluation"] or {}).items()})


def _within(summary: dict[str, Any]) -> bool:
    return summary["settings"].get("evaluate", {}).get("rank_within") == "candidates"


def _is_figure(key: str) -> bool:
    """Whether a key of a training result is about accuracy, not about the training."""
    return "@" in key or key in ("mean_rank", "predictions")


def training(runs: Runs) -> Section | None:
    """How the global model was trained."""
    found = joined(runs, _training_table)
    return None if found is None else Section("Training of the global model", "", (found,), figures=("training_loss", "validation_recall"))


def _training_table(summary: dict) -> Table | None:
    figures = summary["global"]
    if figures is None:
        return None
    counted = [(key, count(figures[key])) for key in ("epochs", "updates") if key in figures]
    named = [(key, figures[key]) for key in ("loss", "schedule") if key in figures]
    rows = [("events per second", significant(figures["train_events_per_s"])), ("seconds", significant(figures["train_seconds"]))]
    return Table(("training", ""), [*named, *counted, *rows])


def device(runs: Runs) -> Section | None:
    """Bytes, milliseconds, memory and operations on the device, beside published figures."""
    devices = {name: summary["device"] for name, summary in runs.items() if summary["device"] is not None}
    if not devices:
        return None
    brief = len(runs) > 1
    builders = (overview, partial(timings, brief=brief), partial(operations, brief=brief))
    found = [joined(runs, lambda summary, build=build: summary["device"] and build(summary["device"])) for build in builders]
    text = (
        "Warm; milliseconds are of the invocation with its inputs set, each number of threads in a process of its own; memory is beyond "
        "that of a bare process. A candidate weighs its index, bias and item row, the row at the file's precision. Multiply-adds are of "
        "matrix products. The last table stands beside figures that others published: other models, machines and loads, not measured here, "
        "so only the order of magnitude compares."
    )
    tables = (*(one for one in found if one is not None), beside_published(devices))
    return Section("On the device", text, tables, figures=("device_times", "device_bytes"))
