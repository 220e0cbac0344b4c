"""Ranking within candidates: ranks worked by hand, what is left out is a miss, and the ceiling is reached and never passed."""

import dataclasses

import numpy as np
import pytest
from world import dataset_of, random_sessions, small_model, written

from jaxrec.baselines.popularity import Popularity
from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import session_blocks
from jaxrec.errors import InputError
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.evaluation.ranks import TIES, rank_sessions
from jaxrec.evaluation.within import WithinCandidates, inside, missed_last, targets_of
from jaxrec.stages.candidates import CandidateOptions, ranking_within, run_candidates
from jaxrec.stages.evaluate import EvaluateOptions, run_evaluate
from jaxrec.stages.precision import at_precision

N_ITEMS = 40


def ranked(scorer, lists, dataset, sessions):
    """Ranks within the lists, and which targets are inside."""

    def blocks():
        return session_blocks(dataset, sessions, 16)

    known = inside(lists, targets_of(blocks()))
    return missed_last(rank_sessions(WithinCandidates(scorer, lists), blocks(), dataset.n_items), known, dataset.n_items), known


@pytest.mark.parametrize("at_once", [16 * 9, 2**22])
def test_ranks_by_hand(monkeypatch, at_once):
    """The lower the index, the better. User 0 clicked 9 before; the list of user 1 is short; nobody has own items alone."""
    monkeypatch.setattr("jaxrec.evaluation.ranks.scores_at_once", lambda: at_once)
    dataset = dataset_of([[9], [0, 7, 9, 30, 30, 0], [3, 1, 5], [2, 4, 2]], [0, 0, 1, -1], n_items=N_ITEMS)
    lists = np.array([[7, 8, 6], [4, 1, -1]], np.int32)
    ranks, known = ranked(Popularity(-np.arange(N_ITEMS)), lists, dataset, range(1, 4))
    # Ranked after 0: 0 6 7 8 9; after 0 7 9 30 the 30 too, which was no candidate. Then 1 3 4, and 2 alone, 2 4.
    assert known.tolist() == [True, True, False, True, True, True, False, False, True]
    assert ranks.values().tolist() == [3, 5, N_ITEMS, 6, 1, 1, N_ITEMS, N_ITEMS, 1]


@pytest.mark.parametrize("ties", TIES)
def test_a_miss_is_last_however_short_the_list_and_whatever_ties_count(ties):
    dataset = dataset_of([[0, 9]], [0], n_items=N_ITEMS)
    ranks, _ = ranked(Popularity(np.zeros(N_ITEMS)), np.array([[3]], np.int32), dataset, range(1))
    assert ranks.values(ties).tolist() == [N_ITEMS]


def test_a_network_is_rounded_within_candidates_too():
    scorer = WithinCandidates(GlobalScorer(*small_model()), np.zeros((1, 1), np.int32))
    rounded = at_precision(scorer, "bfloat16")
    assert rounded.base.scored.dtype == "bfloat16" and rounded.lists is scorer.lists


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(dataset, workdir) with candidates of 12 users, 5 for a device."""
    workdir = tmp_path_factory.mktemp("run")
    items, offsets = random_sessions(seed=2, sessions=80, n_items=N_ITEMS)
    users = np.random.default_rng(2).integers(0, 12, 80).tolist()
    sessions = [part.tolist() for part in np.split(items, offsets[1:-1])]
    dataset = written(dataset_of(sessions, users, (50, 60), n_items=N_ITEMS), workdir / "dataset")
    run_candidates(dataset, workdir, CandidateOptions(candidates_per_user=(5, N_ITEMS)))
    return dataset, workdir


def test_lists_of_everything_change_no_rank(run):
    dataset, _ = run
    everything = np.tile(np.arange(N_ITEMS, dtype=np.int32), (12, 1))
    scorer, test = Popularity(dataset.item_counts), dataset.period("test")
    ranks, known = ranked(scorer, everything, dataset, test)
    assert known.all()
    for name, column in vars(rank_sessions(scorer, session_blocks(dataset, test), N_ITEMS)).items():
        np.testing.assert_array_equal(getattr(ranks, name), column)


def test_the_ceiling_is_the_share_of_targets_that_rank_before_the_end(run):
    dataset, workdir = run
    ceiling = run_candidates(dataset, workdir, CandidateOptions(candidates_per_user=(5, N_ITEMS)))["recall"]["5"]["all"]
    # All scores are equal: whatever the device ranks comes first, and everything else is a miss.
    limited, ranked_within = ranking_within(workdir, dataset)
    ranks = ranked_within(limited(Popularity(np.zeros(N_ITEMS))))
    assert 0 < np.mean(ranks.values() == 1) == pytest.approx(ceiling["union_and_own"]) and ceiling["union_and_own"] < 1
    assert set(ranks.values().tolist()) == {1, N_ITEMS}


def test_models_are_evaluated_within_candidates_on_request(run):
    dataset, workdir = run
    whole = run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity", "markov")), overwrite=True)
    within = run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity", "markov"), rank_within="candidates"), overwrite=True)
    for name in ("popularity", "markov"):
        limited, ranked_within = ranking_within(workdir, dataset)
        ranks = ranked_within(limited(BASELINES[name](dataset, dataset.period("global"))))
        assert (
            within[name]["mrr@20"] == pytest.approx(np.mean(np.where(ranks.values() <= 20, 1 / ranks.values(), 0))) != whole[name]["mrr@20"]
        )
        assert within[name]["predictions"] == whole[name]["predictions"], "a miss counts"
    assert (whole["settings"]["rank_within"], within["settings"]["rank_within"]) == ("catalogue", "candidates")
    assert set(within["inputs"]) - set(whole["inputs"]) == {"candidates"}, "other candidates need another evaluation"


def test_candidates_that_are_not_there_or_of_another_dataset_are_refused(run, tmp_path):
    dataset, workdir = run
    options = EvaluateOptions(model=("popularity",), rank_within="candidates")
    with pytest.raises(InputError, match=r"candidates/metrics\.json: expected a result of `candidates`"):
        run_evaluate(dataset, tmp_path, options)
    other = dataclasses.replace(dataset, manifest=dataset.manifest | {"checksums": {"items.npy": "others"}})
    with pytest.raises(InputError, match="they are of another dataset"):
        run_evaluate(other, workdir, options, overwrite=True)
