"""The sessions of a whole log: their events on disk part by part, in memory only one line per session."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrec.data.preparing.rows import Rows
from jaxrec.data.preparing.sessions import Sessions

EVENT_COLUMNS = {"items": np.int32, "times": np.int64, "behaviors": np.int16}
_LINES = ("lengths", "users", "held_out", "first_row")
_WORKERS = min(os.cpu_count() or 1, 4)  # NumPy sorts without the interpreter lock; a part in work takes memory


class SessionLog(NamedTuple):
    """Sessions of all parts, one part after the other.

    Attributes:
      folder: holds the columns of events, one file per part and column.
      bounds: part p holds sessions bounds[p]:bounds[p + 1], [parts + 1].
      lengths, users, held_out, first_row: as in `Sessions`, [sessions].
      starts: nanoseconds of the first event of every session, [sessions] int64.
      duplicates: rows that repeat an earlier one in everything.
      dropped: rows left out, by reason.
    """

    folder: Path
    bounds: np.ndarray
    lengths: np.ndarray
    users: np.ndarray
    held_out: np.ndarray
    first_row: np.ndarray
    starts: np.ndarray
    duplicates: int
    dropped: dict[str, int]

    def parts(self) -> Iterator[tuple[int, slice]]:
        """(number, sessions) of every part that has any."""
        for part, (first, last) in enumerate(zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)):
            if first < last:
                yield part, slice(first, last)

    def events(self, part: int, name: str) -> np.ndarray:
        """Items, times or behaviours of the events of one part, [events]."""
        return np.fromfile(_path(self.folder, part, name), EVENT_COLUMNS[name])


def write_sessions(rows: Rows, sessionise: Callable[[np.ndarray], Sessions]) -> SessionLog:
    """Cut each part of a log into sessions and keep their events beside the rows, which are removed."""

    def work(part: int) -> tuple:
        sessions = sessionise(rows.part(part))
        rows.remove(part)
        for name in EVENT_COLUMNS:
            getattr(sessions, name).tofile(_path(rows.folder, part, name))
        first = np.cumsum(sessions.lengths) - sessions.lengths
        return (*(getattr(sessions, name) for name in _LINES), sessions.times[first], sessions.duplicates, sessions.dropped)

    with ThreadPoolExecutor(_WORKERS) as pool:
        *lines, duplicates, dropped = zip(*pool.map(work, range(rows.parts)), strict=True)
    bounds = np.concatenate([[0], np.cumsum([len(part) for part in lines[0]])])
    total = {reason: sum(part[reason] for part in dropped) for reason in dropped[0]}
    return SessionLog(rows.folder, bounds, *map(np.concatenate, lines), sum(duplicates), total)


def _path(folder: Path, part: int, name: str) -> Path:
    return folder / f"{name}-{part:05d}"
