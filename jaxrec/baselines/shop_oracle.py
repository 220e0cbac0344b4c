"""The best possible rankers of the simulated shop (`jaxrec.data.shop`): their scores are the exact probabilities of the next click.

With the user's favourites known,

    P(i) = T[d, d'] ((1 - loyalty) p_d'(i) + loyalty [i = f(u, d')]), where d is the department of the last click.

Otherwise [i = f(u, d')] is replaced by its probability given the clicks that are known. The favourite is one of S places, all equally
likely at first. A click on c multiplies the likelihood of every favourite by the same (1 - loyalty) p(c), and that of c itself by
r_c = 1 + loyalty / ((1 - loyalty) p(c)) more. After n_i clicks on each item i the probability is therefore r_i^n_i / sum of r_j^n_j
over the S items j of the department.

Dimensions: rows, T steps and P predictions of a block, D departments, items of the dataset.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxrec.baselines.counts import own_counts, session_counts
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.shop import Shop

LARGEST_LOG = 600.0  # e^600 stands for certainty and its sums stay finite in float64


@dataclasses.dataclass(frozen=True)
class BestWithUser:
    """Ranks by the exact probability when the user's favourites are known.

    Attributes:
      shop: the shop.
      item_numbers: item number in the shop of every item of the dataset, [items].
      user_numbers: user number in the shop of every user of the dataset, [users].
    """

    shop: Shop
    item_numbers: np.ndarray
    user_numbers: np.ndarray

    def encode(self, block: SessionBlock) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each next department [P, D], the user's favourites [P, D])."""
        row, step = block.predictions()
        favourites = self.shop.favourites[self.user_numbers[np.maximum(block.users[row], 0)]]
        return self.shop.transition[_departments(self.shop, self.item_numbers[block.items[row, step]])], favourites

    def scores(self, encoded: tuple[np.ndarray, np.ndarray], start: int, stop: int) -> np.ndarray:
        moves, favourites = encoded
        numbers = self.item_numbers[start:stop]
        department = _departments(self.shop, numbers)
        loved = favourites[:, department] == numbers
        return _probability(self.shop, moves, numbers, loved)


class Evidence(NamedTuple):
    """What the known clicks say at each step.

    Attributes:
      block: the sessions.
      moves: probability of each next department, [P, D].
      totals: sum of r_j^n_j over the items of each department, [P, D].
    """

    block: SessionBlock
    moves: np.ndarray
    totals: np.ndarray


@dataclasses.dataclass(frozen=True)
class BestWithoutUser:
    """Ranks by the exact probability when of the user nothing is known but clicks: those of this session so far, or also those before it.

    Attributes:
      shop: the shop.
      item_numbers: item number in the shop of every item of the dataset, [items].
      history: whether the user's clicks before the session are known too; no ranker that learns from clicks alone can do better than that.
    """

    shop: Shop
    item_numbers: np.ndarray
    history: bool = False

    def encode(self, block: SessionBlock) -> Evidence:
        read = block.items[:, :-1]
        department = _departments(self.shop, self.item_numbers[read])
        gains = np.zeros((*read.shape, len(self.shop.start)))
        times = self._times_clicked(block)
        gained = self._weight(read, times) - self._weight(read, times - 1)
        np.put_along_axis(gains, department[..., None], gained[..., None], axis=2)
        totals = self._first_totals(block)[:, None] + np.cumsum(gains, axis=1)
        places = block.predictions()
        return Evidence(block, self.shop.transition[department[places]], totals[places])

    def scores(self, encoded: Evidence, start: int, stop: int) -> np.ndarray:
        counts = (own_counts if self.history else session_counts)(encoded.block, start, stop)
        numbers = self.item_numbers[start:stop]
        loved = self._weight(np.arange(start, stop), counts) / encoded.totals[:, _departments(self.shop, numbers)]
        return _probability(self.shop, encoded.moves, numbers, loved)

    def _weight(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """r_i^n_i of items that were clicked some times."""
        crowd = (1 - self.shop.loyalty) * self.shop.popularity.ravel()[self.item_numbers[items]]
        return np.exp(np.minimum(times * np.log1p(self.shop.loyalty / crowd), LARGEST_LOG))

    def _times_clicked(self, block: SessionBlock) -> np.ndarray:
        """How often the item read at each step has been clicked by then, this click included, [rows, T]."""
        read = block.items[:, :-1]
        times = np.tril(read[:, :, None] == read[:, None, :]).sum(axis=2)
        if self.history:
            same = read[:, :, None] == block.history_items[:, None, :]
            times = times + (same * block.history_counts[:, None, :]).sum(axis=2)
        return times

    def _first_totals(self, block: SessionBlock) -> np.ndarray:
        """Sum of r_j^n_j over the items of each department before the session, [rows, D]."""
        departments, places = self.shop.popularity.shape
        totals = np.full((len(block.items), departments), float(places))
        if self.history:
            row, place = np.nonzero(block.history_items >= 0)
            items = block.history_items[row, place]
            gained = self._weight(items, block.history_counts[row, place]) - 1
            np.add.at(totals, (row, _departments(self.shop, self.item_numbers[items])), gained)
        return totals


def best_with_user(shop: Shop, item_numbers: np.ndarray, user_numbers: np.ndarray) -> BestWithUser:
    """The best ranker that knows every user's favourites; arguments as in `BestWithUser`."""
    return BestWithUser(shop, item_numbers, user_numbers)


def best_without_user(shop: Shop, item_numbers: np.ndarray) -> BestWithoutUser:
    """The best ranker that knows the clicks of the current session only."""
    return BestWithoutUser(shop, item_numbers)


def best_from_history(shop: Shop, item_numbers: np.ndarray) -> BestWithoutUser:
    """The best ranker that knows the user's clicks, before the session and in it, but not the favourites: the most a device can reach."""
    return BestWithoutUser(shop, item_numbers, history=True)


def _departments(shop: Shop, numbers: np.ndarray) -> np.ndarray:
    return numbers // shop.popularity.shape[1]


def _probability(shop: Shop, moves: np.ndarray, numbers: np.ndarray, loved: np.ndarray) -> np.ndarray:
    """Probability of the next click if an item is its department's favourite with probability `loved`, [P, items] float32."""
    crowd = (1 - shop.loyalty) * shop.popularity.ravel()[numbers]
    return (moves[:, _departments(shop, numbers)] * (crowd + shop.loyalty * loved)).astype(np.float32)
