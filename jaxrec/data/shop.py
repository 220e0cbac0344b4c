"""A simulated shop: a click log drawn from a stated process, so that the best possible rankers of it can be computed.

The shop has D departments of S items each; item number i = d * S + place stands in department d = i // S. What the crowd shares:

* a chain over departments: a session starts in department d with probability start[d], a click in d is followed by one in d' with
  probability T[d, d']. Each department has few likely successors, itself and three others, and each is as often a successor;
* popularity inside a department: p_d(i), Zipf-like, in an order of places that is drawn for every department.

What it does not share: user u has one favourite item f(u, d) in every department, drawn once, uniformly and independently:

    P(click = i | u, d) = (1 - loyalty) p_d(i) + loyalty [i = f(u, d)].

So, whatever came before, and with d' = i // S,

    P(next = i | u, last click in d) = T[d, d'] ((1 - loyalty) p_d'(i) + loyalty [i = f(u, d')]).

`jaxrec.baselines.shop_oracle` ranks by it, and by what is left of it when the user is not known.

A session has 2 clicks or more (1 plus a geometric number), a user `FEWEST_SESSIONS` sessions or more (a Poisson number); neither depends
on what is clicked. Clicks of a session are seconds apart, at most `LONGEST_PAUSE`; sessions of a user are at least `SHORTEST_GAP` apart:
a gap of 30 minutes finds them exactly.

Dimensions: users, D departments, S items of a department, events.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxrec.errors import InputError
from jaxrec.files import whole_file
from jaxrec.options import Options, option

FIRST_SECOND = 1_704_067_200  # 2024-01-01T00:00:00Z, when the shop opens
FEWEST_SESSIONS = 4
SHORTEST_GAP = 2 * 3600
LONGEST_PAUSE = 600
MEAN_PAUSE = 40
STAY, SUCCESSORS, ANYWHERE = 0.35, (0.3, 0.2, 0.1), 0.05
ZIPF = 1.0


@dataclasses.dataclass(frozen=True)
class ShopOptions(Options):
    """Size and habits of the simulated shop."""

    shop_users: int = option(1200, "users of the simulated shop", minimum=1)
    shop_departments: int = option(24, "departments of the simulated shop", minimum=len(SUCCESSORS) + 1)
    shop_items_per_department: int = option(50, "items in each department", minimum=1)
    shop_loyalty: float = option(
        0.45, "probability that a click goes to the user's own favourite of the department", minimum=0, maximum=0.99
    )
    shop_sessions_per_user: float = option(20.0, "mean number of sessions of a user", minimum=FEWEST_SESSIONS)
    shop_session_length: float = option(5.0, "mean number of clicks of a session", minimum=2)
    shop_days: int = option(20, "days over which the sessions are spread", minimum=1)
    shop_seed: int = option(1, "seed of the whole draw", minimum=0)


@dataclasses.dataclass(frozen=True)
class Shop:
    """A shop, its users' tastes and the log of their clicks, ordered by user and time.

    Attributes:
      transition: probability of the next click's department (column) after a click in a department (row), [D, D].
      start: probability of a session's first department, [D].
      popularity: probability of each place within its department when the click is not loyal, [D, S].
      favourites: item number of the user's favourite in each department, [users, D].
      loyalty: probability that a click goes to the favourite.
      users: user of every click, [events].
      items: item number of every click, [events].
      times: seconds since 1970 (UTC), [events] int64.
      sessions: session of every click, numbered from 0 over all users, [events].
    """

    transition: np.ndarray
    start: np.ndarray
    popularity: np.ndarray
    favourites: np.ndarray
    loyalty: float
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    sessions: np.ndarray

    @property
    def n_items(self) -> int:
        return self.popularity.size


def draw(options: ShopOptions) -> Shop:
    """Draw a shop and its log; the same options give the same log."""
    rng = np.random.default_rng(options.shop_seed)
    departments, places = options.shop_departments, options.shop_items_per_department
    transition, start = _transition(rng, departments), rng.dirichlet(np.full(departments, 2.0))
    popularity = _popularity(rng, departments, places)
    tastes = rng.integers(places, size=(options.shop_users, departments))
    favourites = np.arange(departments) * places + tastes

    owners = np.repeat(np.arange(options.shop_users), _session_numbers(rng, options))
    lengths = 1 + rng.geometric(1 / (options.shop_session_length - 1), len(owners))
    sessions = np.repeat(np.arange(len(owners)), lengths)
    users = owners[sessions]
    visited = _walk(rng, transition, start, lengths)
    items = _clicks(rng, visited, users, favourites, popularity, options.shop_loyalty)
    times = _times(rng, options, owners, lengths, sessions)
    return Shop(transition, start, popularity, favourites, options.shop_loyalty, users, items, times, sessions)


def _transition(rng: np.random.Generator, departments: int) -> np.ndarray:
    """Successors stand at the same distances along a hidden ring, so that in the long run all departments are equally busy, [D, D]."""
    ring = rng.permutation(departments)
    transition = np.full((departments, departments), ANYWHERE / departments)
    for distance, share in zip((0, *rng.choice(departments - 1, len(SUCCESSORS), replace=False) + 1), (STAY, *SUCCESSORS), strict=True):
        transition[ring, np.roll(ring, distance)] += share
    return transition


def _popularity(rng: np.random.Generator, departments: int, places: int) -> np.ndarray:
    """Zipf-like shares in an order drawn for each department, so that an item's number says nothing about it, [D, S]."""
    shares = np.arange(1, places + 1) ** -ZIPF
    return rng.permuted(np.tile(shares / shares.sum(), (departments, 1)), axis=1)


def _session_numbers(rng: np.random.Generator, options: ShopOptions) -> np.ndarray:
    return np.maximum(rng.poisson(options.shop_sessions_per_user, options.shop_users), FEWEST_SESSIONS)


def _walk(rng: np.random.Generator, transition: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Department of every click, session after session, [events]; all sessions walk at once."""
    first = np.cumsum(lengths) - lengths
    visited = np.empty(lengths.sum(), np.int64)
    visited[first] = _pick(rng, np.broadcast_to(start, (len(lengths), len(start))))
    for step in range(1, lengths.max()):
        events = first[lengths > step] + step
        visited[events] = _pick(rng, transition[visited[events - 1]])
    return visited


def _pick(rng: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """One column drawn from each row of probabilities, [rows]."""
    cumulative = np.cumsum(probabilities, axis=1)
    return np.argmax(rng.random((len(cumulative), 1)) * cumulative[:, -1:] < cumulative, axis=1)


def _clicks(
    rng: np.random.Generator, visited: np.ndarray, users: np.ndarray, favourites: np.ndarray, popularity: np.ndarray, loyalty: float
) -> np.ndarray:
    """Item number of every click, given its department and user, [events]."""
    crowd = np.empty_like(visited)
    for department, shares in enumerate(popularity):
        here = np.flatnonzero(visited == department)
        crowd[here] = department * len(shares) + rng.choice(len(shares), len(here), p=shares)
    return np.where(rng.random(len(visited)) < loyalty, favourites[users, visited], crowd)


def _times(rng: np.random.Generator, options: ShopOptions, owners: np.ndarray, lengths: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Seconds since 1970 of every click, [events]."""
    first = np.cumsum(lengths) - lengths
    pauses = 1 + np.minimum(rng.exponential(MEAN_PAUSE, len(sessions)), LONGEST_PAUSE - 1).astype(np.int64)
    pauses[first] = 0
    passed = np.cumsum(pauses)
    passed -= passed[first][sessions]
    starts = _session_starts(rng, options, owners, passed[first + lengths - 1])
    return FIRST_SECOND + starts[sessions] + passed


def _session_starts(rng: np.random.Generator, options: ShopOptions, owners: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Second of the shop's opening at which each session starts, [sessions].

    What remains of the days when a user's sessions and the gaps after them are taken out is cut at uniform places; the sessions are
    put into the cuts.
    """
    taken = durations + SHORTEST_GAP
    before = np.cumsum(taken) - taken
    before -= before[np.searchsorted(owners, owners)]
    free = options.shop_days * 86_400 - np.bincount(owners, taken)
    if free.min() < 0:
        needed = int(np.ceil(options.shop_days - free.min() / 86_400))
        raise InputError(f"--shop_days: expected at least {needed} for the sessions of the busiest user; got {options.shop_days}")
    cuts = rng.random(len(owners)) * free[owners]
    return before + cuts[np.lexsort((cuts, owners))].astype(np.int64)


def write_log(shop: Shop, path: Path) -> None:
    """Write the clicks as a log in the `userbehavior` format: user,item,category,behavior,timestamp, without a header.

    The category is the department and the behaviour `pv`. Ids are the numbers of user and item as text.
    """
    departments = shop.items // shop.popularity.shape[1]
    with whole_file(path) as partial, partial.open("w", encoding="ascii", newline="") as file:
        for user, item, department, time in zip(shop.users, shop.items, departments, shop.times, strict=True):
            file.write(f"{user},{item},{department},pv,{time}\n")


def numbers(texts: Sequence[str], limit: int, what: str) -> np.ndarray:
    """Numbers of shop items or shop users from their text in a dataset, [texts] int64; `what` names them in the error.

    `divmod(number, S)` gives the department and place of an item.

    >>> numbers(["12", "3"], 20, "item")
    array([12,  3])
    """
    for text in texts:
        if not (text.isascii() and text.isdigit() and int(text) < limit):
            raise InputError(f"{what} {text!r}: expected a number of the simulated shop, 0 to {limit - 1}")
    return np.array([int(text) for text in texts], np.int64)
