"""Exact ranks: any slices, any blocks and a brute force agree; ties by hand; what is no number or padding never helps."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import dataset_of

from jaxrec.data.blocks import session_blocks
from jaxrec.evaluation import ranks as module
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.ranks import CUTOFFS, predictions_at_once, rank_sessions

N_ITEMS = 7
LENGTHS = (2, 5, 3, 9, 2, 4, 6)
USERS = (0, 1, 0, 2, 2, 1, 3)
FIELDS = ("sessions", "steps", "users", "greater", "equal")


@dataclasses.dataclass(frozen=True)
class Looked:
    """Scores that stand in a table, [sessions + 1, T, items]; the last row is what padding rows get."""

    table: np.ndarray

    def encode(self, block):
        return self.table[block.sessions, : block.mask.shape[1]]

    def scores(self, encoded, start, stop):
        return encoded[..., start:stop]


def world(seed=0):
    generator = np.random.default_rng(seed)
    return dataset_of([generator.integers(0, N_ITEMS, n).tolist() for n in LENGTHS], list(USERS), n_items=N_ITEMS)


def table(seed, levels=4, broken=0.0):
    """Random scores of a few levels, so that ties are common; a share of them is not a number."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, (len(LENGTHS) + 1, 8, N_ITEMS)).astype(np.float32)
    return np.where(generator.random(scores.shape) < broken, np.float32(np.nan), scores)


def brute_force(dataset, scores):
    """(session, step, user, items above, other items equal) of every prediction, one by one."""
    found = []
    for session in range(dataset.n_sessions):
        for step, target in enumerate(dataset.session(session)[1:]):
            mine, all_scores = float(scores[session, step, target]), scores[session, step].tolist()
            above = sum(math.isnan(mine) or math.isnan(one) or one > mine for one in all_scores)
            found.append((session, step, int(dataset.users[session]), above, max(sum(one == mine for one in all_scores) - 1, 0)))
    return found


def rows(ranks):
    return list(zip(*(getattr(ranks, name).tolist() for name in FIELDS), strict=True))


def ranked(dataset, scores, predictions=2048, sessions=None):
    chosen = range(dataset.n_sessions) if sessions is None else sessions
    return rank_sessions(Looked(scores), session_blocks(dataset, chosen, predictions), N_ITEMS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2]), st.sampled_from([1, 40, 100, 10**6]), st.sampled_from([1, 10, 64]))
def test_slices_of_items_and_all_at_once_are_the_brute_force(seed, broken, at_once, predictions):
    dataset, scores = world(seed), table(seed, broken=broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCORES_AT_ONCE", at_once)
        assert rows(ranked(dataset, scores, predictions)) == brute_force(dataset, scores)


def test_three_ways_to_count_ties():
    dataset = dataset_of([[0, 2], [0, 5], [0, 1]], n_items=N_ITEMS)
    scores = np.zeros((4, 1, N_ITEMS), np.float32)
    scores[:3, 0] = [3, 1, 2, 2, 2, 5, 0]  # above item 2: 0 and 5; equal to it: 3 and 4
    ranks = ranked(dataset, scores)
    assert ranks.values("standard").tolist() == [3, 1, 6]
    assert ranks.values("conservative").tolist() == [5, 1, 6]
    assert ranks.values("median").tolist() == [4, 1, 6]


@pytest.mark.parametrize("at_once", [1, 10**6])
@pytest.mark.parametrize("ties", module.TIES)
def test_a_target_without_a_number_ranks_behind_every_item(monkeypatch, at_once, ties):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    dataset, scores = world(), table(0)
    ranks = ranked(dataset, np.full_like(scores, np.nan))
    assert (ranks.values(ties) > N_ITEMS).all()
    assert metrics(ranks, ties)[f"recall@{CUTOFFS[1]}"] == 0.0
    for session, step, *_ in rows(ranks):
        scores[session, step, dataset.session(session)[step + 1]] = np.nan
    assert (ranked(dataset, scores).values(ties) > N_ITEMS).all()


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_an_infinite_score_is_a_number(monkeypatch, at_once):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    dataset = dataset_of([[0, 2], [0, 3]], n_items=N_ITEMS)
    scores = np.zeros((3, 1, N_ITEMS), np.float32)
    scores[:, :, 2], scores[:, :, 3] = np.inf, -np.inf
    assert ranked(dataset, scores).values("conservative").tolist() == [1, N_ITEMS]


@pytest.mark.parametrize("filling", [-1e9, 1e9, np.nan])
def test_padding_rows_and_steps_never_count(filling):
    dataset, scores = world(), table(1)
    filled = np.full_like(scores, filling)
    for session, length in enumerate(LENGTHS):
        filled[session, : length - 1] = scores[session, : length - 1]
    assert rows(ranked(dataset, filled)) == rows(ranked(dataset, scores))
    assert len(ranked(dataset, scores).greater) == sum(LENGTHS) - len(LENGTHS)


@pytest.mark.parametrize("predictions", [1, 2, 5, 16, 2048])
def test_blocks_of_any_size_are_one_session_at_a_time(predictions):
    dataset, scores = world(), table(2)
    alone = [row for session in range(dataset.n_sessions) for row in rows(ranked(dataset, scores, 1, [session]))]
    assert rows(ranked(dataset, scores, predictions)) == alone


def test_only_the_sessions_asked_for_in_any_order_of_asking():
    dataset, scores = world(), table(3)
    wanted = [row for row in rows(ranked(dataset, scores)) if row[0] in (1, 4, 6)]
    assert rows(ranked(dataset, scores, 4, [6, 1, 4])) == wanted


def test_an_empty_test_period_gives_no_predictions():
    dataset = world()
    ranks = ranked(dataset, table(0), sessions=dataset.period("test"))
    assert rows(ranks) == []
    assert metrics(ranks)["predictions"] == 0


def test_the_bound_of_scores_in_memory_holds_for_every_catalogue_that_allows_it():
    assert predictions_at_once(0) == predictions_at_once(1) == 2048
    assert predictions_at_once(10**9) == 64
    for n_items in (20_000, 100_000, 500_000):
        assert predictions_at_once(n_items) * n_items <= module.SCORES_AT_ONCE < (predictions_at_once(n_items) + 1) * n_items
