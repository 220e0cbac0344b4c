"""Arrange: the final order of sessions, items and users, and the arrays of a dataset written in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jaxrec.data.preparing.filters import Kept
from jaxrec.data.preparing.names import by_text, positions
from jaxrec.data.preparing.rows import Rows
from jaxrec.data.preparing.session_log import SessionLog
from jaxrec.data.reading.time_units import NANOSECONDS

DTYPES = {"items": np.int32, "times": np.int64, "behaviors": np.int16}  # of the arrays of a dataset


class Order(NamedTuple):
    """The order of a dataset.

    Attributes:
      sessions: sessions that remain, by period, start and place in the log, [sessions].
      offsets: first event of each of them, and the end, [sessions + 1] int64.
      period_offsets: first session of each period, and the end, [4] int64.
      item_codes: item code of every item index: by falling count in the global period, equal counts by text, [items].
      user_codes: user code of every user index, by text, [users].
      behavior_codes: behaviour code of every behaviour index, by text, [behaviours].
    """

    sessions: np.ndarray
    offsets: np.ndarray
    period_offsets: np.ndarray
    item_codes: np.ndarray
    user_codes: np.ndarray
    behavior_codes: np.ndarray


def order_of(log: SessionLog, kept: Kept, rows: Rows) -> Order:
    """Find the order of a dataset."""
    ordered = [_in_order(log, kept, period) for period in range(3)]
    sessions = np.concatenate(ordered)
    offsets = np.concatenate([[0], np.cumsum(kept.lengths[sessions], dtype=np.int64)])
    users = log.users[sessions]
    return Order(
        sessions,
        offsets,
        np.cumsum([0, *map(len, ordered)]),
        item_index(kept.support, rows.items),
        by_text(rows.users, np.flatnonzero(np.bincount(users[users >= 0]))),
        by_text(rows.behaviors, np.arange(len(rows.behaviors))),
    )


def _in_order(log: SessionLog, kept: Kept, period: int) -> np.ndarray:
    """Sessions of one period that remain, by start and place in the log, [sessions of the period] int32."""
    chosen = np.flatnonzero((kept.lengths > 0) & (kept.periods == period)).astype(np.int32)
    return chosen[np.lexsort((log.first_row[chosen], kept.starts[chosen]))]


def item_index(counts: np.ndarray, names: pa.Array) -> np.ndarray:
    """Item codes in the order of the index: by falling count, equal counts by text; items that never occur are left out.

    >>> item_index(np.array([1, 5, 0, 1]), pa.array(["b", "x", "c", "a"])).tolist()
    [1, 3, 0]
    """
    codes = by_text(names, np.flatnonzero(counts))
    return codes[np.argsort(-counts[codes], kind="stable")]


def write_events(log: SessionLog, kept: Kept, order: Order, names: Sequence[str], folder: Path, most_events: int) -> None:
    """Write items.npy (item indices), times.npy (seconds) and behaviors.npy in the order of the dataset.

    Args:
      names: which of these are written.
      most_events: about how many events are held in memory at once.
    """
    index = positions(order.item_codes, len(kept.known))
    behavior = positions(order.behavior_codes, max(len(order.behavior_codes), 1))
    convert = {"items": lambda codes: index[codes], "times": lambda ns: ns // NANOSECONDS, "behaviors": lambda codes: behavior[codes]}
    first_event = np.full(len(log.lengths), -1, np.int64)
    first_event[order.sessions] = order.offsets[:-1]
    for name in names:
        _write_header(folder / f"{name}.npy", DTYPES[name], int(order.offsets[-1]))
    for start, end in _stretches(order.offsets, most_events):
        columns = {name: np.empty(end - start, DTYPES[name]) for name in names}
        for part, sessions in log.parts():
            chosen = (first_event[sessions] >= start) & (first_event[sessions] < end)
            if not chosen.any():
                continue
            remain = kept.known[log.events(part, "items")] & np.repeat(chosen, log.lengths[sessions])
            to = _places(first_event[sessions][chosen] - start, kept.lengths[sessions][chosen])
            for name, column in columns.items():
                column[to] = convert[name](log.events(part, name)[remain])
        for name, column in columns.items():
            with (folder / f"{name}.npy").open("ab") as file:
                column.tofile(file)


def _write_header(path: Path, dtype: type, length: int) -> None:
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)


def _stretches(offsets: np.ndarray, most_events: int) -> Iterator[tuple[int, int]]:
    """(first event, end) of stretches of whole sessions that hold about `most_events` events each.

    >>> list(_stretches(np.array([0, 2, 5, 6, 9]), 4))
    [(0, 5), (5, 9)]
    """
    start = 0
    while start < offsets[-1]:
        end = int(offsets[np.searchsorted(offsets, min(start + most_events, offsets[-1]))])
        yield start, end
        start = end


def _places(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where the events of sessions go that lie one after another here and begin at `first` there, [events] int64.

    >>> _places(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    here = np.cumsum(lengths) - lengths
    return np.repeat(first - here, lengths) + np.arange(lengths.sum())
