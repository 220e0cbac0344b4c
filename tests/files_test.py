"""A name on disk stands for the whole thing or for what was there before: after an error, a kill, a full disk."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrec.errors import InputError
from jaxrec.files import claimed, read_json, remove_folder, sha256, whole_file, whole_folder, write_json

ROOT = Path(__file__).parents[1]


class Trouble(Exception):
    pass


def everything(folder):
    """{path: bytes} of every file below, hidden ones too; None for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def fill(folder, text):
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "inner" / "b.txt").write_text(text)


def write_file(path, text, trouble=None):
    with whole_file(path) as partial:
        partial.write_text(text)
        if trouble:
            raise trouble


def write_folder(path, text, trouble=None):
    with whole_folder(path) as partial:
        fill(partial, text)
        if trouble:
            raise trouble


WRITERS = {"file": write_file, "folder": write_folder}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def test_what_was_written_takes_the_name_and_nothing_lies_beside_it(tmp_path, write):
    write(tmp_path / "deep" / "result", "first")
    write(tmp_path / "deep" / "result", "second")
    write(tmp_path / "other", "second")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result"]
    (tmp_path / "deep" / "result").rename(tmp_path / "moved")
    texts = {value for value in everything(tmp_path).values() if value is not None}
    assert texts == {b"second"}


@pytest.mark.parametrize("trouble", [Trouble(), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_leaves_what_was_there(tmp_path, write, trouble):
    with pytest.raises(type(trouble)):
        write(tmp_path / "result", "half", trouble)
    assert everything(tmp_path) == {}
    write(tmp_path / "result", "whole")
    before = everything(tmp_path)
    with pytest.raises(type(trouble)):
        write(tmp_path / "result", "half", trouble)
    assert everything(tmp_path) == before


def test_a_new_folder_holds_nothing_of_the_earlier_one(tmp_path):
    write_folder(tmp_path / "result", "first")
    with whole_folder(tmp_path / "result") as partial:
        (partial / "only.txt").write_text("second")
    assert everything(tmp_path / "result") == {"only.txt": b"second"}


def test_what_a_link_names_is_removed_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    remove_folder(tmp_path / "near")
    assert not (tmp_path / "far").exists() and (tmp_path / "near").is_symlink()
    with whole_folder(tmp_path / "near") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "far" / "file").read_text() == "new"


def test_nobody_fills_a_folder_that_somebody_fills(tmp_path):
    with whole_folder(tmp_path / "set") as folder:
        (folder / "file").write_text("first")
        with (
            pytest.raises(InputError, match="set: expected no other command that works there; one is at work"),
            whole_folder(tmp_path / "set"),
        ):
            pass
    assert (tmp_path / "set" / "file").read_text() == "first"
    with whole_folder(tmp_path / "set") as folder:
        (folder / "file").write_text("second")
    assert (tmp_path / "set" / "file").read_text() == "second"


def test_the_same_by_another_name_is_claimed_too(tmp_path):
    (tmp_path / "near").symlink_to(tmp_path / "far")
    with (
        claimed(tmp_path / "near", "work"),
        pytest.raises(InputError, match="far: expected no other command"),
        claimed(tmp_path / "far" / "..", "rest"),
        claimed(tmp_path / "far", "work"),
    ):
        pass
    assert not list(tmp_path.rglob("*.lock")) and not list(tmp_path.parent.glob(".*.lock"))


def test_a_folder_is_not_seen_before_it_is_whole(tmp_path):
    write_folder(tmp_path / "result", "first")
    before = everything(tmp_path / "result")
    with whole_folder(tmp_path / "result") as partial:
        fill(partial, "second")
        assert everything(tmp_path / "result") == before


WRITING = {
    "file": "with whole_file(path) as partial, partial.open('wb') as out:",
    "folder": "with whole_folder(path) as partial, (partial / 'a.txt').open('wb') as out:",
}
KILLED = """
import sys, time
from pathlib import Path
from jaxrec.files import whole_file, whole_folder
path = Path(sys.argv[1])
{writing}
    out.write(b"half" * 1000)
    out.flush()
    print("half written", flush=True)
    time.sleep(60)
"""


def kill_while_writing(kind, path):
    code = KILLED.format(writing=WRITING[kind])
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with process.stdout as out:
        assert out.readline() == "half written\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_process_leaves_no_half_under_the_name(tmp_path, kind):
    path = tmp_path / "result"
    kill_while_writing(kind, path)
    assert not path.exists() and everything(tmp_path), "the process was killed before it wrote anything"
    WRITERS[kind](path, "whole")
    before = everything(tmp_path)
    assert {name.split("/")[0] for name in before} == {"result"}
    kill_while_writing(kind, path)
    assert {name: value for name, value in everything(tmp_path).items() if name in before} == before
    WRITERS[kind](path, "again")
    assert everything(tmp_path).keys() == before.keys()


def test_a_process_killed_between_two_names_is_cleaned_up_by_the_next_write(tmp_path):
    """The old folder was moved away and the new one had no name yet: the name is absent, never half."""
    write_folder(tmp_path / "result", "new")
    expected = everything(tmp_path)
    (tmp_path / "result").rename(tmp_path / ".result.old")
    (tmp_path / ".result.partial").mkdir()
    (tmp_path / ".result.partial" / "rest.txt").write_text("rest")
    write_folder(tmp_path / "result", "new")
    assert everything(tmp_path) == expected


FULL = """
import resource, sys
from pathlib import Path
from jaxrec.files import whole_folder, write_json
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # Python ignores SIGXFSZ: a longer file is an OSError, as on a full disk
try:
    if sys.argv[2] == "file":
        write_json(path, ["x" * 5000])
    else:
        with whole_folder(path) as partial:
            (partial / "a.txt").write_text("y" * 500)
            (partial / "b.txt").write_text("x" * 5000)
except OSError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, kind):
    for there in (False, True):
        if there:
            WRITERS[kind](tmp_path / "result", "whole")
        before = everything(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", FULL, tmp_path / "result", kind], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 1 and done.stderr.startswith("refused: "), done.stderr
        assert everything(tmp_path) == before


def test_json_comes_back_and_what_json_has_not_is_refused(tmp_path):
    value = {"rate": 0.1, "units": [1, 2], "name": "Größe", "nothing": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", "thing") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json", "thing") == value
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "there is no such file"), (b"{", "something else"), (b"", "something else"), (b"\xff\xfe", "something else")],
)
def test_a_file_that_is_no_json_is_named(tmp_path, content, fault):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"a.json: expected a recipe.*{fault}") as caught:
        read_json(path, "recipe")
    assert "\n" not in str(caught.value)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a.bin").write_bytes(content)
    assert sha256(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()
