"""Features of own items: known answers, the device's twin, and nothing later reaches an earlier prediction."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import dataset_of

from jaxrec.data.blocks import session_blocks
from jaxrec.data.own_history import FEATURES, features_now, filled_up, own_items, own_now, past_of, popularity

A, B, C, D = range(4)
POPULAR = popularity(np.array([5, 0, 2, 9, 1, 7]))


def told(dataset, sessions=None):
    """{(session, step): {item: features}} of every prediction."""
    found = {}
    for block in session_blocks(dataset, range(dataset.n_sessions) if sessions is None else sessions, predictions=8):
        own, (row, step) = own_items(block, POPULAR), np.nonzero(block.mask)
        for place, key in enumerate(zip(block.sessions[row].tolist(), step.tolist(), strict=True)):
            here = own.prediction == place
            found[key] = dict(zip(own.items[here].tolist(), own.features[here], strict=True))
    return found


def test_features_worked_by_hand():
    """Sessions A B A, then C; now B D is clicked. All clicks: 6, of 4 distinct items; session 0 is two sessions ago, session 1 one."""
    found = told(dataset_of([[A, B, A], [C, C], [B, D, A]], [0, 0, 0], n_items=4))[2, 1]
    log, odds = np.log, np.log((7 - 4 + 1) / (4 + 1))
    mean = (6 + 1 + 3 + 10 + 2 + 8) / 6
    expected = {  # own, repeats, count, decayed, recent, in_session, last, popular
        A: (1, odds, log(2), log(2 / 3), 1 / (1 + 4), 0, 0, log(6 / mean)),
        B: (1, odds, log(2), log(1 / 3 + 1), 1 / (1 + 1), 1, 0, log(1 / mean)),
        C: (1, odds, log(2), log(2 / 2), 1 / (1 + 2), 0, 0, log(3 / mean)),
        D: (1, odds, log(1), log(1), 1, 1, 1, log(10 / mean)),
    }
    assert len(FEATURES) == 8 and found.keys() == expected.keys()
    for item, features in expected.items():
        np.testing.assert_allclose(found[item], features, rtol=1e-6, atol=1e-7, err_msg=f"item {item}")


LOGS = st.lists(st.tuples(st.integers(-1, 2), st.lists(st.integers(0, 5), min_size=2, max_size=6)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(LOGS)
def test_a_device_knows_of_its_user_what_the_simulation_knows(log):
    users, sessions = [user for user, _ in log], [session for _, session in log]
    for (session, step), found in told(dataset_of(sessions, users, n_items=6)).items():
        earlier = [sessions[s] for s in range(session) if users[s] == users[session] >= 0]
        own = own_now(past_of(earlier), sessions[session][: step + 1])
        assert own.items.tolist() == sorted(found)
        np.testing.assert_array_equal(features_now(own, POPULAR[own.items]), [found[item] for item in own.items.tolist()])


def test_a_device_without_a_click_has_its_past_and_without_a_past_has_nothing():
    own = own_now(past_of([[A, B], [B]]), [])
    features = features_now(own, np.zeros(2))
    assert own.items.tolist() == [A, B] and np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, FEATURES.index("in_session") :], 0)
    assert features_now(own_now(past_of([]), []), np.zeros(0)).shape == (0, len(FEATURES))


@pytest.mark.parametrize("step", range(4))
def test_later_clicks_and_sessions_do_not_reach_a_prediction(step):
    generator = np.random.default_rng(step)
    dataset = dataset_of(generator.integers(0, 6, (9, 5)).tolist(), [0, 1, 0] * 3, n_items=6)
    session, items = 5, dataset.items.copy()
    after = dataset.offsets[session] + step + 1
    items[after:] = (items[after:] + 1) % 6
    before, changed = (told(one) for one in (dataset, dataclasses.replace(dataset, items=items)))
    early = [(number, place) for number, place in before if (number, place) <= (session, step)]
    for key in early:
        assert before[key].keys() == changed[key].keys()
        for item, features in before[key].items():
            np.testing.assert_array_equal(features, changed[key][item])
    assert str(before[session + 1, 0]) != str(changed[session + 1, 0])


def test_added_entries_belong_to_no_prediction_and_have_no_features():
    (block,) = session_blocks(dataset_of([[A, B, C, D]], [0], n_items=4), [0], predictions=4)
    own, filled = own_items(block, None), filled_up(own_items(block, None))
    assert (len(own.items), len(filled.items)) == (6, 8)
    assert (filled.prediction[6:] >= block.mask.size).all() and not filled.features[6:].any()
