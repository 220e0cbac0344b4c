"""The slow reader of single lines: says what is wrong where Arrow refuses, and refuses nothing that Arrow takes."""

import re

from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.sources import printable
from jaxrec.data.reading.time_units import UNITS, TimeColumn, fits, guess_unit, instant

BOM = b"\xef\xbb\xbf"
_SHOWN = 80
_KEPT = 1000
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"(?!")', re.DOTALL)


def fault_of(line: bytes, layout: Layout) -> str | None:
    """What is wrong with a line, as "expected ...; got ..."; None where nothing is."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        return None
    if b"\r" in line:
        return f"expected a line that ends in LF or CRLF; got a carriage return within {shown(line)!r}"
    fields = fields_of(line, layout)
    if fields is None:
        return f"expected a quote at both ends of a column; got {shown(line)!r}"
    if len(fields) != len(layout.names):
        if b"\0" in line:
            return "expected text; got a binary (NUL) byte"
        return f"expected {len(layout.names)} columns ({printable(', '.join(layout.names))}); got {len(fields)}: {shown(line)!r}"
    named = dict(zip(layout.names, fields, strict=True))
    faults = (_name_fault(role, name, named[name], layout) for role, name in layout.columns.items())
    return next(filter(None, faults), None) or _time_fault(named, layout)


def shown(line: bytes) -> str:
    """The beginning of a line, for a message."""
    return line[:_SHOWN].decode(errors="replace").rstrip("\r\n")


def stripped(line: bytes) -> str:
    """A line as text, without its end; of an enormous one the beginning."""
    return line[:_KEPT].decode(errors="replace").rstrip("\r\n")


def ends_in_a_quote(data: bytes, layout: Layout) -> bool:
    """Whether the last line that is not empty opens a quote and does not close it: there Arrow takes the end of data for its end."""
    data = data.rstrip(b"\r\n")
    return fields_of(data[data.rfind(b"\n") + 1 :], layout) is None


def fields_of(line: bytes, layout: Layout) -> list[bytes] | None:
    separator = layout.separator.encode()
    if not (layout.quotes and b'"' in line):
        return line.split(separator)
    fields, begin = [], 0
    while begin <= len(line):
        quoted = _QUOTED.match(line, begin)
        end = line.find(separator, quoted.end() if quoted else begin)
        end = len(line) if end < 0 else end
        if quoted:
            fields.append(quoted[1].replace(b'""', b'"') + line[quoted.end() : end])
        elif line[begin : begin + 1] == b'"':
            return None
        else:
            fields.append(line[begin:end])
        begin = end + len(separator)
    return fields


def _name_fault(role: str, name: str, value: bytes, layout: Layout) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"expected UTF-8 text in column {name}; got {value[:_SHOWN]!r}"
    if "\0" in text:
        return f"expected text in column {name}; got a binary (NUL) byte"
    if not text and "" not in layout.none(role):
        return f"expected a value in column {name}; got an empty one"
    if role == "behavior" and layout.behavior_names and text not in layout.behavior_names:
        return f"expected one of {', '.join(layout.behavior_names)} in column {name}; got {text[:_SHOWN]!r}"
    return None


def _time_fault(named: dict[str, bytes], layout: Layout) -> str | None:
    parts = []
    for column in layout.times:
        text = named[column.name].decode(errors="replace")
        parts.append(instant(text, column))
        if parts[-1] is None:
            return f"expected {column.expected} in column {column.name}; got {text[:_SHOWN]!r}{_hint(text, column)}"
    return None if fits(sum(parts)) else f"expected a time that 64 bits of nanoseconds hold; got {sum(parts)}"


def _hint(text: str, column: TimeColumn) -> str:
    """The unit in which a number would be a time of our days, where that is another."""
    guess = guess_unit(text)
    return f" (--time_unit={guess}?)" if column.unit in UNITS and guess not in ("iso8601", column.unit) else ""
