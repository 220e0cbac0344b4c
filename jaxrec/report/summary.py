"""report.json: the figures of one run that every check and every table reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrec.device.delivery import delivery_bytes
from jaxrec.evaluation.groups import OWN_EVENTS, bin_label
from jaxrec.evaluation.intervals import intervals
from jaxrec.report.account import flat
from jaxrec.report.environment import environment
from jaxrec.report.results import ABOUT, DATASET, LOGS, Results, read_results

DATASET_EXTRAS = ("rows_read", "rows_dropped", "periods", "straddling_events", "test_sessions_before_training_end", "warnings")
DEVICE_KEYS = (
    *("model_bytes", "recommend_p50_ms", "recommend_p95_ms", "recommend_call_p50_ms", "step_p50_ms", "train_p50_ms"),
    *("recommend_max_abs_error", "train_max_abs_error", "peak_rss_mb", "threads"),
)
# Fewer users than this say nothing about the spread between users.
LEAST_USERS = 10


def summarise(workdir: Path, dataset_folder: Path | None = None) -> dict[str, Any]:
    """report.json of one run; the part of a stage that did not run is None.

    Raises:
      InputError: there is nothing to report, or a file is not what its stage writes; names the file.
    """
    return summary_of(read_results(workdir, dataset_folder))


def summary_of(results: Results) -> dict[str, Any]:
    """report.json of results that were read already."""
    return {
        "workdir": str(results.workdir),
        "dataset_folder": str(results.folder),
        "dataset": _dataset(results.dataset),
        "global": None if results.train is None else _without(results.train, *ABOUT),
        "candidates": _candidates(results),
        "evaluation": None if results.evaluation is None else results.evaluation["models"],
        "personal": _personal(results),
        "device": _device(results),
        "environment": {**_environment(results), "stage_seconds": _seconds(results)},
        "settings": _settings(results),
    }


def gain_by_own_events(users: pd.DataFrame) -> list[dict[str, Any]]:
    """Recall@20 before and after by how many events of their own the users have; bins without users are left out.

    Every prediction counts the same, so that the bins, weighted by their predictions, give the figures over all users.
    """
    bins = np.digitize(users["own_events"], OWN_EVENTS) - 1
    return [{"own_events": bin_label(OWN_EVENTS, number), **_bin(users[bins == number])} for number in sorted(set(bins.tolist()))]


def _bin(users: pd.DataFrame) -> dict[str, Any]:
    weight = users["predictions"].to_numpy(dtype=float)
    mean = {name: float(np.average(users[f"{name}_recall@20"], weights=weight)) for name in ("before", "fine_tuned", "after")}
    return {
        "users": len(users),
        "predictions": int(weight.sum()),
        **{name: {"recall@20": value} for name, value in mean.items()},
        "gain_recall@20": mean["after"] - mean["before"],
        "gain_ci95_recall@20": _interval(users),
    }


def _interval(users: pd.DataFrame) -> list[float] | None:
    """95 % interval of a bin's gain, resampling its users; None for a handful of users."""
    if len(users) < LEAST_USERS:
        return None
    weight = users["predictions"].to_numpy(dtype=float)
    before, after = (users[f"{name}_recall@20"].to_numpy(dtype=float) * weight for name in ("before", "after"))
    return intervals((after - before)[:, np.newaxis], weight)[0].tolist()


def _dataset(manifest: dict | None) -> dict | None:
    if manifest is None:
        return None
    logs = {key: [one["name"] for one in manifest[key]] for key in LOGS.values() if manifest.get(key)}
    return {key: manifest[key] for key in (*DATASET, *DATASET_EXTRAS) if key in manifest} | logs


def _candidates(results: Results) -> dict | None:
    """What they are worth and, where a model says how long rows are, what they weigh."""
    if results.candidates is None:
        return None
    found = _without(results.candidates, *ABOUT)
    dim = flat((results.train or {}).get("settings", {})).get("embedding_dim")
    if dim is None or results.dataset is None:
        return found
    whole = {} if results.device is None else {"model": results.device["model_bytes"]}
    return {**found, "bytes": delivery_bytes(results.dataset["items"], dim, found["lists"]) | whole}


def _personal(results: Results) -> dict | None:
    if results.personal is None:
        return None
    return {**results.personal, "gain_by_own_events": gain_by_own_events(results.users)}


def _device(results: Results) -> dict | None:
    """What is promised, None where it was not measured, and whatever else was."""
    if results.device is None:
        return None
    promised = {key: results.device.get(key) for key in DEVICE_KEYS}
    return promised | _without(results.measurement or {}, *ABOUT)


def _runs(results: Results) -> dict[str, dict]:
    """What each command wrote, by the command's name, in the order in which they run."""
    runs = {
        "prepare": results.dataset,
        "train": results.train,
        "candidates": results.candidates,
        "personalize": results.personal_run,
        "evaluate": results.evaluation,
        "export": results.export,
        "measure": results.measurement,
    }
    return {name: run for name, run in runs.items() if run is not None}


def _environment(results: Results) -> dict[str, Any]:
    """What the first stage that says so ran on, and under "stages" what each did; where none says so, what this process runs on."""
    stages = {name: run["environment"] for name, run in _runs(results).items() if "environment" in run}
    return {**next(iter(stages.values()), environment()), "stages": stages}


def _seconds(results: Results) -> dict[str, float]:
    return {name: run["seconds"] for name, run in _runs(results).items() if "seconds" in run}


def _settings(results: Results) -> dict[str, dict]:
    found = {name: run.get("settings", run.get("options")) for name, run in _runs(results).items()}
    return {name: settings for name, settings in found.items() if settings}


def _without(value: dict, *keys: str) -> dict:
    return {key: one for key, one in value.items() if key not in keys}
