"""Published log formats; each is read into `Events`.

A format is recognised from the first line of a file, or named by `--format`.
"""

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jaxrec.data.events import Events, codes_of
from jaxrec.data.text_files import TextLayout, first_lines, guess_unit, read_text
from jaxrec.errors import InputError
from jaxrec.options import Options, option

# Names that a csv file may use where none is given; the first that it has is taken.
CSV_NAMES = {
    "user": ("user_id", "userId", "UserId", "user", "visitor_id"),
    "session": ("session_id", "sessionId", "SessionId", "session"),
    "item": ("item_id", "itemId", "ItemId", "item", "product_id"),
    "time": ("timestamp", "time", "Time", "event_time", "datetime"),
}
_BEHAVIORS = "pv|buy|cart|fav"
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


@dataclasses.dataclass(frozen=True)
class ColumnOptions(Options):
    """Which columns of a csv hold what."""

    user_column: str | None = option(None, "csv: name of the user column (default: the first usual name found)")
    session_column: str | None = option(None, "csv: name of the session column (default: the first usual name found)")
    item_column: str | None = option(None, "csv: name of the item column (default: the first usual name found)")
    time_column: str | None = option(None, "csv: name of the time column (default: the first usual name found)")
    time_unit: str = option(
        "auto", "csv: unit of the time column; auto: by the first time", choices=("auto", "s", "ms", "us", "ns", "iso8601")
    )
    separator: str = option("auto", "csv: one character, or tab; auto: the most frequent of tab, comma and semicolon in the first line")


class Log(NamedTuple):
    """A log that was read: its events, the name of its format, and which of its columns is what (with the unit of its times)."""

    events: Events
    format: str
    columns: dict[str, str]


def read_log(paths: list[Path], format: str, item_field: str, columns: ColumnOptions) -> Log:
    """Read the files of one log, one after the other.

    Args:
      paths: files of the same format.
      format: a name in `FORMATS`, or "auto".
      item_field: "item" or "category": what is recommended.
      columns: names of a csv's columns.

    Raises:
      InputError: a file is missing, empty, binary, of another format, or has a faulty line.
    """
    if not paths:
        raise InputError("--input: expected at least one log file; got none")
    format = recognise(paths[0], columns) if format == "auto" else format
    tables, layouts = zip(*(FORMATS[format](path, item_field, columns) for path in paths), strict=True)
    found = [{**layout.roles, "time_unit": layout.time_unit} for layout in layouts]
    for path, other in zip(paths, found, strict=True):
        if other != found[0]:
            raise InputError(f"{path}: expected the columns of {paths[0]} ({found[0]}); got {other}")
    return Log(_events(pa.concat_tables(tables)), format, found[0])


def _events(table: pa.Table) -> Events:
    coded = {role: codes_of(table.column(role)) for role in table.column_names if role != "time"}
    users, user_names = coded.get("user", (None, None))
    behaviors, behavior_names = coded.get("behavior", (None, None))
    sessions, _ = coded.get("session", (None, None))
    items, item_names = coded["item"]
    return Events(
        items, np.asarray(table.column("time").combine_chunks()), item_names, users, user_names, sessions, behaviors, behavior_names
    )


def recognise(path: Path, columns: ColumnOptions) -> str:
    """The format of a file, from its first line."""
    line = first_lines(path)[0]
    for format, fits in RECOGNISERS.items():
        if fits(line, columns):
            return format
    known = ", ".join(FORMATS)
    raise InputError(
        f"{path}: expected the first line of a known format ({known}); got {line[:80]!r}; --format and --item_column etc. name it"
    )


def _read_userbehavior(path: Path, item_field: str, columns: ColumnOptions) -> tuple[pa.Table, TextLayout]:
    """Alibaba UserBehavior: no header; user, item, category, behaviour, unix seconds."""
    names = ("user", "item", "category", "behavior", "timestamp")
    roles = {"user": "user", "item": item_field, "behavior": "behavior", "time": "timestamp"}
    layout = TextLayout("userbehavior", names, roles)
    return read_text(path, layout), layout


def _read_gru4rec(path: Path, item_field: str, columns: ColumnOptions) -> tuple[pa.Table, TextLayout]:
    """GRU4Rec's preprocessed files: tab-separated with a header; Time in unix seconds, maybe with a fraction."""
    _refuse_category("gru4rec", item_field)
    names = _header(path, "\t")
    roles = {"session": "SessionId", "item": "ItemId", "time": "Time"}
    _require(path, "gru4rec", roles.values(), names)
    layout = TextLayout("gru4rec", names, roles, separator="\t", header=True, quotes=True)
    return read_text(path, layout), layout


def _read_csv(path: Path, item_field: str, columns: ColumnOptions) -> tuple[pa.Table, TextLayout]:
    """Any file with a header; its columns are named by the options or by their usual names."""
    _refuse_category("csv", item_field)
    separator = _separator(first_lines(path)[0], columns.separator)
    names = _header(path, separator)
    given = {role: getattr(columns, f"{role}_column") for role in CSV_NAMES}
    _require(path, "csv", [name for name in given.values() if name], names)
    roles = _csv_roles(names, columns)
    missing = [f"--{role}_column" for role in ("item", "time") if role not in roles]
    missing += [] if {"user", "session"} & roles.keys() else ["--user_column or --session_column"]
    if missing:
        raise InputError(f"{path}: expected a header line with the columns of {', '.join(missing)}; found the columns {', '.join(names)}")
    layout = TextLayout("csv", names, roles, separator, header=True, quotes=True)
    layout = dataclasses.replace(layout, time_unit=_time_unit(path, layout, columns))
    return read_text(path, layout), layout


def _csv_roles(names: tuple[str, ...], columns: ColumnOptions) -> dict[str, str]:
    roles = {}
    for role, usual in CSV_NAMES.items():
        given = getattr(columns, f"{role}_column")
        found = [name for name in ((given,) if given else usual) if name in names]
        roles |= {role: found[0]} if found else {}
    return roles


def _time_unit(path: Path, layout: TextLayout, columns: ColumnOptions) -> str:
    if columns.time_unit != "auto":
        return columns.time_unit
    second = first_lines(path)[1:]
    values = next(csv.reader(second, delimiter=layout.separator), [])
    position = layout.names.index(layout.roles["time"])
    return guess_unit(values[position]) if position < len(values) else "s"


def _separator(line: str, given: str) -> str:
    if given == "auto":
        return max("\t,;", key=line.count)
    separator = _SEPARATORS.get(given, given)
    if len(separator) != 1:
        raise InputError(f"--separator: expected one character, tab or auto; got {given!r}")
    return separator


def _header(path: Path, separator: str) -> tuple[str, ...]:
    names = tuple(next(csv.reader(first_lines(path)[:1], delimiter=separator), ()))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: expected a header line with every name once; {', '.join(map(repr, twice))} stands there more than once")
    return names


def _require(path: Path, format: str, wanted, names: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"{path}: expected a {format} header line with {', '.join(missing)}; found the columns {', '.join(names)}")


def _refuse_category(format: str, item_field: str) -> None:
    if item_field == "category":
        raise InputError(f"--item_field: expected item, a {format} log has no category; got category")


def _is_csv(line: str, columns: ColumnOptions) -> bool:
    names = tuple(next(csv.reader([line], delimiter=_separator(line, columns.separator)), ()))
    roles = _csv_roles(names, columns)
    return {"item", "time"} <= roles.keys() and bool({"user", "session"} & roles.keys())


# What each format is read by, and how its first line looks.
FORMATS: dict[str, Callable[[Path, str, ColumnOptions], tuple[pa.Table, TextLayout]]] = {
    "userbehavior": _read_userbehavior,
    "gru4rec": _read_gru4rec,
    "csv": _read_csv,
}
RECOGNISERS: dict[str, Callable[[str, ColumnOptions], bool]] = {
    "userbehavior": lambda line, columns: bool(re.fullmatch(rf"[^,]*,[^,]*,[^,]*,({_BEHAVIORS}),-?\d+", line)),
    "gru4rec": lambda line, columns: {"SessionId", "ItemId", "Time"} <= set(line.split("\t")),
    "csv": _is_csv,
}
