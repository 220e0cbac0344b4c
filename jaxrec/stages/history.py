"""What validation says of own history and own networks: weights of the history prior, and whether fine-tuned networks help beside it.

Users of the validation sessions are split in two halves. Weights fitted to one half rank the other, so that every prediction is judged by
weights that have not seen its user. What likelihood likes is not always what ranks well: the weights are fitted to several temperatures of
the network, down to one that has hardly a say among own items, and for the best of them the prior is weakened and the gate between own and
other items is moved; ranks choose, by the relative gains less what it weighs that users are worse off.

All users get the same weights, with a feature that tells how much each one repeats. To scale or switch them by what each user's own
held-out clicks said was measured to lose accuracy and to spare hardly anybody: of few clicks chance says most.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.blocks import SessionBlock, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.own_history import FEATURES, OwnItems, own_items
from jaxrec.evaluation.networks import WithHistory
from jaxrec.evaluation.ranks import predictions_at_once, rank_sessions
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.shares import log_shares
from jaxrec.evaluation.users import better_same_worse, by_user
from jaxrec.learning.history import OwnShares, fit_weights

TEMPERATURES = (1.0, 0.5, 0.25, 0.1, 0.03)
"""The network's scores are multiplied by them before weights are fitted; the weights are then divided by them. The first of equal ones
stays."""

ERRORS_BEYOND = 2.0
"""Standard errors by which a gain must exceed zero: what does nothing is to stay out."""

WORSE, MANY = 1.5, 0.1
"""What it weighs beside the relative gains that all users are worse off, because a device must not do harm, and the share of users from
which on each counts in full. Below it they count in proportion to their share: harm to a few is mostly chance, and were its price the same
everywhere, a prior that hardly does anything would often be worth just as much as one that gains twice as much."""

CHANGED = 2
"""How many of the best temperatures have their weights changed."""

CHANGES = ((1.0, -1.0), (1.0, 1.0), (1.0, 8.0), (0.6, 0.0), (0.3, 0.0))
"""(share of the weights that is taken, shift of the gate): what orders own items best may place them too high or low, or be too strong.
Where the network knows nothing, all own items stand before all others."""

GATE = np.array([name == "own" for name in FEATURES], np.float64)

MOST_ENTRIES = 2**21
"""Pairs of a prediction and an own item that weights are fitted to, at most: a bound of memory where users have long pasts."""

FEWEST_USERS = 20
"""Users that a standard error needs; with fewer nothing is switched on or off."""

OFF = (0.0,) * len(FEATURES)

JUDGED_BY = ("recall@20", "mrr@20")


class Learnt(NamedTuple):
    """What validation chose.

    Attributes:
      history: weights of the history prior, one for each of FEATURES, all zero where it is off.
      fine_tuned: whether fine-tuned networks are to be used at all.
      trials: figures behind both.
    """

    history: tuple[float, ...]
    fine_tuned: bool
    trials: tuple[dict, ...]


class Asked(NamedTuple):
    """What validation judges by.

    Attributes:
      halves: the sessions of each half of the users, in blocks.
      popular: popularity of all items before them, [items].
    """

    halves: Sequence[Sequence[SessionBlock]]
    popular: np.ndarray


@dataclasses.dataclass(frozen=True)
class Remembered:
    """A scorer that encodes a block once."""

    base: Scorer
    encoded: dict[int, Any] = dataclasses.field(default_factory=dict)

    def encode(self, block: SessionBlock) -> Any:
        if id(block) not in self.encoded:
            self.encoded[id(block)] = self.base.encode(block)
        return self.encoded[id(block)]

    def scores(self, encoded: Any, start: int, stop: int) -> Any:
        return self.base.scores(encoded, start, stop)


def learn_history(dataset: Dataset, plain: Scorer, tuned: Scorer, sessions: np.ndarray, popular: np.ndarray, with_prior: bool) -> Learnt:
    """Of the global network and each user's own, without and with the prior, what gains most over the global network alone.

    What does not gain clearly stays off.

    Args:
      plain, tuned: the global network and users' own; neither has seen the sessions.
      sessions: session numbers of the validation, of users who clicked before.
      popular: `jaxrec.data.own_history.popularity` of all items before them, [items].
      with_prior: whether there may be a prior.
    """
    users = np.unique(dataset.users[sessions])
    if len(users) < FEWEST_USERS:
        return Learnt(OFF, True, ())
    halves = [sessions[np.isin(dataset.users[sessions], users[part::2])] for part in (0, 1)]
    asked = Asked([list(session_blocks(dataset, half, predictions_at_once(dataset.n_items))) for half in halves], popular)
    networks = {False: Remembered(plain), True: Remembered(tuned)}
    alone = {fine_tuned: _judge(network, asked, (OFF, OFF)) for fine_tuned, network in networks.items()}
    without = alone[False]
    trials, best = [], (0.0, OFF, False)
    for fine_tuned, network in networks.items():
        found, history = _best_prior(network, asked, without) if with_prior else ([], lambda trial: OFF)
        found = [_trial(without, alone[fine_tuned], 0.0, 1.0, 0.0), *found]
        leading = max(found, key=_worth)
        trials += [{"fine_tuned": fine_tuned, **trial} for trial in found]
        if _worth(leading) > best[0]:
            best = _worth(leading), history(leading), fine_tuned
    return Learnt(best[1], best[2], tuple(trials))


def _best_prior(network: Scorer, asked: Asked, without: dict):
    """(trials of priors, a function from a trial to its weights fitted to all users)."""
    most = MOST_ENTRIES // sum(map(len, asked.halves))
    shares = [[own_shares(network, block, asked.popular, most) for block in half] for half in asked.halves]
    crossed = {temperature: [fit(shares[1 - part], temperature) for part in (0, 1)] for temperature in TEMPERATURES}

    def attempt(temperature: float, share: float, shift: float) -> dict:
        weights = [share * own + shift * GATE for own in crossed[temperature]]
        return _trial(without, _judge(network, asked, weights), temperature, share, shift)

    def history(trial: dict) -> tuple[float, ...]:
        if not trial["temperature"]:
            return OFF
        whole = fit(shares[0] + shares[1], trial["temperature"])
        return tuple(map(float, trial["share"] * whole + trial["shift"] * GATE))

    trials = [attempt(temperature, 1.0, 0.0) for temperature in TEMPERATURES]
    leading = temperatures_to_change(trials)
    return trials + [attempt(temperature, *change) for temperature in leading for change in CHANGES], history


def temperatures_to_change(trials: Sequence[dict]) -> list[float]:
    """Those that gain most; behind them those whose clear gain costs a metric, because a weaker prior may keep both.

    >>> clear = {"gain": 0.5, "gain_error": 0.1, "falls": False, "users_worse": 0.0}
    >>> temperatures_to_change([clear | {"temperature": 1.0, "falls": True}, clear | {"temperature": 0.5, "users_worse": 0.1}])
    [0.5, 1.0]
    >>> temperatures_to_change([clear | {"temperature": 1.0, "gain": 0.1}])
    []
    """
    worthy = [trial for trial in trials if _worth(trial) > 0 or (_is_clear(trial) and trial["falls"])]
    return [trial["temperature"] for trial in sorted(worthy, key=lambda trial: (_worth(trial), _net_gain(trial)), reverse=True)][:CHANGED]


def _worth(trial: dict) -> float:
    """What is chosen by: the net gain, 0 where it is not clear or a metric falls."""
    return _net_gain(trial) if _is_clear(trial) and not trial["falls"] else 0.0


def _net_gain(trial: dict) -> float:
    """Relative gains less what users who are worse off weigh.

    >>> [round(_net_gain({"gain": 0.5, "users_worse": worse}), 4) for worse in (0.0, 0.05, 0.1, 0.2)]
    [0.5, 0.4625, 0.35, 0.2]
    """
    worse = trial["users_worse"]
    return trial["gain"] - WORSE * worse * min(1.0, worse / MANY)


def _is_clear(trial: dict) -> bool:
    return trial["gain"] > ERRORS_BEYOND * trial["gain_error"]


def _judge(network: Scorer, asked: Asked, weights: Sequence) -> dict[str, np.ndarray]:
    """Sums of users, of the first half and then of the second, each ranked by its own weights."""
    n_items, halves = len(asked.popular), zip(weights, asked.halves, strict=True)
    ranks = [rank_sessions(WithHistory(network, own, asked.popular), half, n_items) for own, half in halves]
    sums = [by_user(one, np.unique(one.users)) for one in ranks]
    return {name: np.concatenate([part[name] for part in sums]) for name in (*JUDGED_BY, "predictions")}


def fit(shares: Sequence[OwnShares], temperature: float) -> np.ndarray:
    """Weights fitted to the blocks' predictions at one of TEMPERATURES, for scores as the network gives them, [F]."""
    place, first = TEMPERATURES.index(temperature), np.cumsum([0, *(one.predictions for one in shares)])
    parts = [one._replace(prediction=one.prediction + start, share=one.share[place]) for one, start in zip(shares, first, strict=False)]
    columns = (np.concatenate(column) for column in zip(*(part[:-1] for part in parts), strict=True))
    return fit_weights(OwnShares(*columns, int(first[-1]))) / temperature


def own_shares(scorer: Scorer, block: SessionBlock, popular: np.ndarray, most: int) -> OwnShares:
    """Own items of a block's predictions, with shares [temperatures, E]; of every n-th prediction where `most` entries do not hold all."""
    own = own_items(block, popular)
    every = max(1, -(-len(own.items) // most))
    kept = own.prediction % every == 0
    own = OwnItems(own.prediction[kept], own.items[kept], own.features[kept])
    shares = np.exp(log_shares(scorer, block, own, len(popular), TEMPERATURES))
    row, step = np.nonzero(block.mask)
    target = own.items == block.items[row, step + 1][own.prediction]
    return OwnShares(own.prediction // every, own.features, shares, target, -(-len(row) // every))


def gain_over(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[float, float]:
    """(sum of the relative gains of the two metrics, its standard error over users), from sums of each user, {metric: [U]}.

    Relative to the middle of before and after: where the network alone finds nothing, neither metric may drown the other.
    """
    own = sum((after[name] - before[name]) / max((after[name].sum() + before[name].sum()) / 2, 1e-9) for name in JUDGED_BY)
    return float(own.sum()), float(np.sqrt(len(own)) * own.std())


def _trial(before: dict[str, np.ndarray], after: dict[str, np.ndarray], temperature: float, share: float, shift: float) -> dict:
    """Figures of one setting; temperature 0 stands for no prior."""
    total, (gain, error) = max(after["predictions"].sum(), 1), gain_over(before, after)
    _, _, worse = better_same_worse(before["recall@20"], after["recall@20"])
    return {
        "temperature": temperature,
        "share": share,
        "shift": shift,
        **{name: float(after[name].sum() / total) for name in JUDGED_BY},
        "falls": any(after[name].sum() < before[name].sum() for name in JUDGED_BY),
        "gain": gain,
        "gain_error": error,
        "users_worse": worse,
    }
