"""The parts of the report about what came out: accuracy, users, training, the device."""

from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, interval, metric, share, signed, significant, size

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


def models(runs: Runs) -> Section | None:
    """Global, fine-tuned and shipped model beside the baselines, over the same predictions."""
    found = joined(runs, _models_table)
    if found is None:
        return None
    text = (
        "Every row answers the same predictions: all of the test period of every user who has one. The shipped model is the "
        "personal parameters, or the global ones where they did not help, with the history prior where that helps. "
        "Intervals are a bootstrap over users."
    )
    tables = (found, *filter(None, [joined(runs, _interval_table)]))
    return Section("Personal models against the global one", text, tables)


def _models_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    models = {"global model alone": personal["before"], "fine-tuned, no prior": personal["fine_tuned"], "as shipped": personal["after"]}
    models |= {f"baseline: {name}": figures for name, figures in personal["baselines"].items()}
    attainable = personal.get("attainable") or {}
    models |= {
        f"attainable: {key[5:].replace('_', ' ')}": attainable[key] for key in ("best_without_user", "best_with_user") if key in attainable
    }
    before = personal["before"]["recall@20"]
    return Table(("model", "Recall@20", "MRR@20", "Recall@20 gained"), [_model_row(name, one, before) for name, one in models.items()])


def _model_row(name: str, figures: dict, before: float) -> tuple[str, ...]:
    recall = figures.get("recall@20")
    gain = "" if name == "global model alone" else signed(None if recall is None else recall - before)
    return name, metric(recall), metric(figures.get("mrr@20")), gain


def _interval_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    rows = []
    for key, name in (("recall@20", "Recall@20"), ("mrr@20", "MRR@20")):
        gain = personal["after"][key] - personal["before"][key]
        rows.append((name, signed(gain), interval(personal["gain_ci95"].get(key))))
    return Table(("gain as shipped", "mean", "95 % interval"), rows)


def users(runs: Runs) -> Section | None:
    """How many users are better, the same or worse off."""
    found = joined(runs, _users_table)
    if found is None:
        return None
    text = "Better, same and worse by each user's own Recall@20, each user counted once; who has no own events counts as same."
    return Section("Users", text, (found,), figures=("gain_histogram",))


def _users_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    rows = [
        ("users with a test prediction", count(personal["users"])),
        ("their predictions", count(personal["predictions"])),
        ("fine-tuned", count(personal["users_trained"])),
        ("fine-tuned per second", significant(personal["users_per_s"])),
        ("personal bytes per user", size(personal["personal_bytes_per_user"])),
    ]
    shares = (
        ("users_better", "better"),
        ("users_same", "same"),
        ("users_worse", "worse"),
        ("users_fallback", "fell back to the global model"),
    )
    return Table(("users", ""), rows + [(name, share(personal[key])) for key, name in shares])


def own_events(runs: Runs) -> Section | None:
    """The gain by how much the device knows about its user."""
    found = joined(runs, _own_events_table)
    if found is None:
        return None
    text = "Recall@20 by how many events of their own the users' devices hold before the test; every prediction counts the same."
    return Section("Gain by number of own events", text, (found,), figures=("gain_by_own_events",))


def _own_events_table(summary: dict) -> Table | None:
    if summary["personal"] is None:
        return None
    header = ("own events", "users", "predictions", "global", "as shipped", "gain", "95 % interval")
    return Table(header, [_bin_row(one) for one in summary["personal"]["gain_by_own_events"]])


def _bin_row(one: dict) -> tuple[str, ...]:
    recalls = metric(one["before"]["recall@20"]), metric(one["after"]["recall@20"])
    limits = interval(one["gain_ci95_recall@20"])
    return one["own_events"], count(one["users"]), count(one["predictions"]), *recalls, signed(one["gain_recall@20"]), limits


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
