"""Seconds and memory of what is planned on the host: lanes of an epoch, blocks of sessions to score, users to fine-tune.

    python -m benchmarks.planning                           # all cases
    python -m benchmarks.planning --case=reference --quick  # a tenth of the sessions

`reference`, `lanes...`: a whole epoch in 512 lanes, or in so many, one step per block (x4: four).
`histories`: every user's sessions are found, of all sessions.
`blocks64`, `blocks2048`: sessions to score with their users' histories, so many predictions per block.
`users`: a user's own sessions with hold-out, by the default options.

Sessions are synthetic: 2 events and more, 4 on average, of random items and users. Every case runs in a process of
its own; `data_gb` is the peak of its memory before planning, `peak_rss_gb` after it.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.recording import parser, record
from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.lanes import plan_lanes
from jaxrec.data.user_blocks import plan_users, user_events
from jaxrec.learning.personal_recipe import ChoiceOptions, UserRunOptions

SESSIONS = 8_000_000
SESSIONS_PER_USER = 8
SCORED = 0.05
USERS, SESSIONS_OF_USER = 20_000, 20
ITEMS = 4_000_000


def lanes(lanes: int, steps: int, scale: float) -> Iterator[dict]:
    """Plan an epoch."""
    items, offsets = _sessions(round(SESSIONS * scale))
    yield {"sessions": len(offsets) - 1, "events": len(items), "lanes": lanes}
    yield {"blocks": len(plan_lanes(items, offsets, lanes, steps).items)}


def histories(scale: float) -> Iterator[dict]:
    """Find every user's sessions."""
    dataset = _dataset(round(SESSIONS * scale), SESSIONS_PER_USER)
    yield {"sessions": dataset.n_sessions, "events": len(dataset.items), "users": dataset.n_users}
    Histories(dataset)
    yield {}


def blocks(predictions: int, scale: float) -> Iterator[dict]:
    """Block the last sessions; all blocks are kept, as evaluation keeps them."""
    dataset = _dataset(round(SESSIONS * scale), SESSIONS_PER_USER)
    scored = range(round(dataset.n_sessions * (1 - SCORED)), dataset.n_sessions)
    yield {"sessions": len(scored), "events": int(np.diff(dataset.offsets)[scored.start :].sum()), "users": dataset.n_users}
    yield {"blocks": len(list(session_blocks(dataset, scored, predictions)))}


def users(scale: float) -> Iterator[dict]:
    """Plan the fine-tuning of users."""
    number = round(USERS * scale)
    dataset = _dataset(number * SESSIONS_OF_USER, SESSIONS_OF_USER)
    yield {"sessions": dataset.n_sessions, "events": len(dataset.items), "users": number}
    run = UserRunOptions()
    shape = (run.block_rows, run.block_steps, ChoiceOptions().holdout_fraction, run.users_at_once)
    plan = plan_users(dataset, range(number), 0, dataset.n_sessions, *shape)
    chunks = (user_events(dataset, plan, chunk) for chunk in range(len(plan)))
    yield {"blocks": sum(int(chunk.blocks.mask.any((2, 3)).sum()) for chunk in chunks)}


CASES = {
    "reference": partial(lanes, 512, 1),
    "lanes512x4": partial(lanes, 512, 4),
    "lanes32": partial(lanes, 32, 1),
    "histories": histories,
    "blocks64": partial(blocks, 64),
    "blocks2048": partial(blocks, 2048),
    "users": users,
}
"""Each yields the sizes of its data once they are built, then what it planned."""


def _sessions(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(items [events], offsets [sessions + 1]); lengths are geometric."""
    generator = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(1 + generator.geometric(0.32, number))])
    return generator.integers(0, ITEMS, offsets[-1], dtype=np.int32), offsets


def _dataset(sessions: int, per_user: int) -> Dataset:
    """Sessions of random users, one after the other; nothing here looks at periods."""
    items, offsets = _sessions(sessions)
    n_users = max(1, sessions // per_user)
    own = np.random.default_rng(1).integers(0, n_users, sessions, dtype=np.int32)
    return Dataset(items, np.arange(len(items)), offsets, own, (0, 0, 0, sessions), np.zeros(ITEMS, np.int64), n_users)


def run_case(case: str, scale: float) -> dict:
    """Build the data, plan; a row of the results."""
    steps = CASES[case](scale)
    sizes, before = next(steps), _peak_gb()
    began = time.perf_counter()
    planned = next(steps)
    seconds = time.perf_counter() - began
    return {"case": case, **sizes, **planned, "seconds": seconds, "data_gb": before, "peak_rss_gb": _peak_gb()}


def _peak_gb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    cases = [given.case] if given.case else list(CASES)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = pool.map(partial(run_case, scale=0.1 if given.quick else 1.0), cases, chunksize=1)
    record(given, "planning", rows)


if __name__ == "__main__":
    main()
