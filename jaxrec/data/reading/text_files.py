"""Logs as text: a stream of lines, parsed in chunks by Arrow.

Only where Arrow refuses a chunk are its lines looked at in ever smaller pieces, and one by one in the end, by `line_faults`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from jaxrec.data.reading.chunks import NAMES, BadLine, Chunk, constant, joined, one_dictionary, renamed, table_of, without
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.line_faults import BOM, ends_in_a_quote, fault_of, shown, stripped
from jaxrec.data.reading.sources import Source, one_line, reading
from jaxrec.data.reading.time_units import arrow_type, nanoseconds, total
from jaxrec.errors import InputError

_BLOCK = 1 << 23  # bytes that one thread parses at a time
_LONGEST = 1 << 24  # bytes of a line
_PIECES = 4  # a refused piece is cut into so many
_FEW = 1 << 12  # bytes that are looked at line by line


def read_text(source: Source, layout: Layout, skip: bool, chunk_bytes: int) -> Iterator[Chunk]:
    """Read a log of text lines, chunk by chunk.

    Args:
      source: of that layout.
      layout: of its lines.
      skip: whether faulty lines are left out and told of.
      chunk_bytes: size of a chunk, about.

    Raises:
      InputError: a line is not as the layout says (and not to be skipped), or there is no event; names file and line.
    """
    rows = 0
    for number, data in _line_chunks(source, max(chunk_bytes, 1)):
        if number == 1 and layout.header:
            number, data = 2, data[data.index(b"\n") + 1 :]
        chunk = _chunk(source, number, data, layout, skip)
        del data
        count = len(chunk.events) + len(chunk.bad_lines)
        rows += count
        if count:
            yield chunk
    if not rows:
        raise InputError(f"{source}: expected at least one event; got {'a header' if layout.header else 'empty lines'} alone")


def _line_chunks(source: Source, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, whole lines) of the file, one chunk after the other; every line ends in a line feed."""
    number = 1
    with source.open() as stream:
        with reading(source):
            rest = stream.read(len(BOM)).removeprefix(BOM)
        while True:
            with reading(source):
                fresh = stream.read(chunk_bytes)
            end = fresh.rfind(b"\n") + 1
            data = b"".join([rest, memoryview(fresh)[:end]]) if end else b""
            rest = fresh[end:] if end else rest + fresh
            if not fresh and rest:
                data, rest = rest + b"\n", b""
            if len(rest) > _LONGEST:
                at = number + data.count(b"\n")
                raise InputError(f"{source} line {at}: expected a line of at most {_LONGEST} bytes; got a longer one: {shown(rest)!r}")
            if data:
                yield number, data
                number += data.count(b"\n")
            elif not fresh:
                return


def _chunk(source: Source, number: int, data: bytes, layout: Layout, skip: bool) -> Chunk:
    try:
        return Chunk(_parse(data, layout), [], len(data))
    except pa.ArrowException:
        tables, bad_lines = [], []
    for table, faults in _examined(number, data, layout):
        if faults and not skip:
            line, fault, _ = faults[0]
            raise InputError(f"{source} line {line}: {fault}")
        tables.append(table)
        bad_lines += [BadLine(str(source), *fault) for fault in faults]
    return Chunk(joined(tables), bad_lines, len(data))


Faults = list[tuple[int, str, str]]  # (line number, fault, text)


def _examined(number: int, data: bytes, layout: Layout) -> Iterator[tuple[pa.Table, Faults]]:
    """(events, faults) of the pieces of lines that Arrow refuses together."""
    pieces = list(_cut(data)) if len(data) > _FEW else []
    if len(pieces) < 2:
        yield _line_by_line(number, data, layout)
        return
    for piece in pieces:
        try:
            found = [(_parse(piece, layout), [])]
        except pa.ArrowException:
            found = _examined(number, piece, layout)
        yield from found
        number += piece.count(b"\n")


def _cut(data: bytes) -> Iterator[bytes]:
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin + len(data) // _PIECES) + 1 or len(data)
        yield data[begin:end]
        begin = end


def _line_by_line(number: int, data: bytes, layout: Layout) -> tuple[pa.Table, Faults]:
    lines = [line + b"\n" for line in data.split(b"\n")[:-1]]
    found = [fault_of(line, layout) for line in lines]
    good = [line for line, fault in zip(lines, found, strict=True) if not fault]
    try:
        table = _parse(b"".join(good) or b"\n", layout)
    except pa.ArrowException:
        # The two readers disagree: Arrow's word on every single line counts.
        found = [fault or _refusal(line, layout) for line, fault in zip(lines, found, strict=True)]
        good = [_parse(line, layout) for line, fault in zip(lines, found, strict=True) if not fault]
        table = joined([_parse(b"\n", layout), *good])
    numbered = zip(range(number, number + len(lines)), lines, found, strict=True)
    return table, [(at, fault, stripped(line)) for at, line, fault in numbered if fault]


def _refusal(line: bytes, layout: Layout) -> str | None:
    try:
        _parse(line, layout)
    except pa.ArrowException as error:
        return f"expected a line of a {layout.format} log; got {shown(line)!r} ({one_line(error)})"
    return None


def _parse(data: bytes, layout: Layout) -> pa.Table:
    """The events of whole lines.

    Raises:
      pa.ArrowInvalid: a line is not as the layout says.
    """
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        raise pa.ArrowInvalid("a carriage return within a line")
    table = _read_csv(data, layout)
    if layout.quotes and b'"' in data and (len(table) != _filled_lines(data) or ends_in_a_quote(data, layout)):
        raise pa.ArrowInvalid("a quote that is not closed")
    may_hold_nul = b"\0" in data

    def names(role: str) -> pa.DictionaryArray:
        return _names(table.column(layout.columns[role]), role, layout, may_hold_nul)

    if len(data) > _BLOCK:
        with ThreadPoolExecutor(4) as pool:
            columns = dict(zip(layout.columns, pool.map(names, layout.columns), strict=True))
    else:  # A small piece is not worth the threads.
        columns = {role: names(role) for role in layout.columns}
    times = total([nanoseconds(table.column(part.name), part) for part in layout.times])
    if layout.behavior:
        columns["behavior"] = constant(layout.behavior, len(table))
    return table_of({**columns, "time": pa.array(times)})


def _read_csv(data: bytes, layout: Layout) -> pa.Table:
    separator = layout.separator
    if len(separator) > 1:
        data, separator = data.replace(separator.encode(), b"\x1f"), "\x1f"
    if data.startswith(BOM):
        data = b"\n" + data  # Arrow would take it for the beginning of a file.
    # Arrow's own names are positions, as those of the file may be no UTF-8.
    numbered = {name: str(position) for position, name in enumerate(layout.names)}
    types = dict.fromkeys(layout.columns.values(), NAMES) | {part.name: arrow_type(part) for part in layout.times}
    table = pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(column_names=list(numbered.values()), block_size=_BLOCK, use_threads=len(data) > _BLOCK),
        parse_options=pa.csv.ParseOptions(delimiter=separator, quote_char='"' if layout.quotes else False),
        # Nothing stands for null: an item may be called "NA", and a time may not.
        convert_options=pa.csv.ConvertOptions(
            column_types={numbered[name]: kind for name, kind in types.items()},
            include_columns=[numbered[name] for name in types],
            null_values=[],
        ),
    )
    return table.rename_columns(list(types))


def _names(column: pa.ChunkedArray, role: str, layout: Layout, may_hold_nul: bool) -> pa.DictionaryArray:
    names = one_dictionary(column)
    if role == "behavior" and layout.behavior_names:
        names = renamed(names, layout.behavior_names)
    none = layout.none(role)
    if none:
        names = without(names, none)
    elif pa.compute.any(pa.compute.equal(names.dictionary, "")).as_py():
        raise pa.ArrowInvalid("an empty value")
    if may_hold_nul and pa.compute.any(pa.compute.match_substring(names.dictionary, "\0")).as_py():
        raise pa.ArrowInvalid("a NUL byte")
    return names


def _filled_lines(data: bytes) -> int:
    """Number of lines that are not empty."""
    bytes_ = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(bytes_ == ord("\n"))
    lengths = np.diff(ends, prepend=-1) - 1
    empty = (lengths == 0) | ((lengths == 1) & (bytes_[ends - 1] == ord("\r")))
    return len(ends) - int(np.count_nonzero(empty))
