"""Events: what every log format is read into; columns of one row per event, in the order of the file."""

import dataclasses

import numpy as np
import pyarrow as pa

NANOSECONDS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Events:
    """A parsed log.

    Codes are positions in the list of names beside them; -1 means none. Names are text, never numbers: "0104257" keeps its zero.

    Attributes:
      items: code of every event's item, [rows] int32.
      times: nanoseconds since 1970 (UTC) of every event, exact, [rows] int64.
      item_names: text of every item code.
      users: code of every event's user, [rows] int32; None in a log without users.
      user_names: text of every user code.
      sessions: session number of every event as the log gives it, [rows]; None in a log without sessions.
      behaviors: code of every event's behaviour, [rows] int32; None in a log without behaviours.
      behavior_names: text of every behaviour code.
    """

    items: np.ndarray
    times: np.ndarray
    item_names: pa.Array
    users: np.ndarray | None = None
    user_names: pa.Array | None = None
    sessions: np.ndarray | None = None
    behaviors: np.ndarray | None = None
    behavior_names: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.items)


def select(events: Events, rows: np.ndarray) -> Events:
    """The events where `rows` is True, [rows] bool."""
    if rows.all():
        return events
    columns = ("items", "times", "users", "sessions", "behaviors")
    kept = {name: getattr(events, name) for name in columns}
    return dataclasses.replace(events, **{name: None if column is None else column[rows] for name, column in kept.items()})


def join(first: Events, second: Events) -> Events:
    """One log after the other: items, users and behaviours of one name become one, sessions of equal numbers stay two."""
    items, item_names = _join_codes((first.items, second.items), (first.item_names, second.item_names))
    users, user_names = _join_codes((first.users, second.users), (first.user_names, second.user_names))
    behaviors, behavior_names = _join_codes((first.behaviors, second.behaviors), (first.behavior_names, second.behavior_names))
    sessions = None
    if first.sessions is not None and second.sessions is not None:
        offset = first.sessions.max(initial=-1) + 1
        sessions = np.concatenate([first.sessions, second.sessions.astype(np.int64) + offset])
    times = np.concatenate([first.times, second.times])
    return Events(items, times, item_names, users, user_names, sessions, behaviors, behavior_names)


def _join_codes(codes: tuple, names: tuple) -> tuple[np.ndarray | None, pa.Array | None]:
    if any(one is None for one in codes):
        return None, None
    encoded = [pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), name) for code, name in zip(codes, names, strict=True)]
    return codes_of(pa.chunked_array(encoded))


def codes_of(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """(codes, names) of a dictionary-encoded column; -1 where it holds no value.

    >>> parts = [pa.array(["b", "a", "b"]).dictionary_encode(), pa.array([None, "a"]).dictionary_encode()]
    >>> codes, names = codes_of(pa.chunked_array(parts))
    >>> codes.tolist(), names.to_pylist()
    ([0, 1, 0, -1, 1], ['b', 'a'])
    """
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return np.zeros(0, np.int32), pa.array([], pa.string())
    codes = pa.chunked_array([chunk.indices for chunk in column.chunks]).combine_chunks()
    return np.asarray(codes.fill_null(-1)), column.chunk(0).dictionary
