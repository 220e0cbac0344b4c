"""Wrong input, as real commands: one line that begins with "error:", exit code 1, and nothing on disk has changed."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from commands import command
from small_logs import write_lines

DAY = 86400
# Ten users, ten days, a session of two clicks each day.
EVENTS = [(user, item, day * DAY + user * 1000 + item) for user in range(10) for day in range(10) for item in range(2)]
TAOBAO = [f"{user},{item},7,pv,{time}" for user, item, time in EVENTS]
CSV = ["user_id,item_id,timestamp", *(f"{user},{item},{time}" for user, item, time in EVENTS)]
GRU4REC = ["SessionId\tItemId\tTime", *(f"{time // 10}\t{item}\t{time}" for _, item, time in EVENTS)]
SINGLE = [f"{user},{user % 3},7,pv,{user * DAY}" for user in range(50)]


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(folder, name, *arguments):
    """The error of a command that must fail in one line and leave `folder` as it was."""
    before = everything(folder)
    done = command(name, *arguments)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    lines = done.stderr.splitlines()
    # A line of progress may stand before the error: "... started".
    assert lines[-1].startswith("error: ") and all(line.endswith(": started") for line in lines[:-1]), done.stderr
    assert everything(folder) == before
    return lines[-1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    log = write_lines(folder / "log.csv", TAOBAO)
    done = command("prepare", f"--input={log}", f"--dataset={folder / 'set'}")
    assert done.returncode == 0, done.stderr
    return folder / "set"


@pytest.fixture
def dataset(prepared, tmp_path):
    """A dataset of the test's own."""
    return Path(shutil.copytree(prepared, tmp_path / "set"))


@pytest.mark.parametrize(
    ("lines", "options", "fault"),
    [
        (None, [], "expected a log file; there is no such file"),
        ([], [], "expected a log; got an empty file"),
        (["user_id,item_id,timestamp"], [], "expected at least one event; got a header alone"),
        (["hello world"], [], "expected the first line of a known format"),
        ([*CSV[:20], "3,4", *CSV[20:]], [], "log.csv line 21: expected 3 columns (user_id, item_id, timestamp); got 2: '3,4'"),
        ([*GRU4REC[:30], "3\t4\tnoon", *GRU4REC[30:]], [], "log.csv line 31: expected unix seconds in column Time; got 'noon'"),
        (SINGLE, [], "expected sessions of 2 events of items with 1 or more in the global period; none remains of 50 rows"),
        (TAOBAO, ["--personal_from=0.9", "--test_from=0.8"], "--personal_from: expected a time not after --test_from"),
        (TAOBAO, ["--test_from=2030-01-01T00:00Z"], "--test_from: expected a time within the log"),
        (TAOBAO, ["--personal_from=1960-01-01T00:00Z", "--test_from=0.8"], "--personal_from: expected a time within the log"),
        (TAOBAO, ["--test_from=yesterday"], "--test_from: expected an ISO-8601 instant with a zone or unix seconds; got 'yesterday'"),
        (
            CSV,
            ["--format=csv", "--item_column=product"],
            "expected a csv header line with product; found the columns user_id, item_id, timestamp",
        ),
    ],
)
def test_a_log_that_cannot_be_prepared(tmp_path, lines, options, fault):
    log = tmp_path / "log.csv"
    if lines is not None:
        write_lines(log, lines)
    error = refused(tmp_path, "prepare", f"--input={log}", f"--dataset={tmp_path / 'set'}", *options)
    assert fault in error


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("log.csv", bytes(range(256)) * 100, "binary"),
        ("log.csv", b"\x89PNG\r\n\x1a\n" + os.urandom(1000).replace(b"\0", b"\1"), "expected UTF-8 text"),
        ("log.csv.gz", gzip.compress("\n".join(TAOBAO).encode())[:-200], "log.csv.gz"),
        ("log.csv.gz", "\n".join(TAOBAO).encode(), "cannot be read"),
    ],
)
def test_a_file_that_is_no_text(tmp_path, name, content, fault):
    log = tmp_path / name
    log.write_bytes(content)
    error = refused(tmp_path, "prepare", f"--input={log}", f"--dataset={tmp_path / 'set'}")
    assert str(log) in error and fault in error


def test_a_bad_log_does_not_touch_the_dataset_that_it_was_to_replace(dataset, tmp_path):
    log = write_lines(tmp_path / "log.csv", [*TAOBAO, "1,2,7,pv,noon"])
    assert "line 201" in refused(tmp_path, "prepare", f"--input={log}", f"--dataset={dataset}", "--overwrite")


def test_a_dataset_of_another_version(dataset, tmp_path):
    manifest = json.loads((dataset / "manifest.json").read_text())
    (dataset / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    assert "expected a dataset of version 2; got version 99" in refused(tmp_path, "inspect", f"--dataset={dataset}")


@pytest.mark.parametrize(("array", "place"), [("items.npy", -1), ("times.npy", 0), ("period_offsets.npy", -8)])
def test_a_flipped_bit_of_an_array(dataset, tmp_path, array, place):
    content = bytearray((dataset / array).read_bytes())
    content[place] ^= 1
    (dataset / array).write_bytes(content)
    error = refused(tmp_path, "inspect", f"--dataset={dataset}")
    assert f"{dataset / array}: expected sha256" in error and "damaged" in error


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_nothing_is_trained_on_a_dataset_that_is_not_whole(dataset, tmp_path, damage):
    if damage == "missing":
        shutil.rmtree(dataset)
    else:
        (dataset / "items.npy").write_bytes((dataset / "items.npy").read_bytes()[:-4])
    error = refused(tmp_path, "train", f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}")
    assert str(dataset) in error


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("personalize", [], "train/metrics.json: expected a result of `train`; there is no such file"),
        ("export", [], "train/metrics.json: expected a result of `train`; there is no such file"),
        ("evaluate", [], "train/metrics.json: expected a result of `train`; there is no such file"),
        ("evaluate", ["--model=markov,personal"], "train/metrics.json: expected a result of `train`; there is no such file"),
        ("evaluate", ["--model=markov,globl"], "--model: expected one of global, personal, popularity"),
        ("evaluate", ["--model="], "--model: expected one of global, personal, popularity"),
    ],
)
def test_a_stage_whose_input_is_not_there(dataset, tmp_path, name, options, fault):
    assert fault in refused(tmp_path, name, f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}", *options)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("measure", "device/manifest.json: expected a device manifest"),
        ("report", "expected the workdir"),
        ("compare", "expected the workdir"),
    ],
)
def test_nothing_to_measure_or_report(tmp_path, name, fault):
    assert fault in refused(tmp_path, name, f"--workdir={tmp_path / 'run'}")
