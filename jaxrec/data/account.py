"""The account of a dataset as text: every row that was read, the periods, and how long sessions are."""

import numpy as np

from jaxrec.data.cuts import Cuts, iso
from jaxrec.data.dataset import PERIODS, Dataset

_REASONS = {
    "behavior": "other behaviour",
    "outside_time": "outside --time_from, --time_to",
    "short_session": "in a session that is too short",
    "rare_item": "of an item that is too rare",
    "unknown_item": "of an item unknown in the global period",
}


def sizes(dataset: Dataset, cuts: Cuts) -> dict:
    """Sizes of a dataset, of its periods and of its sessions, as its manifest holds them."""
    lengths, times = np.diff(dataset.offsets), dataset.times
    return {
        "events": len(dataset.items),
        "sessions": dataset.n_sessions,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "periods": {name: _period_sizes(dataset, dataset.period(name)) for name in PERIODS},
        "straddling_events": _straddling(dataset, cuts),
        "session_length": {f"p{p}": int(np.percentile(lengths, p, method="lower")) for p in (10, 50, 90, 99, 100)},
        "first_time": int(times.min()),
        "last_time": int(times.max()),
    }


def _period_sizes(dataset: Dataset, sessions: range) -> dict[str, int]:
    users = dataset.users[sessions.start : sessions.stop]
    events = dataset.offsets[sessions.stop] - dataset.offsets[sessions.start]
    return {"events": int(events), "sessions": len(sessions), "users": len(np.unique(users[users >= 0]))}


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
    columns = ", ".join(f"{role} = {name}" for role, name in manifest.get("columns", {}).items())
    lines = [
        f"format              {manifest.get('format', 'none'):>12}  {columns}".rstrip(),
        f"rows read           {manifest['rows_read']:>12,}",
    ]
    lines += [
        f"  dropped           {count:>12,}  {_REASONS.get(reason, reason)}" for reason, count in manifest["rows_dropped"].items() if count
    ]
    lines += [f"{name:<20}{manifest[name]:>12,}" for name in ("events", "sessions", "users", "items")]
    lines += ["", f"{'period':<10}{'events':>14}{'sessions':>12}{'users':>12}  from", *(_period_line(manifest, name) for name in PERIODS)]
    lines += [f"events of sessions that run over a cut: {manifest['straddling_events']:,}"]
    if "test_sessions_before_training_end" in manifest:
        lines += [f"test sessions that start before the last training event: {manifest['test_sessions_before_training_end']:,}"]
    lengths = ", ".join(f"{name} {length}" for name, length in manifest["session_length"].items())
    return "\n".join([*lines, f"session length: {lengths}", *(f"warning: {text}" for text in manifest["warnings"])])


def _period_line(manifest: dict, name: str) -> str:
    sizes = manifest["periods"][name]
    start = manifest["first_time"] if name == "global" else manifest["cuts"][f"{name}_from"]
    return f"{name:<10}{sizes['events']:>14,}{sizes['sessions']:>12,}{sizes['users']:>12,}  {iso(start)}"


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
