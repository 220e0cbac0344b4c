"""Matrix factorisation: the fold-in against its formula and the library, worlds that it must solve, the same result each time."""

import sys

import numpy as np
import pytest
from scipy import sparse
from small_baselines import FACTORISING, block_of, dataset_of, needs_implicit

from jaxrec.baselines import fold_in as folding
from jaxrec.baselines.factors import ALPHA, ALS, NEVER
from jaxrec.baselines.fold_in import fold_in, square
from jaxrec.baselines.implicit_library import fitted
from jaxrec.baselines.registry import BASELINES
from jaxrec.errors import InputError

CLICKS = sparse.csr_matrix(np.random.default_rng(0).poisson(0.3, (40, 25)).astype(np.float32))


def groups(users: int = 0):
    """Sessions of items 0 to 4 or of items 5 to 9; item 10 is never clicked. User u is always in the group u % 2."""
    rng = np.random.default_rng(0)
    sessions = [(n % 2 * 5 + rng.choice(5, 3, replace=False)).tolist() for n in range(120)]
    return dataset_of(sessions, 11, [n % users for n in range(120)] if users else None)


def test_a_row_is_folded_in_by_hand():
    vectors = np.array([[1, 0], [0, 2]], np.float32)
    extra = sparse.csr_array(np.array([[2, 0], [0, 0], [0, 5]], np.float32))
    # Y'Y = diag(1, 4); of the first row 1 + 2 + 0.5 and 3 x 1, of the last 4 + 5 x 4 + 0.5 and 6 x 2.
    np.testing.assert_allclose(fold_in(vectors, square(vectors, 0.5), extra), [[3 / 3.5, 0], [0, 0], [0, 12 / 24.5]], rtol=1e-6)


@needs_implicit
@pytest.mark.parametrize("at_once", [1, 2**23])
def test_folding_in_is_what_the_library_does(monkeypatch, at_once):
    monkeypatch.setattr(folding, "NUMBERS_AT_ONCE", at_once)
    confidence = CLICKS.copy()
    confidence.data = 1 + 3 * confidence.data
    model = fitted("als", "als", confidence, factors=8, regularization=0.1, iterations=3)
    found = fold_in(model.item_factors, square(model.item_factors, 0.1), sparse.csr_array(3 * CLICKS))
    np.testing.assert_allclose(found, model.recalculate_user(np.arange(40), confidence), rtol=1e-5, atol=1e-5)


@needs_implicit
def test_als_session_folds_in_the_history_and_the_session_so_far():
    scorer = BASELINES["als_session"](groups(), range(120))
    clicks = np.zeros((2, 11), np.float32)
    clicks[:, 7], clicks[:, 1], clicks[1, 2] = 2, 1, 1
    expected = fold_in(scorer.vectors, square(scorer.vectors, ALS["regularization"]), sparse.csr_array(ALPHA * clicks))
    np.testing.assert_allclose(scorer.encode(block_of([1, 2, 4], history=[7, 7])), expected, rtol=1e-5)


@needs_implicit
def test_bpr_mf_is_the_mean_of_the_clicks_so_far():
    scorer = BASELINES["bpr_mf"](groups(), range(120))
    one, two = scorer.vectors[[1, 2]]
    np.testing.assert_allclose(scorer.encode(block_of([1, 2, 1, 4], history=[7])), [one, (one + two) / 2, (2 * one + two) / 3], rtol=1e-5)


@needs_implicit
@pytest.mark.parametrize("name", FACTORISING)
def test_groups_are_told_apart_and_what_nobody_clicked_comes_last(name):
    scorer = BASELINES[name](groups(users=12), range(120))
    scores = scorer.scores(scorer.encode(block_of([6, 5, 9], user=3)), 0, 11)
    assert (scores[:, 5:10].min(axis=1) > scores[:, :5].max(axis=1)).all()
    np.testing.assert_array_equal(scores[:, 10], NEVER)


@needs_implicit
def test_als_knows_users_of_the_given_sessions_and_takes_others_as_average():
    dataset = groups(users=12)
    scorer = BASELINES["als"](dataset, range(3, 11))  # of users 3 to 10
    users = [scorer.encode(block_of([0, 1], user=user))[0] for user in (*range(3, 11), 0, 11, -1)]
    for unknown in users[8:]:
        np.testing.assert_allclose(unknown, np.mean(users[:8], axis=0), rtol=1e-5)
    assert np.abs(users[0] - users[1]).max() > 0.1


@needs_implicit
def test_als_is_the_library_with_the_stated_confidence():
    confidence = sparse.csr_matrix(np.array([[1 + 2 * ALPHA, 1 + ALPHA, 0], [0, 0, 1 + ALPHA]], np.float32))
    expected = fitted("als", "als", confidence, num_threads=1, **ALS)
    scorer = BASELINES["als"](dataset_of([[0, 1], [2], [0]], 3, [0, 1, 0]), range(3))
    np.testing.assert_array_equal(scorer.vectors, expected.item_factors)
    np.testing.assert_array_equal(scorer.encode(block_of([0, 1], user=1))[0], expected.user_factors[1])


@needs_implicit
def test_a_session_of_nobody_is_a_user_of_its_own():
    named = dataset_of([[0, 1], [2, 3], [0, 2]], 4, [0, 1, 2])
    nobody = dataset_of([[0, 1], [2, 3], [0, 2]], 4, [0, -1, -1])
    vectors = [BASELINES["als"](dataset, range(3)).vectors for dataset in (named, nobody)]
    np.testing.assert_array_equal(*vectors)


@needs_implicit
@pytest.mark.parametrize("name", FACTORISING)
def test_the_same_events_give_the_same_vectors(name):
    first, second = (BASELINES[name](groups(users=12), range(120)) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.bias, second.bias)


@pytest.mark.parametrize("name", FACTORISING)
def test_a_missing_library_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(InputError, match=rf"{name}: expected the package implicit; it cannot be imported .*; pip install implicit"):
        BASELINES[name](groups(), range(120))
