"""Users' own events as blocks, planned whole-array for all users at once and made chunk by chunk when they are wanted.

What a plan holds is small: sessions and where users stand. The arrays of a chunk are made from it alone, so a run that goes on after an
interruption skips what is done, and several processes take every n-th chunk each.

Dimensions: U users of a chunk, B blocks of a user, rows x T of a block.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.blocks import Block, Histories, round_up, runs
from jaxrec.data.dataset import Dataset
from jaxrec.data.lanes import lay_out

SHAPES = 8
"""Shapes of a user's blocks, at most: each is compiled once, each more saves padding."""

STEPS_OF_A_SHAPE = 4096
"""Steps of padding that another shape must save: its compilation takes longer than so many do by the default options."""

BLOCKS_OF_A_USER = 64
"""Blocks that a user of a full chunk may have. Chunks of users with more of them are narrower, so that heavy users cost no more memory."""


class UserEvents(NamedTuple):
    """One user's own events, or a chunk of users with a leading axis.

    One plan serves all purposes: `mask & ~late` is what comes before the hold-out, `mask & late` the hold-out.

    Attributes:
      user: index of the user, []; -1 for padding users.
      blocks: all own events, Block of [B, rows, ...].
      late: True at predictions of the hold-out, the last part of own sessions, [B, rows, T] bool.
      known: the only items that negatives are drawn from; None: all items.
    """

    user: np.ndarray
    blocks: Block
    late: np.ndarray
    known: "Known | None" = None


class Known(NamedTuple):
    """Items that a device knows, or those of a chunk of users with a leading axis.

    Attributes:
      items: ascending, behind any -1, [K] int32.
      until: sum of the shares, among all items, of those up to this place, [K] float32.
    """

    items: np.ndarray
    until: np.ndarray


class Shape(NamedTuple):
    """Shape of a chunk: its users, blocks of each, rows and steps of a block."""

    users: int
    blocks: int
    rows: int
    steps: int


class Chunk(NamedTuple):
    """Users whose arrays are made together.

    Attributes:
      shape: of the arrays.
      members: places of the users in `UserPlan.users`; the rest of the shape's users are padding.
    """

    shape: Shape
    members: slice


class Account(NamedTuple):
    """What a plan costs.

    Attributes:
      shapes: different shapes of chunks, compilations.
      users: users with at least one pair.
      steps_read: steps that read an event.
      steps: steps of all arrays.
      padding: share of steps that read nothing.
    """

    shapes: int
    users: int
    steps_read: int
    steps: int
    padding: float


@dataclasses.dataclass(frozen=True, eq=False)
class UserPlan:
    """Which users are in which chunk, and their own sessions.

    Attributes:
      users: index of every user, in the order of the chunks, [users] int32.
      begin: place of the user's first session in `sessions`, [users].
      number: how many sessions the user has, [users].
      held: how many of these, the last ones, are the hold-out, [users].
      sessions: session numbers of all users, those of one user after another, in order; each has at least one pair.
      chunks: in the order of their size.
      account: what they cost.
    """

    users: np.ndarray
    begin: np.ndarray
    number: np.ndarray
    held: np.ndarray
    sessions: np.ndarray
    chunks: tuple[Chunk, ...]
    account: Account

    def __len__(self) -> int:
        return len(self.chunks)


def plan_users(
    dataset: Dataset,
    users: Sequence[int],
    first: int,
    before: int,
    rows: int,
    steps: int,
    holdout_fraction: float,
    users_at_once: int,
    late_from: int | None = None,
    most_shapes: int = SHAPES,
) -> UserPlan:
    """Plan the users' own events in sessions first:before.

    Every update sees one block [rows, T]. A user whose events all fit into a smaller one is given that: the update is the same, with less
    padding. Of the shapes that users need, the at most `most_shapes` are kept with which all users take the fewest steps, but none that
    hardly saves any. Users without any pair of events are left out.

    Args:
      users: their indices, in any order; -1, nobody, is left out.
      rows: sessions that a block holds side by side.
      steps: steps of a block; longer sessions go on in the next one.
      holdout_fraction: share of a user's sessions, the last ones, that are the hold-out: at least one session, never all; 0: none.
      users_at_once: users of a chunk, at most.
      late_from: number of the first session that is held out, instead of a share of each user's.
      most_shapes: of all users; few where the plan is for a part of the work only.
    """
    users = np.asarray(users, np.int32)
    users = users[users >= 0]
    sessions, number = Histories(dataset).sessions_of_each(users, first, before)
    pairs = dataset.offsets[sessions + 1] - dataset.offsets[sessions] - 1
    own = np.repeat(np.arange(len(users)), number)[pairs > 0]
    sessions, number = sessions[pairs > 0], np.bincount(own, minlength=len(users))
    users, number = users[number > 0], number[number > 0]
    reads = pairs[pairs > 0] + (steps > 1)
    needed = _needed(reads, number, rows, steps)
    sizes, fits, counts = np.unique(needed, return_inverse=True, return_counts=True)
    shapes = [_shape(size, rows, steps) for size in sizes.tolist()]
    kept = _cheapest(np.array([np.prod(shape, dtype=np.int64) for shape in shapes]), counts, most_shapes, STEPS_OF_A_SHAPE)
    group = np.searchsorted(kept, fits)
    order = np.argsort(group, kind="stable")
    chunks = _chunks([shapes[i] for i in kept], np.bincount(group, minlength=len(kept)), users_at_once)
    if late_from is None:
        held = np.minimum(np.maximum(np.round(number * holdout_fraction).astype(np.int64), 1), number - 1) * (holdout_fraction > 0)
    else:
        held = np.bincount(np.repeat(np.arange(len(users)), number)[sessions >= late_from], minlength=len(users))
    return UserPlan(
        users=users[order],
        begin=(np.cumsum(number) - number)[order],
        number=number[order],
        held=held[order],
        sessions=sessions,
        chunks=chunks,
        account=_account(chunks, len(users), int(reads.sum())),
    )


def users_of(plan: UserPlan, chunk: int) -> np.ndarray:
    """Indices of a chunk's users without padding, in the order of its arrays."""
    return plan.users[plan.chunks[chunk].members]


def user_events(dataset: Dataset, plan: UserPlan, chunk: int) -> UserEvents:
    """The arrays of one chunk: user [U], blocks and late [U, B, rows, ...]; padding users come last."""
    (width, blocks, rows, steps), members = plan.chunks[chunk]
    number = plan.number[members]
    own, place = runs(number)
    sessions = plan.sessions[plan.begin[members][own] + place]
    first = dataset.offsets[sessions]
    pairs = dataset.offsets[sessions + 1] - first - 1
    reads = pairs + (steps > 1)
    begin, row = np.divmod(_assign(reads, number, rows)[0], rows)
    # To the plan, the rows of all users are lanes side by side.
    lane, lanes = own * rows + row, width * rows
    plan_of_all = lay_out((blocks, lanes, steps), dataset.items, first, pairs, reads, begin * lanes + lane)
    # The last sessions of a user are the last of their rows too: each row is late from some step on.
    late = place >= (number - plan.held[members])[own]
    late_from = np.full(lanes, blocks * steps)
    np.minimum.at(late_from, lane[late], begin[late])
    step = np.arange(blocks * steps).reshape(blocks, 1, steps)
    is_late = plan_of_all.mask & (step >= late_from[:, np.newaxis])
    users = np.full(width, -1, np.int32)
    users[: len(number)] = plan.users[members]
    *parts, is_late = (np.moveaxis(part.reshape(blocks, width, rows, -1), 1, 0) for part in (*plan_of_all, is_late))
    return UserEvents(users, Block(*parts), is_late)


def knowing(events: UserEvents, candidates: np.ndarray, held: tuple[np.ndarray, np.ndarray], shares: np.ndarray) -> UserEvents:
    """A chunk, padding users last, whose devices know their candidates and own items alone, as after DeepRec's download.

    Own items are those held and those of the events that are not held out.

    Args:
      candidates: of every user index, -1 behind the end, [users, N].
      held: (place of the user in the chunk, item) of what users clicked before, [E] each.
      shares: how often each item is drawn among all, [items] float64, summing to 1.
    """
    items, mask = events.blocks.items, events.blocks.mask & ~events.late
    read, target = (np.pad(mask, [(0, 0)] * 3 + [side]) for side in ((0, 1), (1, 0)))
    user, *place = np.nonzero(read | target)
    listed = candidates[events.user[events.user >= 0]]
    row, number = np.nonzero(listed >= 0)
    rows, found = np.concatenate([held[0], user, row]), np.concatenate([held[1], items[user, *place], listed[row, number]])
    rows, found = np.divmod(np.unique(rows * len(shares) + found), len(shares))
    many = np.bincount(rows, minlength=len(items))
    width = round_up(many.max())
    # From the right, so that the last is always an item.
    known = np.full((len(items), width), -1, np.int32)
    known[rows, runs(many)[1] + (width - many)[rows]] = found
    # Summed here, in float64: a device's sums must not depend on how many places are empty.
    until = np.cumsum(np.where(known >= 0, shares[known], 0.0), axis=1).astype(np.float32)
    return events._replace(known=Known(known, until))


def joined(parts: Sequence[UserEvents], width: int) -> UserEvents:
    """Chunks as one of `width` users, all in the shape that holds each of them, blocks up to a power of two: few shapes, few compilations.

    Raises:
      ValueError: they have more users.
    """
    real = [part.user >= 0 for part in parts]

    def join(*leaves: np.ndarray) -> np.ndarray:
        blocks, *rest = np.max([leaf.shape[1:] for leaf in leaves], axis=0)
        out, begin = np.zeros((width, round_up(blocks), *rest), leaves[0].dtype), 0
        for leaf, kept in zip(leaves, real, strict=True):
            own = leaf[kept]
            out[(slice(begin, begin + len(own)), *map(slice, own.shape[1:]))] = own
            begin += len(own)
        return out

    users = np.concatenate([part.user[kept] for part, kept in zip(parts, real, strict=True)])
    if len(users) > width:
        raise ValueError(f"width: expected at least the {len(users)} users of the chunks; got {width}")
    blocks = (join(*leaves) for leaves in zip(*(part.blocks for part in parts), strict=True))
    return UserEvents(np.pad(users, (0, width - len(users)), constant_values=-1), Block(*blocks), join(*(part.late for part in parts)))


def _assign(reads: np.ndarray, number: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Sessions of each user on rows of their own, as `plan_lanes` does it for one user: whichever row is free first takes the next.

    Args:
      reads: steps of every session, those of one user after another, [sessions].
      number: sessions of each user, [users].

    Returns:
      where every session begins, as step * rows + row, [sessions], and the steps of each user's longest row, [users].
    """
    order = np.argsort(-number, kind="stable")
    next_one = (np.cumsum(number) - number)[order]
    going_on = np.searchsorted(-number[order], -np.arange(number.max(initial=0)))
    begin, taken = np.empty(len(reads), np.int64), reads * rows
    free = np.repeat(np.arange(rows)[:, np.newaxis], len(number), axis=1)
    place = np.arange(len(number))
    for users in going_on.tolist():
        sessions = next_one[:users]
        begin[sessions] = soonest = free[:, :users].min(0)
        free[soonest % rows, place[:users]] = soonest + taken[sessions]
        sessions += 1
    end = np.empty(len(number), np.int64)
    end[order] = free.max(0) // rows
    return begin, end


def _needed(reads: np.ndarray, number: np.ndarray, rows: int, steps: int) -> np.ndarray:
    """The smallest shape that holds each user's sessions, as a number for `_shape`, [users]."""
    own = np.repeat(np.arange(len(number)), number)
    total = np.bincount(own, reads, minlength=len(number)).astype(np.int64)
    needed = rows - 1 + -(-_assign(reads, number, rows)[1] // steps)
    for fewer in range(rows - 1, 0, -1):
        tried = (needed == fewer + 1) & (total <= fewer * steps)
        needed[tried] -= _assign(reads[tried[own]], number[tried], fewer)[1] <= steps
    needed[total <= steps // 2] = 0
    return needed


def _shape(size: int, rows: int, steps: int) -> tuple[int, int, int]:
    """(blocks, rows, steps) of a user's arrays, in the order of size: half a row, 1, 2, ... rows, 2, 3, ... blocks of all rows.

    >>> [_shape(size, 3, 8) for size in range(6)]
    [(1, 1, 4), (1, 1, 8), (1, 2, 8), (1, 3, 8), (2, 3, 8), (3, 3, 8)]
    """
    return max(size - rows + 1, 1), min(max(size, 1), rows), steps if size else steps // 2


def _cheapest(sizes: np.ndarray, counts: np.ndarray, most: int, price: int) -> np.ndarray:
    """Which at most `most` shapes to keep so that they and all users cost the fewest steps, where each user takes the next kept one upward.

    Args:
      sizes: steps of each shape, growing, [shapes].
      counts: users that need it, [shapes].
      price: steps that each kept shape costs.

    >>> _cheapest(np.arange(1, 11), np.array([9, 0, 9, 9, 9, 9, 0, 9, 9, 9]), 8, 0).tolist()
    [0, 2, 3, 4, 5, 7, 8, 9]
    >>> sizes, counts = np.array([1, 2, 3, 4, 5, 6, 7, 8, 100]), np.array([5, 5, 5, 1, 5, 5, 5, 5, 1])
    >>> _cheapest(sizes, counts, 8, 0).tolist(), _cheapest(sizes, counts, 8, 10).tolist()
    ([0, 1, 2, 4, 5, 6, 7, 8], [2, 5, 7, 8])
    """
    if not len(sizes):
        return np.zeros(0, np.int64)
    users = np.cumsum(counts)
    # steps[k, j]: of all users up to shape j, where k + 1 shapes are kept and j is the largest; below[k, j]: the one kept before it.
    steps = np.full((most, len(sizes)), np.inf)
    steps[0] = sizes * users
    below = np.zeros(steps.shape, np.int64)
    for j in range(1, len(sizes)):
        through = steps[:-1, :j] + sizes[j] * (users[j] - users[:j])
        below[1:, j] = through.argmin(1)
        steps[1:, j] = through.min(1)
    kept = [len(sizes) - 1]
    for k in range(int((steps[:, -1] + price * np.arange(most)).argmin()), 0, -1):
        kept.append(below[k, kept[-1]])
    return np.array(kept[::-1])


def _chunks(shapes: list[tuple[int, int, int]], counts: np.ndarray, users_at_once: int) -> tuple[Chunk, ...]:
    """Users of one shape, who follow one another, cut into chunks of one width, as even as can be: fewer padding users than chunks."""
    chunks, begin = [], 0
    for (blocks, rows, steps), count in zip(shapes, counts.tolist(), strict=True):
        most = min(users_at_once, max(1, users_at_once * BLOCKS_OF_A_USER // blocks))
        width = -(-count // -(-count // most))
        for at in range(0, count, width):
            chunks.append(Chunk(Shape(width, blocks, rows, steps), slice(begin + at, begin + min(at + width, count))))
        begin += count
    return tuple(chunks)


def _account(chunks: tuple[Chunk, ...], users: int, steps_read: int) -> Account:
    shapes = [chunk.shape for chunk in chunks]
    steps = sum(shape.users * shape.blocks * shape.rows * shape.steps for shape in shapes)
    return Account(len(set(shapes)), users, steps_read, steps, 1 - steps_read / steps if steps else 0.0)
