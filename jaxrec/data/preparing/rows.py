"""Rows: the events of a log on disk, in as many parts as memory asks for.

All rows that may stand in one session lie in the same part, in the order of the log; so each part can be worked on by itself, and the
number of parts changes nothing in what comes out.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jaxrec.data.preparing.cuts import Moments

# Codes are positions in the names beside them; -1 means none.
ROW = np.dtype(
    [
        ("row", np.int64),  # place in the log
        ("time", np.int64),  # nanoseconds since 1970 (UTC)
        ("item", np.int32),
        ("user", np.int32),
        ("session", np.int32),  # as the log names it
        ("behavior", np.int16),
        ("held_out", np.bool_),  # whether it comes from a test file
    ]
)


class Rows(NamedTuple):
    """A log that was read.

    Attributes:
      folder: holds one file of `ROW` records per part.
      parts: number of parts.
      items, users, sessions, behaviors: text of every code; empty where the log has none.
      moments: at which seconds the rows that come from no test file lie.
    """

    folder: Path
    parts: int
    items: pa.Array
    users: pa.Array
    sessions: pa.Array
    behaviors: pa.Array
    moments: Moments

    def part(self, number: int) -> np.ndarray:
        """Records of one part, in the order of the log, [rows] of `ROW`."""
        path = _path(self.folder, number)
        return np.fromfile(path, ROW) if path.exists() else np.zeros(0, ROW)

    def remove(self, number: int) -> None:
        """Delete the records of one part."""
        _path(self.folder, number).unlink(missing_ok=True)


def append_rows(folder: Path, parts: int, rows: np.ndarray) -> None:
    """Add records to the parts that their sessions, or else their users, belong to."""
    key = rows["session"] if (rows["session"] >= 0).any() else rows["user"]
    part = (key % parts).astype(np.uint16)  # NumPy sorts 16 bits by counting
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(parts + 1))
    rows = rows[order]
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        with _path(folder, number).open("ab") as file:
            rows[bounds[number] : bounds[number + 1]].tofile(file)


def _path(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}"
