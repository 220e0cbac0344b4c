"""A dataset folder is read as it was written, and damage to it is named."""

import json
import shutil

import numpy as np
import pytest
from small_logs import write_lines

from jaxrec.data.dataset import Dataset
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.storage import load_dataset, load_users, load_vocabulary
from jaxrec.errors import InputError

ROWS = [f"{user},{item},{100 * day + n}" for day in range(10) for user in ("u", "v") for n, item in enumerate("abc")]


@pytest.fixture
def folder(tmp_path):
    log = write_lines(tmp_path / "log.csv", ["user,item,time", *ROWS])
    cuts = {"personal_from": "700", "test_from": "900"}
    prepare([log], [], ReadOptions(), PrepareOptions(session_gap_minutes=1.0, **cuts), tmp_path / "set")
    return tmp_path / "set"


def change_manifest(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_periods_and_sessions_are_ranges():
    dataset = Dataset(
        items=np.array([4, 5, 6, 7, 8], np.int32),
        times=np.arange(5),
        offsets=np.array([0, 2, 3, 5]),
        users=np.array([0, 1, 0], np.int32),
        period_offsets=(0, 1, 1, 3),
        item_counts=np.ones(9, int),
        n_users=2,
    )
    assert [dataset.period(name) for name in ("global", "personal", "test")] == [range(0, 1), range(1, 1), range(1, 3)]
    assert [dataset.session(s).tolist() for s in range(dataset.n_sessions)] == [[4, 5], [6], [7, 8]]
    assert dataset.n_items == 9
    assert [np.flatnonzero(dataset.counts_before(s)).tolist() for s in range(4)] == [[], [4, 5], [4, 5, 6], [4, 5, 6, 7, 8]]


def test_loaded_is_written(folder):
    loaded = load_dataset(folder)
    assert loaded.items.tolist() == [0, 1, 2] * 20
    assert loaded.times[:9].tolist() == [0, 1, 2, 0, 1, 2, 100, 101, 102]
    assert loaded.offsets.tolist() == list(range(0, 61, 3))
    assert loaded.users.tolist() == [0, 1] * 10
    assert loaded.period_offsets == (0, 14, 18, 20)
    assert loaded.item_counts.tolist() == [14] * 3
    assert (loaded.items.dtype, loaded.times.dtype, loaded.offsets.dtype, loaded.users.dtype) == (np.int32, np.int64, np.int64, np.int32)
    assert (loaded.n_users, loaded.behaviors, loaded.folder) == (2, None, folder)
    assert isinstance(loaded.items.base, np.memmap)
    assert load_vocabulary(folder).tolist() == ["a", "b", "c"]
    assert load_users(folder).tolist() == ["u", "v"]


@pytest.mark.parametrize("name", ["items.npy", "users.npy", "vocabulary.parquet", "users.parquet"])
def test_a_changed_byte_or_a_missing_file_is_named(folder, name):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: expected sha256 .*; got .*damaged"):
        load_dataset(folder, verify=True)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: expected a file of the dataset; it is missing"):
        load_dataset(folder, verify=False)


def test_without_checksums_shapes_are_compared_still(folder):
    whole = (folder / "times.npy").read_bytes()
    np.save(folder / "times.npy", np.load(folder / "times.npy")[:-1])
    with pytest.raises(InputError, match=r"times\.npy: expected 608 bytes; got 600: the file is damaged"):
        load_dataset(folder)
    np.save(folder / "times.npy", np.zeros(60, np.uint64))
    with pytest.raises(InputError, match=r"times\.npy: expected int64 \[60\]; got uint64 \[60\]"):
        load_dataset(folder)
    (folder / "times.npy").write_bytes(bytes(len(whole)))
    with pytest.raises(InputError, match=r"times\.npy: expected an array; got a damaged file"):
        load_dataset(folder)
    (folder / "vocabulary.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"vocabulary\.parquet: expected a table with the column item; got a damaged file"):
        load_vocabulary(folder)


def test_another_version_or_no_dataset_is_refused(folder, tmp_path):
    change_manifest(folder, version=0)
    with pytest.raises(InputError, match="expected a dataset of version 2; got version 0"):
        load_dataset(folder)
    (folder / "manifest.json").write_text('{"version": 2}')
    with pytest.raises(InputError, match="checksums, bytes, arrays, users, cuts is missing"):
        load_dataset(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="expected a dataset manifest in JSON"):
        load_dataset(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="there is no such file"):
        load_dataset(folder)


@pytest.mark.parametrize("cut", ["personal_from", "test_from"])
@pytest.mark.parametrize("seconds", [-100, 1])
def test_sessions_outside_their_period_are_refused(folder, cut, seconds):
    cuts = load_dataset(folder).manifest["cuts"]
    change_manifest(folder, cuts={**cuts, cut: cuts[cut] + seconds})
    with pytest.raises(
        InputError, match=r"expected the (personal|test) period to begin at 1970.* with session \d+; got session \d+ at 1970"
    ):
        load_dataset(folder, verify=True)


def test_a_failed_write_leaves_the_earlier_dataset(folder, monkeypatch):
    before = (folder / "manifest.json").read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space"):
        prepare([folder.parent / "log.csv"], [], ReadOptions(), PrepareOptions(min_session_length=1), folder, overwrite=True)
    assert (folder / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["log.csv", "set"]
