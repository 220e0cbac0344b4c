"""Build: the rows of a log become the files of a dataset and the account of every row."""

import contextlib
import dataclasses
import fractions
import functools
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from jaxrec.data.account import overlap_with_training, sizes
from jaxrec.data.preparing.arrange import DTYPES, Order, order_of, write_events
from jaxrec.data.preparing.cuts import Cuts, check_cuts, parse_cut, parse_instant
from jaxrec.data.preparing.filters import Kept, filter_events
from jaxrec.data.preparing.intake import Intake, Wanted, take_in
from jaxrec.data.preparing.names import positions
from jaxrec.data.preparing.rows import Rows
from jaxrec.data.preparing.session_log import SessionLog, write_sessions
from jaxrec.data.preparing.sessions import sessionise
from jaxrec.data.reading.formats import Log
from jaxrec.data.reading.time_units import NANOSECONDS
from jaxrec.data.storage import BAD_LINES, FEATURES, open_arrays, write_names
from jaxrec.errors import InputError
from jaxrec.options import Options, option

log = logging.getLogger("jaxrec")

DEFAULT_CUTS = ("0.7", "0.85")  # of a log with users, where none is given; a log without users has the second alone
_CUT_HELP = "ISO-8601 instant with a zone, unix seconds, or a fraction in (0, 1) of all events in time order"


@dataclasses.dataclass(frozen=True)
class PrepareOptions(Options):
    """How the rows of a log become sessions and periods."""

    behaviors: tuple[str, ...] = option((), "behaviours to keep; empty: all")
    time_from: str | None = option(None, "events before this instant are dropped: ISO-8601 with a zone, or unix seconds")
    time_to: str | None = option(None, "events from this instant on are dropped: ISO-8601 with a zone, or unix seconds")
    session_gap_minutes: float = option(
        30.0, "a log without sessions: a new one starts when a user's gap is greater", minimum=0, maximum=1e8
    )
    drop_duplicates: bool = option(False, "drop rows with session or user, item, time and behaviour of an earlier one")
    drop_repeats: bool = option(False, "drop events of the same item and behaviour as the one before in their session")
    min_session_length: int = option(2, "shorter sessions are dropped", minimum=1)
    max_session_length: int | None = option(None, "longer sessions are split into pieces of nearly equal length", minimum=2, maximum=1e9)
    min_item_support: int = option(1, "items with fewer events in the global period are dropped", minimum=1)
    personal_from: str | None = option(None, f"start of the personal period: {_CUT_HELP} (default with users and no --test_input: 0.7)")
    test_from: str | None = option(None, f"start of the test period: {_CUT_HELP} (default without --test_input: 0.85)")
    memory_limit_gb: float = option(
        6.0,
        "memory to work in; rows wait on disk, only some numbers per session, item and user do not",
        minimum=0.25,
        maximum=1e5,
    )


def build(
    logs: Sequence[Log],
    options: PrepareOptions,
    folder: Path,
    parts: int = 1,
    most_events: int = 1 << 30,
    progress: Callable[[int], object] = int,
) -> dict:
    """Turn logs into the files of a dataset, all but its manifest.

    Args:
      logs: the log and, if there is one, a log of its own that is the whole test period.
      options: how.
      folder: takes the files; `BAD_LINES` is one of them where lines could not be read.
      parts: into how many parts the rows are spread on disk; changes nothing in what is written.
      most_events: how many events are arranged at once; changes nothing either.
      progress: is told the bytes of each piece of a log that was read.

    Returns:
      The account of every row, as the manifest holds it.

    Raises:
      InputError: an option does not fit the log, or nothing is left.
    """
    check_cut_options(options, len(logs) > 1)
    spool = folder / "spool"
    spool.mkdir()
    seconds: dict[str, float] = {}
    with _stage("read", seconds):
        intake = take_in(logs, _wanted(options), spool, parts, folder / BAD_LINES, progress)
    # What the rest holds in memory is free before the arrays that it wrote are read.
    account = _write_arrays(logs[0], intake, len(logs) > 1, options, folder, most_events, seconds)
    shutil.rmtree(spool)
    found = open_arrays(folder, account["users"])
    account |= sizes(found, Cuts(**account["cuts"]), sorted(intake.rows.behaviors.to_pylist()))
    account |= overlap_with_training(found) if len(logs) > 1 else {}
    account["warnings"] += _empty_periods(account) + _unknown_items(account)
    if account["rows_read"] != account["events"] + sum(account["rows_dropped"].values()):
        raise RuntimeError(f"rows are lost: {account['rows_read']} read, {account['events']} kept, {account['rows_dropped']} dropped")
    return account | {"stage_seconds": seconds}


def _write_arrays(
    log: Log, intake: Intake, has_test: bool, options: PrepareOptions, folder: Path, most_events: int, seconds: dict[str, float]
) -> dict:
    """Write all files but the manifest; returns the account of the rows."""
    pa.default_memory_pool().release_unused()
    if intake.dropped["unparsable"] == intake.rows_read:
        first = intake.bad_lines[0]
        raise InputError(f"{first.file} line {first.line}: {first.fault}; none of {intake.rows_read} lines could be read")
    if intake.rows.moments.first is None:
        raise InputError(f"--time_from, --time_to, --behaviors: expected events that fit them; none remains of {intake.rows_read} rows")
    cuts = choose_cuts(intake.rows, has_test, options)
    with _stage("sessions", seconds):
        cut = (options.session_gap_minutes, options.drop_duplicates, options.drop_repeats, options.max_session_length)
        sessions = write_sessions(intake.rows, lambda rows: sessionise(rows, *cut))
    with _stage("filter", seconds):
        kept = filter_events(sessions, len(intake.rows.items), cuts, options.min_session_length, options.min_item_support)
    warnings = _single_events(sessions, options) if not len(intake.rows.sessions) else []
    if not kept.support.any():
        wanted = f"sessions of {options.min_session_length} events of items with {options.min_item_support} or more"
        found = "; ".join([f"none remains of {intake.rows_read} rows", *warnings])
        raise InputError(f"--min_session_length, --min_item_support: expected {wanted} in the global period; {found}")
    with _stage("arrange", seconds):
        order = order_of(sessions, kept, intake.rows)
        columns = [name for name in DTYPES if name != "behaviors" or len(intake.rows.behaviors)]
        write_events(sessions, kept, order, columns, folder, most_events)
        _write_lines(sessions, kept, order, intake, folder)
        features = _write_features(log.item_features, intake, order, folder)
    account = _account(intake, sessions, kept, cuts)
    return account | {"features": features, "users": len(order.user_codes), "warnings": warnings}


@contextlib.contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
    if seconds[name] > 5:
        log.info("%s: %.0f s", name, seconds[name])


def _wanted(options: PrepareOptions) -> Wanted:
    given = {"time_from": options.time_from, "time_to": options.time_to}
    return Wanted(options.behaviors, **{n: None if text is None else parse_instant(text, n) * NANOSECONDS for n, text in given.items()})


def check_cut_options(options: PrepareOptions, has_test: bool) -> None:
    """Raise InputError where the cuts cannot be meant together, before the log is read."""
    personal, test = options.personal_from, options.test_from
    if has_test and test is not None:
        raise InputError(f"--test_from: expected none, --test_input is the whole test period; got {test}")
    if not has_test and test is None and personal is not None:
        raise InputError(f"--test_from: expected a cut, because --personal_from is given ({personal}); got none")
    for name, text in {"personal_from": personal, "test_from": test}.items():
        if text is not None:
            parse_cut(text, name, lambda _: 0)


def choose_cuts(rows: Rows, has_test: bool, options: PrepareOptions) -> Cuts:
    """The cuts that the options name, or the default ones; fractions are of the rows, before any filter by length or support."""
    given = {"personal_from": options.personal_from, "test_from": options.test_from}
    if given["personal_from"] is not None and not len(rows.users):
        raise InputError(f"--personal_from: expected none, the log has no users; got {given['personal_from']}")
    if not has_test and given["test_from"] is None:
        given = {"personal_from": DEFAULT_CUTS[0] if len(rows.users) else None, "test_from": DEFAULT_CUTS[1]}
    second_at = functools.partial(_second_at, rows)
    cuts = Cuts(**{name: None if text is None else parse_cut(text, name, second_at) for name, text in given.items()})
    asked = [name for name in given if getattr(options, name) is not None]
    check_cuts(cuts, rows.moments.first, rows.moments.last, asked)
    return cuts


def _second_at(rows: Rows, share: fractions.Fraction) -> int:
    parts = (rows.part(number) for number in range(rows.parts))
    return rows.moments.second_at(share, (part["time"][~part["held_out"]] for part in parts))


def _write_lines(log: SessionLog, kept: Kept, order: Order, intake: Intake, folder: Path) -> None:
    """Write the arrays of sessions and items, and the names of items and users."""
    codes = log.users[order.sessions]
    index = positions(order.user_codes, max(len(intake.rows.users), 1))
    arrays = {
        "offsets": order.offsets,
        "users": np.where(codes < 0, np.int32(-1), index[codes]),
        "period_offsets": order.period_offsets,
        "item_counts": kept.support[order.item_codes],
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    texts = (names.take(pa.array(codes)) for names, codes in ((intake.rows.items, order.item_codes), (intake.rows.users, order.user_codes)))
    write_names(folder, arrays["item_counts"], *texts)


def _write_features(companion: pa.Table | None, intake: Intake, order: Order, folder: Path) -> list[str]:
    """Write what the log and a companion file of it say about the items, if they say anything; names of the features."""
    columns = {name: feature.texts(order.item_codes) for name, feature in intake.features.items()}
    if companion is not None:
        names = companion["item"].combine_chunks().cast(pa.large_string())
        row = pa.compute.index_in(intake.rows.items.take(pa.array(order.item_codes)), value_set=names)
        columns |= {name: companion[name].combine_chunks().take(row) for name in companion.column_names if name != "item"}
    if columns:
        columns = {f"{name}_of_item" if name == "index" else name: column for name, column in columns.items()}
        pa.parquet.write_table(pa.table({"index": np.arange(len(order.item_codes), dtype=np.int32), **columns}), folder / FEATURES)
    return list(columns)


def _account(intake: Intake, sessions: SessionLog, kept: Kept, cuts: Cuts) -> dict:
    filtered = dict.fromkeys(("short_session", "rare_item", "unknown_item"), 0)
    for one in kept.rounds:
        for reason, count in one.items():
            filtered[reason] += count
    return {
        "rows_read": intake.rows_read,
        "rows_dropped": intake.dropped | sessions.dropped | filtered,
        "rounds": kept.rounds,
        "duplicate_rows": sessions.duplicates,
        "bad_lines": [line._asdict() for line in intake.bad_lines],
        "sessions_found": len(sessions.lengths),
        "cuts": cuts._asdict(),
    }


def _single_events(sessions: SessionLog, options: PrepareOptions) -> list[str]:
    single = np.mean(sessions.lengths == 1)
    if single <= 0.5:
        return []
    made = f"{single:.0%} of the sessions made by a gap of {options.session_gap_minutes:g} minutes hold one event"
    order = np.lexsort((sessions.starts, sessions.users))
    pauses = np.diff(sessions.starts[order])[np.diff(sessions.users[order]) == 0] / NANOSECONDS / 60
    apart = [f"half of them begin within {np.median(pauses):,.0f} minutes of the user's one before"] if len(pauses) else []
    return ["; ".join([made, *apart, "a larger --session_gap_minutes may suit this log"])]


def _empty_periods(account: dict) -> list[str]:
    wanted = ["personal", "test"] if account["users"] else ["test"]
    return [f"the {name} period holds no session" for name in wanted if not account["periods"][name]["sessions"]]


def _unknown_items(account: dict) -> list[str]:
    unknown, known = account["rows_dropped"]["unknown_item"], sum(account["periods"][name]["events"] for name in ("personal", "test"))
    text = f"{unknown:,} events after the global period are on items unknown in it and left out, {known:,} remain"
    return [f"{text}; a longer global period knows more items"] if unknown > known else []
