"""Features of the user's own items: what the history prior knows about each item that the user clicked before.

Time is told in own clicks and own sessions, never in seconds, so that a weight learnt on one log means the same in another.

Dimensions: P predictions of a block, E entries (pairs of a prediction and an own item), K own items of one user, F features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.blocks import Past, SessionBlock, round_up, runs, summarise
from jaxrec.errors import InputError

FEATURES = ("own", "repeats", "count", "decayed", "recent", "in_session", "last", "popular")
"""What is known about an own item, in this order:

own: 1, the gate between repeating and exploring;
repeats: log odds that the user's clicks so far were repeats, the same for all own items;
count: log of own clicks on the item;
decayed: log of the same, a click that lies n sessions back counting 1 / (1 + n);
recent: 1 / (1 + clicks since the last one on it);
in_session: 1 where the running session clicked it;
last: 1 for the item clicked last;
popular: how often all users click the item, as `popularity` tells: the network expects that already, and who clicks what few do says more
of himself.
"""


class OwnItems(NamedTuple):
    """Own items at each prediction of a block, prediction after prediction.

    Attributes:
      prediction: number of the prediction, in the order of `block.predictions()`, [E].
      items: [E].
      features: [E, F] float32.
    """

    prediction: np.ndarray
    items: np.ndarray
    features: np.ndarray


def popularity(counts: np.ndarray) -> np.ndarray:
    """Log of how much more often each item is clicked than items are on average, from [items] clicks, [items] float32.

    >>> np.exp(popularity(np.array([0, 1, 2, 5]))).round(2)
    array([0.33, 0.67, 1.  , 2.  ], dtype=float32)
    """
    clicks = np.asarray(counts, np.float64) + 1
    return np.log(clicks / clicks.sum() * len(clicks)).astype(np.float32)


def own_items(block: SessionBlock, popular: np.ndarray | None) -> OwnItems:
    """What the user clicked before the session and in it, up to and with the click that each prediction reads.

    Args:
      popular: `popularity` of all items, [items]; None: all alike.
    """
    row, step = np.nonzero(block.mask)
    past_row, place = np.nonzero(block.history_items >= 0)
    steps, width = block.mask.shape[1], int(max(block.items.max(initial=0), block.history_items.max(initial=0))) + 1
    keys = np.concatenate([past_row * width + block.history_items[past_row, place], row * width + block.items[row, step]])
    slots, where = np.unique(keys, return_inverse=True)  # a slot: an item that is a row's own by the end of its session
    slot_row, slot_item = np.divmod(slots, width)
    counts, decayed, ago = np.zeros((3, len(slots)))
    for of_slot, known in zip((counts, decayed, ago), block[-3:], strict=True):
        of_slot[where[: len(past_row)]] = known[past_row, place]
    clicks = np.sort(where[len(past_row) :] * steps + step)
    first = np.searchsorted(slot_row, row)
    prediction, place = runs(np.searchsorted(slot_row, row, side="right") - first)
    slot, step_now = first[prediction] + place, step[prediction]
    until = np.searchsorted(clicks, slot * steps + step_now, side="right")
    now = until - np.searchsorted(clicks, np.arange(len(slots)) * steps)[slot]
    since = np.where(now > 0, step_now - clicks[until - 1] % steps, ago[slot] + step_now + 1)
    own = counts[slot] + now > 0
    prediction, slot, now, since = prediction[own], slot[own], now[own], since[own]
    clicked = block.history_counts.sum(axis=1, dtype=np.float64)[row] + step + 1
    distinct = np.bincount(prediction, minlength=len(row))
    items = slot_item[slot]
    popular = np.zeros(len(items)) if popular is None else popular[items]
    known = _features(counts[slot] + now, decayed[slot] + now, since, now, clicked[prediction], distinct[prediction], popular)
    return OwnItems(prediction, items, known)


def filled_up(own: OwnItems) -> OwnItems:
    """Entries up to the next power of two, so that blocks share few shapes; added ones belong to no prediction and have no features."""
    missing = round_up(len(own.items)) - len(own.items)
    prediction = np.pad(own.prediction, (0, missing), constant_values=np.iinfo(np.int32).max)
    return OwnItems(prediction, np.pad(own.items, (0, missing)), np.pad(own.features, ((0, missing), (0, 0))))


def past_of(sessions: Sequence[Sequence[int]]) -> Past:
    """One user's earlier sessions, oldest first, as `own_now` reads them.

    Raises:
      InputError: a click is on no item.
    """
    for session in map(np.asarray, sessions):
        if session.size and not (np.issubdtype(session.dtype, np.integer) and session.min() >= 0):
            raise InputError(f"sessions: expected numbers of items, 0 or more; got {session.tolist()}")
    lengths = np.array([len(session) for session in sessions], np.int64)
    items = np.concatenate([np.zeros(0, np.int64), *(np.asarray(session, np.int64) for session in sessions)])
    return summarise(np.zeros(len(items), np.int64), items, len(lengths) - runs(lengths)[0])


class OwnNow(NamedTuple):
    """What is known of one user's own items after the running session's clicks so far: what a device counts, and what its model reads.

    Attributes:
      items: own items, [K].
      counts: clicks on each, [K].
      decayed: the same, a click that lies n sessions back counting 1 / (1 + n), [K].
      since: clicks on other items since the last one on it, [K].
      in_session: clicks on it in the running session, [K].
      clicks, distinct: the user's clicks and own items in all, [].
    """

    items: np.ndarray
    counts: np.ndarray
    decayed: np.ndarray
    since: np.ndarray
    in_session: np.ndarray
    clicks: np.ndarray
    distinct: np.ndarray


def own_now(past: Past, session: Sequence[int]) -> OwnNow:
    """Own items of one user in ascending order, after the running session's clicks so far."""
    session = np.asarray(session, np.int64)
    items, where = np.unique(np.concatenate([past.items, session]), return_inverse=True)
    counts, decayed, ago = np.zeros((3, len(items)))
    for of_item, known in zip((counts, decayed, ago), past[-3:], strict=True):
        of_item[where[: len(past.items)]] = known
    clicks = where[len(past.items) :]
    now, since = np.bincount(clicks, minlength=len(items)), ago + len(session)
    since[clicks] = len(session) - 1 - np.arange(len(session))
    clicked = past.counts.sum(dtype=np.float64) + len(session)
    return OwnNow(items, counts + now, decayed + now, since, now, clicked, np.float64(len(items)))


def features_now(own: OwnNow, popular: np.ndarray) -> np.ndarray:
    """Features of the own items, [K, F] float32, with the `popularity` of each, [K]; of arrays of JAX an array of JAX."""
    return _features(own.counts, own.decayed, own.since, own.in_session, own.clicks, own.distinct, popular)


def _features(
    counts: np.ndarray,
    decayed: np.ndarray,
    since: np.ndarray,
    now: np.ndarray,
    clicked: np.ndarray | float,
    distinct: np.ndarray | float,
    popular: np.ndarray,
) -> np.ndarray:
    """Features of entries from what they count: clicks, since the last one, in the session; of the user: all clicks, distinct items; and of
    the item: its popularity."""
    xp = counts.__array_namespace__()  # one formula for the simulation, in NumPy, and for the exported model, in JAX
    repeats = xp.log((clicked - distinct + 1) / (distinct + 1))
    recent, last = 1 / (1 + since), (now > 0) & (since == 0)
    columns = (xp.ones_like(counts), repeats, xp.log(counts), xp.log(decayed), recent, now > 0, last, popular)
    return xp.stack([xp.astype(column, xp.float32) for column in xp.broadcast_arrays(*columns)], axis=-1)
