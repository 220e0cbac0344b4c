"""Prepare: from a published log to a dataset folder, with an account of every row."""

import dataclasses
import glob
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jaxrec.data.account import overlap_with_training, sizes
from jaxrec.data.cuts import Cuts, check_cuts, iso, parse_cut, parse_instant
from jaxrec.data.dataset import Dataset
from jaxrec.data.events import NANOSECONDS, Events, join, select
from jaxrec.data.formats import FORMATS, ColumnOptions, read_log
from jaxrec.data.sessions import SessionLog, arrange, filter_events, sessionise
from jaxrec.data.storage import MANIFEST, load_dataset, read_manifest, refuse_foreign, write_dataset
from jaxrec.errors import InputError
from jaxrec.options import Options, option

log = logging.getLogger("jaxrec")

DEFAULT_CUTS = ("0.7", "0.85")  # of a log with users, where none is given; a log without users has the second alone
_CUT_HELP = "ISO-8601 instant with a zone, unix seconds, or a fraction in (0, 1) of all events in time order"


@dataclasses.dataclass(frozen=True)
class PrepareOptions(Options):
    """How a log becomes sessions and periods."""

    format: str = option("auto", "format of the log; auto: recognised from its first line", choices=("auto", *FORMATS))
    item_field: str = option("item", "what is recommended", choices=("item", "category"))
    behaviors: tuple[str, ...] = option((), "behaviours to keep; empty: all")
    session_gap_minutes: float = option(30.0, "a log without sessions: a new one starts when a user's gap is greater", minimum=0)
    min_session_length: int = option(2, "shorter sessions are dropped", minimum=1)
    min_item_support: int = option(1, "items with fewer events in the global period are dropped", minimum=1)
    personal_from: str | None = option(None, f"start of the personal period: {_CUT_HELP} (default with users and no --test_input: 0.7)")
    test_from: str | None = option(None, f"start of the test period: {_CUT_HELP} (default without --test_input: 0.85)")
    time_from: str | None = option(None, "events before this instant are dropped: ISO-8601 with a zone, or unix seconds")
    time_to: str | None = option(None, "events from this instant on are dropped: ISO-8601 with a zone, or unix seconds")


class Prepared(NamedTuple):
    """A dataset that is not yet written, with the text of every item index and every user index."""

    dataset: Dataset
    item_names: pa.Array
    user_names: pa.Array


def prepare(
    inputs: list[Path], test_inputs: list[Path], options: PrepareOptions, columns: ColumnOptions, folder: Path, overwrite: bool = False
) -> dict:
    """Read a log, write a dataset folder, whole or not at all; one that was made the same way before is kept.

    Args:
      inputs: files of the log; names may be patterns such as logs/*.csv, or comma-separated lists.
      test_inputs: files that are the whole test period; empty where the log itself is cut.
      options: how.
      columns: where the columns of a csv are.
      folder: the dataset.
      overwrite: whether a dataset that was made otherwise is replaced.

    Returns:
      The manifest.

    Raises:
      InputError: a file or an option is wrong, or the folder holds another dataset.
    """
    inputs, test_inputs = input_files(inputs, "input"), input_files(test_inputs, "test_input")
    settings = _settings(inputs, test_inputs, options, columns)
    refuse_foreign(folder)
    kept = _kept(folder, settings, overwrite)
    if kept is not None:
        return kept
    began = time.perf_counter()
    train = read_log(inputs, options.format, options.item_field, columns)
    test = read_log(test_inputs, train.format, options.item_field, columns) if test_inputs else None
    if test is not None and test.columns != train.columns:
        raise InputError(f"--test_input: expected the columns of --input ({train.columns}); got {test.columns}")
    prepared = prepare_events(train.events, None if test is None else test.events, options)
    manifest = {"format": train.format, "columns": train.columns, **settings, **prepared.dataset.manifest}
    manifest["seconds"] = time.perf_counter() - began
    return write_dataset(dataclasses.replace(prepared.dataset, manifest=manifest), prepared.item_names, prepared.user_names, folder)


def _settings(inputs: list[Path], test_inputs: list[Path], options: PrepareOptions, columns: ColumnOptions) -> dict:
    """What a dataset is made from, as its manifest tells."""
    given = {**dataclasses.asdict(options), **dataclasses.asdict(columns)}
    named = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return {
        "options": named,
        "inputs": [_fingerprint(path) for path in inputs],
        "test_inputs": [_fingerprint(path) for path in test_inputs],
    }


def _fingerprint(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: expected a log file; {'got a folder' if path.exists() else 'there is no such file'}")
    stat = path.stat()
    return {"name": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def _kept(folder: Path, settings: dict, overwrite: bool) -> dict | None:
    """The manifest of the dataset that stands in `folder`, made with these settings; None where it has to be made."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
        differences = _differences(manifest, settings)
        if not differences:
            load_dataset(folder)
            log.info("%s: already prepared from the same files with the same options, kept", folder)
            return manifest
    except InputError:
        if overwrite:
            return None
        raise
    if not overwrite:
        raise InputError(f"{folder}: was prepared otherwise ({'; '.join(differences)}); --overwrite replaces it")
    return None


def _differences(manifest: dict, settings: dict) -> list[str]:
    """Each option or list of files in which a dataset differs from what is asked for, as text."""
    old, new = ({**one["options"], "input": one["inputs"], "test_input": one["test_inputs"]} for one in (manifest, settings))
    return [f"--{name}: {_short(old.get(name))} there, {_short(new.get(name))} now" for name in old | new if old.get(name) != new.get(name)]


def _short(value: object) -> str:
    """A setting in few words; of an input file its name, size and time of change in seconds."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"{one['name']} ({one['bytes']} bytes, of {iso(one['modified_ns'] // NANOSECONDS)})" for one in value)
    return repr(value)


def input_files(given: list[Path], flag: str) -> list[Path]:
    """The files that paths, patterns and comma-separated lists of them name; patterns in order of name.

    Raises:
      InputError: a pattern fits no file.
    """
    found = []
    for path in given:
        for one in [str(path)] if path.exists() else str(path).split(","):
            is_pattern = glob.has_magic(one) and not Path(one).exists()
            fitting = sorted(glob.glob(one)) if is_pattern else [one]  # noqa: PTH207 (Path.glob refuses absolute patterns)
            if not fitting:
                raise InputError(f"--{flag}: expected files that fit {one}; there are none")
            found += [Path(file) for file in fitting]
    return found


def prepare_events(train: Events, test: Events | None, options: PrepareOptions) -> Prepared:
    """Turn events into a dataset: sessions, filters, periods and the account of them.

    Args:
      train: the log.
      test: a log of its own that is the whole test period; None where `train` is cut.
      options: how.

    Raises:
      InputError: an option does not fit the log, or nothing is left.
    """
    events = train if test is None else join(train, test)
    held_out = np.arange(len(events)) >= len(train)
    rows, dropped = _wanted_rows(events, options)
    if not rows[: len(train)].any():
        raise InputError(f"--time_from, --time_to, --behaviors: expected events that fit them; none remains of {len(train)} rows")
    chosen, held_out = select(events, rows), held_out[rows]
    cuts = choose_cuts(chosen, held_out, test is not None, options)
    sessions = sessionise(chosen, held_out, options.session_gap_minutes)
    kept, filtered = filter_events(sessions, cuts, options.min_session_length, options.min_item_support)
    dataset, item_codes, user_codes = arrange(sessions, kept, cuts, events.item_names, events.user_names)
    if not dataset.period_offsets[1]:
        length = options.min_session_length
        raise InputError(
            f"--min_session_length: expected sessions of {length} events in the global period; none remains of {len(events)} rows"
        )
    account = {"rows_read": len(events), "rows_dropped": dropped | filtered, "sessions_found": len(sessions.users), "cuts": cuts._asdict()}
    account |= sizes(dataset, cuts) | (overlap_with_training(dataset) if test is not None else {})
    account["warnings"] = _warnings(account, sessions, made=events.sessions is None, options=options)
    users = pa.array([], pa.string()) if events.user_names is None else events.user_names.take(pa.array(user_codes))
    return Prepared(dataclasses.replace(dataset, manifest=account), events.item_names.take(pa.array(item_codes)), users)


def _wanted_rows(events: Events, options: PrepareOptions) -> tuple[np.ndarray, dict[str, int]]:
    """(which rows have a wanted behaviour and time, [rows] bool; how many do not, by reason)."""
    wanted = _wanted_behaviors(events, options.behaviors)
    of_behavior = int(np.count_nonzero(wanted))
    start, end = (None if text is None else parse_instant(text, name) * NANOSECONDS for name, text in _window(options).items())
    if start is not None:
        wanted &= events.times >= start
    if end is not None:
        wanted &= events.times < end
    return wanted, {"behavior": len(events) - of_behavior, "outside_time": of_behavior - int(np.count_nonzero(wanted))}


def _window(options: PrepareOptions) -> dict[str, str | None]:
    return {"time_from": options.time_from, "time_to": options.time_to}


def _wanted_behaviors(events: Events, behaviors: tuple[str, ...]) -> np.ndarray:
    if not behaviors:
        return np.ones(len(events), bool)
    if events.behaviors is None:
        raise InputError(f"--behaviors: expected none, the log has no behaviours; got {','.join(behaviors)}")
    found = events.behavior_names.to_pylist()
    unknown = [name for name in behaviors if name not in found]
    if unknown:
        raise InputError(f"--behaviors: expected behaviours of the log ({', '.join(sorted(found))}); got {', '.join(unknown)}")
    return np.isin(events.behaviors, [found.index(name) for name in behaviors])


def choose_cuts(events: Events, held_out: np.ndarray, has_test: bool, options: PrepareOptions) -> Cuts:
    """The cuts that the options name, or the default ones.

    Args:
      events: all parsed events, before any filter by length or support.
      held_out: which of them come from a test file, [rows] bool.
      has_test: whether there is a test file.
      options: may name cuts.
    """
    personal, test = options.personal_from, options.test_from
    if personal is not None and events.users is None:
        raise InputError(f"--personal_from: expected none, the log has no users; got {personal}")
    if has_test and test is not None:
        raise InputError(f"--test_from: expected none, --test_input is the whole test period; got {test}")
    if not has_test and test is None:
        if personal is not None:
            raise InputError(f"--test_from: expected a cut, because --personal_from is given ({personal}); got none")
        personal, test = (DEFAULT_CUTS[0] if events.users is not None else None), DEFAULT_CUTS[1]
    times = events.times[~held_out]
    given = {"personal_from": personal, "test_from": test}
    cuts = Cuts(**{name: None if text is None else parse_cut(text, name, times) for name, text in given.items()})
    check_cuts(cuts, times)
    return cuts


def _warnings(account: dict, sessions: SessionLog, *, made: bool, options: PrepareOptions) -> list[str]:
    found = []
    single = np.mean(np.bincount(sessions.session) == 1)
    if made and single > 0.5:
        made_by = f"a gap of {options.session_gap_minutes:g} minutes"
        found.append(f"{single:.0%} of the sessions made by {made_by} hold one event; a larger --session_gap_minutes may suit this log")
    cuts = account["cuts"]
    wanted = ["test"] if cuts["personal_from"] is None else ["personal", "test"]
    found += [f"the {name} period holds no session" for name in wanted if not account["periods"][name]["sessions"]]
    return found
