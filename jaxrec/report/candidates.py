"""The part of the report about candidates: the ceiling that they set for any ranking, and the bytes that they take."""

from functools import partial
from typing import Any

from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, share, size, table

NAMES = {
    "union": "candidates",
    "popularity": "popularity alone",
    "own": "own earlier items alone",
    "union_and_own": "candidates and own earlier items",
}
TEXT = (
    "Recall of candidates is the share of test targets among them: no ranking of the candidates can find more. They are picked by events "
    "before the test period alone. Old users have events before it, new ones get popular items. Own earlier items, those of the running "
    "session included, are on the device already. Own items beyond the candidates are rows that a device needs besides, on average."
)


def shown(found: dict[str, Any]) -> str:
    """What the terminal shows of the stage's result."""
    tables = [recall_table(found), reach_table(found), *([bytes_table(found["bytes"])] if "bytes" in found else [])]
    return "\n\n".join([*(table(one.header, one.rows) for one in tables), *([_sentence(found)] if "bytes" in found else [])])


def candidates(runs: Runs) -> Section | None:
    """Ceiling and bytes of the candidates."""
    parts = (recall_table, reach_table, lambda one: bytes_table(one["bytes"]) if "bytes" in one else None)
    found = [joined(runs, partial(_of, build)) for build in parts]
    return Section("Candidates", TEXT, tuple(one for one in found if one is not None)) if found[0] is not None else None


def _of(build: Any, summary: dict) -> Table | None:
    return build(summary["candidates"]) if summary["candidates"] is not None else None


def recall_table(found: dict[str, Any]) -> Table:
    """Recall by number of candidates and group of users, one row per list."""
    columns = [(n, group) for n in found["recall"] for group in found["predictions"]]
    names = dict.fromkeys(name for of_size in found["recall"].values() for name in of_size["all"])
    known = {group: number > 0 for group, number in found["predictions"].items()}
    rows = [(_named(name), *(share(found["recall"][n][group][name] if known[group] else None) for n, group in columns)) for name in names]
    return Table(("recall of candidates", *(f"{n}, {group}" for n, group in columns)), rows)


def reach_table(found: dict[str, Any]) -> Table:
    """Whom the lists are for."""
    rows = [("users", count(found["users"])), ("with allowed events", count(found["users_with_history"]))]
    rows += [(f"predictions, {group}", count(number)) for group, number in found["predictions"].items()]
    rows += [(f"own items beyond {n} candidates", f"{value:.1f}") for n, value in found["own_beyond"].items()]
    return Table(("candidates", ""), rows)


def bytes_table(found: dict[str, Any]) -> Table:
    """What a device downloads by precision of item rows, whole catalogue against candidates; and what it sends where the cloud ranks."""
    lists = next(iter(found["pull"].values()))["ratio"]
    rows = []
    for precision, one in found["pull"].items():
        cells = [f"{size(one[n])} ({one['ratio'][n]:,.1f}x less)" for n in lists]
        rows.append((f"pull, {precision}", size(one["catalogue"]), *cells))
    push = found["push"]
    rows.append(("push: up, down", "", *(f"{size(push['up'])}, {size(push['down'])}" for _ in lists)))
    if "model" in found:
        rows.append(("whole model file", size(found["model"]), *("" for _ in lists)))
    return Table(("bytes", "catalogue", *(f"{n} candidates" for n in lists)), rows)


def _sentence(found: dict[str, Any]) -> str:
    """What one delivery takes, as it was asked for."""
    weight, (n, *_) = found["bytes"], found["lists"]
    if weight["delivery"] == "push":
        return f"push: a device sends {size(weight['push']['up'])} and receives {size(weight['push']['down'])}, the cloud ranks {n}"
    return f"pull: a device receives {size(weight['pull']['float32'][str(n)])} (float32) for {n} candidates and sends nothing"


def _named(name: str) -> str:
    return NAMES.get(name, f"source: {name}")
