"""Published log formats; each is read as a stream of `Chunk`s.

A format is recognised from the first lines of a file, or named by `--format`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from jaxrec.data.reading import item_tables, named_columns, parquet_files, published
from jaxrec.data.reading.chunks import FEATURE, BadLine, Chunk, with_features
from jaxrec.data.reading.heads import Head, head_of, looks_like_an_event
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.sources import Source, printable, sources_of
from jaxrec.data.reading.text_files import read_text
from jaxrec.errors import InputError
from jaxrec.options import Options, option

__all__ = ["FORMATS", "BadLine", "Chunk", "Log", "ReadOptions", "open_log"]


class Format(NamedTuple):
    """A published format.

    Attributes:
      recognise: whether a file is of it, from its head.
      layout: what its columns are.
      read: how.
      companion: reads the file that tells of its items.
      files: names under which it is published; in an archive these come before others that look like it.
      one_layout: whether all files of a log have the same columns.
    """

    recognise: Callable[[Head, "ReadOptions"], bool]
    layout: Callable[[Head, "ReadOptions"], Layout]
    read: Callable[[Source, Layout, bool, int], Iterator[Chunk]] = read_text
    companion: item_tables.Companion | None = None
    files: tuple[str, ...] = ()
    one_layout: bool = True


FORMATS = {
    "userbehavior": Format(published.is_userbehavior, published.userbehavior),
    "rsc15": Format(published.is_rsc15, published.rsc15, files=("yoochoose-clicks.dat", "yoochoose-buys.dat"), one_layout=False),
    "retailrocket": Format(published.is_retailrocket, published.retailrocket),
    "diginetica": Format(published.is_diginetica, published.diginetica),
    "tmall": Format(published.is_tmall, published.tmall),
    "movielens": Format(
        published.is_movielens, published.movielens, companion=item_tables.movies, files=("ratings.dat", "ratings.csv", "u.data")
    ),
    "recbole": Format(published.is_recbole, published.recbole, companion=item_tables.recbole_items),
    "gru4rec": Format(published.is_gru4rec, published.gru4rec),
    "parquet": Format(parquet_files.is_parquet, parquet_files.parquet, read=parquet_files.read_parquet),
    "csv": Format(named_columns.is_csv, named_columns.csv),
}


def _column(of: str) -> str | None:
    return option(None, f"csv and parquet: name of the {of} column (default: the first usual name found)")


@dataclasses.dataclass(frozen=True)
class ReadOptions(Options):
    """How the files of a log are read."""

    format: str = option("auto", "format of the log; auto: by its first lines", choices=("auto", *FORMATS))
    item_field: str = option("item", "what is recommended", choices=("item", "category"))
    year: int = option(2014, "tmall: year of its dates", minimum=1678, maximum=2261)
    on_error: str = option("stop", "a faulty line: stop, or skip it and tell of it", choices=("stop", "skip"))
    user_column: str | None = _column("user")
    session_column: str | None = _column("session")
    item_column: str | None = _column("item")
    time_column: str | None = _column("time")
    behavior_column: str | None = _column("behavior")
    category_column: str | None = _column("category")
    time_unit: str = option(
        "auto",
        "csv and parquet: unit of the time column (utc: 2019-10-01 00:00:00 UTC); auto: by the first time",
        choices=("auto", "s", "ms", "us", "ns", "iso8601", "utc"),
    )
    separator: str = option("auto", "csv: one character, or tab; auto: the most frequent of tab, comma and semicolon in the first line")


class Log(NamedTuple):
    """A log that is being read.

    Attributes:
      format: name of its format.
      columns: which of its columns is what, with `time_unit`.
      chunks: its rows in order, read as they are asked for; all have the same columns.
      item_features: of a companion file: `item`, distinct, and a column of text per feature; None without such a file.
    """

    format: str
    columns: dict[str, str]
    chunks: Iterator[Chunk]
    item_features: pa.Table | None


def open_log(files: list[Path], options: ReadOptions, chunk_bytes: int = 1 << 27) -> Log:
    """Open the files of one log; they are read one after the other.

    Args:
      files: of the same format; a .zip stands for its only member, or for those that are of the format.
      options: how to read them.
      chunk_bytes: size of a chunk, about.

    Raises:
      InputError: now: a file is missing, empty, binary, of another format or of other columns; while it is read: a line is faulty.
    """
    if not files:
        raise InputError("--input: expected at least one log file; got none")
    heads = [head_of(source) for path in files for source in sources_of(path, lambda members: _chosen(members, options))]
    name = _format_of(heads, options)
    format = FORMATS[name]
    layouts = [format.layout(head, options) for head in heads]
    for head, layout in zip(heads, layouts, strict=True):
        if format.one_layout and layout.columns.keys() != layouts[0].columns.keys():
            raise InputError(f"{head.source}: expected the columns of {heads[0].source} ({layouts[0].roles}); got {layout.roles}")
    skip = options.on_error == "skip"
    companion = format.companion if options.item_field == "item" else None
    features = item_tables.item_features(heads, layouts, companion, skip)
    roles = {role: column for layout in reversed(layouts) for role, column in layout.roles.items()}
    sources = [head.source for head in heads]
    return Log(name, roles, _chunks(format, sources, layouts, skip, chunk_bytes), features)


def _chunks(format: Format, sources: list[Source], layouts: list[Layout], skip: bool, chunk_bytes: int) -> Iterator[Chunk]:
    features = list(dict.fromkeys(name for layout in layouts for name in layout.columns if name.startswith(FEATURE)))
    for source, layout in zip(sources, layouts, strict=True):
        chunks = format.read(source, layout, skip, chunk_bytes)
        yield from chunks if features in ([], [n for n in layout.columns if n.startswith(FEATURE)]) else with_features(chunks, features)


def _format_of(heads: list[Head], options: ReadOptions) -> str:
    if options.format != "auto":
        return options.format
    first, *others = heads
    name = _recognised(first, options)
    if name is None:
        raise InputError(
            f"{first.source}: expected the first line of a known format ({', '.join(FORMATS)}); got {first.first[:80]!r}; {_advice(first)}"
        )
    for head in others:
        other = _recognised(head, options)
        if other not in (None, name):
            raise InputError(f"{head.source}: expected the format of {first.source} ({name}); got {other}")
    return name


def _advice(head: Head) -> str:
    if any(looks_like_an_event(head.header(separator)) for separator in "\t,;"):
        return "--format names it; a csv needs a line of column names on top"
    return "--format and --item_column etc. name it"


def _recognised(head: Head, options: ReadOptions) -> str | None:
    named = any(getattr(options, field) is not None for field in ReadOptions.__dataclass_fields__ if field.endswith("_column"))
    possible = ("parquet", "csv") if named else FORMATS  # only these have columns that can be named
    return next((name for name in possible if FORMATS[name].recognise(head, options)), None)


def _chosen(members: list[Source], options: ReadOptions) -> list[Source]:
    """The members of an archive that are the log: those of the given format, or of the one that is recognised."""
    found = [(source, name) for source in members for name in [_member_format(source, options)] if name]
    names = sorted({name for _, name in found})
    if len(names) > 1:
        told = ", ".join(f"{printable(source.member)} ({name})" for source, name in found[:10])
        raise InputError(f"{members[0].path}: expected a log of one format; got {told}; --format names it")
    chosen = [source for source, _ in found]
    published_ = [source for source in chosen if source.name in FORMATS[names[0]].files] if names else []
    return published_ or chosen


def _member_format(source: Source, options: ReadOptions) -> str | None:
    try:
        head = head_of(source)
    except InputError:
        return None
    if options.format == "auto":
        return _recognised(head, options)
    return options.format if FORMATS[options.format].recognise(head, options) else None
