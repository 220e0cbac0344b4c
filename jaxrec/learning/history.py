"""Learning the weights of the history prior: a convex problem of a few numbers.

With p(i) the network's probability of item i and f(i) the features of the user's own items, the prior makes it

    p(i) exp(w . f(i)) / Z    for own items,    p(i) / Z    for others,    Z = rest + sum over own items of p(i) exp(w . f(i)),

where rest is what p gives to all items that are not the user's own. The loss is -log of the target's probability: no sampling, and
beyond p of the own items nothing of the catalogue is needed.

Dimensions: P predictions, E own items at them, F features.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

PENALTY = 1.0
"""Half of this times w . w joins the sum of losses: keeps the weights of what never happens finite."""

LEAST_REST = 1e-6
"""Probability that other items keep at least, whatever rounding makes of it."""


class OwnShares(NamedTuple):
    """What the network makes of the user's own items.

    Attributes:
      prediction: number of each entry's prediction, ascending, [E].
      features: [E, F].
      share: the network's probability of the item, [E].
      target: whether it is what was clicked next, [E] bool.
      predictions: number of predictions, those without own items included.
    """

    prediction: np.ndarray
    features: np.ndarray
    share: np.ndarray
    target: np.ndarray
    predictions: int


def fit_weights(own: OwnShares) -> np.ndarray:
    """The weights with the least loss, [F] float64; zeros where there are no own items."""
    features = own.features.astype(np.float64)
    rest = np.maximum(1 - np.bincount(own.prediction, own.share, own.predictions), LEAST_REST)
    wanted = features[own.target].sum(axis=0)

    def posterior(weights):
        bonus = features @ weights
        raised = own.share * np.exp(bonus)
        total = rest + np.bincount(own.prediction, raised, own.predictions)
        return bonus, raised / total[own.prediction], total

    def loss(weights):
        bonus, share, total = posterior(weights)
        value = np.log(total).sum() - bonus[own.target].sum() + PENALTY / 2 * weights @ weights
        return value, share @ features - wanted + PENALTY * weights

    def curvature(weights):
        share = posterior(weights)[1]
        weighted = features * share[:, None]
        mean = np.stack([np.bincount(own.prediction, column, own.predictions) for column in weighted.T], axis=-1)
        return features.T @ weighted - mean.T @ mean + PENALTY * np.eye(len(weights))

    return minimize(loss, np.zeros(features.shape[1]), jac=True, hess=curvature, method="trust-exact").x
