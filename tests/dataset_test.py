"""A dataset folder is read as it was written, and damage to it is named."""

import json
import shutil

import numpy as np
import pytest
from small_logs import events

from jaxrec.data.dataset import Dataset
from jaxrec.data.prepare import PrepareOptions, prepare_events
from jaxrec.data.storage import ARRAYS, load_dataset, load_users, load_vocabulary, write_dataset
from jaxrec.errors import InputError

ROWS = [(user, item, 100 * day + n) for day in range(10) for user in ("u", "v") for n, item in enumerate("abc")]


@pytest.fixture
def prepared():
    return prepare_events(events(ROWS), None, PrepareOptions(session_gap_minutes=1.0, personal_from="700", test_from="900"))


@pytest.fixture
def folder(prepared, tmp_path):
    write_dataset(*prepared, tmp_path / "set")
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


def test_loaded_is_written(prepared, folder):
    loaded = load_dataset(folder)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(prepared.dataset, name))
        assert np.asarray(getattr(loaded, name)).dtype == np.asarray(getattr(prepared.dataset, name)).dtype
    assert (loaded.items.dtype, loaded.times.dtype, loaded.offsets.dtype, loaded.users.dtype) == (np.int32, np.int64, np.int64, np.int32)
    assert loaded.n_users == 2
    assert loaded.folder == folder
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
        load_dataset(folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: expected a file of the dataset; it is missing"):
        load_dataset(folder, verify=False)


def test_without_checksums_shapes_are_compared_still(folder):
    short = np.load(folder / "times.npy")[:-1]
    np.save(folder / "times.npy", short)
    with pytest.raises(InputError, match=r"times\.npy: expected int64 \[60\]; got int64 \[59\]"):
        load_dataset(folder, verify=False)
    (folder / "times.npy").write_bytes(b"\x93NUM")
    with pytest.raises(InputError, match=r"times\.npy: expected an array; got a damaged file"):
        load_dataset(folder, verify=False)
    (folder / "vocabulary.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"vocabulary\.parquet: expected a table with the column item; got a damaged file"):
        load_vocabulary(folder)


def test_another_version_or_no_dataset_is_refused(folder, tmp_path):
    change_manifest(folder, version=0)
    with pytest.raises(InputError, match="expected a dataset of version 1; got version 0"):
        load_dataset(folder)
    (folder / "manifest.json").write_text('{"version": 1}')
    with pytest.raises(InputError, match="checksums, arrays, users, cuts is missing"):
        load_dataset(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="expected a dataset manifest in JSON"):
        load_dataset(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="there is no such file"):
        load_dataset(folder)


@pytest.mark.parametrize("cut", ["personal_from", "test_from"])
@pytest.mark.parametrize("seconds", [-100, 1])
def test_sessions_outside_their_period_are_refused(folder, prepared, cut, seconds):
    cuts = prepared.dataset.manifest["cuts"]
    change_manifest(folder, cuts={**cuts, cut: cuts[cut] + seconds})
    with pytest.raises(InputError, match=r"expected the (personal|test) period to begin at 1970"):
        load_dataset(folder)


def test_a_failed_write_leaves_the_earlier_dataset(prepared, folder, monkeypatch):
    before = (folder / "manifest.json").read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space"):
        write_dataset(*prepared, folder)
    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
