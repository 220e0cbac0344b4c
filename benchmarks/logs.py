"""Simulated logs of any number of rows, in two published formats, to measure with.

    python -m benchmarks.logs --format=userbehavior --rows=1000000 --out=runs/userbehavior.csv
    python -m benchmarks.logs --format=rsc15 --rows=33003944 --out=runs/yoochoose-clicks.dat

At the published number of rows a log has the published numbers of users or sessions and of items. Users and sessions grow with the rows;
items with the root of the rows, with at least 5 rows for an item. Every item occurs; how often follows Zipf's law, flattened at the top.
The clicks say nothing about each other, but that an item is often clicked again at once.

Memory: a block of users or sessions, and a few numbers for each of them and for each item.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv


class Size(NamedTuple):
    """Rows of a log, its groups (users or sessions, whose rows stand together) and its items."""

    rows: int
    groups: int
    items: int


USERBEHAVIOR = Size(100_150_807, 987_994, 4_162_024)
RSC15 = Size(33_003_944, 9_249_729, 52_739)

ROWS_AT_ONCE = 2_000_000
AGAIN = 0.45  # chance that a click goes to the item before it in its session

BEHAVIORS = {"pv": 0.896, "cart": 0.055, "fav": 0.029, "buy": 0.020}
USERBEHAVIOR_CATEGORIES = 9_439
USERBEHAVIOR_FROM = 1_511_539_200  # 2017-11-25 00:00 UTC+8
USERBEHAVIOR_SECONDS = 9 * 86_400
NEW_SESSION = 0.25  # chance that a user's next row starts another session

RSC15_CATEGORIES = {"0": 0.5, "S": 0.3} | {str(number): 0.2 / 12 for number in range(1, 13)}
RSC15_FROM = np.datetime64("2014-04-01")
RSC15_DAYS = 183


def size(published: Size, rows: int) -> Size:
    """The groups and items of a log of so many rows.

    >>> size(USERBEHAVIOR, USERBEHAVIOR.rows) == USERBEHAVIOR, size(RSC15, 1_000_000)
    (True, Size(rows=1000000, groups=280261, items=9180))
    """
    scale = rows / published.rows
    return Size(rows, max(1, round(published.groups * scale)), max(1, min(round(published.items * scale**0.5), rows // 5)))


def write_userbehavior(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of user, item, category, behaviour, unix seconds; the rows of a user stand together, sessions in order of time."""
    rng, log = np.random.default_rng(seed), size(USERBEHAVIOR, rows)
    users, items = _identities(rng, log.groups, 1.03), _identities(rng, log.items, 1.24)
    categories = max(1, round(USERBEHAVIOR_CATEGORIES * log.items / USERBEHAVIOR.items))
    with Path(path).open("wb") as file:
        for block in _blocks(rng, log, spread=0.7):
            new = rng.random(len(block.group), np.float32) < NEW_SESSION
            new[1:] |= np.diff(block.group) > 0
            new[0] = True
            user = block.group[new] * USERBEHAVIOR_SECONDS
            start = np.sort(user + rng.integers(0, USERBEHAVIOR_SECONDS, len(user))) - user
            item = items[_clicks(rng, log, block, new)]
            columns = (
                users[block.group],
                item,
                item * 7919 % categories * 500 + 7,
                _texts(rng, BEHAVIORS, len(item)),
                USERBEHAVIOR_FROM + np.minimum(_times(rng, new, start, 60), USERBEHAVIOR_SECONDS - 1),
            )
            _write(columns, file)


def write_rsc15(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of session, ISO time with milliseconds, item, category; the rows of a session stand together, sessions in no order of time.

    A category is what the click came from, not a property of the item.
    """
    rng, log = np.random.default_rng(seed), size(RSC15, rows)
    items = 214_500_000 + _identities(rng, log.items, 10)
    milliseconds = RSC15_DAYS * 86_400_000
    with Path(path).open("wb") as file:
        for block in _blocks(rng, log, spread=1.0):
            new = np.diff(block.group, prepend=-1) > 0
            start = rng.integers(0, milliseconds, np.count_nonzero(new))
            times = np.minimum(_times(rng, new, start, 90_000), milliseconds - 1)
            item = items[_clicks(rng, log, block, new)]
            # As published, every fifth number is not used.
            _write((block.group * 5 // 4 + 1, _iso(times), item, _texts(rng, RSC15_CATEGORIES, len(item))), file)


class Block(NamedTuple):
    """Some groups of a log: the group of every row, [rows], and the items that must occur in them, each in a row of its own."""

    group: np.ndarray
    dealt: np.ndarray


def _blocks(rng: np.random.Generator, log: Size, spread: float) -> Iterator[Block]:
    """All groups of a log, with log-normal lengths; the whole catalogue in random order is dealt to them."""
    grown = np.cumsum(rng.lognormal(0, spread, log.groups))
    ends = np.round(grown / grown[-1] * (log.rows - log.groups)).astype(np.int64) + np.arange(1, log.groups + 1)
    deal = rng.permutation(log.items)
    groups = max(1, ROWS_AT_ONCE * log.groups // log.rows)
    for first in range(0, log.groups, groups):
        own = np.concatenate([ends[first - 1 : first] if first else [0], ends[first : first + groups]])
        group = np.repeat(np.arange(first, first + len(own) - 1), np.diff(own))
        yield Block(group, deal[own[0] * log.items // log.rows : own[-1] * log.items // log.rows])


def _identities(rng: np.random.Generator, number: int, sparseness: float) -> np.ndarray:
    """Different numbers from 1 to `sparseness` times as many, in random order."""
    return rng.permutation(round(number * sparseness))[:number] + 1


def _clicks(rng: np.random.Generator, log: Size, block: Block, new: np.ndarray) -> np.ndarray:
    """Items of the rows of a block, [rows], the most popular one is 0; `new` is True where a session starts."""
    rows, top = len(new), log.items // 4000 + 1
    # Item r has weight 1 / (top + r).
    item = (top * np.exp(rng.random(rows) * np.log1p(log.items / top)) - top).astype(np.int64)
    np.minimum(item, log.items - 1, out=item)
    other = new | (rng.random(rows, np.float32) >= AGAIN)
    item = item[np.maximum.accumulate(np.where(other, np.arange(rows), 0))]
    item[rng.choice(rows, len(block.dealt), replace=False)] = block.dealt
    return item


def _times(rng: np.random.Generator, new: np.ndarray, start: np.ndarray, gap: float) -> np.ndarray:
    """Times of rows, [rows], where sessions start at `start`, [sessions], and their rows follow with gaps of this mean."""
    gaps = rng.exponential(gap, len(new)).astype(np.int64)
    gaps[new] = 0
    passed = np.cumsum(gaps)
    return passed + (start - passed[new])[np.cumsum(new) - 1]


def _texts(rng: np.random.Generator, chances: dict[str, float], rows: int) -> pa.Array:
    limits = np.cumsum(list(chances.values()))[:-1]
    drawn = np.searchsorted(limits.astype(np.float32), rng.random(rows, np.float32), side="right")
    return pa.DictionaryArray.from_arrays(pa.array(drawn.astype(np.int8)), pa.array(list(chances))).cast(pa.string())


def _iso(milliseconds: np.ndarray) -> pa.Array:
    """Times since RSC15_FROM as text such as 2014-04-06T20:21:58.444Z, put together from tables: as fast as the rest."""
    days = _letters(RSC15_FROM + np.arange(RSC15_DAYS), 10)
    seconds = _letters(np.arange(86_400).astype("datetime64[s]"), 19)[:, 10:]
    parts = _letters(np.array([f".{number:03}Z" for number in range(1000)]), 5)
    second, part = np.divmod(milliseconds, 1000)
    day, second = np.divmod(second, 86_400)
    text = np.concatenate([days[day], seconds[second], parts[part]], axis=1)
    ends = np.arange(0, text.size + 1, text.shape[1], dtype=np.int32)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends), pa.py_buffer(text))


def _letters(texts: np.ndarray, length: int) -> np.ndarray:
    """Texts, or times, of this length as bytes, [texts, length] uint8."""
    return texts.astype(f"S{length}").view(np.uint8).reshape(-1, length)


def _write(columns: tuple, file: BinaryIO) -> None:
    names = [str(number) for number in range(len(columns))]
    csv.write_csv(pa.table(dict(zip(names, columns, strict=True))), file, csv.WriteOptions(include_header=False, quoting_style="none"))


FORMATS: dict[str, Callable[[Path, int, int], None]] = {"userbehavior": write_userbehavior, "rsc15": write_rsc15}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--format", choices=tuple(FORMATS), required=True)
    flags.add_argument("--rows", type=int, required=True)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    began = time.perf_counter()
    FORMATS[given.format](given.out, given.rows, given.seed)
    print(f"written: {given.out}, {given.rows:,} rows in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
