"""Candidates: lists worked by hand, and the laws that make them honest: only allowed events before the test count."""

import dataclasses

import numpy as np
import pytest
from scipy import sparse
from world import dataset_of, random_sessions, written

from jaxrec.baselines.candidates import NOBODY, SOURCES, by_popularity, merged, proposed
from jaxrec.baselines.popularity import Popularity
from jaxrec.data.allowed import Askers, allowed_events, by_user
from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import load_dataset, write_dataset
from jaxrec.errors import InputError
from jaxrec.stages import candidates
from jaxrec.stages.candidates import CandidateOptions, candidates_of, load_candidates, run_candidates

BEHAVIORS = {"buy": 0, "pv": 0}
BUY, VIEW = 0, 1
OPTIONS = CandidateOptions(candidates_per_user=(4, 8))


def with_behaviors(dataset: Dataset, codes: np.ndarray, test_from: int | None = None) -> Dataset:
    """The dataset in a log with two behaviours; its test period begins at `test_from`."""
    manifest = {"behaviors": BEHAVIORS, "users": dataset.n_users, "cuts": {"personal_from": None, "test_from": test_from}}
    return dataclasses.replace(dataset, behaviors=np.asarray(codes, np.int16), manifest=manifest)


def on_disk(dataset: Dataset, folder) -> Dataset:
    """The dataset as it comes back from disk."""
    names = [f"i{n}" for n in range(dataset.n_items)], [f"u{n}" for n in range(dataset.n_users)]
    write_dataset(dataset, *names, folder)
    return load_dataset(folder)


def lists_of(workdir, name="items") -> np.ndarray:
    return np.load(workdir / "candidates" / candidates.ARRAYS[name][0])


# Ten seconds lie between events. Sessions 0 to 4 lie before the test; the 8 in session 2 happens when it starts, at 90. User 2 is new.
SESSIONS = [[0, 1], [2, 3, 4], [1, 5, 6, 7, 8], [9], [3, 2], [0, 9], [4, 1]]
USERS = [0, 1, 0, 1, 0, 2, 0]
CODES = [[BUY, VIEW], [BUY, BUY, VIEW], [VIEW, BUY, BUY, VIEW, BUY], [BUY], [VIEW, BUY], [VIEW, VIEW], [BUY, VIEW]]
LATE = 9
"""Number of that 8 among the events."""


@pytest.fixture
def log() -> Dataset:
    dataset = dataset_of(SESSIONS, USERS, (3, 5), n_items=10)
    times = dataset.times.copy()
    times[10:13] = [85, 86, 87]
    return with_behaviors(dataclasses.replace(dataset, times=times), np.concatenate(CODES), test_from=90)


def test_allowed_events_are_those_of_the_named_behaviours_before_the_test(log):
    assert allowed_events(log).times.max() < 90
    bought = allowed_events(log, ("buy",))
    assert [bought.session(number).tolist() for number in range(bought.n_sessions)] == [[0], [2, 3], [5, 6], [9], [2]]
    assert bought.users.tolist() == [0, 1, 0, 1, 0] and bought.item_counts.tolist() == [1, 0, 2, 1, 0, 1, 1, 0, 0, 1]


def test_an_event_at_the_start_of_the_test_is_too_late(log):
    assert 8 not in allowed_events(log).items
    log.times[LATE] = 89
    assert 8 in allowed_events(log).items


def test_a_user_s_events_become_one_session_and_nobody_s_stay_apart():
    dataset = dataset_of([[1, 2], [3], [4], [5, 6], [7]], [1, -1, 0, 1, -1])
    one = by_user(dataset)
    assert [one.session(number).tolist() for number in range(one.n_sessions)] == [[4], [1, 2, 5, 6], [3], [7]]
    assert one.users.tolist() == [0, 1, -1, -1] and one.n_users == 2


def test_users_are_asked_after_their_last_event_with_all_that_came_before():
    dataset = dataset_of([[1, 2], [3], [4, 5, 6], [2, 7]], [0, 1, 0, 1])
    dataset.times[1] = 999  # a session that goes on beside the last one is known too
    found = {}
    for block in Askers(dataset).blocks(np.array([0, 1]), 8):
        for row, step in zip(*np.nonzero(block.mask), strict=True):
            past = block.history_items[row]
            found[int(block.users[row])] = block.items[row, : step + 1].tolist(), past[past >= 0].tolist()
    assert found == {0: ([4, 5, 6], [1, 2]), 1: ([2, 7], [3])}


def test_item_knn_sums_similarities_over_the_whole_past_and_recent_clicks_count_more():
    """User 3 clicked 0, then 8, then 4; 1 / (1 + n) counts: 0 gets .067 from 8 and 4, 8 .062, 5 .047 from 4 alone, 4 .038 and 1 .030."""
    sessions = [[0, 1], [0, 1], [4, 5], [0], [8], [4]]
    dataset = dataset_of(sessions, [0, 1, 2, 3, 3, 3], n_items=10)
    learnt, popularity = by_user(dataset), np.argsort(by_popularity(dataset.item_counts))
    scorer = SOURCES["item_knn"](learnt, range(learnt.n_sessions))
    (block,) = Askers(dataset).blocks(np.array([3]), 4)
    similar = scorer.knn.similar.toarray()
    encoded = scorer.encode(block)[:1].toarray()[0]
    np.testing.assert_allclose(encoded, similar[4] + similar[8] / 2 + similar[0] / 3, rtol=1e-6)
    assert proposed(scorer, block, popularity, 3)[0].tolist() == [0, 8, 5]


def test_sparse_and_streamed_proposals_are_the_best_of_each_in_order():
    class Sparse:
        def encode(self, block):
            stored = np.array([3, 3, 9, 0], np.float32)  # what is stored as 0 is not proposed
            return sparse.csr_array((stored, [1, 2, 4, 3], [0, 3, 4]), shape=(2, 5))

    dataset = dataset_of([[1], [2]], [0, 1], n_items=5)
    (block,) = Askers(dataset).blocks(np.array([0, 1]), 2)
    popularity = np.array([1, 2, 0, 3, 4])
    assert proposed(Sparse(), block, popularity, 4).tolist() == [[4, 2, 1, -1], [-1, -1, -1, -1]]  # of equal ones the more popular
    streamed = Popularity(np.array([1, 7, 1, 9, 0]))
    assert proposed(streamed, block, popularity, 4).tolist() == [[3, 1, 0, 2]] * 2  # of equal ones the lower index


def test_slices_of_the_catalogue_change_no_proposal(monkeypatch):
    dataset = dataset_of([[1], [2], [3]], [0, 1, 2], n_items=30)
    (block,) = Askers(dataset).blocks(np.arange(3), 4)
    scorer = Popularity(np.random.default_rng(0).integers(0, 9, 30))
    whole = proposed(scorer, block, np.arange(30), 5)
    monkeypatch.setattr("jaxrec.evaluation.ranks.scores_at_once", lambda: 28)
    np.testing.assert_array_equal(proposed(scorer, block, np.arange(30), 5), whole)


PROPOSALS = np.array([[[7, 3, 5, 1], [2, -1, -1, -1], [-1] * 4], [[3, 7, 9, 0], [-1] * 4, [-1] * 4]], np.int32)
POPULAR = np.array([4, 2, 7, 0, 6, 8, 1, 3, 5, 9], np.int32)


def test_sources_take_turns_and_popular_items_fill_up():
    found = merged(PROPOSALS, POPULAR)
    assert found.items.tolist() == [[7, 3, 5, 9], [2, 4, 7, 0], [4, 2, 7, 0]]
    assert found.sources.tolist() == [[0, 1, 0, 1], [0, 2, 2, 2], [2, 2, 2, 2]]
    assert found.places.tolist() == [[0, 0, 2, 2], [0, 0, 2, 3], [0, 1, 2, 3]]


def test_a_list_ends_where_there_are_no_more_items():
    found = merged(np.array([[[1, -1, -1, -1]]], np.int32), np.array([0, 1, 2], np.int32))
    assert found.items.tolist() == [[1, 0, 2, -1]] and found.sources.tolist() == [[0, 1, 1, NOBODY]]


def test_shorter_lists_are_prefixes_of_longer_ones_without_duplicates():
    random = np.random.default_rng(3)
    proposals = np.stack([[random.permutation(40)[:20] for _ in range(9)] for _ in range(3)]).astype(np.int32)
    for row in proposals.reshape(-1, 20):
        row[random.integers(0, 21) :] = -1
    popular = random.permutation(40).astype(np.int32)
    longest = merged(proposals, popular)
    assert all(len(set(row)) == 20 for row in longest.items.tolist())
    for n in (1, 2, 7, 19):
        shorter = merged(proposals[:, :, :n], popular)
        for whole, part in zip(longest, shorter, strict=True):
            np.testing.assert_array_equal(whole[:, :n], part)


def run(dataset, folder, **options) -> dict:
    """Result of the stage on a dataset written to `folder`, without what differs from run to run."""
    found = run_candidates(on_disk(dataset, folder / "dataset"), folder, dataclasses.replace(OPTIONS, **options), overwrite=True)
    return {name: value for name, value in found.items() if name not in ("seconds", "inputs", "settings")}


def test_recall_by_hand(log, tmp_path):
    """Bought before the test: 0 | 5 6 | 2 by user 0 and 2 3 | 9 by user 1, by popularity 2 0 3 5 6 9 1 4."""
    found = run(log, tmp_path, allowed_behaviors=("buy",), candidate_sources=("user_history",))
    assert lists_of(tmp_path)[:, :4].tolist() == [[2, 5, 6, 0], [9, 2, 3, 0], [2, 0, 3, 5]]
    # Targets: 9 for user 2 (no list of 4 has it), 1 for user 0 (in no list, but clicked before).
    assert found["predictions"] == {"all": 2, "old": 1, "new": 1}
    four, eight = found["recall"]["4"], found["recall"]["8"]
    assert four["all"] == {"union": 0, "user_history": 0, "popularity": 0, "own": 0.5, "union_and_own": 0.5}
    assert eight["new"] == {"union": 1, "user_history": 0, "popularity": 1, "own": 0, "union_and_own": 1}
    assert eight["old"] == {"union": 1, "user_history": 0, "popularity": 1, "own": 1, "union_and_own": 1}
    # Distinct clicks before the test: user 0 has 0 1 5 6 7 8 3 2, of which the list of 4 lacks 1 3 7 8; user 1 has 2 3 4 9, it lacks 4.
    assert found["own_beyond"]["4"] == pytest.approx(5 / 3)
    assert found["users_with_history"] == 2 and found["sources"] == ["user_history", "filling"]


def test_nothing_at_or_after_the_start_of_the_test_changes_a_list(log, tmp_path):
    run(log, tmp_path, candidate_sources=("item_knn", "markov"))
    before = lists_of(tmp_path)
    late = np.flatnonzero((log.times >= 90) | (np.arange(len(log.items)) >= log.offsets[log.period("test").start]))
    assert len(late) == 5 and LATE in late
    log.items[late] = (log.items[late] + 3) % 10
    run(log, tmp_path, candidate_sources=("item_knn", "markov"))
    np.testing.assert_array_equal(lists_of(tmp_path), before)
    log.items[0] = 7
    run(log, tmp_path, candidate_sources=("item_knn", "markov"))
    assert (lists_of(tmp_path) != before).any(), "what comes before does"


def test_other_behaviours_change_no_list(log, tmp_path):
    both = {"allowed_behaviors": ("buy",), "candidate_sources": ("item_knn", "markov", "popularity")}
    run(log, tmp_path, **both)
    before = lists_of(tmp_path)
    views = log.behaviors == VIEW
    log.items[views] = (log.items[views] + 5) % 10
    run(log, tmp_path, **both)
    np.testing.assert_array_equal(lists_of(tmp_path), before)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Dataset:
    """90 sessions of 17 users, one of whom comes in the test period."""
    items, offsets = random_sessions(seed=5, sessions=90)
    users = np.append(np.random.default_rng(5).integers(0, 16, 89), 16)
    dataset = dataset_of([part.tolist() for part in np.split(items, offsets[1:-1])], users.tolist(), (50, 60))
    return written(dataset, tmp_path_factory.mktemp("crowd"))


@pytest.mark.parametrize("names", [("item_knn",), ("markov_user_history", "popularity")])
def test_users_in_other_chunks_do_not_matter(crowd, tmp_path, monkeypatch, names):
    options = dataclasses.replace(OPTIONS, candidate_sources=names)
    whole = run_candidates(crowd, tmp_path / "whole", options)
    monkeypatch.setattr(candidates, "USERS_AT_ONCE", 3)
    parts = run_candidates(crowd, tmp_path / "parts", options)
    for name in candidates.ARRAYS:
        np.testing.assert_array_equal(lists_of(tmp_path / "whole", name), lists_of(tmp_path / "parts", name))
    assert whole["recall"] == parts["recall"] and whole["own_beyond"] == parts["own_beyond"]


@pytest.mark.parametrize("name", SOURCES)
def test_any_baseline_can_be_a_source_and_a_user_without_history_gets_popular_items(crowd, tmp_path, name):
    if name in ("als", "als_session", "bpr_mf"):
        pytest.importorskip("implicit")
    found = run_candidates(crowd, tmp_path, dataclasses.replace(OPTIONS, candidate_sources=(name,)))
    lists, given = lists_of(tmp_path), lists_of(tmp_path, "sources")
    early = crowd.items[: crowd.offsets[crowd.period("test").start]]
    assert lists[16].tolist() == by_popularity(np.bincount(early, minlength=crowd.n_items))[:8].tolist()
    assert (given[16] == 1).all() and (given[:16] == 0).any() and found["recall"]["8"]["all"][name] > 0
    assert all(len(set(row)) == 8 for row in lists.tolist())
    assert candidates_of(tmp_path, crowd, 16).tolist() == lists[16, :4].tolist()
    assert load_candidates(tmp_path, crowd).tolist() == lists[:, :4].tolist(), "the first number of candidates is the device's"


def test_a_second_run_keeps_the_lists_and_other_options_need_overwrite(crowd, tmp_path):
    first = run_candidates(crowd, tmp_path, OPTIONS)
    stamp = (tmp_path / "candidates/candidates.npy").stat().st_mtime_ns
    again = run_candidates(crowd, tmp_path, dataclasses.replace(OPTIONS, delivery="push"))
    assert again == first and (tmp_path / "candidates/candidates.npy").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="--candidates_per_user"):
        run_candidates(crowd, tmp_path, CandidateOptions())


def test_wrong_input_is_refused(log, crowd, tmp_path):
    with pytest.raises(InputError, match=r"--allowed_behaviors: expected behaviours of the dataset \(buy, pv\); got cart"):
        run(log, tmp_path, allowed_behaviors=("buy", "cart"))
    with pytest.raises(InputError, match="--allowed_behaviors: expected events before the test period; pv has none there"):
        run(with_behaviors(log, np.where(np.arange(17) < 13, BUY, VIEW), 90), tmp_path, allowed_behaviors=("pv",))
    with pytest.raises(InputError, match="--dataset: expected a log with users"):
        run_candidates(dataset_of([[1, 2]]), tmp_path)
    with pytest.raises(InputError, match=r"--candidate_sources: expected one of .*item_knn.*; got 'luck'"):
        CandidateOptions(candidate_sources=("luck",))
    with pytest.raises(InputError, match="--candidates_per_user: expected at least one value, each once; got 5,5"):
        CandidateOptions(candidates_per_user=(5, 5))
    with pytest.raises(InputError, match="expected a result of `candidates`"):
        load_candidates(tmp_path / "nowhere", crowd)
    assert candidates_of(tmp_path / "nowhere", crowd, 0) is None
    run_candidates(crowd, tmp_path / "run", OPTIONS)
    other = dataclasses.replace(crowd, manifest=crowd.manifest | {"checksums": {"items.npy": "others"}})
    with pytest.raises(InputError, match="they are of another dataset"):
        candidates_of(tmp_path / "run", other, 0)


def test_a_log_without_behaviours_gives_all_its_events(crowd, tmp_path, caplog):
    caplog.set_level("INFO", "jaxrec")
    found = run_candidates(crowd, tmp_path, dataclasses.replace(OPTIONS, allowed_behaviors=("buy",)))
    assert found["events"] == crowd.offsets[crowd.period("test").start]
    assert "the log has no behaviours" in caplog.text
