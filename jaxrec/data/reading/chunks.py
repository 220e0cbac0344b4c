"""Pieces of a log as Arrow tables, whatever format they were read from.

A column of names is dictionary<int32, string> in one contiguous chunk; `time` is int64 nanoseconds since 1970 (UTC).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

NAMES = pa.dictionary(pa.int32(), pa.string())
FEATURE = "feature:"
_ROLES = ("user", "session", "item", "behavior")


class BadLine(NamedTuple):
    """A line that was left out: of which file, its number there, "expected ...; got ..." and the line itself (its beginning)."""

    file: str
    line: int
    fault: str
    text: str


class Chunk(NamedTuple):
    """Some consecutive rows of a log: those that are events, those that are none (with on_error=skip), and their bytes in the file."""

    events: pa.Table
    bad_lines: list[BadLine]
    size: int = 0


def one_dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The same values as one array with one dictionary.

    >>> parts = [pa.array(["b", "a", "b"]).dictionary_encode(), pa.array([None, "a"]).dictionary_encode()]
    >>> column = one_dictionary(pa.chunked_array(parts))
    >>> column.indices.to_pylist(), column.dictionary.to_pylist()
    ([0, 1, 0, None, 1], ['b', 'a'])
    """
    if not column.num_chunks:
        return pa.array([], NAMES)
    if column.num_chunks == 1:
        return column.chunk(0)
    column = column.unify_dictionaries()
    return _array(pa.concat_arrays([chunk.indices for chunk in column.chunks]), column.chunk(column.num_chunks - 1).dictionary)


def without(column: pa.DictionaryArray, none: tuple[str, ...]) -> pa.DictionaryArray:
    """The same values, with null where the name is one of `none`.

    >>> without(pa.array(["b", "", "a"]).dictionary_encode(), ("", "NA")).to_pylist()
    ['b', None, 'a']
    """
    return blanked(column, np.asarray(pa.compute.is_in(column.dictionary, pa.array(none, pa.string()))))


def blanked(column: pa.DictionaryArray, unwanted: np.ndarray) -> pa.DictionaryArray:
    """The same values, with null for the names of which `unwanted`, [names] bool, is True; these names go."""
    if not unwanted.any():
        return column
    renumbered = np.where(unwanted, -1, np.cumsum(~unwanted) - 1).astype(np.int32)
    codes = np.append(renumbered, np.int32(-1))[np.asarray(column.indices.fill_null(len(unwanted)))]
    return _array(pa.array(codes, mask=codes < 0), column.dictionary.filter(pa.array(~unwanted)))


def renamed(column: pa.DictionaryArray, names: dict[str, str]) -> pa.DictionaryArray:
    """The same values under other names.

    Raises:
      pa.ArrowInvalid: a value has no other name.
    """
    values = column.dictionary.to_pylist()
    unknown = [value for value in values if value not in names]
    if unknown:
        raise pa.ArrowInvalid(f"the unknown value {unknown[0]!r}")
    return _array(column.indices, pa.array([names[value] for value in values], pa.string()))


def constant(name: str | None, rows: int) -> pa.DictionaryArray:
    """A column of one name; of nulls for None."""
    if name is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))
    return _array(pa.array(np.zeros(rows, np.int32)), pa.array([name], pa.string()))


def _array(indices: pa.Array, names: pa.Array) -> pa.DictionaryArray:
    # A walk over all indices would only find what was just put there.
    return pa.DictionaryArray.from_arrays(indices, names, safe=False)


def table_of(columns: dict[str, pa.Array]) -> pa.Table:
    """Columns in their usual order: user, session, item, behavior, features, time."""
    features = [name for name in columns if name.startswith(FEATURE)]
    return pa.table({name: columns[name] for name in (*_ROLES, *features, "time") if name in columns})


def joined(tables: list[pa.Table]) -> pa.Table:
    """One table of several, in their order."""
    if len(tables) == 1:
        return tables[0]
    whole = pa.concat_tables(tables)
    names = [name for name in whole.column_names if name != "time"]
    return pa.table({**{name: one_dictionary(whole.column(name)) for name in names}, "time": whole.column("time").combine_chunks()})


def with_features(chunks: Iterable[Chunk], features: list[str]) -> Iterable[Chunk]:
    """The same chunks, with a column of nulls for every feature that their file lacks."""
    for events, bad_lines, size in chunks:
        columns = {name: events.column(name).combine_chunks() for name in events.column_names if not name.startswith(FEATURE)}
        had = events.column_names
        columns |= {name: events.column(name).combine_chunks() if name in had else constant(None, len(events)) for name in features}
        yield Chunk(table_of(columns), bad_lines, size)
