"""The first lines of a file, from which its format is recognised."""

import csv
import re
from typing import NamedTuple

from jaxrec.data.reading.line_faults import BOM
from jaxrec.data.reading.sources import Source, printable, reading
from jaxrec.errors import InputError

PARQUET = b"PAR1"
_HEAD = 1 << 20  # bytes of a file that are looked at before it is read
_LINES = 100
_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*")


class Head(NamedTuple):
    """Where a file begins: its first lines without line ends; none of a parquet file, which is none of text."""

    source: Source
    lines: list[str]
    is_parquet: bool = False

    @property
    def first(self) -> str:
        """The first line."""
        return self.lines[0] if self.lines else ""

    def header(self, separator: str) -> tuple[str, ...]:
        """The names in the first line; () where it cannot be taken apart."""
        try:
            return tuple(next(csv.reader([self.first], delimiter=separator), ()))
        except csv.Error:
            return ()


def head_of(source: Source) -> Head:
    """The head of a file.

    Raises:
      InputError: there is no such file, it is empty, or its first line is no UTF-8 text.
    """
    with source.open() as stream, reading(source):
        start = stream.read(_HEAD)
    if start.startswith(PARQUET):
        return Head(source, [], is_parquet=True)
    start = start.removeprefix(BOM)
    if not start:
        raise InputError(f"{source}: expected a log; got an empty file")
    lines = start.split(b"\n", _LINES)
    if b"\0" in lines[0]:
        raise InputError(f"{source}: expected a text file; got a binary file (it holds NUL bytes)")
    if len(lines) == 1 and len(start) >= _HEAD - len(BOM):
        raise InputError(f"{source}: expected a text file; got a first line of over {len(start)} bytes")
    try:
        first = lines[0].decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: expected UTF-8 text; got bytes that are not ({error.reason} at byte {error.start})") from None
    others = [line.decode(errors="replace") for line in lines[1:_LINES]]
    return Head(source, [line.removesuffix("\r") for line in (first, *others)])


def looks_like_an_event(names: tuple[str, ...]) -> bool:
    """Whether a line that should name columns holds a number, as events do and names do not.

    >>> looks_like_an_event(("user", "item", "time")), looks_like_an_event(("u7", "11", "1396437466"))
    (False, True)
    """
    return any(_NUMBER.fullmatch(name) for name in names)


def require(head: Head, format: str, wanted: list[str], names: tuple[str, ...]) -> None:
    """Raise an `InputError` unless a header has every wanted name, and every name once."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{head.source}: expected a header line with every name once; {', '.join(map(repr, twice))} stands there more than once"
        )
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"{head.source}: expected a {format} header line with {', '.join(missing)}; found the columns {listed(names)}")


def listed(names: tuple[str, ...]) -> str:
    """Names of columns for a message."""
    return printable(", ".join(names))[:500]
