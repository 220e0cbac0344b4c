"""Lines are read in chunks; a faulty one is named or skipped, and neither depends on how the file is cut."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import write_lines

from jaxrec.data.reading import text_files
from jaxrec.data.reading.formats import ReadOptions, open_log
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.line_faults import fault_of
from jaxrec.data.reading.sources import Source
from jaxrec.data.reading.text_files import read_text
from jaxrec.data.reading.time_units import TimeColumn, arrow_type, instant, nanoseconds
from jaxrec.errors import InputError

TAOBAO = ["1,0104257,30,pv,1511544070", "1,NA,31,buy,1511561733", "02,0104257,30,pv,1511572885"]
FAULTS = [
    ("1,5,30,pv", "expected 5 columns .*; got 4: '1,5,30,pv'"),
    ("1,5,30,pv,9,9", "expected 5 columns .*; got 6"),
    ("1,5,30,pv,yesterday", "expected unix seconds in column timestamp; got 'yesterday'"),
    ("1,5,30,pv,", "expected unix seconds in column timestamp; got ''"),
    ("1,5,30,pv,NA", "expected unix seconds in column timestamp; got 'NA'"),
    ("1,5,30,pv,0x10", "expected unix seconds in column timestamp; got '0x10'"),
    ("1,5,30,pv,1511544070000", r"expected unix seconds .*; got '1511544070000' \(--time_unit=ms\?\)"),
    ("1,,30,pv,1511544070", "expected a value in column item; got an empty one"),
    (",5,30,pv,1511544070", "expected a value in column user; got an empty one"),
    ("1,5\0,30,pv,1511544070", "NUL"),
    ("\0", "binary"),
    ("1,5,30,pv,1511544070\r1,5,30,pv,1511544070", "expected a line that ends in LF or CRLF; got a carriage return"),
    (" ", "expected 5 columns"),
]
FORMAT = {"format": "userbehavior"}


def rows(path, chunk_bytes=1 << 27, **options):
    """(rows, bad lines, number of chunks) of a log."""
    chunks = list(open_log([path], ReadOptions(**options), chunk_bytes).chunks)
    return [row for c in chunks for row in c.events.to_pylist()], [bad for c in chunks for bad in c.bad_lines], len(chunks)


@pytest.mark.parametrize(("line", "fault"), FAULTS)
@pytest.mark.parametrize("chunk_bytes", [1 << 27, 1 << 14])
def test_a_faulty_line_is_named(tmp_path, line, fault, chunk_bytes):
    path = write_lines(tmp_path / "log.csv", [*TAOBAO * 1000, line, *TAOBAO])
    with pytest.raises(InputError, match=f"log.csv line 3001: .*{fault}") as caught:
        rows(path, chunk_bytes)
    assert "\n" not in str(caught.value)
    found, bad, _ = rows(path, chunk_bytes, on_error="skip")
    assert (len(found), [b.line for b in bad]) == (3003, [3001])


def test_the_first_of_several_faulty_lines_is_named(tmp_path):
    path = write_lines(tmp_path / "log.csv", [*TAOBAO * 4000, "1,2", *TAOBAO * 4000, "1", "2"])
    for chunk_bytes in (1 << 27, 1 << 14):
        with pytest.raises(InputError, match=r"log\.csv line 12001: expected 5 columns"):
            rows(path, chunk_bytes)


def test_a_sum_of_times_beyond_64_bits_is_a_fault(tmp_path):
    lines = ["session_id;user_id;item_id;timeframe;eventdate", "1;2;3;4;2262-04-11", "1;2;3;999999999;2262-04-11"]
    with pytest.raises(InputError, match="line 3: expected a time that 64 bits of nanoseconds hold; got 9224"):
        rows(write_lines(tmp_path / "log.csv", lines))


def test_a_line_that_is_no_utf8_is_named_only_where_it_is_read(tmp_path):
    path = write_lines(tmp_path / "log.csv", TAOBAO * 4000)
    path.write_bytes(path.read_bytes() + b"1,caf\xe9,30,pv,1511544070\n")
    with pytest.raises(InputError, match="line 12001: expected UTF-8 text in column item"):
        rows(path)
    path.write_bytes(b"user_id,item_id,time,title\n1,2,3,caf\xe9\n")
    assert rows(path)[0] == [{"user": "1", "item": "2", "time": 3 * 10**9}]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty file"),
        (b"\xef\xbb\xbf", "empty file"),
        (b"\x7fELF\0\0", "binary file"),
        ("1,2,3,pv,5\n".encode("utf-16"), "binary file"),
        (b"caf\xe9\n", "UTF-8"),
        (b"SessionId\tItemId\tTime\n", "header alone"),
        (b"SessionId\tItemId\tTime", "header alone"),
        (b"\n\n1,2,3,pv,5\n", "known format"),
        (b"x" * (1 << 21), "first line of over"),
    ],
)
def test_a_file_that_is_no_log(tmp_path, content, fault):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"log\.csv: .*{fault}"):
        rows(path)


def test_an_endless_line_ends_the_reading(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"1,2,3,pv,5\n1," + b"x" * (17 << 20))
    for on_error in ("stop", "skip"):
        with pytest.raises(InputError, match="line 2: expected a line of at most 16777216 bytes"):
            rows(path, 1 << 22, on_error=on_error)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_empty_lines_and_a_mark_are_no_part_of_the_log(tmp_path, end, last, mark):
    expected = rows(write_lines(tmp_path / "log.csv", TAOBAO))
    path = write_lines(tmp_path / "other.csv", [TAOBAO[0], "", *TAOBAO[1:], *([] if last else ["", ""])], end)
    path.write_bytes(mark + (path.read_bytes().removesuffix(end.encode()) if last else path.read_bytes()))
    assert rows(path)[:2] == expected[:2]
    assert rows(path, 1)[:2] == expected[:2]


@pytest.mark.parametrize("places", [[0], [-1], [0, 1, 2], [5000, 5001, 9000], [7, 8000, -1]])
@pytest.mark.parametrize("chunk_bytes", [1 << 27, 1 << 15])
def test_skipped_lines_leave_the_others_as_they_were(tmp_path, places, chunk_bytes):
    clean = [f"{n % 97},{n},{n % 7},pv,{1511544070 + n}" for n in range(10_000)]
    expected = rows(write_lines(tmp_path / "clean.csv", clean))[0]
    lines, numbers = list(clean), []
    for k, place in enumerate(sorted(p % len(clean) for p in places)):
        lines.insert(place + k, FAULTS[k][0])
        numbers.append(place + k + 1)
    found, bad, chunks = rows(write_lines(tmp_path / "log.csv", lines), chunk_bytes, on_error="skip", **FORMAT)
    assert found == expected
    assert [(b.line, b.text) for b in bad] == [(n, FAULTS[k][0]) for k, n in enumerate(numbers)]
    assert all(b.file.endswith("log.csv") and b.fault.startswith("expected ") and "; got " in b.fault for b in bad)
    assert (chunks > 1) == (chunk_bytes < 1 << 27)


def test_all_lines_may_be_bad(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["1,2"] * 3000)
    found, bad, _ = rows(path, 1 << 12, on_error="skip", **FORMAT)
    assert found == [] and [b.line for b in bad] == list(range(1, 3001))


def test_a_header_counts_as_a_line(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["user_id,item_id,time", "", "1,2,3", "1,2", "1,2,4"])
    found, bad, _ = rows(path, 5, on_error="skip")
    assert [row["time"] for row in found] == [3 * 10**9, 4 * 10**9]
    assert [b.line for b in bad] == [4]


@pytest.mark.parametrize("line", ['1,"a,5', '1,5,"a', '1,a,"5', '"1,a,5', '1,"a""'])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_quote_that_is_not_closed_is_one_faulty_line(tmp_path, line, at):
    lines = ["user_id,item_id,time", '1,"b",6', '2,c",7']
    lines.insert(at, line)
    found, bad, _ = rows(write_lines(tmp_path / "log.csv", lines), on_error="skip")
    assert [row["item"] for row in found] == ["b", 'c"']
    assert [b.line for b in bad] == [at + 1]
    with pytest.raises(InputError, match=f"line {at + 1}: expected"):
        rows(tmp_path / "log.csv")


@pytest.mark.parametrize("line", ['1,2,3,"x', '1,2,3,"x,', '1,2,3,"x""'])
def test_a_quote_in_a_column_that_is_not_read_is_closed_too(tmp_path, line):
    lines = ["user_id,item_id,time,more", line]
    for others in ([], ["1,2,3,4"], ['1,2,3,4"'], [""]):
        with pytest.raises(InputError, match="line 2: expected a quote at both ends of a column"):
            rows(write_lines(tmp_path / "log.csv", [*lines, *others]))


IDS = ["1", "0", "a", "NA", '"a"', '"a""b"', 'a"b', '"a"b', "é", "\ufeff", ":", "1:", '","', " "]
NO_IDS = ["", '"', '""', "\0", "\r", "\t", "::", ",", "\x1f", '"a', '"1"""']
TIMES = [
    "5.",
    ".5",
    "1e3",
    "-1",
    "+2",
    " 3",
    "4 ",
    "1.10000000000",
    "9223372036.854775807",
    "829",
    "0829",
    "2016-05-09",
    "2014-04-06T20:21:58Z",
]
NO_TIMES = ["1.1234567891", "9223372036.854775808", "nan", "2014-04-06 20:21", "0230", "2016-02-30", "x"]
FIELDS = st.sampled_from([*IDS, *IDS, *TIMES, *TIMES, *NO_IDS, *NO_TIMES])
LAYOUTS = [
    Layout("plain", ("a", "b", "t"), {"user": "a", "item": "b"}, (TimeColumn("t", "s"),)),
    Layout("quoted", ("a", "b", "t"), {"user": "a", "item": "b"}, (TimeColumn("t", "ms"),), quotes=True, no_user=("",)),
    Layout("dat", ("a", "b", "t"), {"user": "a", "item": "b"}, (TimeColumn("t", "us"),), separator="::"),
    Layout("unread", ("a", "b", "c", "t"), {"user": "a", "item": "c"}, (TimeColumn("t", "iso8601"),), quotes=True),
    Layout("parts", ("a", "b", "c", "t"), {"item": "a", "session": "a"}, (TimeColumn("c", "date"), TimeColumn("t", "ns")), quotes=True),
    Layout("named", ("b", "a", "t"), {"item": "a", "behavior": "b"}, (TimeColumn("t", "mmdd", year=2014),), behavior_names={"1": "x"}),
]


def lines_of(layout):
    """Lines of a layout, many of them faulty."""
    timed = {part.name for part in layout.times}
    likely = st.tuples(*(st.sampled_from(TIMES if name in timed else IDS) for name in layout.names))
    return st.one_of(likely, likely, st.lists(FIELDS, min_size=len(layout.names) - 1, max_size=len(layout.names) + 1)).map(
        layout.separator.join
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(LAYOUTS), st.data())
def test_the_slow_reader_refuses_nothing_that_arrow_takes(layout, data):
    line = (data.draw(lines_of(layout)) + "\n").encode()
    try:
        text_files._parse(line, layout)
    except pa.ArrowException:
        # A line that holds Arrow's stand-in for "::" is the one that Arrow alone refuses.
        assert fault_of(line, layout) or b"\x1f" in line
    else:
        assert fault_of(line, layout) is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(LAYOUTS), st.data(), st.integers(1, 200), st.sampled_from(["\n", "\r\n"]))
def test_the_size_of_chunks_does_not_matter(tmp_path_factory, layout, data, chunk_bytes, end):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(end.join(data.draw(st.lists(lines_of(layout), min_size=1, max_size=12))).encode())

    def read(size):
        try:
            chunks = list(read_text(Source(path), layout, True, size))
        except InputError as error:
            return str(error)
        return [row for c in chunks for row in c.events.to_pylist()], [bad for c in chunks for bad in c.bad_lines]

    assert read(chunk_bytes) == read(1 << 20)


NUMBERS = st.one_of(
    st.from_regex(r"[ \t]?[+-]?\d{0,12}\.?\d{0,11}([eE][+-]?\d{1,2})?[ \t]?", fullmatch=True),
    st.decimals(allow_nan=True, allow_infinity=True, places=9).map(str),
    st.sampled_from(["0" * 60 + "1", "1." + "0" * 41, "1e0000000000001", "0e5000", "0.0e-5000", "-9223372036.854775808", "1_0", "１"]),
)
ISO = st.one_of(
    st.from_regex(
        r"(1677|1970|2014|2262|2300)-(0[0-9]|1[0-3])-[0-3]\d([ T]\d\d(:[0-6]\d(:[0-6]\d(\.\d{1,10})?)?)?(Z|[+-][0-2]\d:?[0-6]\d)?)?",
        fullmatch=True,
    ),
    st.datetimes().map(str),
    st.sampled_from(
        [
            "2262-04-11T23:47:16.854775807Z",
            "2262-04-11T23:47:16.854775808Z",
            "2262-04-11T23:47:16.854775807-00:01",
            "1677-09-21",
            "1677-09-22",
        ]
    ),
)


UTC = st.tuples(st.one_of(ISO.map(lambda text: f"{text} UTC"), ISO), st.just("utc"), st.just(True))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.one_of(NUMBERS.map(lambda t: (t, "s", True)), st.tuples(ISO, st.just("iso8601"), st.booleans()), UTC))
def test_the_slow_twin_of_times(case):
    text, unit, zoned = case
    column = TimeColumn("t", unit, zoned)
    options = pa.csv.ConvertOptions(column_types={"t": arrow_type(column)}, null_values=[])
    content = pa.BufferReader(f"{text},x\n".encode())
    try:
        values = pa.csv.read_csv(content, pa.csv.ReadOptions(column_names=["t", "x"]), convert_options=options).column("t")
        expected = int(nanoseconds(values, column)[0])
    except pa.ArrowException:
        expected = None
    # Arrow gives up on a zero times a power that no decimal holds.
    assert instant(text, column) == expected or text == "0e5000"
