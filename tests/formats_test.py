"""Every published format becomes the same kind of table, exactly."""

import datetime

import pyarrow as pa
import pytest
from small_logs import real, write_lines

from jaxrec.data.reading.formats import FORMATS, ReadOptions, open_log
from jaxrec.errors import InputError

SECOND = 10**9
TAOBAO = ["1,0104257,30,pv,1511544070", "1,NA,31,buy,1511561733", "02,0104257,30,pv,1511572885"]
CLICKS = ["11,2014-04-06T20:21:58.444Z,0214,S", "11,2014-04-06T20:21:59Z,NA,0", "07,1970-01-01T00:00:00.001Z,0214,"]
BUYS = ["11,2014-04-06T20:22:00.000Z,0214,1046,1"]
RETAILROCKET = [
    "timestamp,visitorid,event,itemid,transactionid",
    "1433221332117,0257597,view,355908,",
    "1433224214164,992329,transaction,NA,7",
]
DIGINETICA = ["1;NA;0817;526309;2016-05-09", "1;;0817;0;2016-05-09", "02;7;NA;86400000;1970-01-01"]
DIGINETICA_HEADERS = ["session_id;user_id;item_id;timeframe;eventdate", "sessionId;userId;itemId;timeframe;eventdate"]
TMALL = [
    "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type",
    "328862,0323294,833,2882,2661,829,0",
    "328862,NA,1271,2882,,0829,1",
    "1,2,3,4,5,1111,2",
    "1,2,3,4,5,1112,3",
]
GRU4REC = ["SessionId\tItemId\tTime", "3\t0214\t1396437466.94", "3\t0215\t1396438212.318", "07\t0214\t1396413533.104"]
RECBOLE = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "01\t0242\t3\t881250949", "186\tNA\t3\t891717742.5"]


def read(path, chunk_bytes=1 << 27, **options):
    """(log, its whole table)."""
    paths = path if isinstance(path, list) else [path]
    log = open_log(paths, ReadOptions(**options), chunk_bytes)
    tables = [chunk.events for chunk in log.chunks]
    for table in tables:
        for column in table.columns:
            assert column.num_chunks == 1
        assert table.column("time").type == pa.int64()
        assert all(table.column(name).type == pa.dictionary(pa.int32(), pa.string()) for name in table.column_names if name != "time")
    return log, pa.concat_tables(tables)


def columns(path, **options):
    return read(path, **options)[1].to_pydict()


def utc(*parts):
    return int(datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp()) * SECOND


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_userbehavior_keeps_ids_as_text(tmp_path, end):
    log, events = read(write_lines(tmp_path / "log.csv", TAOBAO, end))
    assert log.format == "userbehavior"
    assert log.columns["user"] == "user" and log.columns["time_unit"] == "s"
    assert log.item_features is None
    assert events.to_pydict() == {
        "user": ["1", "1", "02"],
        "item": ["0104257", "NA", "0104257"],
        "behavior": ["pv", "buy", "pv"],
        "feature:category": ["30", "31", "30"],
        "time": [1511544070 * SECOND, 1511561733 * SECOND, 1511572885 * SECOND],
    }


def test_category_is_read_as_the_item(tmp_path):
    events = columns(write_lines(tmp_path / "log.csv", TAOBAO), item_field="category")
    assert events["item"] == ["30", "31", "30"]
    assert "feature:category" not in events


def test_rsc15_clicks_and_buys_decide_for_themselves(tmp_path):
    clicks, buys = write_lines(tmp_path / "clicks.dat", CLICKS), write_lines(tmp_path / "buys.dat", BUYS)
    log, events = read([clicks, buys])
    assert log.format == "rsc15"
    assert events.to_pydict() == {
        "session": ["11", "11", "07", "11"],
        "item": ["0214", "NA", "0214", "0214"],
        "behavior": ["click", "click", "click", "buy"],
        "feature:category": ["S", "0", None, None],
        "time": [1396815718_444000000, 1396815719 * SECOND, 10**6, 1396815720 * SECOND],
    }
    assert read([buys, clicks])[1].column_names == events.column_names
    assert columns(buys).keys() == {"session", "item", "behavior", "time"}
    assert columns(clicks)["behavior"] == ["click"] * 3
    with pytest.raises(InputError, match="--item_field: expected item, a rsc15 buys log has no category; got category"):
        read([clicks, buys], item_field="category")


def test_retailrocket(tmp_path):
    log, events = read(write_lines(tmp_path / "events.csv", RETAILROCKET))
    assert log.format == "retailrocket"
    assert events.to_pydict() == {
        "user": ["0257597", "992329"],
        "item": ["355908", "NA"],
        "behavior": ["view", "transaction"],
        "time": [1433221332117 * 10**6, 1433224214164 * 10**6],
    }


@pytest.mark.parametrize("header", DIGINETICA_HEADERS)
def test_diginetica_adds_date_and_milliseconds(tmp_path, header):
    path = tmp_path / "views.csv"
    path.write_bytes("\n".join([header, *DIGINETICA]).encode())
    log, events = read(path)
    assert log.format == "diginetica"
    assert log.columns["time"] == "eventdate+timeframe"
    assert events.to_pydict() == {
        "user": [None, None, "7"],
        "session": ["1", "1", "02"],
        "item": ["0817", "0817", "NA"],
        "time": [utc(2016, 5, 9) + 526309 * 10**6, utc(2016, 5, 9), 86400 * SECOND],
    }


@pytest.mark.parametrize("year", [2014, 2016])
def test_tmall_names_actions_and_days_of_a_year(tmp_path, year):
    log, events = read(write_lines(tmp_path / "log.csv", TMALL), year=year)
    assert log.format == "tmall"
    assert events.to_pydict() == {
        "user": ["328862", "328862", "1", "1"],
        "item": ["0323294", "NA", "2", "2"],
        "behavior": ["click", "cart", "buy", "fav"],
        "feature:category": ["833", "1271", "3", "3"],
        "feature:seller": ["2882", "2882", "4", "4"],
        "feature:brand": ["2661", None, "5", "5"],
        "time": [utc(year, 8, 29), utc(year, 8, 29), utc(year, 11, 11), utc(year, 11, 12)],
    }
    assert columns(tmp_path / "log.csv", item_field="category")["item"] == ["833", "1271", "3", "3"]


def test_tmall_knows_leap_years_and_actions(tmp_path):
    path = write_lines(tmp_path / "log.csv", [*TMALL, "1,2,3,4,5,229,0"])
    with pytest.raises(InputError, match="line 6: expected a month and day as 0829 of 2014 in column time_stamp; got '229'"):
        read(path)
    assert columns(path, year=2016)["time"][-1] == utc(2016, 2, 29)
    write_lines(path, [*TMALL, "1,2,3,4,5,0230,4"])
    with pytest.raises(InputError, match="line 6: expected one of 0, 1, 2, 3 in column action_type; got '4'"):
        read(path)


MOVIES = {"item": ["1", "0002"], "title": ["Café: Here (1995)", None], "genres": ["Crime|War", None]}


@pytest.mark.parametrize(
    ("name", "lines", "companion", "content"),
    [
        ("ratings.dat", ["1::1::5::978300760", "06::0002::3.5::978302109"], "movies.dat", "1::Café: Here (1995)::Crime|War\n0002::::\n"),
        (
            "ratings.csv",
            ["userId,movieId,rating,timestamp", "1,1,4.0,978300760", "06,0002,.5,978302109"],
            "movies.csv",
            'movieId,title,genres\r\n1,"Café: Here (1995)",Crime|War\r\n0002,,\r\n',
        ),
        (
            "u.data",
            ["1\t1\t3\t978300760", "06\t0002\t1\t978302109"],
            "u.item",
            f"1|Café: Here (1995)|01-Jan-1995||http://x|{'0|' * 6}1|{'0|' * 10}1|0\n0002||||{'|0' * 19}\n",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_with_its_films(tmp_path, name, lines, companion, content, encoding):
    path = write_lines(tmp_path / name, lines)
    assert read(path)[0].item_features is None
    (tmp_path / companion).write_bytes(content.encode(encoding))
    log, events = read(path)
    assert log.format == "movielens"
    assert events.to_pydict() == {"user": ["1", "06"], "item": ["1", "0002"], "time": [978300760 * SECOND, 978302109 * SECOND]}
    assert log.item_features.to_pydict() == MOVIES


def test_a_companion_is_named_with_its_line(tmp_path):
    path = write_lines(tmp_path / "ratings.dat", ["1::1::5::978300760"])
    companion = write_lines(tmp_path / "movies.dat", ["1::A::War", "2::B::Crime", "3", "1::again::War"])
    with pytest.raises(InputError, match=r"movies\.dat line 3: expected item, title, genres; got '3'"):
        read(path)
    assert read(path, on_error="skip")[0].item_features.column("title").to_pylist() == ["A", "B"]
    companion.write_bytes(b"")
    assert read(path)[0].item_features.num_rows == 0


def test_recbole_with_its_items(tmp_path):
    path = write_lines(tmp_path / "ml.inter", RECBOLE)
    write_lines(tmp_path / "ml.item", ["item_id:token\ttitle:token_seq\tyear:float", "0242\tKolya\t1996", "NA\t\t", "0242\tagain\t1"])
    log, events = read(path)
    assert log.format == "recbole"
    assert events.to_pydict() == {"user": ["01", "186"], "item": ["0242", "NA"], "time": [881250949 * SECOND, 891717742_500000000]}
    assert log.item_features.to_pydict() == {"item": ["0242", "NA"], "title": ["Kolya", None], "year": ["1996", None]}


def test_recbole_sessions_need_no_user(tmp_path):
    header = "session_id:token\titem_id:token\ttimestamp:float\tuser_id:token"
    events = columns(write_lines(tmp_path / "x.inter", [header, "1\t2\t3\t", "1\t2\t4.5\t9"]))
    assert events == {"user": [None, "9"], "session": ["1", "1"], "item": ["2", "2"], "time": [3 * SECOND, 4_500000000]}


def test_gru4rec_times_are_exact(tmp_path):
    path = write_lines(tmp_path / "log.tsv", GRU4REC)
    log, events = read(path)
    assert log.format == "gru4rec"
    assert events.to_pydict() == {
        "session": ["3", "3", "07"],
        "item": ["0214", "0215", "0214"],
        "time": [1396437466_940000000, 1396438212_318000000, 1396413533_104000000],
    }
    with pytest.raises(InputError, match="--item_field: expected item, a gru4rec log has no category; got category"):
        read(path, item_field="category")


def test_gru4rec_with_users(tmp_path):
    lines = [f"{line}\t{user}" for line, user in zip(GRU4REC, ["UserId", "u", "", "07"], strict=True)]
    assert columns(write_lines(tmp_path / "log.tsv", lines))["user"] == ["u", None, "07"]


@pytest.mark.parametrize(
    ("unit", "time"),
    [("s", "1396809358.444"), ("ms", "1396809358444"), ("us", "1396809358444000"), ("ns", "1396809358444000000")]
    + [("iso8601", text) for text in ("2014-04-06T18:35:58.444Z", "2014-04-07T02:35:58.444+08:00", "2014-04-06 18:35:58.444")]
    + [("utc", "2014-04-06 18:35:58.444 UTC")],
)
def test_csv_units_mean_the_same_instant(tmp_path, unit, time):
    path = write_lines(tmp_path / "log.csv", ["when;who;what;more", f"{time};u;i;x"])
    names = {"user_column": "who", "item_column": "what", "time_column": "when"}
    for given in (unit, "auto"):
        log, events = read(path, time_unit=given, **names)
        assert log.format == "csv"
        assert log.columns["time_unit"] == unit
        assert events.column("time").to_pylist() == [1396809358_444000000]


def test_csv_usual_names_and_quotes(tmp_path):
    header = "user_id,session_id,item_id,timestamp,event_type,category_id"
    path = write_lines(tmp_path / "log.csv", [header, '1,a,"x,""y""",5,view,', ',b,nan,6,"buy",7'])
    assert columns(path) == {
        "user": ["1", None],
        "session": ["a", "b"],
        "item": ['x,"y"', "nan"],
        "behavior": ["view", "buy"],
        "feature:category": [None, "7"],
        "time": [5 * SECOND, 6 * SECOND],
    }
    with pytest.raises(InputError, match="line 2: expected a value in column category_id; got an empty one"):
        read(path, item_field="category")


def test_csv_users_may_be_missing_only_in_sessions(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["user_id,item_id,time", ",1,2"])
    with pytest.raises(InputError, match="line 2: expected a value in column user_id; got an empty one"):
        read(path)


def test_csv_without_the_named_columns_lists_those_found(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["who,what,when", "u,i,1"])
    with pytest.raises(InputError, match="header line with clicked; found the columns who, what, when"):
        read(path, format="csv", item_column="clicked")
    wanted = "--item_column, --time_column, --user_column or --session_column; found the columns who, what, when"
    with pytest.raises(InputError, match=wanted):
        read(path, format="csv")
    with pytest.raises(InputError, match="expected the first line of a known format"):
        read(path)
    with pytest.raises(InputError, match="more than once"):
        read(write_lines(path, ["item_id,item_id,time", "1,2,3"]), format="csv")
    with pytest.raises(InputError, match="--time_column: expected a column that holds nothing but times; got 'what' for two things"):
        read(write_lines(path, ["who,what,when", "u,i,1"]), user_column="who", item_column="what", time_column="what")


def test_csv_without_names_says_so(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["u7,11,1396437466"])
    with pytest.raises(InputError, match="expected a first line with the names of the columns; got 'u7,11,1396437466'"):
        read(path, format="csv")
    with pytest.raises(InputError, match="a csv needs a line of column names on top"):
        read(path)


def test_separators(tmp_path):
    path = write_lines(tmp_path / "log.csv", ["user|item|time", "1|2,3|4"])
    assert columns(path, separator="|")["item"] == ["2,3"]
    for wrong in ("||", "é", '"', ""):
        with pytest.raises(InputError, match="--separator: expected one character, tab or auto; got"):
            read(path, separator=wrong, format="csv")


def test_files_of_one_log_share_format_and_columns(tmp_path):
    paths = [write_lines(tmp_path / f"{n}.tsv", [GRU4REC[0], row]) for n, row in enumerate(["3\ta\t1", "3\tb\t2"])]
    assert columns(paths)["session"] == ["3", "3"]
    assert columns(paths)["item"] == ["a", "b"]
    other = write_lines(tmp_path / "other.csv", TAOBAO)
    with pytest.raises(InputError, match=r"other\.csv: expected the format of .*0\.tsv \(gru4rec\); got userbehavior"):
        read([paths[0], other])
    with_users = write_lines(tmp_path / "users.tsv", ["SessionId\tItemId\tTime\tUserId", "1\t2\t3\t4"])
    with pytest.raises(InputError, match=r"users\.tsv: expected the columns of .*0\.tsv"):
        open_log([paths[0], with_users], ReadOptions())
    with pytest.raises(InputError, match="--input: expected at least one log file; got none"):
        read([])


LOGS = {
    "userbehavior": TAOBAO,
    "rsc15": CLICKS,
    "retailrocket": RETAILROCKET,
    "diginetica": [DIGINETICA_HEADERS[1], *DIGINETICA],
    "tmall": TMALL,
    "movielens": ["1::1::5::978300760", "06::0002::3.5::978302109"],
    "recbole": RECBOLE,
    "gru4rec": GRU4REC,
    "csv": ["user_id,item_id,time", '1,"2",3'],
}


@pytest.mark.parametrize("format", LOGS)
def test_a_name_reads_what_is_recognised(tmp_path, format):
    path = write_lines(tmp_path / "log", LOGS[format])
    assert read(path)[0].format == format
    assert columns(path, format=format) == columns(path)
    assert LOGS.keys() | {"parquet"} == FORMATS.keys()


@pytest.mark.parametrize("format", LOGS)
def test_another_format_is_refused(tmp_path, format):
    path = write_lines(tmp_path / "log", ["just words"])
    with pytest.raises(InputError, match=r"log( line 1)?: expected"):
        read(path, format=format)


def test_real_logs():
    log, events = read(real("taobao/UserBehavior.csv"))
    distinct = {name: len(set(events.column(name).to_pylist())) for name in ("user", "item")}
    assert (log.format, len(events), distinct) == ("userbehavior", 100_001, {"user": 983, "item": 64_467})


@pytest.mark.parametrize(
    ("file", "format", "rows", "items", "first"),
    [
        ("movielens_small/ratings.csv", "movielens", 100_836, 9_742, {"title": "Toy Story (1995)"}),
        ("movielens_100k/ml-100k.inter", "recbole", 100_000, 1_682, {"movie_title": "Toy Story", "release_year": "1995"}),
    ],
)
def test_real_logs_with_items(file, format, rows, items, first):
    log, events = read(real(file), chunk_bytes=1 << 20)
    assert (log.format, len(events), len(log.item_features)) == (format, rows, items)
    assert first.items() <= log.item_features.slice(0, 1).to_pylist()[0].items()
    assert set(events.column("item").to_pylist()) <= set(log.item_features.column("item").to_pylist())


def test_real_samples():
    log, events = read(real("formats/yoochoose-clicks.dat"))
    assert (log.format, len(events)) == ("rsc15", 1_913)
    assert events.slice(0, 1).to_pylist() == [
        {"session": "832", "item": "214717095", "behavior": "click", "feature:category": "0", "time": 1396815718_444000000}
    ]
    log, events = read(real("formats/train-item-views.csv"))
    assert (log.format, len(events)) == ("diginetica", 12_391)
    assert events.column("user").null_count > 0
    assert events.slice(0, 1).to_pylist() == [{"user": None, "session": "1", "item": "81766", "time": utc(2016, 5, 9) + 526309 * 10**6}]
