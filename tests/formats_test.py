"""Published formats become the same events, and a faulty file is named with its line."""

import gzip

import pytest
from small_logs import real, write_lines

from jaxrec.data.events import join
from jaxrec.data.formats import ColumnOptions, read_log
from jaxrec.errors import InputError

TAOBAO = ["1,0104257,30,pv,1511544070", "1,NA,31,buy,1511561733", "02,0104257,30,pv,1511572885"]
GRU4REC = ["SessionId\tItemId\tTime", "3\t0214\t1396437466.94", "3\t0215\t1396438212.318", "07\t0214\t1396413533.104"]


def read(path, format="auto", item_field="item", **columns):
    return read_log([path], format, item_field, ColumnOptions(**columns))


def texts(codes, names):
    return [names[int(code)].as_py() for code in codes]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_userbehavior_keeps_ids_as_text(tmp_path, end):
    log, format, _ = read(write_lines(tmp_path / "log.csv", TAOBAO, end))
    assert format == "userbehavior"
    assert texts(log.items, log.item_names) == ["0104257", "NA", "0104257"]
    assert texts(log.users, log.user_names) == ["1", "1", "02"]
    assert texts(log.behaviors, log.behavior_names) == ["pv", "buy", "pv"]
    assert log.times.tolist() == [1511544070 * 10**9, 1511561733 * 10**9, 1511572885 * 10**9]
    assert log.sessions is None


def test_category_is_read_as_the_item(tmp_path):
    log, _, _ = read(write_lines(tmp_path / "log.csv", TAOBAO), item_field="category")
    assert texts(log.items, log.item_names) == ["30", "31", "30"]


def test_gru4rec_times_are_exact(tmp_path):
    log, format, _ = read(write_lines(tmp_path / "log.tsv", GRU4REC))
    assert format == "gru4rec"
    assert log.times.tolist() == [1396437466_940000000, 1396438212_318000000, 1396413533_104000000]
    assert log.sessions.tolist() == [0, 0, 1]
    assert log.users is None
    with pytest.raises(InputError, match="no category"):
        read(tmp_path / "log.tsv", item_field="category")


def test_compressed_is_the_same(tmp_path):
    plain = write_lines(tmp_path / "log.tsv", GRU4REC)
    packed = tmp_path / "log.tsv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(packed)[0].times.tolist() == read(plain)[0].times.tolist()
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"log\.tsv\.gz: cannot be read"):
        read(packed)


@pytest.mark.parametrize(
    ("unit", "time"),
    [("s", "1396809358.444"), ("ms", "1396809358444"), ("us", "1396809358444000"), ("ns", "1396809358444000000")]
    + [("iso8601", text) for text in ("2014-04-06T18:35:58.444Z", "2014-04-07T02:35:58.444+08:00", "2014-04-06 18:35:58.444")],
)
def test_csv_units_mean_the_same_instant(tmp_path, unit, time):
    path = write_lines(tmp_path / "log.csv", ["when;who;what;more", f"{time};u;i;x"])
    names = {"user_column": "who", "item_column": "what", "time_column": "when"}
    for given in (unit, "auto"):
        log, format, _ = read(path, time_unit=given, **names)
        assert format == "csv"
        assert log.times.tolist() == [1396809358_444000000]


def test_csv_usual_names_and_quotes(tmp_path):
    log, _, _ = read(write_lines(tmp_path / "log.csv", ["user_id,session_id,item_id,timestamp", '1,a,"x,y",5', "1,b,nan,6"]))
    assert texts(log.items, log.item_names) == ["x,y", "nan"]
    assert log.sessions.tolist() == [0, 1]


def test_csv_without_the_named_columns_lists_those_found(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["who,what,when", "u,i,1"])
    with pytest.raises(InputError, match="header line with clicked; found the columns who, what, when"):
        read(path, "csv", item_column="clicked")
    with pytest.raises(
        InputError, match="--item_column, --time_column, --user_column or --session_column; found the columns who, what, when"
    ):
        read(path, "csv")
    with pytest.raises(InputError, match="expected the first line of a known format"):
        read(path)
    with pytest.raises(InputError, match="more than once"):
        read(write_lines(path, ["item_id,item_id,time", "1,2,3"]), "csv")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("1,5,30,pv", "expected 5 columns .*; got 4: '1,5,30,pv'"),
        ("1,5,30,pv,9,9", "expected 5 columns .*; got 6"),
        ("1,5,30,pv,yesterday", "expected unix seconds in column timestamp; got 'yesterday'"),
        ("1,5,30,pv,", "expected unix seconds in column timestamp; got ''"),
        ("1,5,30,pv,NA", "expected unix seconds in column timestamp; got 'NA'"),
        ("1,5,30,pv,1511544070000", r"expected unix seconds .*; got '1511544070000' \(--time_unit=ms\?\)"),
        ("1,,30,pv,1511544070", "expected a value in column item; got an empty one"),
        (",5,30,pv,1511544070", "expected a value in column user; got an empty one"),
        ("1,5\0,30,pv,1511544070", "NUL"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, fault):
    path = write_lines(tmp_path / "log.csv", [*TAOBAO * 4000, line, *TAOBAO])
    with pytest.raises(InputError, match=f"log.csv line 12001: .*{fault}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_utf8_is_named(tmp_path):
    path = write_lines(tmp_path / "log.csv", TAOBAO * 4000)
    path.write_bytes(path.read_bytes() + b"1,caf\xe9,30,pv,1511544070\n")
    with pytest.raises(InputError, match="line 12001: expected UTF-8 text"):
        read(path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty file"),
        (b"\x7fELF\0\0", "binary file"),
        (b"caf\xe9\n", "UTF-8"),
        (b"SessionId\tItemId\tTime\n", "header alone"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_log(tmp_path, content, fault):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"log\.csv: .*{fault}"):
        read(path)


def test_files_of_one_log_share_sessions_but_test_files_do_not(tmp_path):
    paths = [write_lines(tmp_path / f"{n}.tsv", [GRU4REC[0], row]) for n, row in enumerate(["3\ta\t1", "3\tb\t2"])]
    whole, _, _ = read_log(paths, "auto", "item", ColumnOptions())
    assert whole.sessions.tolist() == [0, 0]
    both = join(read(paths[0])[0], read(paths[1])[0])
    assert both.sessions.tolist() == [0, 1]
    assert texts(both.items, both.item_names) == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_log(tmp_path):
    path = write_lines(tmp_path / "log.tsv", GRU4REC)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(path)[0]) == 3


def test_real_logs():
    log, format, _ = read(real("taobao/UserBehavior.csv"))
    assert (format, len(log), len(log.user_names), len(log.item_names)) == ("userbehavior", 100_001, 983, 64_467)
    log, format, _ = read(real("movielens_small/ratings.csv"), "csv", item_column="movieId")
    assert (len(log), len(log.user_names), len(log.item_names)) == (100_836, 610, 9_724)
