"""The account of a dataset as text: every row that was read, the periods, and how long sessions are."""

import numpy as np

from jaxrec.data.dataset import PERIODS, Dataset, iso
from jaxrec.data.preparing.cuts import Cuts
from jaxrec.errors import InputError

_PIECE = 1 << 22
_REASONS = {
    "unparsable": "lines that could not be read",
    "duplicate": "with session or user, item, time and behaviour of an earlier row",
    "repeat": "the same item and behaviour again, at once",
    "behavior": "other behaviour",
    "outside_time": "outside --time_from, --time_to",
    "short_session": "in a session that is too short",
    "rare_item": "of an item that is too rare",
    "unknown_item": "of an item unknown in the global period",
}


def sizes(dataset: Dataset, cuts: Cuts, behaviors: list[str]) -> dict:
    """Sizes of a dataset, of its periods and of its sessions, as its manifest holds them."""
    times = dataset.times
    return {
        "events": len(dataset.items),
        "sessions": dataset.n_sessions,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "periods": {name: _period_sizes(dataset, dataset.period(name)) for name in PERIODS},
        "straddling_events": _straddling(dataset, cuts),
        "session_length": _percentiles(np.diff(dataset.offsets)),
        "behaviors": _behaviors(dataset, behaviors),
        "first_time": int(times.min()),
        "last_time": int(times.max()),
    }


def _period_sizes(dataset: Dataset, sessions: range) -> dict[str, int]:
    first, last = dataset.offsets[sessions.start], dataset.offsets[sessions.stop]
    return {
        "events": int(last - first),
        "sessions": len(sessions),
        "users": int(np.count_nonzero(_count(dataset.users[sessions.start : sessions.stop], dataset.n_users))),
        "items": int(np.count_nonzero(_count(dataset.items[first:last], dataset.n_items))),
        "session_length": _percentiles(np.diff(dataset.offsets[sessions.start : sessions.stop + 1])),
    }


def _count(codes: np.ndarray, size: int) -> np.ndarray:
    """How often each code below `size` occurs, [size]; -1 is none. Piece by piece, because counting takes 8 bytes per code."""
    counts = np.zeros(size + 1, np.int64)
    for start in range(0, len(codes), _PIECE):
        counts += np.bincount(codes[start : start + _PIECE] + 1, minlength=size + 1)
    return counts[1:]


def _percentiles(lengths: np.ndarray) -> dict[str, int]:
    """Lengths that a share of the sessions does not exceed; p50 is the median."""
    if not len(lengths):
        return {}
    shares = (10, 50, 90, 99, 100)
    return {f"p{p}": int(n) for p, n in zip(shares, np.percentile(lengths, shares, method="lower"), strict=True)}


def _behaviors(dataset: Dataset, names: list[str]) -> dict[str, int]:
    """Events of every behaviour, in the order of the codes."""
    counts = [] if dataset.behaviors is None else _count(dataset.behaviors, len(names)).tolist()
    return dict(zip(names, counts, strict=dataset.behaviors is not None))


def _straddling(dataset: Dataset, cuts: Cuts) -> int:
    """Events of sessions that begin before a cut and run over it."""
    ends = {"global": cuts.test_from if cuts.personal_from is None else cuts.personal_from, "personal": cuts.test_from}
    count = 0
    for name, end in ends.items():
        sessions = dataset.period(name)
        times = dataset.times[dataset.offsets[sessions.start] : dataset.offsets[sessions.stop]]
        count += 0 if end is None else int(np.count_nonzero(times >= end))
    return count


def overlap_with_training(dataset: Dataset) -> dict[str, int]:
    """How many test sessions start before the last training event, as in many published splits into two files."""
    first = dataset.period_offsets[2]
    training_end = dataset.times[: dataset.offsets[first]].max()
    starts = dataset.times[dataset.offsets[first:-1]]
    return {"test_sessions_before_training_end": int(np.count_nonzero(starts < training_end))}


def describe(manifest: dict) -> str:
    """Rows read and dropped, sizes, periods, cuts and lengths, one fact per line."""
    columns = ", ".join(f"{role} = {name}" for role, name in manifest["columns"].items())
    lines = [f"format              {manifest['format']:>12}  {columns}".rstrip(), f"rows read           {manifest['rows_read']:>12,}"]
    lines += [f"  dropped           {count:>12,}  {_REASONS[reason]}" for reason, count in manifest["rows_dropped"].items() if count]
    lines += [f"    {line['file']} line {line['line']}: {line['fault']}" for line in manifest["bad_lines"]]
    lines += ["    (all of them: bad_lines.csv in the dataset)"] if manifest["bad_lines"] else []
    lines += [f"{name:<20}{manifest[name]:>12,}" for name in ("events", "sessions", "users", "items")]
    lines += [f"sessions found      {manifest['sessions_found']:>12,}", *_rounds(manifest["rounds"])]
    if manifest["behaviors"]:
        lines += ["", "behaviour     " + ", ".join(f"{name} {count:,}" for name, count in manifest["behaviors"].items() if count)]
    if manifest["features"]:
        lines += ["", "item features " + ", ".join(manifest["features"])]
    lines += ["", f"{'period':<10}{'events':>14}{'sessions':>12}{'users':>12}{'items':>12}  {'session length':<36}from"]
    lines += [_period_line(manifest, name) for name in PERIODS]
    lines += [_counts("all", manifest)]
    lines += ["", f"rows with session or user, item, time and behaviour of an earlier one: {manifest['duplicate_rows']:,}"]
    lines += [f"events of sessions that run over a cut: {manifest['straddling_events']:,}"]
    if "test_sessions_before_training_end" in manifest:
        lines += [f"test sessions that start before the last training event: {manifest['test_sessions_before_training_end']:,}"]
    return "\n".join([*lines, *(f"warning: {text}" for text in manifest["warnings"])])


def _rounds(rounds: list[dict[str, int]]) -> list[str]:
    """What each round of the filters dropped, where there was more than one that did."""
    *of_global, of_later = rounds
    acted = [one for one in of_global if any(one.values())]
    if len(acted) < 2:
        return []
    lines = ["", f"{'filter round':<16}{'short sessions':>16}{'rare items':>16}{'unknown items':>16}"]
    lines += [f"{number:<16}{one['short_session']:>16,}{one['rare_item']:>16,}" for number, one in enumerate(acted, 1)]
    return [*lines, f"{'later periods':<16}{of_later['short_session']:>16,}{'':>16}{of_later['unknown_item']:>16,}"]


def _period_line(manifest: dict, name: str) -> str:
    start = manifest["first_time"] if name == "global" else manifest["cuts"][f"{name}_from"]
    return f"{_counts(name, manifest['periods'][name]):<97} {iso(start)}"


def _counts(name: str, sizes: dict) -> str:
    numbers = "".join(f"{sizes[what]:>{width},}" for what, width in (("events", 14), ("sessions", 12), ("users", 12), ("items", 12)))
    return f"{name:<10}{numbers}  {_lengths(sizes)}"


def _lengths(sizes: dict) -> str:
    return " ".join(f"{name} {length}" for name, length in sizes["session_length"].items())


def histograms(dataset: Dataset) -> str:
    """How many sessions have how many events, and, in a log with users, how many users have how many."""
    lengths = np.diff(dataset.offsets)
    text = "events per session\n" + histogram(lengths)
    if not dataset.n_users:
        return text
    known = dataset.users >= 0
    per_user = np.bincount(dataset.users[known], weights=lengths[known], minlength=dataset.n_users).astype(np.int64)
    return f"{text}\n\nevents per user\n{histogram(per_user)}"


def histogram(values: np.ndarray, width: int = 40) -> str:
    """Bars of counts by powers of two; the longest has `width` marks.

    >>> print(histogram(np.array([1, 2, 2, 3, 9]), width=6))
        1 - 1                  1 ##
        2 - 3                  3 ######
        4 - 7                  0
        8 - 15                 1 ##
    """
    # The bit length of n is the number of its power of two.
    counts = np.bincount(np.frexp(np.maximum(values, 1))[1])[1:]
    marks = np.ceil(counts * width / max(counts.max(), 1)).astype(int)
    rows = [(1 << power, (2 << power) - 1, int(counts[power]), "#" * int(marks[power])) for power in range(len(counts))]
    return "\n".join(f"{low:>5} - {high:<8}{count:>12,} {bar}".rstrip() for low, high, count, bar in rows)


def check_account(dataset: Dataset) -> None:
    """The manifest tells of the arrays that are there.

    Raises:
      InputError: it does not; names what differs.
    """
    manifest = dataset.manifest
    for name, value in sizes(dataset, Cuts(**manifest["cuts"]), list(manifest["behaviors"])).items():
        if manifest.get(name) != value:
            raise InputError(f"{dataset.folder}: expected {name} {manifest.get(name)}, as the manifest says; got {value} in the arrays")
