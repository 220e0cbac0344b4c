"""Several runs in one table, and what was set differently."""

from pathlib import Path
from typing import Any

from jaxrec.report.account import flat
from jaxrec.report.summary import summarise
from jaxrec.report.tables import MISSING, count, interval, metric, share, significant, size, table
from jaxrec.stages.report import names

# (row, part of the summary, key or keys down to the figure, how it is shown)
ROWS = (
    ("whole test: predictions", "global", ("predictions",), count),
    ("whole test: global model, Recall@20", "global", ("recall@20",), metric),
    ("whole test: global model, MRR@20", "global", ("mrr@20",), metric),
    ("users: with a test prediction", "personal", ("users",), count),
    ("users: predictions", "personal", ("predictions",), count),
    ("users: before, Recall@20", "personal", ("before", "recall@20"), metric),
    ("users: fine-tuned, Recall@20", "personal", ("fine_tuned", "recall@20"), metric),
    ("users: after, Recall@20", "personal", ("after", "recall@20"), metric),
    ("users: gain in Recall@20, 95 % interval", "personal", ("gain_ci95", "recall@20"), interval),
    ("users: before, MRR@20", "personal", ("before", "mrr@20"), metric),
    ("users: fine-tuned, MRR@20", "personal", ("fine_tuned", "mrr@20"), metric),
    ("users: after, MRR@20", "personal", ("after", "mrr@20"), metric),
    ("users: gain in MRR@20, 95 % interval", "personal", ("gain_ci95", "mrr@20"), interval),
    ("users: better", "personal", ("users_better",), share),
    ("users: worse", "personal", ("users_worse",), share),
    ("users: fine-tuned per second", "personal", ("users_per_s",), significant),
    ("device: personal bytes per user", "personal", ("personal_bytes_per_user",), size),
    ("device: model file", "device", ("model_bytes",), size),
    ("device: recommend, median ms", "device", ("recommend_p50_ms",), significant),
    ("device: one training update, median ms", "device", ("train_p50_ms",), significant),
    ("device: peak memory, MB", "device", ("peak_rss_mb",), significant),
)


def compare(workdirs: list[Path], dataset: Path | None = None) -> str:
    """A table of the runs (accuracy, gain, bytes, milliseconds), with the settings that differ below.

    Raises:
      InputError: a workdir holds nothing to compare, or a file is not what its stage writes.
    """
    runs = {name: summarise(workdir, dataset) for name, workdir in names(workdirs).items()}
    rows = [(row, *(show(_figure(summary, part, keys)) for summary in runs.values())) for row, part, keys, show in ROWS]
    known = [row for row in rows if any(cell != MISSING for cell in row[1:])]
    return "\n\n".join([table(("", *runs), known), *_warnings(runs), *_differences(runs)])


def _figure(summary: dict[str, Any], part: str, keys: tuple[str, ...]) -> Any:
    value = summary[part]
    for key in keys:
        value = (value or {}).get(key)
    return value


def _warnings(runs: dict[str, dict]) -> list[str]:
    """Accuracies over different predictions must not be compared silently."""
    found = []
    for part, name in (("global", "the whole test"), ("personal", "the users")):
        predictions = {run: summary[part]["predictions"] for run, summary in runs.items() if summary[part] is not None}
        if len(set(predictions.values())) > 1:
            counts = ", ".join(f"{run} {count(number)}" for run, number in predictions.items())
            found.append(f"Not the same predictions over {name} ({counts}): accuracies do not compare.")
    return found


def _differences(runs: dict[str, dict]) -> list[str]:
    if len(runs) == 1:
        return []
    settings = {name: settings_of_run(summary) for name, summary in runs.items()}
    keys = dict.fromkeys(key for one in settings.values() for key in one)
    different = [key for key in keys if len({one.get(key, MISSING) for one in settings.values()}) > 1]
    if not different:
        return ["The runs have the same settings."]
    rows = [(key, *(one.get(key, MISSING) for one in settings.values())) for key in different]
    return ["Settings that differ:", table(("setting", *runs), rows)]


def settings_of_run(summary: dict) -> dict[str, str]:
    """What was set, as text, by stage and flag."""
    return {f"{stage} --{key}": str(value) for stage, settings in summary["settings"].items() for key, value in flat(settings).items()}
