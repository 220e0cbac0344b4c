"""Intake: a log is read chunk by chunk, its ids get codes, and the rows that are wanted go to disk in parts."""

import csv
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from jaxrec.data.preparing.cuts import Moments
from jaxrec.data.preparing.item_features import ItemFeature
from jaxrec.data.preparing.names import Names
from jaxrec.data.preparing.rows import ROW, Rows, append_rows
from jaxrec.data.reading.chunks import FEATURE, BadLine, Chunk, one_dictionary
from jaxrec.data.reading.formats import Log
from jaxrec.errors import InputError

T = TypeVar("T")
SHOWN_BAD_LINES = 5


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which rows are kept.

    Attributes:
      behaviors: their behaviours; empty: all.
      time_from, time_to: nanoseconds since 1970 of the first instant and of the end; None: no limit.
    """

    behaviors: Collection[str] = ()
    time_from: int | None = None
    time_to: int | None = None


class Intake(NamedTuple):
    """What was read.

    Attributes:
      rows: the rows that are wanted.
      rows_read: rows of all files, unparsable ones included.
      dropped: rows left out, by reason.
      bad_lines: the first lines that could not be read.
      features: what the log says about its items, by name.
    """

    rows: Rows
    rows_read: int
    dropped: dict[str, int]
    bad_lines: list[BadLine]
    features: dict[str, ItemFeature]


def take_in(
    logs: Sequence[Log], wanted: Wanted, folder: Path, parts: int, bad_lines: Path, progress: Callable[[int], object] = int
) -> Intake:
    """Read a log and write its wanted rows to a folder.

    Args:
      logs: the log and, if there is one, the log of the test period.
      wanted: which rows are kept.
      folder: takes the rows.
      parts: number of files they are spread over.
      bad_lines: gets one line for each line that could not be read; not written where there is none.
      progress: is told the bytes of each chunk.

    Raises:
      InputError: the log is faulty, or it has none of the wanted behaviours.
    """
    names = {role: Names() for role in ("item", "user", "session", "behavior")}
    moments, features, shown = Moments(), {}, []
    read, dropped = 0, dict.fromkeys(("unparsable", "behavior", "outside_time"), 0)
    for held_out, log in enumerate(logs):
        for chunk in _ahead(log.chunks):
            rows = _records(chunk.events, names, read, bool(held_out))
            _note_bad_lines(chunk, bad_lines, shown)
            _add_features(chunk.events, rows["item"], features)
            dropped["unparsable"] += len(chunk.bad_lines)
            read += chunk.events.num_rows + len(chunk.bad_lines)
            if wanted.behaviors and "behavior" not in chunk.events.column_names:
                raise InputError(f"--behaviors: expected none, the log has no behaviours; got {','.join(wanted.behaviors)}")
            rows = _choose(rows, names["behavior"], wanted, dropped)
            if not held_out:
                moments.add(rows["time"])
            append_rows(folder, parts, rows)
            progress(chunk.size)
    _check_behaviors(wanted.behaviors, names["behavior"])
    texts = (names[role].texts for role in ("item", "user", "session", "behavior"))
    return Intake(Rows(folder, parts, *texts, moments), read, dropped, shown, features)


def _ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The chunks, where the next one is already read while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, chunks, None)
        while (chunk := pending.result()) is not None:
            pending = pool.submit(next, chunks, None)
            yield chunk


def _records(events: pa.Table, names: dict[str, Names], first_row: int, held_out: bool) -> np.ndarray:
    rows = np.zeros(events.num_rows, ROW)
    rows["row"] = np.arange(first_row, first_row + len(rows))
    rows["time"] = np.asarray(events.column("time").combine_chunks())
    rows["held_out"] = held_out
    for role, known in names.items():
        rows[role] = known.codes(one_dictionary(events.column(role))) if role in events.column_names else -1
    return rows


def _add_features(events: pa.Table, items: np.ndarray, features: dict[str, ItemFeature]) -> None:
    for name in events.column_names:
        if name.startswith(FEATURE):
            features.setdefault(name.removeprefix(FEATURE), ItemFeature()).add(items, one_dictionary(events.column(name)))


def _note_bad_lines(chunk: Chunk, path: Path, shown: list[BadLine]) -> None:
    if not chunk.bad_lines:
        return
    shown += chunk.bad_lines[: SHOWN_BAD_LINES - len(shown)]
    new = not path.exists()
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([BadLine._fields] * new)
        writer.writerows(chunk.bad_lines)


def _choose(rows: np.ndarray, behaviors: Names, wanted: Wanted, dropped: dict[str, int]) -> np.ndarray:
    if wanted.behaviors:
        codes = [code for code, text in enumerate(behaviors.texts.to_pylist()) if text in wanted.behaviors]
        rows = _drop(rows, np.isin(rows["behavior"], codes), "behavior", dropped)
    if wanted.time_from is not None:
        rows = _drop(rows, rows["time"] >= wanted.time_from, "outside_time", dropped)
    if wanted.time_to is not None:
        rows = _drop(rows, rows["time"] < wanted.time_to, "outside_time", dropped)
    return rows


def _drop(rows: np.ndarray, keep: np.ndarray, reason: str, dropped: dict[str, int]) -> np.ndarray:
    dropped[reason] += len(rows) - int(np.count_nonzero(keep))
    return rows if keep.all() else rows[keep]


def _check_behaviors(behaviors: Collection[str], found: Names) -> None:
    texts = found.texts.to_pylist()
    unknown = [name for name in behaviors if name not in texts]
    if unknown:
        raise InputError(f"--behaviors: expected behaviours of the log ({', '.join(sorted(texts))}); got {', '.join(unknown)}")
    if len(texts) > np.iinfo(np.int16).max:
        raise InputError(f"--behavior_column: expected a column of few behaviours; got one with {len(texts)} different values")
