"""The history prior: shares of the whole catalogue, weights that come back, and no prior where there is nothing to know."""

import dataclasses

import jax
import numpy as np
import pytest
from world import dataset_of, small_model

from jaxrec.data.blocks import session_blocks
from jaxrec.data.own_history import FEATURES, own_items, popularity
from jaxrec.evaluation import ranks
from jaxrec.evaluation.networks import GlobalScorer, WithHistory
from jaxrec.evaluation.shares import log_shares
from jaxrec.learning.history import OwnShares, fit_weights
from jaxrec.stages.history import OFF, gain_over, learn_history, own_shares

ITEMS = 40
ALIKE = np.zeros(ITEMS, np.float32)


class Flat:
    """Every item is nearly as likely as any other; the order of the items breaks ties."""

    def encode(self, block):
        return len(block.predictions()[0])

    def scores(self, encoded, start, stop):
        return np.broadcast_to(np.arange(start, stop, dtype=np.float32) * 1e-3, (encoded, stop - start))


@pytest.mark.parametrize("at_once", [2**20, 200])
def test_shares_are_the_softmax_over_the_whole_catalogue(monkeypatch, at_once):
    monkeypatch.setattr(ranks, "scores_at_once", lambda: at_once)
    model, params = small_model(n_items=ITEMS)
    sessions = np.random.default_rng(0).integers(0, ITEMS, (8, 6)).tolist()
    scorer = GlobalScorer(model, params | {"item_bias": jax.random.normal(jax.random.key(0), (ITEMS,))})
    for block in session_blocks(dataset_of(sessions, [0, 1] * 4, n_items=ITEMS), range(8), predictions=16):
        own = own_items(block, None)
        scores = np.asarray(scorer.scores(scorer.encode(block), 0, ITEMS), np.float64)
        for temperature, found in zip((0.5, 2.0), log_shares(scorer, block, own, ITEMS, (0.5, 2.0)), strict=True):
            raised = np.exp(temperature * scores)
            expected = np.log(raised / raised.sum(-1, keepdims=True))[own.prediction, own.items]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_planted_weights_come_back():
    generator, planted = np.random.default_rng(0), np.array([1.5, -0.7, 0.4])
    predictions, own = 20_000, 6
    features = generator.normal(size=(predictions, own, 3))
    network = generator.dirichlet(np.ones(own + 1), predictions)  # the last column is all other items together
    raised = network * np.exp(np.concatenate([features @ planted, np.zeros((predictions, 1))], axis=1))
    clicked = (generator.random((predictions, 1)) * raised.sum(1, keepdims=True) > raised.cumsum(1)).sum(1)
    number = np.repeat(np.arange(predictions), own)
    target = np.arange(own) == clicked[:, None]
    shares = OwnShares(number, features.reshape(-1, 3), network[:, :-1].ravel(), target.ravel(), predictions)
    np.testing.assert_allclose(fit_weights(shares), planted, atol=0.05)


def test_what_never_happens_has_a_finite_weight():
    shares = OwnShares(np.arange(50), np.ones((50, 1), np.float32), np.full(50, 0.1), np.zeros(50, bool), 50)
    (weight,) = fit_weights(shares)
    assert -10 < weight < -1
    nothing = OwnShares(np.zeros(0, int), np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0, bool), 5)
    np.testing.assert_array_equal(fit_weights(nothing), [0, 0])


def log_of(draw, users=60, sessions=12, length=5, seed=0):
    """A log whose clicks are draw(generator, user, own clicks so far)."""
    generator, own = np.random.default_rng(seed), [[] for _ in range(users)]
    found, order = [], np.tile(np.arange(users), sessions)
    for user in order:
        for _ in range(length):
            own[user].append(draw(generator, user, own[user]))
        found.append(own[user][-length:])
    return dataset_of(found, order.tolist(), n_items=ITEMS)


def late(dataset):
    return np.arange(dataset.n_sessions // 2, dataset.n_sessions)


def test_no_prior_where_users_do_not_differ():
    for seed in range(5):
        dataset = log_of(lambda generator, user, own: generator.integers(ITEMS), seed=seed)
        learnt = learn_history(dataset, Flat(), Flat(), late(dataset), ALIKE, True)
        assert learnt.history == OFF, f"a prior was learnt from a log of pure chance (seed {seed})"
        assert len(learnt.trials) > 1


def test_a_habit_is_learnt_and_what_never_returns_is_pushed_down():
    habit = log_of(lambda generator, user, own: (user * 7 + generator.integers(4)) % ITEMS)
    fresh = log_of(lambda generator, user, own: generator.choice(np.setdiff1d(np.arange(ITEMS), own[-20:])))
    for dataset, sign in ((habit, 1), (fresh, -1)):
        weights = learn_history(dataset, Flat(), Flat(), late(dataset), ALIKE, True).history
        assert weights != OFF
        scorer = WithHistory(Flat(), weights, ALIKE)
        (block,) = session_blocks(dataset, [dataset.n_sessions - 1], predictions=1)
        scores = np.asarray(scorer.scores(scorer.encode(block), 0, ITEMS))[0]
        own = np.isin(np.arange(ITEMS), block.items[0, :1])
        assert sign * (scores[own].mean() - scores[~own].mean()) > 0


def test_a_click_on_what_few_click_says_more_of_the_user():
    """Half of the clicks go where the crowd goes, as the network knows; half to a favourite that any item may be."""
    crowd = np.arange(1, ITEMS + 1) ** -1.5
    crowd /= crowd.sum()

    class Crowd(Flat):
        def scores(self, encoded, start, stop):
            return np.broadcast_to(np.log(crowd[start:stop]), (encoded, stop - start))

    def draw(generator, user, own):
        return user * 7 % ITEMS if generator.random() < 0.5 else generator.choice(ITEMS, p=crowd)

    dataset = log_of(draw)
    weights = dict(
        zip(FEATURES, learn_history(dataset, Crowd(), Crowd(), late(dataset), popularity(1e3 * crowd), True).history, strict=True)
    )
    assert weights["own"] > 0 and weights["popular"] < -0.3


def test_learning_does_not_look_beyond_its_sessions():
    dataset = log_of(lambda generator, user, own: (user * 7 + generator.integers(4)) % ITEMS)
    sessions = np.arange(300, 500)
    items = dataset.items.copy()
    items[dataset.offsets[500] :] = 0
    first, second = (
        learn_history(one, Flat(), Flat(), sessions, ALIKE, True) for one in (dataset, dataclasses.replace(dataset, items=items))
    )
    assert first == second and first.history != OFF


def test_the_gain_is_relative_and_its_error_is_over_users():
    before = {"recall@20": np.array([2.0, 1.0]), "mrr@20": np.array([1.0, 1.0])}
    after = {"recall@20": np.array([4.0, 1.0]), "mrr@20": np.array([1.0, 1.0])}
    np.testing.assert_allclose(gain_over(before, after), (2 / 4, np.sqrt(2) * 2 / 4 / 2))
    after["mrr@20"] = np.array([1.0, 2.0])
    np.testing.assert_allclose(gain_over(before, after), (2 / 4 + 1 / 2.5, np.sqrt(2) * (2 / 4 - 1 / 2.5) / 2))
    assert gain_over(dict.fromkeys(before, np.zeros(2)), before)[0] == pytest.approx(4.0)


def test_weights_are_one_for_each_feature():
    assert len(OFF) == len(FEATURES)


def test_a_long_past_is_thinned_by_whole_predictions():
    dataset = log_of(lambda generator, user, own: generator.integers(ITEMS), users=4, sessions=4)
    (block,) = session_blocks(dataset, range(8, 16), predictions=32)
    whole, thin = (own_shares(Flat(), block, ALIKE, most) for most in (10**6, 300))
    every = -(-len(whole.prediction) // 300)
    assert every > 1 and thin.predictions == -(-whole.predictions // every)
    kept = whole.prediction % every == 0
    np.testing.assert_array_equal(thin.prediction, whole.prediction[kept] // every)
    np.testing.assert_array_equal(thin.features, whole.features[kept])
    np.testing.assert_allclose(thin.share, whole.share[:, kept], rtol=1e-5)
    np.testing.assert_array_equal(thin.target, whole.target[kept])


def test_weights_are_judged_by_users_they_have_not_seen():
    """Every other user has a habit, the others never return: what one half teaches misleads the other."""

    def draw(generator, user, own):
        return (user * 7 + generator.integers(4)) % ITEMS if user % 2 else generator.choice(np.setdiff1d(np.arange(ITEMS), own[-20:]))

    dataset = log_of(draw)
    learnt = learn_history(dataset, Flat(), Flat(), late(dataset), ALIKE, True)
    assert learnt.history == OFF
    assert all(trial["gain"] < 0 for trial in learnt.trials if trial["temperature"])


class Better:
    """Knows what the user clicks."""

    def encode(self, block):
        row, _ = block.predictions()
        return (block.users[row, None] * 7 + np.arange(4)[None]) % ITEMS

    def scores(self, encoded, start, stop):
        own = (encoded[:, :, None] == np.arange(start, stop)[None, None]).any(1)
        return own.astype(np.float32) * 9 + np.arange(start, stop, dtype=np.float32)[None] * 1e-3


@pytest.mark.parametrize("with_prior", [True, False])
def test_fine_tuned_networks_are_used_where_they_gain_clearly_and_nowhere_else(with_prior):
    dataset = log_of(lambda generator, user, own: (user * 7 + generator.integers(4)) % ITEMS)
    assert learn_history(dataset, Flat(), Better(), late(dataset), ALIKE, with_prior).fine_tuned
    assert not learn_history(dataset, Better(), Flat(), late(dataset), ALIKE, with_prior).fine_tuned
    assert learn_history(dataset, Flat(), Better(), late(dataset), ALIKE, False).history == OFF
    chance = log_of(lambda generator, user, own: generator.integers(ITEMS))
    assert not learn_history(chance, Flat(), Better(), late(chance), ALIKE, with_prior).fine_tuned
