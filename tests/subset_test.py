"""Parts of a dataset: a rehearsal is the dataset that preparing the log with an earlier end would have given."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import write_lines
from world import dataset_of

from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.storage import load_dataset, load_vocabulary
from jaxrec.data.subset import rehearsal


def sessions_of(dataset):
    return [dataset.session(number).tolist() for number in range(dataset.n_sessions)]


def test_what_nobody_clicked_before_is_unknown_and_leaves_its_session():
    """Item 7 is first clicked in session 3, where the rehearsed test begins."""
    dataset = dataset_of([[0, 1], [2], [3, 1], [0, 7, 1], [7, 2], [7, 3, 7, 3], [9, 9]], [0, 1, 0, 1, 0, 1, 0], (6, 6))
    part = rehearsal(dataset, 3, np.arange(6))
    assert sessions_of(part) == [[0, 1], [2], [3, 1], [0, 1], [3, 3]]
    assert part.users.tolist() == [0, 1, 0, 1, 1] and part.n_users == 2
    assert [part.period(name) for name in ("global", "personal", "test")] == [range(0, 3), range(3, 3), range(3, 5)]
    assert part.item_counts.tolist() == dataset.counts_before(3).tolist()
    some = rehearsal(dataset, 3, np.array([0, 2, 4, 5]))
    assert sessions_of(some) == [[0, 1], [3, 1], [3, 3]] and some.period("test") == range(2, 3)


def prepared(folder, log, first):
    """The log, a session every 10,000 seconds, with session number `first` at the beginning of its test period; names of items too."""
    rows = [f"u,i{item},{10_000 * (number + 1) + place}" for number, session in enumerate(log) for place, item in enumerate(session)]
    path, cut = write_lines(folder / "log.csv", ["user,item,time", *rows]), str(10_000 * (first + 1))
    options = PrepareOptions(session_gap_minutes=1.0, personal_from=cut, test_from=cut)
    prepare([path], [], ReadOptions(), options, folder / str(first), overwrite=True)
    return load_dataset(folder / str(first)), load_vocabulary(folder / str(first))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=5), min_size=4, max_size=12), st.integers(2, 8))
def test_a_rehearsal_is_what_preparing_the_log_with_an_earlier_test_gives(tmp_path_factory, log, start):
    folder, last = tmp_path_factory.mktemp("log"), len(log) - 1
    start, known = min(start, last - 1), {item for session in log[:2] for item in session}
    log = [session[:1] + sorted(known)[:1] + session for session in log]  # no period is empty
    (whole, names), (early, other_names) = prepared(folder, log, last), prepared(folder, log, start)
    part = rehearsal(whole, start, np.arange(last))
    before = [number for number in range(early.n_sessions) if early.times[early.offsets[number]] < 10_000 * (last + 1)]
    assert [names[session].tolist() for session in sessions_of(part)] == [other_names[early.session(number)].tolist() for number in before]
    assert part.period("test").start == early.period("test").start
