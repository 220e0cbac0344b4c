"""Session-parallel lanes (GRU4Rec, Hidasi et al. 2016): the whole epoch planned once.

Sessions keep their order; a lane whose session ends takes the next one. Every pair (event, next event) stands in exactly one block.
"""

import heapq

import numpy as np

from jaxrec.data.blocks import Block


def plan_lanes(items: np.ndarray, offsets: np.ndarray, lanes: int, steps: int = 1) -> Block:
    """Blocks of an epoch, stacked: items [blocks, lanes, steps + 1], mask and reset [blocks, lanes, steps].

    Sessions stand one after another in a lane and go on in its next block where one ends. A block of several steps cannot hold the last
    event of a session as target and the first of the next as input in one place, so there each session takes one more step, which
    predicts nothing.

    Args:
      items: item index of every event, [events].
      offsets: session s holds events offsets[s]:offsets[s + 1], [sessions + 1].

    >>> events, offsets = np.array([1, 2, 3, 4, 5, 6, 7]), np.array([0, 3, 5, 7])
    >>> plan = plan_lanes(events, offsets, lanes=2)
    >>> plan.items[:, :, 0].tolist(), plan.reset[:, :, 0].tolist()
    ([[1, 4], [2, 6]], [[True, True], [False, True]])
    >>> plan_lanes(events, offsets, lanes=1, steps=4).items.tolist()
    [[[1, 2, 3, 4, 5]], [[5, 6, 7, 0, 0]]]
    """
    lengths = np.diff(offsets)
    reads = np.where(lengths > 1, lengths - (steps == 1), 0)
    lane, start, end = _assign(reads, lanes)
    session = np.repeat(np.arange(len(reads)), reads)
    place = np.arange(len(session)) - np.repeat(np.cumsum(reads) - reads, reads)
    event, predicts = offsets[session] + place, place < lengths[session] - 1
    block, step = np.divmod(start[session] + place, steps)
    blocks = -(-end // steps)
    plan = Block(
        items=np.zeros((blocks, lanes, steps + 1), np.int32),
        mask=np.zeros((blocks, lanes, steps), bool),
        reset=np.zeros((blocks, lanes, steps), bool),
    )
    plan.items[block, lane[session], step] = items[event]
    plan.mask[block, lane[session], step] = predicts
    plan.reset[block, lane[session], step] = place == 0
    targets = block[predicts], lane[session][predicts], step[predicts] + 1
    plan.items[targets] = items[event[predicts] + 1]
    return plan


def _assign(lengths: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(lane, first step) of every session and the steps of the longest lane, where the lane that is free first takes the next session."""
    lane, start = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    free = [(0, number) for number in range(lanes)]
    for session, length in enumerate(lengths.tolist()):
        if length:
            begin, number = free[0]
            heapq.heapreplace(free, (begin + length, number))
            lane[session], start[session] = number, begin
    return lane, start, max(end for end, _ in free)
