"""Session-kNN: small answers worked by hand, and the same scores as its definition read aloud, one session at a time."""

import numpy as np
import pytest
from small_baselines import block_of, dataset_of, scores_of

from jaxrec.baselines import session_knn, sparse_rows
from jaxrec.baselines.session_knn import fit_session_knn

TRAIN = [[0, 1, 0, 2], [0, 1], [3, 1, 2], [0, 2]]  # popularity: 0 .8, 1 and 2 .6, 3 .2, 4 none
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def test_neighbours_score_what_they_hold():
    after_3, after_0 = scores_of("session_knn", TRAIN, [3, 0, 4], 5)
    # One session holds 3: similarity 1, times .9 for a last click shared.
    np.testing.assert_allclose(after_3, [0.8 - 1, 0.9, 0.9, 0.9, -1], **CLOSE)
    # Three sessions share 0, the last click: .9 each; that with 3, of weight 1/2, shares the last click but one: .5 x .8.
    np.testing.assert_allclose(after_0, [2.7, 2.2, 2.2, 0.4, -1], **CLOSE)


def test_an_item_counts_where_it_was_clicked_last():
    *_, after_3 = scores_of("session_knn", TRAIN, [3, 0, 3, 4], 5)
    # 3 weighs 3/3 and not 1/3, 0 weighs 2/3 and is the last but one.
    np.testing.assert_allclose(after_3, [3 * 2 / 3 * 0.8, 2 * 2 / 3 * 0.8 + 0.9, 2 * 2 / 3 * 0.8 + 0.9, 0.9, -1], **CLOSE)


def test_what_was_shared_ten_clicks_ago_is_forgotten():
    scores = scores_of("session_knn", TRAIN, [3] + [4] * 11, 5)
    assert (scores[:9, 3] > 0).all()
    np.testing.assert_allclose(scores[8, 3], 1 / 9 * 0.1, rtol=1e-4)
    np.testing.assert_allclose(scores[9:11], np.broadcast_to([0.8 - 1, 0.6 - 1, 0.6 - 1, 0.2 - 1, -1], (2, 5)), rtol=1e-6)


def test_a_forgotten_neighbour_takes_nothing_from_the_others():
    *_, after_0 = scores_of("session_knn", [[3, 1], [3, 0]], [3, 1] + [4] * 10 + [0, 4], 5)[:13]
    np.testing.assert_allclose(after_0[[0, 3]], np.full(2, 0.9 * (1 + 1 / 13)), rtol=1e-4)
    assert after_0[1] < 0


def test_of_sessions_as_similar_the_later_ones_are_neighbours(monkeypatch):
    monkeypatch.setattr(session_knn, "NEIGHBOURS", 2)
    (after_0,) = scores_of("session_knn", TRAIN, [0, 4], 5)
    np.testing.assert_allclose(after_0, [1.8, 0.9, 0.9, 0.2 - 1, -1], **CLOSE)


def test_candidates_are_the_sessions_that_started_last(monkeypatch):
    monkeypatch.setattr(session_knn, "SAMPLE", 1)
    *_, after_0 = scores_of("session_knn", TRAIN, [3, 0, 4], 5)
    np.testing.assert_allclose(after_0, [0.9, 0.6 - 1, 0.9, 0.2 - 1, -1], **CLOSE)


def test_the_order_of_the_given_sessions_does_not_matter():
    found = [fit_session_knn(dataset_of(TRAIN, 5), order).sessions.toarray() for order in (range(1, 4), [3, 1, 2])]
    np.testing.assert_array_equal(*found)


def read_aloud(train: list[list[int]], session: list[int], n_items: int, neighbours: int, sample: int) -> np.ndarray:
    """Scores of the neighbours alone after a session so far, [items]."""
    weight = {item: place / len(session) for place, item in enumerate(session, 1)}
    sharing = [number for number, held in enumerate(train) if set(held) & set(session)][-sample:]
    similarity = {number: sum(weight[item] for item in set(train[number]) & set(session)) for number in sharing}
    scores = np.zeros(n_items)
    for number in sorted(sharing, key=lambda number: (similarity[number], number))[-neighbours:]:
        ago = min(len(session) - place for place, item in enumerate(session) if item in train[number])
        for item in set(train[number]):
            scores[item] += similarity[number] * max(0, 1 - ago / 10)
    return scores


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_it_is_what_the_definition_says(monkeypatch, at_once):
    for name, value in (("NEIGHBOURS", 3), ("SAMPLE", 8), ("CANDIDATES_AT_ONCE", at_once)):
        monkeypatch.setattr(session_knn, name, value)
    rng = np.random.default_rng(0)
    train = [rng.integers(15, size=rng.integers(2, 7)).tolist() for _ in range(60)]
    scorer = fit_session_knn(dataset_of(train, 16), range(60))
    for session in rng.integers(16, size=(10, 9)).tolist():
        scores = scorer.encode(block_of(session)).toarray()
        for clicks in (1, 2, 4, 8):  # weights that add up without rounding, so that equal similarities are equal
            np.testing.assert_allclose(scores[clicks - 1], read_aloud(train, session[:clicks], 16, 3, 8), rtol=1e-6)


def test_of_long_sessions_the_last_clicks_count(monkeypatch):
    monkeypatch.setattr(sparse_rows, "LONGEST", 2)
    monkeypatch.setattr(session_knn, "LONGEST", 2)
    assert fit_session_knn(dataset_of(TRAIN, 5), range(4)).sessions.toarray()[[0, 2]].tolist() == [[1, 0, 1, 0, 0], [0, 1, 1, 0, 0]]
    *_, long = scores_of("session_knn", TRAIN, [3, 2, 3, 1, 0, 4], 5)[:5]
    *_, short = scores_of("session_knn", TRAIN, [1, 0, 4], 5)
    np.testing.assert_array_equal(long, short)
