"""One contract for every baseline and for the shop's best rankers, and small answers worked by hand for each."""

import dataclasses

import numpy as np
import pytest
from scipy import sparse
from shop_world import shop_dataset
from small_baselines import FACTORISING, NAMES, block_of, dataset_of, scores_of

from jaxrec.baselines import item_knn, markov_user_history, mixture_weight
from jaxrec.baselines.counts import event_counts, events_of
from jaxrec.baselines.markov_user_history import SMOOTHING
from jaxrec.baselines.registry import BASELINES
from jaxrec.baselines.shop_oracle import best_from_history, best_with_user, best_without_user
from jaxrec.data.blocks import SessionBlock, session_blocks
from jaxrec.data.shop import ShopOptions, draw
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.ranks import rank_sessions

SHOP = draw(ShopOptions(shop_users=40, shop_departments=4, shop_items_per_department=7))
DATASET = shop_dataset(SHOP)
FITTED_ON = range(DATASET.period("test").start)
EVERY_ITEM, EVERY_USER = np.arange(SHOP.n_items), np.arange(40)
ORACLES = {
    "best_without_user": lambda dataset, sessions: best_without_user(SHOP, EVERY_ITEM),
    "best_from_history": lambda dataset, sessions: best_from_history(SHOP, EVERY_ITEM),
    "best_with_user": lambda dataset, sessions: best_with_user(SHOP, EVERY_ITEM, EVERY_USER),
}


ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
"""Products of matrices may add up in another order in another shape."""


def whole(scorer, block: SessionBlock) -> np.ndarray:
    """Scores of every item at every prediction, [predictions, items]."""
    return np.asarray(scorer.scores(scorer.encode(block), 0, DATASET.n_items))[: block.mask.sum()]


@pytest.fixture(scope="module")
def block() -> SessionBlock:
    """Test sessions of 6 to 9 clicks, padded to 8 steps, with two padding rows."""
    steps = np.diff(DATASET.offsets) - 1
    chosen = [s for s in DATASET.period("test") if 5 <= steps[s] <= 8]
    (only,) = session_blocks(DATASET, chosen, predictions=8 * (len(chosen) + 2))
    assert only.mask.shape == (len(chosen) + 2, 8) and not only.mask[-2:].any() and not only.mask[:-2].all()
    return only


@pytest.fixture(scope="module", params=[*NAMES, *ORACLES])
def fit(request):
    return (BASELINES | ORACLES)[request.param]


@pytest.fixture(scope="module")
def scorer(fit):
    return fit(DATASET, FITTED_ON)


def test_the_names_are_those_of_the_commands():
    counting = ["popularity", "session_popularity", "user_history", "user_history_decayed"]
    pairing = ["markov", "markov_user_history", "item_knn", "session_knn"]
    assert list(BASELINES) == [*counting, *pairing, *FACTORISING]


def test_scores_have_the_promised_form(scorer, block):
    scores = whole(scorer, block)
    assert scores.shape == (block.mask.sum(), DATASET.n_items)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_slices_of_items_are_parts_of_the_whole(scorer, block):
    encoded = scorer.encode(block)
    parts = [np.asarray(scorer.scores(encoded, start, min(start + 9, 28))) for start in range(0, 28, 9)]
    np.testing.assert_allclose(np.concatenate(parts, axis=-1)[: block.mask.sum()], whole(scorer, block), **ROUNDING)


def test_the_future_has_no_influence(scorer, block):
    other = block._replace(items=block.items.copy())
    other.items[:, 4:] = (other.items[:, 4:] + 11) % DATASET.n_items
    early = np.nonzero(block.mask)[1] < 4
    np.testing.assert_array_equal(whole(scorer, other)[early], whole(scorer, block)[early])


def test_padding_has_no_influence(scorer, block):
    shown = np.zeros(block.items.shape, bool)
    shown[:, :-1] = block.mask
    shown[:, 1:] |= block.mask
    wider = block._replace(
        items=np.where(shown, block.items, 5).astype(np.int32),
        history_items=np.pad(block.history_items, ((0, 0), (0, 3)), constant_values=-1),
        history_counts=np.pad(block.history_counts, ((0, 0), (0, 3))),
        history_decayed=np.pad(block.history_decayed, ((0, 0), (0, 3))),
        history_ago=np.pad(block.history_ago, ((0, 0), (0, 3))),
    )
    np.testing.assert_array_equal(whole(scorer, wider), whole(scorer, block))


def test_a_session_alone_scores_as_among_others(scorer, block):
    alone = SessionBlock(*(column[3:4] for column in block))
    np.testing.assert_allclose(whole(scorer, alone), whole(scorer, block)[np.nonzero(block.mask)[0] == 3], **ROUNDING)


def test_only_the_given_sessions_are_learnt_from(fit, scorer, block):
    altered = dataclasses.replace(DATASET, items=DATASET.items.copy())
    altered.items[DATASET.offsets[FITTED_ON.stop] :] = 0
    np.testing.assert_array_equal(whole(fit(altered, FITTED_ON), block), whole(scorer, block))


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_works_without_users(name):
    sessions = [[0, 1, 2], [1, 2], [2, 0, 1], [0, 1]] * 3
    dataset = dataset_of(sessions, 4)
    found = metrics(rank_sessions(BASELINES[name](dataset, range(8)), session_blocks(dataset, range(8, 12)), 4))
    assert found["predictions"] == 6 and found["recall@5"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_the_events_can_be_learnt_from(name):
    """Purchases alone, say: they leave sessions without events, which teach nothing, and perhaps no events at all."""
    dataset, chosen = dataset_of([[0, 1, 2], [2, 3], [1, 2, 1], [3, 0]], 5, [0, 1, 1, 2]), np.array([0, 1, 1, 0, 0, 0, 0, 0, 1, 1], bool)
    offsets = np.append(0, np.cumsum(chosen))[dataset.offsets]
    part = dataclasses.replace(dataset, items=dataset.items[chosen], times=dataset.times[chosen], offsets=offsets)
    block = block_of([1, 2, 3], history=[2], user=1)
    of_all, of_some, of_none = (BASELINES[name](part, sessions) for sessions in (range(4), [0, 3], []))
    np.testing.assert_array_equal(*(scorer.scores(scorer.encode(block), 0, 5) for scorer in (of_all, of_some)))
    assert np.isfinite(of_none.scores(of_none.encode(block), 0, 5)).all()


def test_events_of_some_sessions():
    dataset = dataset_of([[0, 1], [2, 3, 1], [4, 0]], 5)
    items, session = events_of(dataset, [2, 1])
    assert items.tolist() == [4, 0, 2, 3, 1] and session.tolist() == [0, 0, 1, 1, 1]
    assert event_counts(dataset, [1, 2]).tolist() == [1, 1, 1, 1, 1]
    assert event_counts(dataset, []).tolist() == [0] * 5


TRAIN = [[0, 1, 0, 2], [0, 1], [3, 1, 2], [0, 2]]  # clicks: 0 four times, 1 and 2 three times, 3 once, 4 never


def test_popularity_counts_clicks():
    assert scores_of("popularity", TRAIN, [3, 4, 0], 5).tolist() == [[4, 3, 3, 1, 0]] * 2


def test_session_popularity_prefers_what_the_session_has():
    scores = scores_of("session_popularity", TRAIN, [3, 4, 3, 0], 5, history=[2, 2])
    np.testing.assert_allclose(scores, [[0.8, 0.6, 0.6, 1.2, 0], [0.8, 0.6, 0.6, 1.2, 1], [0.8, 0.6, 0.6, 2.2, 1]], rtol=1e-6)


def test_user_history_counts_the_past_and_the_present():
    scores = scores_of("user_history", TRAIN, [3, 2, 0], 5, history=[2, 4, 2])
    np.testing.assert_allclose(scores, [[0.8, 0.6, 2.6, 1.2, 1], [0.8, 0.6, 3.6, 1.2, 1]], rtol=1e-6)


def test_decayed_history_outweighs_popularity_however_old_it_is():
    scorer = BASELINES["user_history_decayed"](dataset_of(TRAIN, 5), range(4))
    block = block_of([3, 2, 0], history=[2, 4, 2, 1], decayed={2: 5 / 6, 4: 1 / 3, 1: 1 / 3})
    scores = scorer.scores(scorer.encode(block), 0, 5)
    np.testing.assert_allclose(scores, [[0.8 - 1, 1 / 3, 5 / 6, 1, 1 / 3], [0.8 - 1, 1 / 3, 11 / 6, 1, 1 / 3]], rtol=1e-4)
    assert (scores[:, 1] > scores[:, 4]).all(), "equal ones by popularity"


def test_markov_counts_what_followed_and_any_pair_beats_none():
    # After 0: 1 twice, 2 twice. After 1: 0 once, 2 once. The end of one session and the start of the next are no pair.
    scores = scores_of("markov", TRAIN, [0, 1, 3], 5)
    np.testing.assert_allclose(scores, [[0.8, 2.6, 2.6, 0.2, 0], [1.8, 0.6, 1.6, 0.2, 0]], rtol=1e-6)


def test_item_knn_is_the_stated_similarity():
    # Sessions with 0: 3, 1: 3, 2: 3, 3: 1, 4: 0. Shared: (0, 1) 2, (0, 2) 2, (1, 2) 2, (1, 3) 1, (2, 3) 1.
    after_3, after_0 = scores_of("item_knn", TRAIN, [3, 0, 1], 5)
    one, two = 1 / np.sqrt(21 * 23), 2 / 23
    np.testing.assert_allclose(after_3, [0.8 - 1, one, one, 0.2 - 1, -1], rtol=1e-4)
    np.testing.assert_allclose(after_0, [0.8 - 1, two, two, 0.2 - 1, -1], rtol=1e-4)


def test_item_knn_keeps_the_strongest_neighbours_in_any_chunk(monkeypatch):
    every = item_knn.fit_item_knn(DATASET, FITTED_ON).similar.toarray()
    monkeypatch.setattr(item_knn, "NEIGHBOURS", 5)
    monkeypatch.setattr(item_knn, "PAIRS_AT_ONCE", 50)
    kept = item_knn.fit_item_knn(DATASET, FITTED_ON).similar.toarray()
    assert ((kept > 0).sum(axis=1) == 5).all()
    np.testing.assert_allclose(np.sort(kept)[:, -5:], np.sort(every)[:, -5:], rtol=1e-6)
    assert (np.diag(every) == 0).all()


def test_the_mixture_is_the_stated_one():
    counts, clicks = np.array([4, 3, 3, 1, 0]), 11
    pairs = sparse.csr_array(np.array([[0, 2, 2, 0, 0], [1, 0, 1, 0, 0], *[[0] * 5] * 3], np.float32))
    scorer = markov_user_history.MarkovUserHistory(
        pairs, pairs.sum(axis=1).astype(np.float32), (counts / clicks).astype(np.float32), weight=0.25
    )
    block = block_of([3, 0, 1], history=[2, 4, 2])
    everybody = (np.array([0, 2, 2, 0, 0]) + SMOOTHING * counts / clicks) / (4 + SMOOTHING)
    expected = [0.75 * counts / clicks + 0.25 * np.array([0, 0, 2, 1, 1]) / 4, 0.75 * everybody + 0.25 * np.array([1, 0, 2, 1, 1]) / 5]
    scores = scorer.scores(scorer.encode(block), 0, 5)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


def test_the_mixture_learns_how_much_the_user_matters():
    rng = np.random.default_rng(0)
    users = [n % 20 for n in range(400)]
    loyal = [(20 + 15 * user + rng.choice(15, 4, replace=False)).tolist() for user in users]
    crowd = [[int(first), (int(first) + 1) % 20, (int(first) + 2) % 20] for first in rng.integers(20, size=400)]
    weights = [markov_user_history.fit_markov_user_history(dataset_of(s, 320, users), range(400)).weight for s in (loyal, crowd)]
    assert weights[0] >= 0.2, "pairs of the sessions that choose the weight were counted before"
    assert weights[1] == 0


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.95])
def test_the_weight_is_chosen_by_exact_ranks(weight):
    scorer = dataclasses.replace(BASELINES["markov_user_history"](DATASET, FITTED_ON), weight=weight)
    for block in session_blocks(DATASET, DATASET.period("test")):
        found = mixture_weight.ranks(mixture_weight.entries(scorer.pairs, block), scorer.followed, scorer.popular, SMOOTHING, weight)
        expected = rank_sessions(scorer, [block], DATASET.n_items)
        row, step = np.nonzero(block.mask)
        order = np.lexsort((step, block.sessions[row]))
        np.testing.assert_array_equal(found[order], expected.values())


@pytest.mark.parametrize("name", ["markov", "markov_user_history"])
def test_a_cycle_is_learnt_without_error(name):
    dataset = dataset_of([[n % 20, (n + 1) % 20, (n + 2) % 20] for n in range(400)], 20)
    ranks = rank_sessions(BASELINES[name](dataset, range(300)), session_blocks(dataset, range(300, 400)), 20)
    assert metrics(ranks)["recall@1"] == 1
