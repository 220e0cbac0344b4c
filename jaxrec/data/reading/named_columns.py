"""Logs whose columns are found by name, the options' or a usual one: csv and parquet."""

from typing import TYPE_CHECKING

from jaxrec.data.reading.heads import Head, listed, looks_like_an_event, require
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.line_faults import fields_of
from jaxrec.data.reading.published import with_category
from jaxrec.data.reading.time_units import TimeColumn, guess_unit, iso_zone
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.data.reading.formats import ReadOptions

# Names that a file may use where none is given; the first that it has is taken.
USUAL_NAMES = {
    "user": ("user_id", "userId", "UserId", "user", "visitor_id"),
    "session": ("session_id", "sessionId", "SessionId", "session"),
    "item": ("item_id", "itemId", "ItemId", "item", "product_id"),
    "time": ("timestamp", "time", "Time", "event_time", "datetime"),
    "behavior": ("event_type", "behavior", "event", "action"),
    "category": ("category_id", "category", "cat_id"),
}
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


def is_csv(head: Head, options: "ReadOptions") -> bool:
    return not _missing(_found(head.header(_separator(head, options)), options))


def csv(head: Head, options: "ReadOptions") -> Layout:
    """Any file with a header."""
    separator = _separator(head, options)
    names = head.header(separator)
    columns, time = columns_and_time(head, "csv", names, options)
    layout = Layout("csv", names, columns, (TimeColumn(time, "s"),), separator, header=True, quotes=True)
    times = (_time_column(head, layout, options),)
    return Layout("csv", names, columns, times, separator, header=True, quotes=True, no_user=no_user(columns))


def columns_and_time(head: Head, format: str, names: tuple[str, ...], options: "ReadOptions") -> tuple[dict[str, str], str]:
    """(columns of the roles and features, the time column) among the names of a file.

    Raises:
      InputError: a name that is given is not there, or a needed one is not found.
    """
    given = [name for name in (getattr(options, f"{role}_column") for role in USUAL_NAMES) if name]
    require(head, format, given, names)
    found = _found(names, options)
    missing = _missing(found)
    if missing and not head.is_parquet and looks_like_an_event(names):
        got = f"got {head.first[:80]!r}, an event; put a line of names on top"
        raise InputError(f"{head.source}: expected a first line with the names of the columns; {got}")
    if missing:
        wanted = ", ".join(missing)
        raise InputError(f"{head.source}: expected a header line with the columns of {wanted}; found the columns {listed(names)}")
    time = found.pop("time")
    if time in found.values():
        raise InputError(f"--time_column: expected a column that holds nothing but times; got {time!r} for two things")
    if "category" in found:
        found["feature:category"] = found.pop("category")
    return with_category(format, found, options), time


def no_user(columns: dict[str, str]) -> tuple[str, ...]:
    """What stands for no user: nothing, and that only where there are sessions."""
    return ("",) if "session" in columns else ()


def _found(names: tuple[str, ...], options: "ReadOptions") -> dict[str, str]:
    found = {}
    for role, usual in USUAL_NAMES.items():
        given = getattr(options, f"{role}_column")
        fitting = [name for name in ((given,) if given else usual) if name in names]
        found |= {role: fitting[0]} if fitting else {}
    return found


def _missing(found: dict[str, str]) -> list[str]:
    missing = [f"--{role}_column" for role in ("item", "time") if role not in found]
    return missing + ([] if {"user", "session"} & found.keys() else ["--user_column or --session_column"])


def _separator(head: Head, options: "ReadOptions") -> str:
    if options.separator == "auto":
        return max("\t,;", key=head.first.count)
    separator = _SEPARATORS.get(options.separator, options.separator)
    if len(separator) != 1 or not separator.isascii() or separator in '\r\n"\0':
        raise InputError(f"--separator: expected one character, tab or auto; got {options.separator!r}")
    return separator


def _time_column(head: Head, layout: Layout, options: "ReadOptions") -> TimeColumn:
    """The time column with its unit, as the first event shows that has a time of that unit."""
    (column,) = layout.times
    rows = (fields_of(line.encode(), layout) for line in head.lines[1:])
    texts = [row[layout.names.index(column.name)].decode() for row in rows if row and len(row) == len(layout.names)]
    unit, zones = options.time_unit, [iso_zone(text) for text in texts]
    zone = next((zone for zone in zones if zone is not None), True)
    if unit == "auto":
        written = (guess_unit(text) for text, zone in zip(texts, zones, strict=True) if zone is not None or guess_unit(text) != "iso8601")
        unit = next(written, "s")
    return TimeColumn(column.name, unit, zoned=zone)
