"""Simulated logs look like the published ones and hold exactly the rows that were asked for."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.logs import FORMATS, RSC15, USERBEHAVIOR, size, write_rsc15, write_userbehavior

COLUMNS = {"userbehavior": ("user", "item", "category", "behavior", "time"), "rsc15": ("session", "time", "item", "category")}
PUBLISHED = {"userbehavior": USERBEHAVIOR, "rsc15": RSC15}


def read(format, path):
    return pd.read_csv(path, header=None, names=COLUMNS[format], dtype=str, keep_default_na=False)


def written(format, folder, rows=5000, seed=0):
    FORMATS[format](folder / format, rows, seed)
    return read(format, folder / format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows", [1, 2, 7, 5000, 12_345])
def test_exactly_the_rows_asked_for_with_every_item_and_every_group(format, rows, tmp_path):
    log, sizes = written(format, tmp_path, rows), size(PUBLISHED[format], rows)
    assert len(log) == rows
    assert log.item.nunique() == sizes.items
    assert log[COLUMNS[format][0]].nunique() == sizes.groups


@pytest.mark.parametrize("format", FORMATS)
def test_the_published_sizes(format):
    assert size(PUBLISHED[format], PUBLISHED[format].rows) == PUBLISHED[format]


@pytest.mark.parametrize("format", FORMATS)
def test_blocks_change_no_count(format, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.logs.ROWS_AT_ONCE", 300)
    test_exactly_the_rows_asked_for_with_every_item_and_every_group(format, 5000, tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_the_rows_of_a_user_or_session_stand_together(format, tmp_path):
    group = written(format, tmp_path)[COLUMNS[format][0]]
    assert (group != group.shift()).sum() == group.nunique()


@pytest.mark.parametrize("format", FORMATS)
def test_a_seed_gives_the_same_bytes_and_another_one_others(format, tmp_path):
    found = []
    for seed in (0, 0, 1):
        written(format, tmp_path, seed=seed)
        found.append((tmp_path / format).read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("format", FORMATS)
def test_items_are_clicked_again_at_once_and_some_are_popular(format, tmp_path):
    log = written(format, tmp_path, 50_000)
    group = log[COLUMNS[format][0]]
    again = log.item == log.item.shift()
    assert 0.2 < again[group == group.shift()].mean() < 0.5
    assert again[group != group.shift()].mean() < 0.05
    counts = log.item.value_counts()
    assert counts.iloc[0] > 20 * counts.median()


def test_userbehavior_is_well_formed(tmp_path):
    write_userbehavior(tmp_path / "log", 200_000)
    log = read("userbehavior", tmp_path / "log")
    for column in ("user", "item", "category", "time"):
        assert log[column].str.fullmatch("[1-9][0-9]*").all()
    assert log.groupby("item").category.nunique().max() == 1
    shares = log.behavior.value_counts(normalize=True)
    assert shares.sort_index().to_dict() == pytest.approx({"buy": 0.020, "cart": 0.055, "fav": 0.029, "pv": 0.896}, abs=0.002)
    days = pd.to_datetime(log.time.astype(int), unit="s", utc=True).dt.tz_convert("Asia/Shanghai").dt.strftime("%Y-%m-%d")
    assert sorted(days.unique()) == [f"2017-11-{day}" for day in range(25, 31)] + [f"2017-12-0{day}" for day in (1, 2, 3)]


def test_rsc15_is_well_formed(tmp_path):
    write_rsc15(tmp_path / "log", 200_000)
    log = read("rsc15", tmp_path / "log")
    assert log.item.str.fullmatch("[1-9][0-9]*").all()
    assert log.time.str.fullmatch(r"2014-0[4-9]-[0-3]\d[T][012]\d:[0-5]\d:[0-5]\d\.\d\d\dZ").all()
    assert set(log.category) == {"0", "S", *map(str, range(1, 13))}
    session, times = log.session.astype(int), pd.to_datetime(log.time)
    assert (np.diff(session) >= 0).all() and session.iloc[0] == 1
    gaps = times.diff()[session.diff() == 0].dt.total_seconds()
    assert gaps.min() >= 0 and 10 < gaps.median() < 300
    starts = times[session.diff() != 0]
    assert (starts.min().date().isoformat(), starts.max().date().isoformat()) == ("2014-04-01", "2014-09-30")
    assert 0.45 < (starts.diff().dt.total_seconds() > 0).mean() < 0.55
    assert 2 <= session.value_counts().median() <= 3
