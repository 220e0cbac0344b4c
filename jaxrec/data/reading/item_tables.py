"""What a log's companion file tells of its items: title, genres and the like, as text."""

import codecs
import csv
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import PurePath

import pyarrow as pa

from jaxrec.data.reading.heads import Head, listed
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.sources import Source, reading
from jaxrec.errors import InputError

log = logging.getLogger("jaxrec")

_MOVIE_FILES = {"::": "movies.dat", ",": "movies.csv", "\t": "u.item"}
# The flags of u.item, in their published order.
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_MOVIE = ("item", "title", "genres")


def movies(source: Source, layout: Layout, skip: bool) -> pa.Table | None:
    """Title and genres of MovieLens' films, from movies.dat, movies.csv or u.item."""
    companion = source.sibling(_MOVIE_FILES[layout.separator])
    if companion is None:
        return None
    rows = _rows(companion, {"::": _split_dat, ",": _split_csv, "\t": _split_flags}[layout.separator])
    return _table(companion, _MOVIE, _checked(companion, rows, _MOVIE, skip, header=layout.separator == ","))


def recbole_items(source: Source, layout: Layout, skip: bool) -> pa.Table | None:
    """The columns of RecBole's .item file; it has the name of the .inter file, or that without the part of a split."""
    stem = PurePath(source.name).stem
    companion = source.sibling(f"{stem}.item") or source.sibling(f"{PurePath(stem).stem}.item")
    if companion is None:
        return None
    rows = _rows(companion, _split_tabs)
    _, header = next(rows, (1, []))
    names = tuple(name.partition(":")[0] for name in header)
    if "item_id" not in names or len(set(names)) < len(names) or "item" in names:
        raise InputError(f"{companion}: expected a recbole header line with item_id, every name once; found the columns {listed(header)}")
    names = tuple("item" if name == "item_id" else name for name in names)
    return _table(companion, names, _checked(companion, rows, names, skip, header=False))


def _rows(source: Source, split: Callable[[io.TextIOBase], Iterator[list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """(number, columns) of every line that is not empty."""
    encoding = _encoding(source)
    try:
        with source.open() as stream, reading(source), io.TextIOWrapper(stream, encoding, newline="") as text:
            yield from ((number, row) for number, row in enumerate(split(text), 1) if any(row))
    except csv.Error as error:
        raise InputError(f"{source}: expected lines of columns; got {error}") from None


def _encoding(source: Source) -> str:
    """UTF-8, or else latin-1: published companions are of either."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with source.open() as stream:
        while True:
            with reading(source):
                data = stream.read(1 << 20)
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError:
                return "latin-1"
            if not data:
                return "utf-8-sig"


def _lines(text: io.TextIOBase) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in text)


def _split_csv(text: io.TextIOBase) -> Iterator[list[str]]:
    return csv.reader(text)


def _split_tabs(text: io.TextIOBase) -> Iterator[list[str]]:
    return (line.split("\t") for line in _lines(text))


def _split_dat(text: io.TextIOBase) -> Iterator[list[str]]:
    """A title may hold the separator."""
    for line in _lines(text):
        item, *title, genres = line.split("::") if line.count("::") > 1 else (line, "")
        yield [item, "::".join(title), genres] if title else [line]


def _split_flags(text: io.TextIOBase) -> Iterator[list[str]]:
    for line in _lines(text):
        item, *others = line.split("|")
        flags = others[4:]
        fits = len(flags) == len(_GENRES) and set(flags) <= {"0", "1"}
        yield [item, others[0], "|".join(name for name, flag in zip(_GENRES, flags, strict=True) if flag == "1")] if fits else [line]


def _checked(source: Source, rows, names: tuple[str, ...], skip: bool, header: bool) -> Iterator[list[str]]:
    faults = []
    for number, row in rows:
        if header and number == 1:
            continue
        if len(row) == len(names) and row[names.index("item")]:
            yield row
            continue
        faults.append(f"{source} line {number}: expected {', '.join(names)}; got {'|'.join(row)[:80]!r}")
        if not skip:
            raise InputError(faults[0])
    if faults:
        log.warning("%s (left out with %d more)", faults[0], len(faults) - 1)


def _table(source: Source, names: tuple[str, ...], rows: Iterator[list[str]]) -> pa.Table:
    """The rows by item; of an item that comes again the first."""
    items: dict[str, list[str]] = {}
    place = names.index("item")
    for row in rows:
        items.setdefault(row[place], row)
    ordered = ["item", *(name for name in names if name != "item")]
    columns = {name: [row[names.index(name)] or None for row in items.values()] for name in ordered}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


Companion = Callable[[Source, Layout, bool], pa.Table | None]


def item_features(heads: list[Head], layouts: list[Layout], companion: Companion | None, skip: bool) -> pa.Table | None:
    """The companion file of the first file of a log that has one; None where the category stands for the item."""
    if companion is None:
        return None
    found = (companion(head.source, layout, skip) for head, layout in zip(heads, layouts, strict=True))
    return next((table for table in found if table is not None), None)
