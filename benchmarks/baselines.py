"""Seconds and memory of the baselines that count pairs of clicks or of sessions, up to the size of UserBehavior.

    python -m benchmarks.baselines                                # all cases; the largest takes six minutes and 6 GB
    python -m benchmarks.baselines --case=events1m
    python -m benchmarks.baselines --case=reference --quick       # a hundredth of the events

Every case is a log of so many events, drawn in memory: log-normal sessions of 3 events in the median and 6 on average, as those of
UserBehavior, some of them far longer; items by Zipf's law, flattened at the top. Clicks say nothing about each other, so that nearly every
pair is a new one: a real log needs less. `longer`: every thousandth session has 3,000 events, as robots have.

Every model runs in a process of its own. `data_gb` is the peak of its memory before it is fitted, `peak_rss_gb` after the last predictions;
`seconds` is fitting alone; `predictions_per_s` is encoding alone, of sessions like the fitted ones.
"""

import multiprocessing
import resource
import sys
import time
from typing import NamedTuple

import numpy as np

from benchmarks.logs import USERBEHAVIOR, size
from benchmarks.recording import parser, record
from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.ranks import predictions_at_once


class Case(NamedTuple):
    events: int
    models: tuple[str, ...] = ("item_knn", "session_knn")
    robots: float = 0.0


CASES = {
    "events1m": Case(1_000_000, ("popularity", "markov", "item_knn", "session_knn", "bpr_mf", "als", "als_session")),
    "longer": Case(3_000_000, robots=0.001),
    "events10m": Case(10_000_000),
    "reference": Case(USERBEHAVIOR.rows),
}
QUICK = 100
MEDIAN_LENGTH, SPREAD = 3, 1.18
ROBOT_LENGTH = 3000
SCORED = 2000  # sessions to predict in


def run_case(case: str, model: str, scale: int) -> dict:
    """Draw the log, fit, encode; a row of the results."""
    dataset = drawn(CASES[case].events // scale, CASES[case].robots)
    row = {"case": case, "items": dataset.n_items, "events": len(dataset.items), "sessions": dataset.n_sessions, "model": model}
    row |= {"data_gb": _peak_gb()}
    began = time.perf_counter()
    scorer = BASELINES[model](dataset, dataset.period("global"))
    fitted = time.perf_counter()
    test = dataset.period("test")
    for block in session_blocks(dataset, test, predictions_at_once(dataset.n_items), histories=False):
        scorer.encode(block)
    rate = int(np.diff(dataset.offsets)[test.start :].sum() - len(test)) / (time.perf_counter() - fitted)
    return row | {"seconds": fitted - began, "predictions_per_s": rate, "peak_rss_gb": _peak_gb()}


def drawn(events: int, robots: float) -> Dataset:
    """A log of about so many events and the items that UserBehavior would have, without users; the last sessions are the test."""
    generator, log = np.random.default_rng(0), size(USERBEHAVIOR, events)
    lengths = np.maximum(2, generator.lognormal(np.log(MEDIAN_LENGTH), SPREAD, events // 6)).astype(np.int64)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), events) + 1]
    many = generator.random(len(lengths)) < robots
    lengths[many] = ROBOT_LENGTH
    offsets = np.append(0, np.cumsum(lengths))
    items = _items(generator, offsets[-1], log.items)
    sessions, nobody = len(lengths), np.full(len(lengths), -1, np.int32)
    counts, cut = np.bincount(items, minlength=log.items), sessions - min(SCORED, sessions // 2)
    return Dataset(items, np.arange(len(items)), offsets, nobody, (0, cut, cut, sessions), counts, 0)


def _items(generator: np.random.Generator, events: int, n_items: int) -> np.ndarray:
    """Items of weight 1 / (top + number), [events] int32."""
    top = n_items // 4000 + 1
    drawn = generator.random(events, np.float32)
    np.exp(np.multiply(drawn, np.log1p(n_items / top), out=drawn), out=drawn)
    return np.minimum(top * (drawn - 1), n_items - 1).astype(np.int32)


def _peak_gb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    cases = [given.case] if given.case else list(CASES)
    tasks = [(case, model, QUICK if given.quick else 1) for case in cases for model in CASES[case].models]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        record(given, "baselines", pool.starmap(run_case, tasks, chunksize=1))


if __name__ == "__main__":
    main()
