"""The 50-interaction cadence on a device: when it learns, when it goes back, and that nothing is lost on the way."""

import tflite_needed  # noqa: F401, I001

import dataclasses

import numpy as np
import pytest
from device_world import ITEMS, OPTIONS, contents, exported

from jaxrec.data.own_history import past_of
from jaxrec.device.export import export, write_rows
from jaxrec.device.learner import Learner, Update
from jaxrec.device.runtime import DeviceModel
from jaxrec.errors import InputError

CYCLE = [3, 9, 4, 12, 20]


def learner(**given):
    return Learner(DeviceModel.load(exported("dense")), every=10, **given)


def visit(one, session):
    """A whole session, click by click."""
    for item in session:
        one.click(item)
    return one.end_session()


def same(a, b):
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_an_update_comes_when_enough_new_clicks_have_ended():
    one = learner()
    assert [visit(one, CYCLE[:4]) is None for _ in range(2)] == [True, True]
    assert isinstance(visit(one, CYCLE[:2]), Update) and (one.updates, one.learnt) == (1, 3)
    assert visit(one, CYCLE) is None and one.updates == 1, "counting starts again"
    assert visit(one, CYCLE) is not None and one.updates == 2
    assert one.end_session() is None and len(one.sessions) == 5, "a session without a click is none"


def test_what_repeats_is_learnt():
    one = learner(learning_rate=0.1, epochs=3)
    first, *_ = [visit(one, CYCLE * 2) for _ in range(12)]
    assert first.kept and first.after < first.before
    vector = one.click(CYCLE[0])
    ranked = one.device.score(vector, CYCLE)
    assert CYCLE[int(np.argmax(ranked))] == CYCLE[1], "what always comes next is ranked first"


def test_a_worse_model_is_rolled_back_to_the_last_bit():
    """The held-out part contradicts the rest."""
    one = learner(learning_rate=1.0, epochs=5)
    before = dict(one.device.state)
    for session in ([1, 2], [1, 2], [1, 2], [1, 2], [1, 9]):
        update = visit(one, session)
    assert not update.kept and update.after >= update.before
    same(one.device.state, before)
    one.learning_rate = float("inf")
    for _ in range(2):
        update = visit(one, CYCLE)
    assert (update.kept, update.after) == (False, float("inf"))
    same(one.device.state, before)


def test_one_long_session_is_judged_by_its_last_clicks():
    update = visit(learner(learning_rate=0.3, epochs=3), CYCLE * 4)
    assert update.kept and update.after < update.before


def test_where_nothing_can_be_trained_the_sessions_are_kept(tmp_path):
    device = DeviceModel.load(exported("dense", baked=True))
    first, second = Learner(device, sessions=[[1, 2, 3]]), Learner(device)
    first.click(4)
    first.save(tmp_path / "me.npz")
    second.restore(tmp_path / "me.npz")
    assert (second.sessions, second.running) == ([[1, 2, 3]], [4])


def test_a_baked_model_is_followed_but_never_updated():
    one = Learner(DeviceModel.load(exported("dense", baked=True)), every=2)
    assert visit(one, [1, 2, 3]) is None and one.sessions == [[1, 2, 3]]


def test_an_item_outside_the_vocabulary_is_not_remembered(tmp_path):
    one = learner()
    assert one.click(3) is not None and one.click(-1) is None
    one.click(4)
    one.end_session()
    assert one.sessions == [[3, 4]]
    one.save(tmp_path / "me.npz")
    one.restore(tmp_path / "me.npz")


def test_saved_in_the_middle_of_a_session_goes_on_as_if_uninterrupted(tmp_path):
    log = np.random.default_rng(0).integers(0, ITEMS, (8, 4)).tolist()
    whole, stopped = learner(learning_rate=0.1), learner(learning_rate=0.1)
    for one in (whole, stopped):
        for session in log[:4]:
            visit(one, session)
        one.click(7)
    stopped.save(tmp_path / "me.npz")
    again = learner(learning_rate=0.1)
    again.restore(tmp_path / "me.npz")
    for one in (whole, again):
        one.click(8)
        one.end_session()
        for session in log[4:]:
            visit(one, session)
    same(again.device.state, whole.device.state)
    assert (again.sessions, again.learnt, again.updates) == (whole.sessions, whole.learnt, whole.updates)
    np.testing.assert_array_equal(again.recommend(range(6)).items, whole.recommend(range(6)).items)


def test_sessions_from_before_are_history_and_not_learnt_again():
    one = learner(sessions=[[5, 5, 5], [5, 6]])
    assert (one.learnt, one.updates) == (2, 0)
    one.click(1)
    expected = one.device.recommend_all([1], past_of([[5, 5, 5], [5, 6]]), True)
    np.testing.assert_array_equal(one.recommend(exclude_seen=True).items, expected.items)


def test_parameters_alone_are_no_learner(tmp_path):
    one = learner()
    visit(one, [1, 2])
    one.device.save(tmp_path / "device.npz")
    with pytest.raises(InputError, match=r"device\.npz: expected what a learner saved; got personal parameters alone"):
        one.restore(tmp_path / "device.npz")
    assert one.sessions == [[1, 2]]


def test_without_advice_a_rate_must_be_given():
    device = DeviceModel.load(exported("dense"))
    assert (Learner(device).learning_rate, Learner(device).epochs) == (0.05, 2)
    device.manifest = {**device.manifest, "personal": {"learning_rate": None, "epochs": None}}
    with pytest.raises(InputError, match="learning_rate, epochs: expected both; no simulation advised any"):
        Learner(device, learning_rate=0.1)


def test_sessions_without_a_pair_neither_judge_nor_are_lost():
    one = learner(learning_rate=0.1)
    for session in ([1, 2, 3, 4, 5], [1, 2, 3, 4], [7]):
        update = visit(one, session)
    assert update.before > 0 and (one.learnt, one.updates) == (3, 1), "the one click is not what the update is judged by"
    lonely = learner()
    assert [visit(lonely, [item]) for item in range(12)] == [None] * 12 and (lonely.learnt, lonely.updates) == (0, 0)


def test_clicks_on_what_the_device_does_not_know_are_history_all_the_same(tmp_path):
    export(contents("dense"), dataclasses.replace(OPTIONS, rows="candidates"), tmp_path, np.array(sorted(CYCLE)))
    one = Learner(DeviceModel.load(tmp_path), every=10)
    assert one.click(CYCLE[0]) is not None and one.click(29) is None
    assert one.end_session() is None and one.sessions == [[CYCLE[0], 29]]
    with pytest.raises(InputError, match="items: expected numbers of items"):
        one.click(ITEMS)
    assert visit(one, [29, *CYCLE, 28, *CYCLE]) is not None
    with pytest.raises(InputError, match="items: expected numbers of items"):
        Learner(one.device, sessions=[[1, ITEMS + 5]])


def test_a_learner_that_cannot_be_restored_stays_as_it_is(tmp_path):
    options = dataclasses.replace(OPTIONS, rows="streamed")
    manifest = export(contents("dense"), options, tmp_path / "device")
    write_rows(contents("dense"), options, np.array(sorted(CYCLE)), manifest, tmp_path / "rows.npz")
    one, fresh = (Learner(DeviceModel.load(tmp_path / "device")) for _ in range(2))
    one.device.receive(tmp_path / "rows.npz")
    one.click(CYCLE[0])
    one.save(tmp_path / "me.npz")
    state = fresh.device.state
    with pytest.raises(InputError, match="call `receive` first"):
        fresh.restore(tmp_path / "me.npz")
    assert fresh.device.state is state and (fresh.sessions, fresh.running) == ([], [])
    fresh.device.receive(tmp_path / "rows.npz")
    fresh.restore(tmp_path / "me.npz")
    assert fresh.running == [CYCLE[0]]
