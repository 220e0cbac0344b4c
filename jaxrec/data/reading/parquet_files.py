"""Logs as parquet files: columns are found by name as in a csv, and read in batches of rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from jaxrec.data.reading.chunks import BadLine, Chunk, blanked, one_dictionary, table_of
from jaxrec.data.reading.heads import PARQUET, Head
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.named_columns import columns_and_time, no_user
from jaxrec.data.reading.sources import Source, reading
from jaxrec.data.reading.time_units import UNITS, TimeColumn, guess_unit
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.data.reading.formats import ReadOptions

_ROW = 32  # bytes of a row of text, about
_STREAM = 1 << 20  # bytes read at a time of a column
_MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1}
_LIMIT = 2**63 - 1


def is_parquet(head: Head, options: "ReadOptions") -> bool:
    return head.is_parquet


def parquet(head: Head, options: "ReadOptions") -> Layout:
    """Any parquet file; ids are numbers or text, times are timestamps or numbers."""
    if not head.is_parquet:
        raise InputError(f"{head.source}: expected a parquet file, which begins with {PARQUET.decode()}; got {head.first[:80]!r}")
    if head.source.member or head.source.name != head.source.path.name:
        raise InputError(f"{head.source}: expected a parquet file by itself; got one that is packed")
    file = _opened(head.source)
    with reading(head.source):
        schema = file.schema_arrow
    columns, time = columns_and_time(head, "parquet", tuple(schema.names), options)
    for name in columns.values():
        if not _is_id(schema.field(name).type):
            raise InputError(f"{head.source}: expected whole numbers or text in column {name}; got the type {schema.field(name).type}")
    unit = _unit(head, file, schema.field(time), options)
    return Layout("parquet", tuple(schema.names), columns, (TimeColumn(time, unit),), no_user=no_user(columns))


def read_parquet(source: Source, layout: Layout, skip: bool, chunk_bytes: int) -> Iterator[Chunk]:
    """Read a parquet log, chunk by chunk.

    Raises:
      InputError: an id or a time is missing (and its row not to be skipped), there is no row, or the file is damaged.
    """
    number = 1
    for table in _tables(source, layout, max(chunk_bytes // _ROW, 1)):
        with reading(source):
            events, bad_rows = _events(table, layout)
        if bad_rows and not skip:
            row, fault, _ = bad_rows[0]
            raise InputError(f"{source} row {number + row}: {fault}")
        yield Chunk(events, [BadLine(str(source), number + row, fault, text) for row, fault, text in bad_rows])
        number += len(table)
    if number == 1:
        raise InputError(f"{source}: expected at least one event; got no row")


def _opened(source: Source) -> pa.parquet.ParquetFile:
    with reading(source):
        return pa.parquet.ParquetFile(source.path, buffer_size=_STREAM)


def _tables(source: Source, layout: Layout, rows: int) -> Iterator[pa.Table]:
    names = list(dict.fromkeys([*layout.columns.values(), layout.times[0].name]))
    with _opened(source) as file:
        with reading(source):
            batches = file.iter_batches(batch_size=min(rows, 1 << 20), columns=names)
        waiting = []
        while True:
            with reading(source):
                batch = next(batches, None)
            if batch is not None:
                waiting.append(batch)
            # Batches end where the file's groups of rows do, so that several make a chunk.
            if sum(map(len, waiting)) >= (rows if batch is not None else 1):
                yield pa.Table.from_batches(waiting)
                waiting = []
            if batch is None:
                return


def _is_id(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _unit(head: Head, file: pa.parquet.ParquetFile, field: pa.Field, options: "ReadOptions") -> str:
    """The unit of a time column: of numbers that of the options, or as the first of them shows."""
    if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type):
        return "timestamp"
    written_out = options.time_unit in ("iso8601", "utc")
    if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)) or written_out:
        wanted = "times" if written_out else "times or numbers"
        raise InputError(f"{head.source}: expected {wanted} in column {field.name}; got the type {field.type}")
    if options.time_unit != "auto":
        return options.time_unit
    with reading(head.source):
        batch = next(file.iter_batches(batch_size=100, columns=[field.name]), None)
    known = [] if batch is None else batch.column(0).drop_null().to_pylist()
    return guess_unit(str(known[0])) if known and np.isfinite(known[0]) else "s"


def _events(table: pa.Table, layout: Layout) -> tuple[pa.Table, list[tuple[int, str, str]]]:
    """(events, (row, fault, row as text) of those that are none) of some rows."""
    columns, faults = {}, {}
    for role, name in layout.columns.items():
        columns[role], bad = _names(table.column(name), bool(layout.none(role)))
        faults |= {int(row): f"expected text in column {name}" for row in np.flatnonzero(bad) if row not in faults}
    (time,) = layout.times
    columns["time"], bad = _times(table.column(time.name), time.unit)
    faults |= {int(row): f"expected a time in column {time.name}" for row in np.flatnonzero(bad) if row not in faults}
    rows = sorted(faults)
    if rows:
        good = np.ones(len(table), bool)
        good[rows] = False
        columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
    return table_of(columns), [(row, *_told(table, row, faults[row])) for row in rows]


def _told(table: pa.Table, row: int, fault: str) -> tuple[str, str]:
    """(fault with what came, the row as text)."""
    values = {}
    for name in table.column_names:
        value = table.column(name)[row]
        try:
            values[name] = str(value)
        except UnicodeDecodeError:
            values[name] = "bytes that are no UTF-8"
    name = fault.rpartition(" in column ")[2]
    return f"{fault}; got {values[name][:80]!r}", ", ".join(f"{name}={value}" for name, value in values.items())[:1000]


def _names(column: pa.ChunkedArray, nullable: bool) -> tuple[pa.DictionaryArray, np.ndarray]:
    """(names, whether a row has a bad one, [rows] bool)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    column = one_dictionary(column.dictionary_encode())
    texts = column.dictionary.cast(pa.string(), safe=False)
    bad, empty = _unreadable(texts), np.asarray(pa.compute.equal(texts, ""))
    bad |= np.asarray(pa.compute.match_substring(texts, "\0"))
    bad |= empty & (not nullable)
    codes = np.asarray(column.indices.fill_null(len(texts)))
    names = blanked(pa.DictionaryArray.from_arrays(column.indices, texts), bad | empty)
    return names, np.append(bad, not nullable)[codes]


def _unreadable(texts: pa.Array) -> np.ndarray:
    """[texts] bool, whether each is no UTF-8: Arrow takes a file's word for it."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return np.array([_is_no_utf8(text) for text in texts.cast(pa.binary()).to_pylist()])
    return np.zeros(len(texts), bool)


def _is_no_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return True
    return False


def _times(column: pa.ChunkedArray, unit: str) -> tuple[pa.Array, np.ndarray]:
    """(nanoseconds, whether a row has none, [rows] bool)."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(column.type) else "ms"))
    decimals = UNITS.get(unit)
    if pa.types.is_timestamp(column.type):
        decimals = UNITS[column.type.unit]
        column = column.cast(pa.int64())
    missing = np.asarray(column.is_null())
    values = np.concatenate([np.asarray(chunk.fill_null(0)) for chunk in column.chunks])
    if values.dtype.kind == "f":
        times, beyond = _of_floats(values.astype(np.float64), unit)
    else:
        most = _LIMIT // 10**decimals
        beyond = (values > most) | (values < -most if values.dtype.kind == "i" else False)
        times = np.where(beyond, 0, values).astype(np.int64) * 10**decimals
    return pa.array(times), missing | beyond


def _of_floats(values: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """(nanoseconds, whether they are beyond 64 bits); to the microsecond, as a float of our days tells no more."""
    with np.errstate(invalid="ignore", over="ignore"):
        beyond = ~(np.abs(values) * 10 ** UNITS[unit] < _LIMIT)
    values = np.where(beyond, 0, values)
    if unit == "ns":
        return np.rint(values).astype(np.int64), beyond
    whole = np.floor(values)
    scale = _MICROSECONDS[unit]
    return (whole.astype(np.int64) * scale + np.rint((values - whole) * scale).astype(np.int64)) * 1000, beyond
