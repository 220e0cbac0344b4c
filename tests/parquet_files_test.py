"""A parquet log is the same as its csv."""

import datetime
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_logs import refusal, write_lines

from jaxrec.data.reading.formats import ReadOptions, open_log

SECOND = 10**9
TIMES = [1396437466_940000000, 1396438212_318000000, 1396413533_104000000]


def write(path, row_group_size=None, **columns):
    pa.parquet.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def read(path, chunk_bytes=1 << 27, **options):
    log = open_log([path], ReadOptions(**options), chunk_bytes)
    chunks = list(log.chunks)
    assert all(column.num_chunks == 1 for chunk in chunks for column in chunk.events.columns)
    return log, [row for c in chunks for row in c.events.to_pylist()], [bad for c in chunks for bad in c.bad_lines], len(chunks)


def refused(path, **options):
    return refusal(lambda: read(path, **options))


def test_usual_names(tmp_path):
    columns = {
        "user_id": pa.array([7, None, 2**63], pa.uint64()),
        "session_id": pa.array(["a", "b", "a"]).dictionary_encode(),
        "item_id": pa.array(["001", "NA", "001"], pa.large_string()),
        "event": ["view", "buy", "view"],
        "category": [None, "", "x"],
        "time": pa.array([1, 2, 3]),
        "more": [[1], [2], [3]],
    }
    log, rows, _, _ = read(write(tmp_path / "log.parquet", **columns))
    assert log.format == "parquet"
    assert log.columns["feature:category"] == "category" and log.columns["time_unit"] == "s"
    assert rows == [
        {"user": "7", "session": "a", "item": "001", "behavior": "view", "feature:category": None, "time": SECOND},
        {"user": None, "session": "b", "item": "NA", "behavior": "buy", "feature:category": None, "time": 2 * SECOND},
        {"user": str(2**63), "session": "a", "item": "001", "behavior": "view", "feature:category": "x", "time": 3 * SECOND},
    ]
    assert "row 1: expected text in column category; got 'None'" in refused(tmp_path / "log.parquet", item_field="category")


@pytest.mark.parametrize(
    "times",
    [
        pa.array(TIMES, pa.timestamp("ns")),
        pa.array([t // 1000 for t in TIMES], pa.timestamp("us", tz="Asia/Shanghai")),
        pa.array([t // 10**6 for t in TIMES], pa.timestamp("ms")),
        *(pa.array([t // 10 ** (9 - decimals) for t in TIMES]) for decimals in (3, 6, 9)),
        pa.array([t / 10**9 for t in TIMES]),
        pa.array([t / 10**6 for t in TIMES]),
    ],
    ids=lambda times: f"{times.type}-{times[0]}",
)
def test_times_are_exact(tmp_path, times):
    path = write(tmp_path / "log.parquet", user=[1, 2, 3], item=[1, 2, 3], time=times)
    assert [row["time"] for row in read(path)[1]] == TIMES


def test_days(tmp_path):
    path = write(tmp_path / "log.parquet", user=[1], item=[1], time=pa.array([datetime.date(1970, 1, 3)]))
    assert read(path)[1][0]["time"] == 2 * 86400 * SECOND


def test_options_name_columns_and_unit(tmp_path):
    path = write(tmp_path / "log.parquet", who=[1], what=[2], when=[3])
    names = {"user_column": "who", "item_column": "what", "time_column": "when"}
    assert read(path, time_unit="ms", **names)[1] == [{"user": "1", "item": "2", "time": 3 * 10**6}]
    assert "expected the first line of a known format" not in refused(path)
    assert "expected a header line with the columns of --item_column" in refused(path)
    assert "expected times in column when; got the type int64" in refused(path, time_unit="iso8601", **names)


@pytest.mark.parametrize(("name", "values"), [("item", [1.5]), ("user", [True]), ("item", [[1]]), ("time", ["noon"]), ("time", [b"x"])])
def test_another_type_is_named(tmp_path, name, values):
    path = write(tmp_path / "log.parquet", **({"user": [1], "item": [1], "time": [1]} | {name: values}))
    assert f"in column {name}; got the type {str(pa.array(values).type)[:5]}" in refused(path)


FAULTY = {
    "user": pa.array(["u", None, "u", "u", "u", "", "u", "u"]),
    "item": pa.array([b"i", b"i", None, b"", b"\xff", b"i", b"i\0", b"j"]).cast(pa.string(), safe=False),
    "time": pa.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, float("nan")]),
}


def test_rows_that_lack_something_are_named_or_skipped(tmp_path):
    path = write(tmp_path / "log.parquet", **FAULTY)
    assert refused(path).endswith("log.parquet row 2: expected text in column user; got 'None'")
    for chunk_bytes in (1 << 27, 64):
        _, rows, bad, _ = read(path, chunk_bytes, on_error="skip")
        assert [row["time"] for row in rows] == [SECOND]
        assert [b.line for b in bad] == [2, 3, 4, 5, 6, 7, 8]
    assert bad[0].text == "user=None, item=i, time=2.0"
    with_sessions = write(tmp_path / "more.parquet", session=["s"] * 8, **FAULTY)
    _, rows, bad, _ = read(with_sessions, on_error="skip")
    assert [row["user"] for row in rows] == ["u", None, None]
    assert [b.line for b in bad] == [3, 4, 5, 7, 8]


@pytest.mark.parametrize("time", [2**62, -(2**63), 10**10])
def test_a_time_beyond_64_bits_is_a_fault(tmp_path, time):
    path = write(tmp_path / "log.parquet", user=[1, 1], item=[1, 1], time=[1, time])
    assert "row 2: expected a time in column time" in refused(path)


def test_the_size_of_chunks_does_not_matter(tmp_path):
    numbers = np.arange(10_000)
    path = write(tmp_path / "log.parquet", 700, user=numbers % 97, item=[f"i{n % 1013}" for n in numbers], time=numbers)
    csv = write_lines(tmp_path / "log.csv", ["user,item,time", *(f"{n % 97},i{n % 1013},{n}" for n in numbers)])
    whole = read(csv)[1]
    for chunk_bytes, chunks in ((1 << 27, 1), (32 * 1000, 10), (32 * 100, 100)):
        assert read(path, chunk_bytes)[1::2] == (whole, chunks)


def test_a_file_that_is_no_parquet(tmp_path):
    path = write(tmp_path / "log.parquet", user=[1], item=[1], time=[1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert refused(path).startswith(f"{path}: cannot be read: ")
    write(path, user=pa.array([], pa.int64()), item=pa.array([], pa.int64()), time=pa.array([], pa.int64()))
    assert refused(path) == f"{path}: expected at least one event; got no row"
    assert "expected a parquet file, which begins with PAR1; got 'user,item,time'" in refused(
        write_lines(path, ["user,item,time", "1,2,3"]), format="parquet"
    )
    gz = tmp_path / "log.parquet.gz"
    gz.write_bytes(gzip.compress(whole))
    assert refused(gz) == f"{gz}: expected a parquet file by itself; got one that is packed"
