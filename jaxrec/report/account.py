"""The parts of the report about where the figures come from: data, environment, time, settings."""

import json
import shlex
from typing import Any

from jaxrec.report.results import LOGS
from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, join, significant

WITHOUT_DATASET = ("measure",)
"""Commands without the flag --dataset."""


def data(runs: Runs) -> Section | None:
    """Sizes of the three periods."""
    found = joined(runs, _data_table)
    return None if found is None else Section("Data", "A session belongs to the period in which it starts.", (found,))


def _data_table(summary: dict) -> Table | None:
    dataset = summary["dataset"]
    if dataset is None:
        return None
    columns = ("sessions", "events", "users")
    rows = [(name, *(count(one.get(key)) for key in columns), "") for name, one in dataset.get("periods", {}).items()]
    return Table(("period", *columns, "items"), [*rows, ("all", *(count(dataset[key]) for key in (*columns, "items")))])


def dropped(runs: Runs) -> Section | None:
    """What became of every row of the log."""
    found = joined(runs, _dropped_table)
    return None if found is None else Section("Rows of the log", "", (found,))


def _dropped_table(summary: dict) -> Table | None:
    dataset = summary["dataset"] or {}
    if "rows_read" not in dataset:
        return None
    rows = [("read", count(dataset["rows_read"]))]
    rows += [
        (f"dropped: {reason.replace('_', ' ')}", count(number)) for reason, number in dataset.get("rows_dropped", {}).items() if number
    ]
    rows.append(("kept as events", count(dataset["events"])))
    if "straddling_events" in dataset:
        rows.append(("of these in a session that runs over a cut", count(dataset["straddling_events"])))
    return Table(("rows", ""), rows)


def environment(runs: Runs) -> Section | None:
    """Versions and hardware of every stage."""
    return Section("Environment", "What each stage ran on, side by side where it was not the same.", (joined(runs, _environment_table),))


def _environment_table(summary: dict) -> Table:
    alike: dict[str, tuple[list[str], dict]] = {}
    for name, one in (summary["environment"]["stages"] or {"this report": summary["environment"]}).items():
        alike.setdefault(json.dumps([one["device"], one["cpu_count"], one["versions"]]), ([], one))[0].append(name)
    tables = {", ".join(names): Table(("part", ", ".join(names)), _parts(one)) for names, one in alike.values()}
    return join(tables, named=False)


def _parts(found: dict) -> list[tuple[str, str]]:
    rows = [("device", found["device"]), ("processors", str(found["cpu_count"]))]
    return rows + [(name, version or "not installed") for name, version in found["versions"].items()]


def seconds(runs: Runs) -> Section | None:
    """How long every stage took."""
    found = joined(runs, _seconds_table)
    return None if found is None else Section("Seconds of every stage", "", (found,))


def _seconds_table(summary: dict) -> Table:
    seconds = summary["environment"]["stage_seconds"]
    return Table(("stage", "seconds"), [(name, significant(value)) for name, value in seconds.items()])


def settings(runs: Runs) -> Section | None:
    """The command lines of the stages."""
    lines = [line for summary in runs.values() for line in commands(summary)]
    text = "Every setting that the stages recorded, defaults included. Log files are named without their folders."
    return Section("Settings", text, code="\n".join(lines)) if lines else None


def commands(summary: dict) -> list[str]:
    """The command line of every stage with all settings that it recorded, ready for a shell."""
    return [_command(name, {**_places(name, summary), **flat(settings)}) for name, settings in summary["settings"].items()]


def _command(name: str, flags: dict[str, Any]) -> str:
    found = [flag for key, value in flags.items() if (flag := _flag(key, value))]
    return " \\\n    ".join([f"python -m launch.{name}", *(shlex.quote(flag) for flag in found)])


def _places(name: str, summary: dict) -> dict[str, Any]:
    """What a command reads and writes; without a dataset where it was not found."""
    dataset = summary["dataset"] or {}
    folder = {"dataset": summary["dataset_folder"]} if dataset else {}
    if name == "prepare":
        return {**{flag: dataset[key] for flag, key in LOGS.items() if dataset.get(key)}, **folder}
    return {**({} if name in WITHOUT_DATASET else folder), "workdir": summary["workdir"]}


def flat(settings: dict) -> dict[str, Any]:
    """Settings without their grouping; names of options are unique over all stages.

    >>> flat({"model": {"units": 100}, "epochs": 5})
    {'units': 100, 'epochs': 5}
    """
    found = {}
    for key, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {key: value}
    return found


def _flag(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no{key}"
    return f"--{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
