"""What is recommended: lists in any slices are those of a full sort, and the figures by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Looked, dataset_of

from jaxrec.data.blocks import session_blocks
from jaxrec.evaluation import ranks as ranks_module
from jaxrec.evaluation.lists import list_metrics, percentiles, recommended, spread, top_items

N_ITEMS = 9
SESSIONS = [[0, 1], [2, 3, 4], [5, 6], [7, 8, 0, 1]]


def blocks():
    return list(session_blocks(dataset_of(SESSIONS, n_items=N_ITEMS), range(len(SESSIONS)), predictions=8))


def full_sort(table, places):
    """The best items of each prediction by session, then step; of equals the lower index; what is not a number last."""
    scores = np.concatenate([table[number, : len(session) - 1] for number, session in enumerate(SESSIONS)])
    return np.argsort(-np.where(np.isnan(scores), -np.inf, scores), axis=-1, kind="stable")[:, :places]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(24, 4), (40, 20), (10**6, 4)]), st.sampled_from([0.0, 0.3]))
def test_lists_in_any_slices_are_those_of_a_full_sort(seed, shape, broken):
    at_once, places = shape
    generator = np.random.default_rng(seed)
    table = generator.integers(0, 4, (len(SESSIONS) + 1, 4, N_ITEMS)).astype(np.float32)
    table = np.where(generator.random(table.shape) < broken, np.float32(np.nan), table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks_module, "scores_at_once", lambda: at_once)
        found = {}
        for block in blocks():
            row, step = np.nonzero(block.mask)
            listed = top_items(Looked(table), block, N_ITEMS, places)
            found |= {(block.sessions[r], s): one for r, s, one in zip(row, step, listed.tolist(), strict=True)}
        counts = recommended(Looked(table), blocks(), N_ITEMS, places)
    expected = full_sort(table, places)
    assert [found[key] for key in sorted(found)] == expected.tolist()
    assert counts.tolist() == np.bincount(expected.ravel(), minlength=N_ITEMS).tolist()


def test_coverage_and_popularity_by_hand():
    """Three lists of two: item 2 in all, items 0 and 1 in one or two. The catalogue was clicked 10, 0, 5, 0 times."""
    found = list_metrics(np.array([1, 2, 3, 0]), np.array([10, 0, 5, 0]), places=2)
    assert found == {"coverage@2": 3 / 4, "popularity@2": pytest.approx((1 * 0.875 + 2 * 0.25 + 3 * 0.625) / 6), "lists": 3}


def test_all_items_alike_have_the_mean_percentile_one_half():
    counts = np.random.default_rng(0).integers(0, 5, 50)
    assert percentiles(counts).mean() == pytest.approx(0.5)
    assert list_metrics(np.ones(50, int), counts)["popularity@20"] == pytest.approx(0.5)


def test_a_catalogue_smaller_than_a_list_is_recommended_whole():
    counts = recommended(Looked(np.zeros((5, 4, N_ITEMS), np.float32)), blocks(), N_ITEMS)
    assert counts.tolist() == [7] * N_ITEMS
    assert list_metrics(counts, np.ones(N_ITEMS, int)) == {"coverage@20": 1.0, "popularity@20": pytest.approx(0.5), "lists": 7}


def test_without_lists_figures_are_zero():
    assert list_metrics(np.zeros(3, int), np.ones(3, int)) == {"coverage@20": 0.0, "popularity@20": 0.0, "lists": 0}


@pytest.mark.parametrize(
    ("most", "chosen"), [(1000, range(40, 100)), (180, range(40, 100)), (179, range(40, 100, 2)), (60, range(40, 100, 3))]
)
def test_a_sample_is_spread_over_the_period(most, chosen):
    dataset = dataset_of([[0] * 4] * 100, None, (20, 40))
    assert spread(dataset, dataset.period("test"), most) == chosen
