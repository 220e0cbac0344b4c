"""Logs as text: one event per line, read in parallel by Arrow; a slow reader of single lines says what is wrong where Arrow refuses.

A time is held as nanoseconds since 1970 (UTC), exactly: numbers are read as decimals, never through a float.
"""

import codecs
import contextlib
import csv
import dataclasses
import datetime
import decimal
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from jaxrec.data.events import NANOSECONDS
from jaxrec.errors import InputError

UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # unit -> decimals of one unit that nanoseconds can hold
ROLES = ("user", "session", "item", "behavior", "time")
_HEAD = 1 << 16  # bytes of a file that are looked at before it is read
_BLOCK = 1 << 23  # bytes that one thread parses at a time
_EXAMPLES = {
    "s": "unix seconds",
    "ms": "unix milliseconds",
    "us": "unix microseconds",
    "ns": "unix nanoseconds",
    "iso8601": "an ISO-8601 time",
}


@dataclasses.dataclass(frozen=True)
class TextLayout:
    """How the lines of a format are laid out.

    Attributes:
      format: name of the format, for errors.
      names: names of the columns, in the order of the file.
      roles: which column holds the user, session, item, behavior and time, by name; a log may lack user, session or behavior.
      separator: one character between columns.
      header: whether the first line holds names.
      quotes: whether a column may stand in double quotes.
      time_unit: s, ms, us, ns or iso8601.
    """

    format: str
    names: tuple[str, ...]
    roles: dict[str, str]
    separator: str = ","
    header: bool = False
    quotes: bool = False
    time_unit: str = "s"


def first_lines(path: Path) -> list[str]:
    """The first one or two lines of a file, without line ends.

    Raises:
      InputError: there is no such file, it is empty, or it is no UTF-8 text.
    """
    with _opened(path) as stream:
        head = stream.read(_HEAD)
    if not head:
        raise InputError(f"{path}: expected a log; got an empty file")
    if b"\0" in head:
        raise InputError(f"{path}: expected a text file; got a binary file (it holds NUL bytes)")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text; got bytes that are not ({error.reason} at byte {error.start})") from None
    return [line.rstrip("\r") for line in text.split("\n")[:2]]


def read_text(path: Path, layout: TextLayout) -> pa.Table:
    """Read a log of text lines, which may be compressed (.gz, .bz2, .zst).

    Returns:
      One column per role: dictionary-encoded text, and `time` as nanoseconds since 1970 (int64).

    Raises:
      InputError: a line is not as the layout says; names file and line, what was expected and what came.
    """
    first_lines(path)
    roles = {role: layout.roles[role] for role in ROLES if role in layout.roles}
    try:
        with _opened(path) as stream:
            table = _parse(stream, layout, roles, _time_type(path, layout))
        times = _nanoseconds(table.column("time"))
    except pa.ArrowInvalid as error:
        raise _first_fault(path, layout) or InputError(f"{path}: expected a {layout.format} log; got {_one_line(error)}") from None
    if not table.num_rows:
        raise InputError(f"{path}: expected at least one event; got a header alone")
    table = table.set_column(table.column_names.index("time"), "time", pa.array(times))
    if any(_has_bad_name(table.column(role)) for role in roles if role != "time"):
        raise _first_fault(path, layout) or InputError(f"{path}: expected ids of text; got an empty one")
    return table


def _parse(stream: pa.NativeFile, layout: TextLayout, roles: dict[str, str], time_type: pa.DataType) -> pa.Table:
    text = pa.dictionary(pa.int32(), pa.string())
    types = {name: time_type if role == "time" else text for role, name in roles.items()}
    table = pa.csv.read_csv(
        stream,
        read_options=pa.csv.ReadOptions(column_names=list(layout.names), skip_rows=int(layout.header), block_size=_BLOCK),
        parse_options=pa.csv.ParseOptions(delimiter=layout.separator, quote_char='"' if layout.quotes else False),
        # Nothing stands for null: an item may be called "NA", and a time may not.
        convert_options=pa.csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[]),
    )
    return table.rename_columns(list(roles))


def _time_type(path: Path, layout: TextLayout) -> pa.DataType:
    """What Arrow reads the time column as; ISO-8601 times all have a zone or none has, which the first event shows."""
    if layout.time_unit != "iso8601":
        return pa.decimal128(38, UNITS[layout.time_unit])
    first_event = first_lines(path)[int(layout.header) :][:1]
    columns = _columns(first_event[0], layout) if first_event else []
    position = layout.names.index(layout.roles["time"])
    return pa.timestamp("ns", tz="UTC" if position < len(columns) and _zone(columns[position]) else None)


def _zone(text: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _nanoseconds(column: pa.ChunkedArray) -> np.ndarray:
    """[rows] int64 of a column of timestamps, or of decimals whose last digit is a nanosecond."""
    if pa.types.is_timestamp(column.type):
        return np.concatenate([np.zeros(0, np.int64), *(np.asarray(chunk.cast(pa.int64())) for chunk in column.chunks)])
    words = [np.frombuffer(chunk.buffers()[1], np.int64)[2 * chunk.offset :][: 2 * len(chunk)].reshape(-1, 2) for chunk in column.chunks]
    low, high = np.concatenate([np.zeros((0, 2), np.int64), *words]).T
    if np.any(high != low >> 63):
        raise pa.ArrowInvalid("a time beyond 64 bits of nanoseconds")
    return np.ascontiguousarray(low)


def _has_bad_name(column: pa.ChunkedArray) -> bool:
    names = [chunk.dictionary for chunk in column.chunks]
    return any(pa.compute.any(pa.compute.or_(pa.compute.equal(n, ""), pa.compute.match_substring(n, "\0"))).as_py() for n in names)


# The slow reader, for errors: finds the first line that is not as the layout says.


def _first_fault(path: Path, layout: TextLayout) -> InputError | None:
    with _opened(path) as stream:
        for number, line in enumerate(io.BufferedReader(stream), 1):
            if number == 1 and layout.header:
                continue
            fault = _fault(line.rstrip(b"\r\n"), layout)
            if fault:
                return InputError(f"{path} line {number}: {fault}")
    return None


def _fault(line: bytes, layout: TextLayout) -> str | None:
    """What is wrong with a line, as "expected ...; got ..."; None where nothing is."""
    if not line:
        return None
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return f"expected UTF-8 text; got {line[:40]!r}"
    if "\0" in text:
        return "expected text; got a binary (NUL) byte"
    columns = _columns(text, layout)
    if len(columns) != len(layout.names):
        return f"expected {len(layout.names)} columns ({', '.join(layout.names)}); got {len(columns)}: {text[:80]!r}"
    for role, name in layout.roles.items():
        value = columns[layout.names.index(name)]
        if role == "time" and not _is_time(value, layout.time_unit):
            return f"expected {_EXAMPLES[layout.time_unit]} in column {name}; got {value!r}{_hint(value, layout.time_unit)}"
        if not value:
            return f"expected a value in column {name}; got an empty one"
    return None


def _columns(line: str, layout: TextLayout) -> list[str]:
    if not layout.quotes:
        return line.split(layout.separator)
    return next(csv.reader([line], delimiter=layout.separator), [""])


def _is_time(text: str, unit: str) -> bool:
    try:
        if unit == "iso8601":
            return datetime.datetime.fromisoformat(text).year >= 1678
        nanoseconds = decimal.Decimal(text).scaleb(UNITS[unit])
        return nanoseconds == int(nanoseconds) and abs(nanoseconds) < 2**63
    except (ValueError, decimal.InvalidOperation, OverflowError):
        return False


def _hint(text: str, unit: str) -> str:
    """The unit in which a number would be a time of our days, where that is another."""
    try:
        guess = guess_unit(text)
    except decimal.InvalidOperation:
        return ""
    return f" (--time_unit={guess}?)" if guess != unit and unit != "iso8601" else ""


def guess_unit(text: str) -> str:
    """The unit in which a time is written, from its size.

    >>> [guess_unit(t) for t in ("1396437466.94", "1433221332117", "2014-04-06T20:21:58.444Z")]
    ['s', 'ms', 'iso8601']
    """
    try:
        size = abs(decimal.Decimal(text)) / NANOSECONDS
    except decimal.InvalidOperation:
        return "iso8601"
    return "s" if size < 100 else "ms" if size < 100_000 else "us" if size < 100_000_000 else "ns"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pa.NativeFile]:
    try:
        with pa.input_stream(path) as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"{path}: expected a log; there is no such file") from None
    except pa.ArrowInvalid:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
