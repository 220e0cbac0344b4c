"""The parts of the report about the global model and the device."""

from functools import partial

from jaxrec.report.device_tables import beside_published, operations, overview, timings
from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, metric, significant

CUTOFFS = tuple(f"{name}@{k}" for name in ("recall", "mrr") for k in (1, 5, 10, 20))


def test_period(runs: Runs) -> Section | None:
    """The global model beside the baselines, at every cutoff."""
    found = joined(runs, _test_table)
    if found is None:
        return None
    text = (
        "Every model ranks the whole catalogue after every event of every test session; within candidates, where a row says so, any other "
        "target is a miss."
    )
    return Section("The whole test period", text, (found,))


def _test_table(summary: dict) -> Table | None:
    within = summary["settings"].get("evaluate", {}).get("rank_within") == "candidates"
    models = {f"{name}, within candidates" if within else name: one for name, one in (summary["evaluation"] or {}).items()}
    if summary["global"] is not None:
        models = {"global": summary["global"]} | {name: figures for name, figures in models.items() if name != "global"}
    keys = [key for key in CUTOFFS if any(key in figures for figures in models.values())]
    names = [key.replace("recall", "Recall").replace("mrr", "MRR") for key in keys]
    rows = [(name, *(metric(one.get(key)) for key in keys), count(one.get("predictions"))) for name, one in models.items()]
    return Table(("model", *names, "predictions"), rows)


def training(runs: Runs) -> Section | None:
    """How the global model was trained."""
    found = joined(runs, _training_table)
    return None if found is None else Section("Training of the global model", "", (found,), figures=("training_loss", "validation_recall"))


def _training_table(summary: dict) -> Table | None:
    figures = summary["global"]
    if figures is None:
        return None
    rows = [("events per second", significant(figures["train_events_per_s"])), ("seconds", significant(figures["train_seconds"]))]
    return Table(("training", ""), [(key, count(figures[key])) for key in ("epochs", "updates") if key in figures] + rows)


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
