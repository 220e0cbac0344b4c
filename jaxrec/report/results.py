"""What the stages of one run left under its workdir, read and checked; a stage that did not run is None.

Every value that is not None can be trusted: the keys that the report needs are there, and every number is finite.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from jaxrec.data.own_history import FEATURES
from jaxrec.data.storage import fingerprint
from jaxrec.errors import InputError
from jaxrec.files import read_json, sha256

# The keys that the report needs: a number or another value in words, an object with such keys ("*" stands for every key that is there), or
# a list of such objects.
NUMBER, FLAG, TEXT, LIMITS, WEIGHTS = "a number", "true or false", "a text", "two numbers", f"{len(FEATURES)} numbers"
METRICS = {"recall@20": NUMBER, "mrr@20": NUMBER}
DATASET = {"events": NUMBER, "sessions": NUMBER, "users": NUMBER, "items": NUMBER}
TRAIN = {**METRICS, "predictions": NUMBER, "train_events_per_s": NUMBER, "train_seconds": NUMBER}
EVALUATION = {"*": {"*": NUMBER, "ci95": {"*": LIMITS}, "groups": {"*": {"*": NUMBER}}}}
ABOUT = ("seconds", "settings", "inputs", "environment")  # what every stage writes beside its figures
ENVIRONMENT = {"versions": {}, "device": TEXT, "cpu_count": NUMBER}  # older results do without
LOGS = {"input": "inputs", "test_input": "test_inputs"}
"""Flags of `prepare` that name log files, and where the manifest tells of them."""
INTERVALS = {"recall@20": LIMITS, "mrr@20": LIMITS}
GAIN = {
    **dict.fromkeys(("users", "predictions", "users_better", "users_same", "users_worse"), NUMBER),
    **dict.fromkeys(("before", "before_with_history", "fine_tuned", "fine_tuned_with_history", "after"), METRICS),
    **dict.fromkeys(("gain_ci95", "fine_tuned_gain_ci95"), INTERVALS),
}
PERSONAL = {
    **GAIN,
    **{"old_users": GAIN, "new_users": GAIN, "baselines": {"*": {"*": NUMBER}}},
    **dict.fromkeys(("users_trained", "users_per_s", "users_fallback", "personal_bytes_per_user", "learning_rate", "epochs"), NUMBER),
    **{"fine_tuned_is_used": FLAG, "history": WEIGHTS},
    "trials": [dict.fromkeys(("learning_rate", "epochs", "fall_of_loss", "error"), NUMBER)],
    "planning": dict.fromkeys(("shapes", "users", "steps_read", "steps", "padding"), NUMBER),
}
CANDIDATES = {
    **{"users": NUMBER, "users_with_history": NUMBER, "lists": [NUMBER], "predictions": {"*": NUMBER}},
    **{"recall": {"*": {"*": {"*": NUMBER}}}, "own_beyond": {"*": NUMBER}},
}
DEVICE = {"model_bytes": NUMBER}
RESULT_COLUMNS = ("fine_tuned_recall@20", "before_recall@20", "after_recall@20")
USER_COLUMNS = ("user", "own_events", "predictions", "trained", "fallback", *RESULT_COLUMNS)


@dataclasses.dataclass(frozen=True)
class Results:
    """One run, stage by stage.

    Attributes:
      workdir: where the run lies.
      folder: where its dataset lies.
      dataset: the dataset's manifest.
      train: figures of the global model over the whole test.
      history: what training logged, one object per line, in order; empty where there is no log.
      candidates: their recall, and how many there are.
      evaluation: figures of other models over the whole test.
      personal: figures over the users with a test prediction; None also for a log without users.
      users: one row for each of those users.
      personal_run: what the personal stage wrote apart from `personal`: its seconds and settings.
      device: what export and measurement found, together.
      export, measurement: what each of the two wrote.
    """

    workdir: Path
    folder: Path
    dataset: dict | None
    train: dict | None
    history: list[dict]
    candidates: dict | None
    evaluation: dict | None
    personal: dict | None
    users: pd.DataFrame | None
    personal_run: dict | None
    device: dict | None
    export: dict | None
    measurement: dict | None


def read_results(workdir: Path, dataset_folder: Path | None = None) -> Results:
    """Read every stage's files; the dataset lies in `workdir`/dataset unless another folder is given.

    Raises:
      InputError: there is nothing to report, or a file is truncated, lacks a key or holds a number that is not finite; names the file.
    """
    if not workdir.is_dir():
        raise InputError(f"{workdir}: expected the workdir of a run; there is no such folder")
    export = _stage(workdir / "device" / "manifest.json", "device manifest", {})
    measurement = _stage(workdir / "device" / "measurement.json", "device measurement", {})
    train = _stage(workdir / "train" / "metrics.json", "result of training", TRAIN)
    candidates = _stage(workdir / "candidates" / "metrics.json", "result of `candidates`", CANDIDATES)
    evaluation = _evaluation(workdir / "evaluation" / "metrics.json")
    personal_run, personal, users = _personal(workdir / "personal")
    folder = dataset_folder or workdir / "dataset"
    dataset = _stage(folder / "manifest.json", "dataset manifest", DATASET)
    if dataset is None and dataset_folder is not None:
        raise InputError(f"{folder / 'manifest.json'}: expected a dataset manifest; there is no such file")
    if all(found is None for found in (dataset, train, candidates, evaluation, personal_run, export, measurement)):
        raise InputError(f"{workdir}: expected results of train, candidates, evaluate, personalize, export or measure; found none")
    stages = {"train": train, "candidates": candidates, "personal": personal_run, "evaluation": evaluation}
    _check_chain(workdir, dataset, stages | {"export": export, "measurement": measurement})
    history = [] if train is None else read_history(workdir / "train" / "metrics.jsonl")
    device = _device(workdir / "device" / "manifest.json", export, measurement)
    return Results(
        workdir, folder, dataset, train, history, candidates, evaluation, personal, users, personal_run, device, export, measurement
    )


def read_history(path: Path) -> list[dict]:
    """The lines of a training log as objects, in order; none where there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_users(path: Path, expected: int) -> pd.DataFrame:
    """The users with at least one test prediction, which must be `expected` many."""
    if not path.exists():
        raise InputError(f"{path}: expected one row per user; there is no such file")
    try:
        users = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: expected a parquet file with one row per user; got something else ({error})") from None
    missing = [name for name in USER_COLUMNS if name not in users.columns]
    if missing:
        raise InputError(f"{path}: expected a column {missing[0]!r}; got {', '.join(map(str, users.columns))}")
    users = users[users["predictions"] > 0].reset_index(drop=True)
    for name in RESULT_COLUMNS:
        if not np.isfinite(users[name].to_numpy(dtype=float)).all():
            raise InputError(f"{path}: expected finite numbers in column {name!r}; got NaN or infinity")
    if len(users) != expected:
        raise InputError(f"{path}: expected {expected} users with a test prediction, as metrics.json counts; got {len(users)}")
    return users


def _personal(folder: Path) -> tuple[dict | None, dict | None, pd.DataFrame | None]:
    path = folder / "metrics.json"
    found = _stage(path, "result of personalisation", {})
    if found is None or found.get("personal", found) is None:
        return found, None, None
    _check(path, found, PERSONAL)
    values = {key: value for key, value in found.items() if key not in ABOUT}
    return found, values, read_users(folder / "users.parquet", found["users"])


def _evaluation(path: Path) -> dict | None:
    """{"models": figures by model, and what the stage wrote beside them}."""
    found = _stage(path, "result of evaluation", {})
    if found is None:
        return None
    models = {name: value for name, value in found.items() if name not in ABOUT}
    _check(path, models, EVALUATION)
    return {"models": models} | {name: found[name] for name in ABOUT if name in found}


def _check_chain(workdir: Path, dataset: dict | None, found: dict[str, dict | None]) -> None:
    """Refuse results of stages that did not work on each other: one of them was done again and the other was not."""
    train, export = found["train"] or {}, found["export"] or {}
    files = {"trained model": "train", "personal models": "personal", "candidates": "candidates"}
    made = {  # by the names that stages give their inputs: what tells one from another
        "dataset": fingerprint(dataset) if dataset and "checksums" in dataset else None,
        "global model": train.get("fingerprint"),
        "model": train.get("fingerprint"),
        "exported model": export.get("sha256"),
        **{name: sha256(workdir / folder / "metrics.json") for name, folder in files.items() if found[folder] is not None},
    }
    for stage, result in found.items():
        for name, used in ((result or {}).get("inputs") or {}).items():
            if made.get(name) not in (None, used):
                expected = f"expected results of {stage} that belong to the {name} there"
                raise InputError(f"{workdir}: {expected}; they are of an earlier one, run it again with --overwrite")


def _device(path: Path, export: dict | None, measurement: dict | None) -> dict | None:
    if export is None and measurement is None:
        return None
    both = (export or {}) | (measurement or {})
    _check(path, both, DEVICE)
    return both


def _stage(path: Path, what: str, keys: dict[str, Any]) -> dict | None:
    if not path.exists():
        return None
    value = read_json(path, what)
    _check_finite(path, value)
    _check(path, value, keys | ({"environment": ENVIRONMENT} if "environment" in value else {}))
    return value


def _line(path: Path, number: int, line: str) -> dict:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {number}: expected a JSON object; got {line[:60]!r} ({error})") from None
    if not isinstance(value, dict) or "updates" not in value:
        raise InputError(f"{path}, line {number}: expected a JSON object with 'updates'; got {line[:60]!r}")
    _check_finite(f"{path}, line {number}", value)
    return value


def _check(path: Path, value: Any, expected: Any, name: str = "the whole file") -> None:
    """Refuse a value that is not what is expected under `name`, or lacks one of the expected keys."""
    if not _fits(value, expected):
        wanted = expected if isinstance(expected, str) else "a list" if isinstance(expected, list) else "an object"
        raise InputError(f"{path}: expected {wanted} as {name}; got {json.dumps(value)[:60]}")
    if isinstance(expected, str):
        return
    if isinstance(expected, list):
        for number, one in enumerate(value):
            _check(path, one, expected[0], f"{name}[{number}]")
        return
    for key in value if "*" in expected else expected:
        if key not in value:
            raise InputError(f"{path}: expected the key {key!r} in {name}; got only {', '.join(value) or 'an empty object'}")
        _check(path, value[key], expected.get(key, expected.get("*")), repr(key))


def _fits(value: Any, expected: Any) -> bool:
    if expected == NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected in (FLAG, TEXT):
        return isinstance(value, bool if expected == FLAG else str)
    if expected in (LIMITS, WEIGHTS):
        length = 2 if expected == LIMITS else len(FEATURES)
        return isinstance(value, list) and len(value) == length and all(_fits(one, NUMBER) for one in value)
    return isinstance(value, type(expected))


def _check_finite(place: Path | str, value: Any) -> None:
    for name, number in _numbers(value):
        if not math.isfinite(number):
            raise InputError(f"{place}: expected finite numbers; got {number} at {name!r}")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(one, f"{name}.{key}" if name else str(key))
