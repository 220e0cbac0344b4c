"""The parts of the report about the global model and the device."""

from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, metric, significant, size

CUTOFFS = tuple(f"{name}@{k}" for name in ("recall", "mrr") for k in (1, 5, 10, 20))
# TensorFlow.js in Chrome on a laptop, as published (Journal of Computer Applications 2022).
BROWSER = {"train_p50_ms": 53_000.0, "peak_rss_mb": 1_030.6}
DEVICE_ROWS = (
    ("model file", "model_bytes", size),
    ("recommend, median", "recommend_p50_ms", lambda value: f"{significant(value)} ms"),
    ("recommend, 95th percentile", "recommend_p95_ms", lambda value: f"{significant(value)} ms"),
    ("recommend, median of the whole Python call", "recommend_call_p50_ms", lambda value: f"{significant(value)} ms"),
    ("one click, median", "step_p50_ms", lambda value: f"{significant(value)} ms"),
    ("one training update, median", "train_p50_ms", lambda value: f"{significant(value)} ms"),
    ("peak memory", "peak_rss_mb", lambda value: f"{value:,.1f} MB"),
    ("largest error of recommend against JAX", "recommend_max_abs_error", significant),
    ("largest error of train against JAX", "train_max_abs_error", significant),
    ("threads", "threads", count),
)


def test_period(runs: Runs) -> Section | None:
    """The global model beside the baselines, at every cutoff."""
    found = joined(runs, _test_table)
    if found is None:
        return None
    return Section("The whole test period", "Every model ranks the whole catalogue after every event of every test session.", (found,))


def _test_table(summary: dict) -> Table | None:
    models = dict(summary["evaluation"] or {})
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
    """Bytes, milliseconds and memory on the device, beside the published browser system."""
    if all(summary["device"] is None for summary in runs.values()):
        return None
    tables = {name: _device_table(summary["device"], "jaxrec") for name, summary in runs.items() if summary["device"] is not None}
    if len(runs) > 1:
        tables = {name: Table(("", name), one.rows) for name, one in tables.items()}
    published = _device_table(BROWSER, "browser system, published")
    columns = [dict(one.rows) for one in (*tables.values(), published)]
    header = ("", *(one.header[1] for one in (*tables.values(), published)))
    rows = [(name, *(column[name] for column in columns)) for name, _, _ in DEVICE_ROWS]
    text = (
        "One thread, warm; milliseconds are of the invocation with its inputs set, memory is beyond that of a bare process. Beside it "
        "the published figures of a system that trains in a browser on a laptop, 53 seconds for one update: another model, machine and "
        "load, so only the order of magnitude compares."
    )
    return Section("On the device", text, (Table(header, rows),))


def _device_table(figures: dict, column: str) -> Table:
    return Table(("", column), [(name, "–" if figures.get(key) is None else show(figures[key])) for name, key, show in DEVICE_ROWS])
