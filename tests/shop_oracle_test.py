"""The shop's best rankers against enumeration of every possible taste, and against the baselines that nobody should let win."""

import itertools

import numpy as np
import pytest
from shop_world import shop_dataset
from small_baselines import NAMES, RUNNABLE, block_of

from jaxrec.baselines.registry import BASELINES
from jaxrec.baselines.shop_oracle import best_from_history, best_with_user, best_without_user
from jaxrec.data.blocks import SessionBlock, session_blocks
from jaxrec.data.shop import Shop, ShopOptions, draw
from jaxrec.evaluation.metrics import metrics, per_prediction
from jaxrec.evaluation.ranks import rank_sessions

NOTHING = np.zeros(0, np.int64)
TINY = Shop(
    transition=np.array([[0.7, 0.3], [0.4, 0.6]]),
    start=np.array([0.5, 0.5]),
    popularity=np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]),
    favourites=np.array([[2, 3], [0, 5]]),
    loyalty=0.4,
    users=NOTHING,
    items=NOTHING,
    times=NOTHING,
    sessions=NOTHING,
)
ORDER = np.array([4, 1, 5, 0, 3, 2])  # dataset index -> item number of the shop, as a vocabulary would have it


def click_probability(favourites: tuple[int, ...], item: int) -> float:
    """Probability of an item of TINY given its department."""
    return 0.6 * TINY.popularity.ravel()[item] + 0.4 * (favourites[item // 3] == item)


def enumerated(clicks: list[int], last: int) -> np.ndarray:
    """Probability of every item next, by summing over all pairs of favourites that the clicks leave possible, [6]."""
    answer, evidence = np.zeros(6), 0.0
    for favourites in itertools.product((0, 1, 2), (3, 4, 5)):
        likelihood = np.prod([click_probability(favourites, item) for item in clicks])
        evidence += likelihood
        answer += likelihood * np.array([TINY.transition[last // 3, item // 3] * click_probability(favourites, item) for item in range(6)])
    return answer / evidence


def tiny_block(session: list[int], history: list[int], user: int = 0) -> SessionBlock:
    """One session of TINY's item numbers, in the indices of ORDER."""
    index = np.argsort(ORDER)
    return block_of(index[session], index[history], user=user)


SESSION, HISTORY = [2, 3, 2, 4, 0, 4, 1], [5, 0, 2, 5, 5]


@pytest.mark.parametrize("history", [[], HISTORY])
def test_the_posterior_is_the_enumerated_one(history):
    scorer = best_from_history(TINY, ORDER) if history else best_without_user(TINY, ORDER)
    scores = scorer.scores(scorer.encode(tiny_block(SESSION, HISTORY)), 0, 6)
    for step, last in enumerate(SESSION[:-1]):
        expected = enumerated(history + SESSION[: step + 1], last)[ORDER]
        np.testing.assert_allclose(scores[step], expected, rtol=1e-6, err_msg=f"after {step + 1} clicks")


@pytest.mark.parametrize("user", [0, 1])
def test_with_the_user_the_probability_is_the_process_itself(user):
    scorer = best_with_user(TINY, ORDER, np.array([1, 0]))
    scores = scorer.scores(scorer.encode(tiny_block(SESSION, HISTORY, user)), 0, 6)
    favourites = TINY.favourites[1 - user]
    for step, last in enumerate(SESSION[:-1]):
        expected = [TINY.transition[last // 3, item // 3] * click_probability(favourites, item) for item in ORDER]
        np.testing.assert_allclose(scores[step], expected, rtol=1e-6)


def test_many_clicks_on_one_item_stay_finite():
    scorer = best_from_history(TINY, ORDER)
    scores = scorer.scores(scorer.encode(tiny_block([2, 2, 1], [2] * 5000)), 0, 6)
    np.testing.assert_allclose(scores[-1][ORDER.argsort()][:3], [0.7 * 0.6 * 0.6, 0.7 * 0.6 * 0.3, 0.7 * (0.6 * 0.1 + 0.4)], rtol=1e-6)


@pytest.fixture(scope="module")
def recalls() -> dict[str, np.ndarray]:
    """Recall@20 of every prediction of the test, {ranker: [predictions]}."""
    shop = draw(ShopOptions(shop_users=400, shop_departments=10))
    dataset = shop_dataset(shop)
    test, items, users = dataset.period("test"), np.arange(shop.n_items), np.arange(400)
    scorers = {name: BASELINES[name](dataset, range(test.start)) for name in RUNNABLE}
    scorers["best_without_user"] = best_without_user(shop, items)
    scorers["best_from_history"] = best_from_history(shop, items)
    scorers["best_with_user"] = best_with_user(shop, items, users)
    blocks = list(session_blocks(dataset, test))
    return {name: per_prediction(rank_sessions(s, blocks, shop.n_items).values())["recall@20"] for name, s in scorers.items()}


def not_beaten(best: np.ndarray, other: np.ndarray) -> bool:
    """Whether `other` is better than `best` by no more than three standard errors of the difference."""
    difference = best - other
    return difference.mean() > -3 * difference.std() / np.sqrt(len(difference))


def test_knowing_the_user_helps_and_history_lies_between(recalls):
    without, history, known = (recalls[name].mean() for name in ("best_without_user", "best_from_history", "best_with_user"))
    assert without + 0.05 < history < known - 0.01
    assert known < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_nobody_beats_the_best(recalls, name):
    assert not_beaten(recalls["best_from_history"], recalls[name])
    if "user" not in name and "als" not in name:
        assert not_beaten(recalls["best_without_user"], recalls[name])


@pytest.mark.long
def test_the_default_shop_leaves_room_for_personalisation():
    shop = draw(ShopOptions())
    dataset = shop_dataset(shop)
    items, users = np.arange(shop.n_items), np.arange(len(shop.favourites))
    blocks = list(session_blocks(dataset, dataset.period("test")))
    scorers = best_without_user(shop, items), best_with_user(shop, items, users)
    without, known = (metrics(rank_sessions(scorer, blocks, shop.n_items))["recall@20"] for scorer in scorers)
    assert 100_000 < len(shop.items) < 150_000
    assert 0.35 < without < 0.5 and without + 0.1 < known < 0.9
