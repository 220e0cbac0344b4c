"""Recall, MRR, NDCG, mean rank: numbers by hand, exact at the cutoff, as another library finds them, sums that merge into the whole."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.evaluation.metrics import means, merge, metrics, per_prediction, sums
from jaxrec.evaluation.ranks import CUTOFFS, TIES, Ranks


def ranks_of(ranks, equal=None):
    """Predictions with these standard ranks and so many other items of the same score."""
    n = len(ranks)
    nothing = np.zeros(n, np.int64)
    return Ranks(nothing, np.arange(n), nothing - 1, np.array(ranks, np.int64) - 1, np.array([0] * n if equal is None else equal, np.int64))


def test_numbers_by_hand():
    found = metrics(ranks_of([1, 2, 5, 6, 10, 11, 20, 21]))
    gains = np.array(
        [1, 1 / np.log2(3), 1 / np.log2(6), 1 / np.log2(7), 1 / np.log2(11), 1 / np.log2(12), 1 / np.log2(21), 1 / np.log2(22)]
    )
    expected = {
        "recall@1": 1 / 8,
        "recall@5": 3 / 8,
        "recall@10": 5 / 8,
        "recall@20": 7 / 8,
        "recall@50": 1.0,
        "mrr@1": 1 / 8,
        "mrr@5": (1 + 1 / 2 + 1 / 5) / 8,
        "mrr@10": (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10) / 8,
        "mrr@20": (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11 + 1 / 20) / 8,
        "mrr@50": (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11 + 1 / 20 + 1 / 21) / 8,
        **{f"ndcg@{k}": gains[:hits].sum() / 8 for k, hits in ((1, 1), (5, 3), (10, 5), (20, 7), (50, 8))},
        "mean_rank": 76 / 8,
        "predictions": 8,
    }
    assert found == pytest.approx(expected)
    assert isinstance(found["predictions"], int)


@pytest.mark.parametrize("k", CUTOFFS)
def test_the_rank_k_counts_and_the_next_does_not(k):
    found = metrics(ranks_of([k]))
    assert (found[f"recall@{k}"], found[f"mrr@{k}"], found[f"ndcg@{k}"]) == (1.0, 1 / k, pytest.approx(1 / np.log2(k + 1)))
    beyond = metrics(ranks_of([k + 1]))
    assert (beyond[f"recall@{k}"], beyond[f"mrr@{k}"], beyond[f"ndcg@{k}"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("ties", "recall", "mrr"), [("standard", 1.0, 1 / 19), ("median", 1.0, 1 / 20), ("conservative", 0.0, 0.0)])
def test_ties_at_the_cutoff(ties, recall, mrr):
    found = metrics(ranks_of([19], equal=[2]), ties)
    assert (found["recall@20"], found["mrr@20"]) == (recall, mrr)


def test_a_middle_place_between_two_ranks_is_taken_as_it_stands():
    found = metrics(ranks_of([3], equal=[1]), "median")
    assert (found["mrr@5"], found["ndcg@5"], found["mean_rank"]) == pytest.approx((1 / 3.5, 1 / np.log2(4.5), 3.5))


@pytest.mark.parametrize(("ties", "ahead"), [("standard", 1), ("conservative", -1)])
def test_another_library_finds_the_same(ties, ahead):
    """Random lists of 80 items with many equal scores; `ahead` of its equals the target stands, or behind them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own
        library = pytest.importorskip("ir_measures", reason="ir-measures is not installed (extra dev)")
    scores = np.random.default_rng(0).integers(0, 30, (60, 80))
    own = scores[:, :1]
    found = metrics(ranks_of((scores > own).sum(-1) + 1, equal=(scores == own).sum(-1) - 1), ties)
    scores = scores + np.where(np.arange(80) == 0, 0.5 * ahead, 0)
    wanted = [library.Qrel(f"{row}", "0", 1) for row in range(60)]
    listed = [library.ScoredDoc(f"{row}", f"{item}", float(score)) for (row, item), score in np.ndenumerate(scores)]
    names = {"recall": library.R, "mrr": library.RR, "ndcg": library.nDCG}
    measures = {f"{name}@{k}": measure @ k for name, measure in names.items() for k in CUTOFFS}
    theirs = library.calc_aggregate(list(measures.values()), wanted, listed)
    assert {name: found[name] for name in measures} == pytest.approx({name: theirs[one] for name, one in measures.items()}, abs=1e-9)


def test_a_middle_place_just_beyond_the_cutoff_is_beyond():
    assert metrics(ranks_of([20], equal=[1]), "median")["recall@20"] == 0.0


RANKS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), min_size=1, max_size=30)


@given(RANKS, st.integers(0, 30), st.integers(0, 30), st.sampled_from(TIES))
def test_merged_sums_of_unequal_parts_are_the_metrics_of_the_whole(pairs, first, second, ties):
    cuts = sorted((first, second))
    parts = [pairs[: cuts[0]], pairs[cuts[0] : cuts[1]], pairs[cuts[1] :]]
    of_parts = [sums(ranks_of([rank for rank, _ in part], [equal for _, equal in part]), ties) for part in parts]
    whole = metrics(ranks_of(*map(list, zip(*pairs, strict=True))), ties)
    assert means(merge(*of_parts)) == pytest.approx(whole)
    assert means(merge(*reversed(of_parts))) == pytest.approx(whole)


def test_a_merge_is_no_mean_of_means():
    parts = [sums(ranks_of([1])), sums(ranks_of([21, 21, 21]))]
    assert means(merge(*parts))["recall@20"] == 1 / 4


def test_without_predictions_every_metric_is_zero():
    found = metrics(ranks_of([]))
    assert set(found.values()) == {0.0}
    assert found.keys() == metrics(ranks_of([1])).keys()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_a_metric_grows_with_its_cutoff_and_mrr_is_never_above_recall(ranks):
    found = metrics(ranks_of(ranks))
    for small, large in itertools.pairwise(CUTOFFS):
        assert found[f"recall@{small}"] <= found[f"recall@{large}"]
        assert found[f"mrr@{small}"] <= found[f"mrr@{large}"] and found[f"ndcg@{small}"] <= found[f"ndcg@{large}"]
    assert all(found[f"mrr@{k}"] <= found[f"ndcg@{k}"] <= found[f"recall@{k}"] for k in CUTOFFS)


def test_each_prediction_has_its_own_share():
    shares = per_prediction(np.array([3, 1, 7]), (5,))
    expected = {"recall@5": [1, 1, 0], "mrr@5": [1 / 3, 1, 0], "ndcg@5": [1 / 2, 1, 0], "mean_rank": [3, 1, 7]}
    assert {name: value.tolist() for name, value in shares.items()} == expected
