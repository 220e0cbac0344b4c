"""From a log file to a dataset folder: every row accounted for, nothing half-written, the same again when run again."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from commands import command, line
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import log_of, real, write_lines

from jaxrec.data.account import describe, histograms
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.preparing.build import build
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.storage import load_dataset, load_features, load_users, load_vocabulary
from jaxrec.errors import InputError

DAY = 86400
READING = ReadOptions()
# Ten users, ten days, a session of two clicks each day: item and behaviour by the day.
LOG = [f"{u},{i + day % 3},7,{b},{day * DAY + u * 1000 + i}" for u in range(10) for day in range(10) for i, b in enumerate(["pv", "buy"])]
WINDOW = {"time_from": "2017-11-25T00:00+08:00", "time_to": "2017-12-04T00:00+08:00"}


def run(folder, *lines, test=None, overwrite=False, reading=READING, **options):
    """Prepare a log of these lines in `folder`/set."""
    path = folder / "log.csv"
    if not path.exists():
        write_lines(path, lines or LOG)
    tests = [] if test is None else [write_lines(folder / "test.csv", test)]
    return prepare([path], tests, reading, PrepareOptions(**options), folder / "set", overwrite)


def account_of(log, test=None, parts=1, **options):
    """The account of a log of a few rows, and its arrays."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = build([log] if test is None else [log, test], PrepareOptions(**options), Path(folder), parts)
        return manifest, {path.stem: np.load(path) for path in Path(folder).glob("*.npy")}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def accounted(manifest):
    return manifest["events"] + sum(manifest["rows_dropped"].values())


def test_default_cuts_are_fractions_of_the_events(tmp_path):
    manifest = run(tmp_path)
    assert manifest["cuts"] == {"personal_from": 7 * DAY, "test_from": 8 * DAY + 5000}
    assert manifest["rows_read"] == manifest["events"] == 200
    sessions = {name: sizes["sessions"] for name, sizes in manifest["periods"].items()}
    assert sessions == {"global": 70, "personal": 15, "test": 15}
    assert manifest["warnings"] == []
    assert manifest["session_length"] == {"p10": 2, "p50": 2, "p90": 2, "p99": 2, "p100": 2}


def test_what_is_written_is_what_is_loaded(tmp_path):
    manifest = run(tmp_path, behaviors=("pv",), min_session_length=1)
    dataset = load_dataset(tmp_path / "set")
    assert dataset.manifest == json.loads((tmp_path / "set" / "manifest.json").read_text()) == manifest
    assert manifest["rows_dropped"]["behavior"] == 100
    assert load_users(tmp_path / "set").tolist() == [str(u) for u in range(10)]
    vocabulary = load_vocabulary(tmp_path / "set")
    assert vocabulary.tolist() == ["0", "1", "2"]  # 3, 2 and 2 of the seven global days
    assert dataset.item_counts.tolist() == [30, 20, 20]
    assert [str(vocabulary[dataset.session(s)][0]) for s in range(3)] == ["0", "0", "0"]


ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(1, 4000)), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    ROWS,
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([None, "300"]),
    st.sampled_from([None, "3000"]),
    st.booleans(),
    st.fixed_dictionaries(
        {"drop_duplicates": st.booleans(), "drop_repeats": st.booleans(), "max_session_length": st.sampled_from([None, 2, 3])}
    ),
    st.sampled_from([1, 3]),
)
def test_every_row_is_kept_or_dropped_for_a_reason(rows, length, support, time_from, time_to, with_test, more, parts):
    test_rows = rows[: len(rows) // 2 + 1]
    test = log_of(test_rows) if with_test else None
    options = more | {"min_session_length": length, "min_item_support": support, "time_from": time_from, "time_to": time_to}
    try:
        manifest, arrays = account_of(log_of(rows), test, parts, session_gap_minutes=5.0, **options)
    except InputError:
        return
    lengths = np.diff(arrays["offsets"])
    assert manifest["rows_read"] == len(rows) + (len(test_rows) if with_test else 0)
    assert accounted(manifest) == manifest["rows_read"]
    assert sum(sizes["events"] for sizes in manifest["periods"].values()) == manifest["events"] == len(arrays["items"]) == lengths.sum()
    assert sum(count for one in manifest["rounds"] for count in one.values()) == sum(
        manifest["rows_dropped"][reason] for reason in ("short_session", "rare_item", "unknown_item")
    )
    assert length <= lengths.min() and lengths.max() <= (more["max_session_length"] or 99)
    assert arrays["item_counts"].min() >= support
    same_session = np.ones(len(arrays["items"]), bool)
    same_session[arrays["offsets"][:-1]] = False
    assert (np.diff(arrays["times"])[same_session[1:]] >= 0).all()


def test_straddling_events_stay_and_are_counted():
    rows = [("u", "a", 0), ("u", "b", 8), ("u", "a", 10), ("v", "a", 15), ("v", "b", 21), ("v", "a", 22), ("w", "a", 20), ("w", "b", 21)]
    manifest, arrays = account_of(log_of(rows), personal_from="10", test_from="20")
    assert [sizes["events"] for sizes in manifest["periods"].values()] == [3, 3, 2]
    assert arrays["times"].tolist() == [0, 8, 10, 15, 21, 22, 20, 21]
    assert manifest["straddling_events"] == 3


def test_the_window_of_time_holds_its_first_instant_and_not_its_last():
    rows = [("u", "ab"[time % 2], time) for time in range(25)] + [("v", "ab"[time % 2], time) for time in range(25, 100)]
    window = {"time_from": "10", "time_to": "1970-01-01T00:01:30Z", "personal_from": "20", "test_from": "24"}
    manifest, _ = account_of(log_of(rows), **window)
    assert (manifest["rows_dropped"]["outside_time"], manifest["first_time"], manifest["last_time"]) == (20, 10, 89)


def test_a_log_without_users_has_no_personal_period():
    rows, sessions = [(None, item, time) for time, item in enumerate("ab" * 10)], [n // 2 for n in range(20)]
    manifest, _ = account_of(log_of(rows, sessions))
    assert manifest["cuts"] == {"personal_from": None, "test_from": 17}
    assert manifest["users"] == manifest["periods"]["personal"]["sessions"] == 0
    with pytest.raises(InputError, match="--personal_from: expected none, the log has no users; got 5"):
        account_of(log_of(rows, sessions), personal_from="5", test_from="9")


def test_sessions_without_a_user_stay_where_others_have_one():
    rows = [("u" if time // 4 % 2 else None, "ab"[time % 2], time) for time in range(40)]
    manifest, arrays = account_of(log_of(rows, [time // 4 for time in range(40)]))
    assert (manifest["users"], manifest["sessions"], sorted(set(arrays["users"].tolist()))) == (1, 10, [-1, 0])
    assert manifest["periods"]["global"]["users"] == 1


def test_a_default_cut_that_does_not_fit_says_that_it_is_the_default():
    with pytest.raises(InputError, match=r"--personal_from: .*which the default fraction gives"):
        account_of(log_of([("u", "a", 5)] * 10))


def test_a_test_file_is_the_test_period(tmp_path):
    later = [f"{u},{i},7,pv,{5 * DAY + u * 1000 + i}" for u in (3, 77) for i in (1, 2, 99)]
    manifest = run(tmp_path, test=later, personal_from="0.5")
    assert {name: sizes["sessions"] for name, sizes in manifest["periods"].items()} == {"global": 50, "personal": 50, "test": 2}
    assert manifest["test_sessions_before_training_end"] == 2
    assert manifest["users"] == 11
    assert manifest["rows_dropped"]["unknown_item"] == 2
    dataset = load_dataset(tmp_path / "set")
    assert load_users(tmp_path / "set")[dataset.users[100:]].tolist() == ["3", "77"]
    with pytest.raises(InputError, match=r"--time_from, .* none remains of 201 rows"):
        run(tmp_path, test=[f"1,1,7,pv,{99 * DAY}"], time_from=str(50 * DAY), overwrite=True)
    with pytest.raises(InputError, match=r"--test_from: expected none, --test_input"):
        run(tmp_path, test=later, test_from="0.8", overwrite=True)


def test_run_again_it_keeps_or_names_the_difference(tmp_path, caplog):
    run(tmp_path)
    items = tmp_path / "set" / "items.npy"
    written = items.stat().st_mtime_ns
    with caplog.at_level("INFO", "jaxrec"):
        run(tmp_path)
    assert items.stat().st_mtime_ns == written
    assert "already prepared" in caplog.text
    with pytest.raises(InputError, match=r"--session_gap_minutes: 30\.0 there, 9\.0 now.*--overwrite"):
        run(tmp_path, session_gap_minutes=9.0)
    os.utime(tmp_path / "log.csv", (1, 1))
    with pytest.raises(InputError, match=r"--input: log\.csv .* there, log\.csv .*1970-01-01T00:00:01Z\) now"):
        run(tmp_path)
    assert run(tmp_path, session_gap_minutes=9.0, overwrite=True)["options"]["session_gap_minutes"] == 9.0
    assert names(tmp_path) == ["log.csv", "set"]


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="left untouched"):
        run(tmp_path, overwrite=True)
    (tmp_path / "set" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds thesis\.tex, left untouched"):
        run(tmp_path, overwrite=True)
    assert (tmp_path / "set" / "thesis.tex").read_text() == "years of work"


def test_a_link_to_a_dataset_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "set").symlink_to("real")
    for length in (1, 2):
        run(tmp_path, min_session_length=length, overwrite=True)
    assert (tmp_path / "set").is_symlink() and load_dataset(tmp_path / "real").manifest["options"]["min_session_length"] == 2
    assert names(tmp_path) == ["log.csv", "real", "set"]


def test_a_manifest_that_tells_of_other_arrays_is_found(tmp_path):
    run(tmp_path)
    path = tmp_path / "set" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"events": 999}))
    done = command("inspect", f"--dataset={tmp_path / 'set'}")
    assert done.returncode == 1 and "expected events 999, as the manifest says; got 200 in the arrays" in done.stderr


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"behaviors": ("pv", "wish")}, r"--behaviors: expected behaviours of the log \(buy, pv\); got wish"),
        ({"personal_from": "0.9", "test_from": "0.8"}, "--personal_from: expected a time not after --test_from"),
        ({"personal_from": "0.9"}, "--test_from: expected a cut, because --personal_from is given"),
        ({"test_from": "1" + 30 * "0"}, "--test_from: expected an ISO-8601 instant .* of the years 1678 to 2261; got"),
        ({"test_from": "2030-01-01T00:00Z"}, r"--test_from: expected a time within the log, .*1970-01-10T02:30:01Z; got 2030"),
        (
            {"min_session_length": 3},
            "--min_session_length, --min_item_support: expected sessions of 3 events .* in the global period; none remains of 200 rows",
        ),
        ({"time_from": "2030-01-01T00:00Z"}, "none remains of 200 rows"),
        ({"reading": ReadOptions(format="gru4rec")}, "expected a gru4rec header line with SessionId"),
    ],
)
def test_options_that_do_not_fit_the_log(tmp_path, options, fault):
    with pytest.raises(InputError, match=fault):
        run(tmp_path, **options)
    assert names(tmp_path) == ["log.csv"]


def test_a_gap_that_leaves_single_clicks_is_warned_of(tmp_path):
    manifest = run(tmp_path, session_gap_minutes=0.0, min_session_length=1)
    assert "--session_gap_minutes" in manifest["warnings"][0]
    assert manifest["warnings"][0] in describe(manifest)


def test_items_that_most_later_events_are_on_are_warned_of_where_they_are_unknown(tmp_path):
    """Every day has items of its own, and one of all days."""
    lines = [
        f"{user},{item},7,pv,{DAY * day + 60 * i + user}" for user in range(9) for day in range(10) for i, item in enumerate([day, day, 99])
    ]
    manifest = run(tmp_path, *lines)
    unknown, known = manifest["rows_dropped"]["unknown_item"], sum(manifest["periods"][name]["events"] for name in ("personal", "test"))
    assert unknown > known == 0
    assert f"{unknown:,} events after the global period are on items unknown in it and left out, 0 remain" in manifest["warnings"][-1]


def test_an_empty_dataset_tells_how_far_apart_single_clicks_are(tmp_path):
    lines = [f"{user},{step % 3},7,pv,{DAY + 7200 * step + user}" for user in range(20) for step in range(9)]
    log = write_lines(tmp_path / "log.csv", lines)
    with pytest.raises(InputError, match=r"none remains of 180 rows; 100% .* gap of 30 .* within 120 minutes .*--session_gap_minutes"):
        prepare([log], [], ReadOptions(), PrepareOptions(), tmp_path / "set")


def test_the_commands_tell_the_same_account(tmp_path):
    log = write_lines(tmp_path / "log.csv", LOG)
    first = command("prepare", f"--input={log}", "--behaviors=pv,buy", "--min_item_support=2", f"--dataset={tmp_path / 'set'}")
    assert first.returncode == 0, first.stderr
    again = command("inspect", f"--dataset={tmp_path / 'set'}")
    assert again.returncode == 0, again.stderr
    assert first.stdout.strip() in again.stdout
    assert histograms(load_dataset(tmp_path / "set")) in again.stdout
    assert "checksums of 10 files verified" in again.stdout


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        ("1,2,7,pv,noon", "line 201: expected unix seconds in column timestamp; got 'noon'"),
        ("1,2", "line 201: expected 5 columns"),
        ("\0", "binary"),
    ],
)
def test_the_command_ends_in_one_line_and_leaves_nothing(tmp_path, last, fault):
    log = write_lines(tmp_path / "log.csv", [*LOG, last])
    done = command("prepare", f"--input={log}", f"--dataset={tmp_path / 'set'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {log}") and done.stderr.count("\n") == 1 and fault in done.stderr
    assert names(tmp_path) == ["log.csv"]


def test_help_shows_the_command_s_own_flags():
    shown = command("prepare", "--help").stdout
    assert all(
        f"--{flag}" in shown.replace("[no]", "")
        for flag in ("input", "test_input", "dataset", "overwrite", "session_gap_minutes", "time_unit")
    )


def test_taobao_sessions(tmp_path):
    log = real("taobao/UserBehavior.csv")
    for window, sessions, outside in (({}, 16_757, 0), (WINDOW, 16_724, 44)):
        manifest = prepare([log], [], READING, PrepareOptions(**window), tmp_path / str(outside))
        assert (manifest["sessions_found"], manifest["rows_dropped"]["outside_time"]) == (sessions, outside)
        assert accounted(manifest) == manifest["rows_read"] == 100_001


def test_rsc15_sessions(tmp_path):
    paths = [[real(f"rsc15_100k/{part}.tsv")] for part in ("train", "test")]
    manifest = prepare(*paths, READING, PrepareOptions(), tmp_path / "set")
    assert (manifest["rows_read"], manifest["sessions"], manifest["items"]) == (83_846, 21_210, 2_933)
    assert manifest["periods"]["personal"]["sessions"] == 0


def test_behaviours_and_features_stay_in_the_dataset(tmp_path):
    clicks = list(enumerate(("pv", "pv", "cart", "buy"), 1))
    lines = [f"{u},{i},{i // 2},{b},{day * DAY + u * 1000 + i}" for u in range(4) for day in range(10) for i, b in clicks]
    manifest = run(tmp_path, *lines)
    dataset = load_dataset(tmp_path / "set")
    names = list(manifest["behaviors"])
    assert manifest["behaviors"] == {"pv": 80, "cart": 40, "buy": 40}
    assert [names[code] for code in dataset.behaviors[:4]] == ["pv", "pv", "cart", "buy"]
    vocabulary, features = load_vocabulary(tmp_path / "set"), load_features(tmp_path / "set")
    assert dict(zip(vocabulary.tolist(), features["category"].to_pylist(), strict=True)) == {"1": "0", "2": "1", "3": "1", "4": "2"}
    assert "behaviour     buy 40, cart 40, pv 80" in describe(manifest)


def test_bad_lines_are_skipped_counted_and_kept_beside_the_dataset(tmp_path):
    faulty = [*LOG[:3], "only,two", *LOG[3:100], "1,2,7,pv,noon", *LOG[100:]]
    with pytest.raises(InputError, match=r"log\.csv line 4: expected 5 columns"):
        run(tmp_path, *faulty)
    assert names(tmp_path) == ["log.csv"]
    manifest = run(tmp_path, reading=ReadOptions(on_error="skip"))
    assert (manifest["rows_read"], manifest["rows_dropped"]["unparsable"], manifest["events"]) == (202, 2, 200)
    assert [(line["file"].endswith("log.csv"), line["line"]) for line in manifest["bad_lines"]] == [(True, 4), (True, 102)]
    kept = (tmp_path / "set" / "bad_lines.csv").read_text()
    assert kept.splitlines()[0] == "file,line,fault,text" and "only,two" in kept and "noon" in kept
    assert "log.csv line 4: expected 5 columns" in describe(manifest)
    write_lines(tmp_path / "log.csv", LOG)
    clean = run(tmp_path, overwrite=True)
    assert names(tmp_path) == ["log.csv", "set"]
    assert clean["checksums"] == {name: digest for name, digest in manifest["checksums"].items() if name != "bad_lines.csv"}


def test_where_no_line_can_be_read_the_first_is_named(tmp_path):
    with pytest.raises(InputError, match=r"log\.csv line 2: expected 5 columns .*; none of 2 lines could be read"):
        run(tmp_path, "", "what", "is this", reading=ReadOptions(format="userbehavior", on_error="skip"))


def test_behaviours_may_be_chosen_where_the_first_file_has_no_good_line(tmp_path):
    bad, good = write_lines(tmp_path / "bad.csv", ["x,y", "z"]), write_lines(tmp_path / "good.csv", LOG)
    reading = ReadOptions(format="userbehavior", on_error="skip")
    manifest = prepare([bad, good], [], reading, PrepareOptions(behaviors=("pv",), min_session_length=1), tmp_path / "set")
    assert (manifest["events"], manifest["rows_dropped"]["unparsable"]) == (100, 2)


def test_the_order_of_rows_changes_no_file(tmp_path):
    one = run(tmp_path, *LOG)
    write_lines(tmp_path / "turned.csv", LOG[::-1])
    other = prepare([tmp_path / "turned.csv"], [], READING, PrepareOptions(), tmp_path / "other")
    assert one["checksums"] == other["checksums"]


def test_a_new_companion_file_makes_a_new_dataset(tmp_path):
    ratings = [f"{user},{item},4.0,{user * 100000 + item}" for user in range(1, 9) for item in range(1, 5)]
    log, folder = write_lines(tmp_path / "ratings.csv", ["userId,movieId,rating,timestamp", *ratings]), tmp_path / "set"
    assert prepare([log], [], READING, PrepareOptions(), folder)["features"] == []
    write_lines(tmp_path / "movies.csv", ["movieId,title,genres", "1,One,A|B", '2,"Two, too",B'])
    with pytest.raises(InputError, match=r"--input \(its file of items\)"):
        prepare([log], [], READING, PrepareOptions(), folder)
    assert prepare([log], [], READING, PrepareOptions(), folder, overwrite=True)["features"] == ["title", "genres"]
    titles = dict(zip(load_vocabulary(folder).tolist(), load_features(folder)["title"].to_pylist(), strict=True))
    assert titles == {"1": "One", "2": "Two, too", "3": None, "4": None}


def test_a_small_memory_changes_nothing(tmp_path):
    many = [f"{u},{(u * 7 + n * n) % 50},7,pv,{n // 4 * 9000 + n % 4 + u}" for u in range(700) for n in range(600)]
    manifest = run(tmp_path, *many)
    spilled = prepare([tmp_path / "log.csv"], [], READING, PrepareOptions(memory_limit_gb=0.25), tmp_path / "spilled")
    assert spilled["checksums"] == manifest["checksums"]
    assert (spilled["rows_read"], spilled["options"]) == (420_000, manifest["options"])


@pytest.mark.long
def test_killed_at_any_moment_it_leaves_the_old_dataset_none_or_the_new_one(tmp_path):
    rows = [f"{u},{(u * 7 + n * n) % 50},7,pv,{n // 4 * 9000 + n % 4 + u}" for u in range(200) for n in range(300)]
    log, folder = write_lines(tmp_path / "log.csv", rows), tmp_path / "set"
    windows = ("100000", "200000")
    made = {
        prepare([log], [], READING, PrepareOptions(time_from=one), folder, overwrite=True)["checksums"]["items.npy"]: one for one in windows
    }
    generator, seen, seconds = random.Random(0), [], 2.0
    assert len(made) == 2
    for attempt in range(21):
        stands = made[load_dataset(folder, verify=True).manifest["checksums"]["items.npy"]] if folder.exists() else None
        seen.append(stands)
        if attempt == 10:
            shutil.rmtree(folder)
            stands = None
        wanted = windows[stands == windows[0]]  # never the one that stands there, which would be kept
        again = line("prepare", f"--input={log}", f"--dataset={folder}", "--overwrite", f"--time_from={wanted}")
        began = time.monotonic()
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if attempt % 21:
            time.sleep(generator.uniform(0.5, 1) * seconds)
            process.kill()
        process.wait()
        seconds = seconds if attempt else time.monotonic() - began
    assert len(set(seen)) > 1, "every kill came too early or too late to tell anything"
    subprocess.run(again, stdout=subprocess.DEVNULL, check=True)
    assert made[load_dataset(folder, verify=True).manifest["checksums"]["items.npy"]] == wanted
    assert names(tmp_path) == ["log.csv", "set"]
