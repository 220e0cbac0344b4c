"""Session-parallel lanes (GRU4Rec, Hidasi et al. 2016): the whole epoch planned once.

Sessions keep their order; a lane whose session ends takes the next one. Every pair (event, next event) stands in exactly one block.
"""

import heapq

import numpy as np

from jaxrec.data.blocks import Block, runs

SESSIONS_AT_ONCE = 8192
"""Sessions that are written into the plan in one piece, so that what is computed per event stays in the processor's cache."""


def plan_lanes(items: np.ndarray, offsets: np.ndarray, lanes: int, steps: int = 1, own: slice = slice(None)) -> Block:
    """Blocks of an epoch, stacked: items [blocks, lanes, steps + 1], mask and reset [blocks, lanes, steps].

    Sessions stand one after another in a lane and go on in its next block where one ends. A block of several steps cannot hold the last
    event of a session as target and the first of the next as input in one place, so there each session takes one more step, which
    predicts nothing.

    Args:
      items: item index of every event, [events].
      offsets: session s holds events offsets[s]:offsets[s + 1], [sessions + 1].
      own: the lanes to plan; events of sessions in other lanes are not read.

    >>> events, offsets = np.array([1, 2, 3, 4, 5, 6, 7]), np.array([0, 3, 5, 7])
    >>> plan = plan_lanes(events, offsets, lanes=2)
    >>> plan.items[:, :, 0].tolist(), plan.reset[:, :, 0].tolist()
    ([[1, 4], [2, 6]], [[True, True], [False, True]])
    >>> plan_lanes(events, offsets, lanes=1, steps=4).items.tolist()
    [[[1, 2, 3, 4, 5]], [[5, 6, 7, 0, 0]]]
    >>> plan_lanes(events, offsets, lanes=2, own=slice(1, 2)).items[:, :, 0].tolist()
    [[4], [6]]
    """
    pairs = np.diff(offsets) - 1
    first, pairs = offsets[:-1][pairs > 0], pairs[pairs > 0]
    reads = pairs + (steps > 1)
    begin, end = _assign(reads, lanes)
    blocks = -(-end // steps)
    chosen = np.arange(lanes)[own]
    if len(chosen) < lanes:
        step, lane = np.divmod(begin, lanes)
        here = np.isin(lane, chosen)
        first, pairs, reads, begin = first[here], pairs[here], reads[here], (step * len(chosen) + lane - chosen[0])[here]
    return lay_out((blocks, len(chosen), steps), items, first, pairs, reads, begin)


def _assign(reads: np.ndarray, lanes: int) -> tuple[np.ndarray, int]:
    """Where every session begins, as step * lanes + lane, [sessions], and the steps of the longest lane.

    The lane that is free first takes the next session, the first of them where several are. So the heap holds where each lane goes on,
    as one number that orders them by step, then by lane.
    """
    free = list(range(lanes))
    taken = (heapq.heapreplace(free, free[0] + length) for length in memoryview(reads * lanes))
    return np.fromiter(taken, np.int64, len(reads)), max(free) // lanes


def lay_out(
    shape: tuple[int, int, int], items: np.ndarray, first: np.ndarray, pairs: np.ndarray, reads: np.ndarray, begin: np.ndarray
) -> Block:
    """Write sessions into an empty plan.

    Args:
      shape: (blocks, lanes, steps) of the plan.
      items: item index of every event, [events].
      first: first event of each session, [sessions].
      pairs: its pairs, [sessions].
      reads: the steps that it takes, [sessions].
      begin: where it begins, as step * lanes + lane, [sessions].

    Returns:
      items [blocks, lanes, steps + 1], mask and reset [blocks, lanes, steps].
    """
    blocks, lanes, steps = shape
    plan = Block(np.zeros((blocks, lanes, steps + 1), np.int32), np.zeros(shape, bool), np.zeros(shape, bool))
    for at in range(0, len(first), SESSIONS_AT_ONCE):
        part = slice(at, at + SESSIONS_AT_ONCE)
        _write(plan, items, first[part], pairs[part], reads[part], begin[part])
    return plan


def _write(plan: Block, items: np.ndarray, first: np.ndarray, pairs: np.ndarray, reads: np.ndarray, begin: np.ndarray) -> None:
    """Write sessions into the plan, all arguments but the first two by session: first event, pairs and reads, and where it begins."""
    lanes, steps = plan.mask.shape[1:]
    step, lane = np.divmod(begin, lanes)
    session, place = runs(reads)
    event = first[session] + place
    predicts = place < pairs[session]
    # Numbers in arrays as they lie in memory: an index per dimension takes twice the time.
    block, step = np.divmod(step[session] + place, steps)
    row = block * lanes + lane[session]
    read, at = row * (steps + 1) + step, row * steps + step
    flat = Block(*(part.reshape(-1) for part in plan))
    flat.items[read] = items[event]
    flat.items[read[predicts] + 1] = items[event[predicts] + 1]
    flat.mask[at] = predicts
    flat.reset[at] = place == 0
