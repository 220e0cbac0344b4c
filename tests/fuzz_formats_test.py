"""Whatever happens to a file, reading it ends in events or in an `InputError` of one line."""

import bz2
import gzip
import random
import zipfile

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxrec.data.reading.formats import ReadOptions, open_log
from jaxrec.errors import InputError

ROUNDS = 60  # damaged files of each kind


def lines(*some):
    return "\n".join(some).encode() + b"\n"


def parquet(path):
    times = pa.array([1, 2, 3], pa.timestamp("us"))
    pa.parquet.write_table(pa.table({"user": ["u", None, "v"], "session": [1, 2, 2], "item": ["i", "j", "i"], "time": times}), path)
    return path.read_bytes()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return path.read_bytes()


DAT = lines(*(f"{n % 3}::{n % 5}::4::{978300760 + n}" for n in range(30)))
TEXTS = {
    "UserBehavior.csv": lines(*(f"{n % 3},0{n},7,pv,{1511544070 + n}" for n in range(30))),
    "clicks.dat": lines(*(f"{n % 3},2014-04-06T20:21:{n}.444Z,21{n},0" for n in range(10, 40))),
    "buys.dat": lines(*(f"{n % 3},2014-04-06T20:21:{n}.444Z,21{n},100,1" for n in range(10, 40))),
    "events.csv": lines("timestamp,visitorid,event,itemid,transactionid", *(f"{1433221332117 + n},{n % 3},view,{n}," for n in range(30))),
    "views.csv": lines("session_id;user_id;item_id;timeframe;eventdate", *(f"{n % 3};NA;{n};{n}000;2016-05-09" for n in range(30)))[:-1],
    "tmall.csv": lines(
        "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type", *(f"{n % 3},{n},1,2,,8{n},{n % 4}" for n in range(10, 30))
    ),
    "ratings.dat": DAT,
    "ratings.csv": lines("userId,movieId,rating,timestamp", *(f"{n % 3},{n},4.0,{964982703 + n}" for n in range(30))),
    "u.data": lines(*(f"{n % 3}\t{n}\t3\t{881250949 + n}" for n in range(30))),
    "log.inter": lines("user_id:token\titem_id:token\ttimestamp:float", *(f"{n % 3}\t{n}\t{881250949 + n}.5" for n in range(30))),
    "log.tsv": lines("SessionId\tItemId\tTime", *(f"{n % 3}\t{n}\t{1396437466 + n}.94" for n in range(30))),
    "log.csv": lines("user_id,item_id,time,event", *(f'{n % 3},"i""{n}",2014-04-06 20:21:{n},"view"' for n in range(10, 40))),
}
PACKED = {
    "clicks.dat.gz": gzip.compress(TEXTS["clicks.dat"]),
    "ratings.dat.bz2": bz2.compress(DAT),
    "log.tsv.zst": pa.Codec("zstd").compress(TEXTS["log.tsv"], asbytes=True),
}


def damaged(content, random):
    """The bytes with a few of them gone, doubled, changed or put in."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 30))):
        at, size = random.randrange(len(data) + 1), random.choice((1, 1, 2, 20))
        change = random.randrange(6)
        if change == 0:
            data[at : at + size] = b""
        elif change == 1:
            data[at:at] = data[at : at + size]
        elif change == 2:
            data[at : at + size] = random.randbytes(size)
        elif change == 3:
            data[at : at + 1] = random.choice((b",", b";", b"\t", b":", b"\n", b"\r", b'"', b"\0", b"\xff", b"-", b"9" * 30, b"e9", b" "))
        elif change == 4:
            for swapped in (b",;", b";\t", b"::", b'"\n')[random.randrange(4)][:1]:
                data = data.replace(bytes([swapped]), random.choice((b",", b"|", b"", b'"')), random.choice((1, 3, -1)))
        elif random.random() < 0.3:
            data = data[:at]
    return bytes(data)


def check(path, random):
    """Read a file both ways; True if it gave events."""
    told = []
    for on_error in ("stop", "skip"):
        try:
            chunks = list(open_log([path], ReadOptions(on_error=on_error), random.choice((7, 200, 1 << 20))).chunks)
        except InputError as error:
            assert "\n" not in str(error) and str(error).startswith((str(path), "--"))
            continue
        told.append(([row for c in chunks for row in c.events.to_pylist()], [b for c in chunks for b in c.bad_lines]))
    # What can be read at all is the same with and without skipping.
    assert len(told) < 2 or (told[0] == told[1] and not told[0][1])
    return bool(told)


@pytest.mark.parametrize("name", [*TEXTS, *PACKED])
def test_damaged_text(tmp_path, name):
    content, chance = {**TEXTS, **PACKED}[name], random.Random(name)
    path = tmp_path / name
    path.write_bytes(content)
    assert check(path, chance)
    read = 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(content, chance))
        read += check(path, chance)
    assert 0 < read < ROUNDS or name in PACKED


@pytest.mark.parametrize("name", ["log.parquet", "logs.zip"])
def test_damaged_containers(tmp_path, name):
    path, chance = tmp_path / name, random.Random(name)
    content = parquet(path) if name == "log.parquet" else archive(path, ratings_dat=DAT, movies_dat=b"1::A::War\n", README=b"x")
    assert check(path, chance)
    for _ in range(2 * ROUNDS):
        path.write_bytes(damaged(content, chance))
        check(path, chance)


@pytest.mark.parametrize(
    ("name", "companion", "content"),
    [
        ("ratings.dat", "movies.dat", lines(*(f"{n}::Title {n} (1995)::Crime|War" for n in range(9)))),
        ("ratings.csv", "movies.csv", lines("movieId,title,genres", *(f'{n},"A, {n}",War' for n in range(9)))),
        ("u.data", "u.item", lines(*(f"{n}|Title|01-Jan-1995||http://x{'|0' * 19}" for n in range(9)))),
        ("log.inter", "log.item", lines("item_id:token\ttitle:token_seq", *(f"{n}\tT {n}" for n in range(9)))),
    ],
)
def test_damaged_companions(tmp_path, name, companion, content):
    (tmp_path / name).write_bytes(TEXTS[name])
    chance = random.Random(companion)
    for _ in range(ROUNDS):
        (tmp_path / companion).write_bytes(damaged(content, chance))
        for on_error in ("stop", "skip"):
            try:
                features = open_log([tmp_path / name], ReadOptions(on_error=on_error)).item_features
                assert len(set(features.column("item").to_pylist())) == len(features)
            except InputError as error:
                assert "\n" not in str(error) and str(error).startswith(str(tmp_path / companion))


@pytest.mark.parametrize("name", TEXTS)
def test_every_beginning_of_a_file(tmp_path, name):
    path, chance = tmp_path / name, random.Random(name)
    for size in range(0, len(TEXTS[name]), 13):
        path.write_bytes(TEXTS[name][:size])
        check(path, chance)


def test_noise(tmp_path):
    path, chance = tmp_path / "noise", random.Random(0)
    for _ in range(ROUNDS):
        path.write_bytes(chance.randbytes(chance.choice((1, 10, 1000))))
        assert not check(path, chance)
