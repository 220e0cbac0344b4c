"""Exact ranks: any slices, any blocks and a brute force agree; ties by hand; what is no number or padding never helps."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Looked, dataset_of

from jaxrec.data.blocks import session_blocks
from jaxrec.evaluation import ranks as module
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.ranks import CUTOFFS, predictions_at_once, rank_sessions

N_ITEMS = 7
LENGTHS = (2, 5, 3, 9, 2, 4, 6)
USERS = (0, 1, 0, 2, 2, 1, 3)
FIELDS = ("sessions", "steps", "users", "greater", "equal")


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
        patch.setattr(module, "scores_at_once", lambda: at_once)
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
    monkeypatch.setattr(module, "scores_at_once", lambda: at_once)
    dataset, scores = world(), table(0)
    ranks = ranked(dataset, np.full_like(scores, np.nan))
    assert (ranks.values(ties) > N_ITEMS).all()
    assert metrics(ranks, ties)[f"recall@{CUTOFFS[1]}"] == 0.0
    for session, step, *_ in rows(ranks):
        scores[session, step, dataset.session(session)[step + 1]] = np.nan
    assert (ranked(dataset, scores).values(ties) > N_ITEMS).all()


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_an_infinite_score_is_a_number(monkeypatch, at_once):
    monkeypatch.setattr(module, "scores_at_once", lambda: at_once)
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


def test_predictions_per_block_are_as_many_as_fit_with_the_whole_catalogue():
    bound = module.scores_at_once()
    assert predictions_at_once(0) == predictions_at_once(1) == 2048
    for n_items in (3_000, 20_000, bound // 64):
        assert predictions_at_once(n_items) * n_items <= bound < 2 * predictions_at_once(n_items) * n_items
    assert predictions_at_once(bound // 64 + 1) == predictions_at_once(10**9) == 512


@dataclasses.dataclass
class Asked:
    """Zeros; `most` is the largest number of them that was asked for at once."""

    most: int = 0

    def encode(self, block):
        return len(block.predictions()[0])

    def scores(self, encoded, start, stop):
        self.most = max(self.most, encoded * (stop - start))
        return np.zeros((encoded, stop - start), np.float32)


@pytest.mark.parametrize("n_items", [1, 100, 5_000, 80_000])
def test_no_more_scores_than_the_bound_are_in_memory_whatever_the_catalogue(monkeypatch, n_items):
    monkeypatch.setattr(module, "scores_at_once", lambda: 2**16)
    dataset = dataset_of([[0] * 9] * 600, n_items=n_items)
    asked = Asked()
    ranks = rank_sessions(asked, session_blocks(dataset, range(600), predictions_at_once(n_items)), n_items)
    assert asked.most <= 2**16
    assert len(ranks.greater) == 4800 and (ranks.greater == 0).all() and (ranks.equal == n_items - 1).all()


@pytest.mark.parametrize("shape", [(2048, 2048), (64, 65_536), (8, 200_000)])
def test_counting_takes_the_memory_of_the_scores_once_more_and_not_twice(shape):
    scores, targets = np.zeros(shape, np.float32), np.zeros(shape[0], np.int32)
    memory = module._count_whole.lower(scores, targets).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.1 * scores.nbytes


@pytest.mark.parametrize("most", [1, 2, 3, 2**16 - 1])
def test_more_items_than_one_sum_can_count(monkeypatch, most):
    monkeypatch.setattr(module, "COUNTED_AT_ONCE", most)
    width = 7 if most < 7 else 2 * most + 1
    scores = np.concatenate([np.zeros((2, width)), np.ones((2, width)), np.full((2, width), np.nan)]).astype(np.float32)
    counts = jax.jit(module._count.__wrapped__)(scores, np.zeros(6, np.float32))
    assert np.array(counts).T.tolist() == [[0, width]] * 2 + [[width, 0]] * 4
