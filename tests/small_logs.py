"""Logs of a few rows for tests, and where the real ones lie."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from jaxrec.data.preparing.arrange import order_of, write_events
from jaxrec.data.preparing.cuts import Cuts
from jaxrec.data.preparing.filters import filter_events
from jaxrec.data.preparing.intake import Wanted, take_in
from jaxrec.data.preparing.session_log import write_sessions
from jaxrec.data.preparing.sessions import sessionise
from jaxrec.data.reading.formats import Chunk, Log
from jaxrec.errors import InputError

REAL = Path(__file__).parents[2] / "shared" / "data"
UNCUT = Cuts(None, None)


def real(name: str) -> Path:
    """A published log; the test is skipped where it is not there."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def write_lines(path: Path, lines: list[str], end: str = "\n") -> Path:
    """A text file of these lines."""
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def refusal(work: Callable[[], object]) -> str:
    """What the `InputError` says that `work` must end in; it fits on one line."""
    with pytest.raises(InputError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def log_of(rows: list[tuple], sessions: list | None = None, chunk: int = 7, **columns: list) -> Log:
    """A log of (user, item, seconds) rows, read in chunks of a few rows; user None in every row stands for a log without users."""
    users, items, seconds = zip(*rows, strict=True) if rows else ((), (), ())
    times = pa.array([round(one * 1000) * 1_000_000 for one in seconds], pa.int64())
    texts = {"user": users, "session": sessions, "item": items, **columns}
    given = {name: list(column) for name, column in texts.items() if column is not None and any(one is not None for one in column)}
    chunks = []
    for start in range(0, len(rows), chunk):
        part = {
            name: pa.array([None if one is None else str(one) for one in column[start : start + chunk]], pa.string()).dictionary_encode()
            for name, column in given.items()
        }
        chunks.append(Chunk(pa.table({**part, "time": times[start : start + chunk]}), []))
    return Log("rows", {}, iter(chunks), None)


class Arranged(NamedTuple):
    """What comes out of a small log: words of its sessions by period, arrays, and how much was dropped why."""

    words: list[list[str]]
    times: list[list[list[int]]]
    arrays: dict[str, np.ndarray]
    users: list[str]
    dropped: dict[str, int]
    rounds: list[dict[str, int]]


def arranged(
    log: Log, cuts: Cuts = UNCUT, *, test: Log | None = None, length=1, support=1, gap=1.0, parts=1, most_events=1 << 20, **rules
) -> Arranged:
    """Take a log through every step of prepare that works on events; items should have names of one letter."""
    logs = [log] if test is None else [log, test]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = take_in(logs, Wanted(), folder, parts, folder / "bad").rows
        sessions = write_sessions(rows, lambda part: sessionise(part, gap, **rules))
        kept = filter_events(sessions, len(rows.items), cuts, length, support)
        order = order_of(sessions, kept, rows)
        write_events(sessions, kept, order, ("items", "times"), folder, most_events)
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("items", "times")}
    letters = np.array(rows.items.to_pylist(), object)[order.item_codes]
    spans = [slice(start, end) for start, end in zip(order.offsets[:-1], order.offsets[1:], strict=True)]
    by_period = [spans[order.period_offsets[p] : order.period_offsets[p + 1]] for p in range(3)]
    known = ["" if user < 0 else rows.users[int(user)].as_py() for user in sessions.users[order.sessions]]
    dropped = dict(sessions.dropped)
    for one in kept.rounds:
        for reason, count in one.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Arranged(
        [["".join(letters[arrays["items"][span]]) for span in spans] for spans in by_period],
        [[arrays["times"][span].tolist() for span in spans] for spans in by_period],
        {**arrays, "offsets": order.offsets, "period_offsets": order.period_offsets, "item_codes": order.item_codes, "letters": letters},
        known,
        dropped,
        kept.rounds,
    )
