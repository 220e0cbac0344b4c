"""A log is the same wherever it lies: packed, in an archive, as one of several given files."""

import bz2
import gzip
import zipfile

import pyarrow as pa
import pytest
from small_logs import refusal, write_lines

from jaxrec.data.reading.formats import ReadOptions, open_log
from jaxrec.data.reading.sources import Source, input_files
from jaxrec.errors import InputError

RATINGS = ["1::0011::5::978300760", "2::12::4::978300761"]
PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, lines in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), "".join(line + "\n" for line in lines).encode("latin-1"))
    return path


def read(path, **options):
    log = open_log([path], ReadOptions(**options))
    return log, [row for chunk in log.chunks for row in chunk.events.column("item").to_pylist()]


def refused(path, **options):
    return refusal(lambda: read(path, **options))


def test_inputs_may_be_patterns_and_lists(tmp_path):
    paths = [write_lines(tmp_path / name, ["x"]) for name in ("a.csv", "b.csv", "c,d.csv")]
    assert input_files([tmp_path / "?.csv"], "input") == paths[:2]
    assert input_files([paths[1], paths[0]], "input") == [paths[1], paths[0]]
    assert input_files([tmp_path / f"b.csv,{paths[0]}", paths[2]], "input") == [paths[1], paths[0], paths[2]]
    with pytest.raises(InputError, match="--input: expected files that fit"):
        input_files([tmp_path / "*.tsv"], "input")


def test_a_file_is_not_read_twice(tmp_path):
    write_lines(tmp_path / "a1.csv", ["1"])
    with pytest.raises(InputError, match=r"--input: expected every file once; got .*a1\.csv twice"):
        input_files([tmp_path / "a*.csv", tmp_path / "a1.csv"], "input")


@pytest.mark.parametrize("suffix", PACKED)
def test_packed_is_the_same(tmp_path, suffix):
    plain = write_lines(tmp_path / "ratings.dat", RATINGS * 1000)
    (tmp_path / f"movies.dat{suffix}").write_bytes(PACKED[suffix]("0011::Café::War\n".encode("latin-1")))
    packed = plain.with_name(f"ratings.dat{suffix}")
    packed.write_bytes(PACKED[suffix](plain.read_bytes()))
    log, items = read(packed)
    assert items == read(plain)[1] == ["0011", "12"] * 1000
    assert log.item_features.to_pylist() == [{"item": "0011", "title": "Café", "genres": "War"}]
    packed.write_bytes(packed.read_bytes()[:-12])
    assert refused(packed).startswith(f"{packed}: cannot be read: ")
    packed.write_bytes(b"no packed bytes at all")
    assert refused(packed).startswith(f"{packed}: cannot be read: ")
    packed.write_bytes(b"")
    assert refused(packed) == f"{packed}: expected a log; got an empty file"


def test_several_streams_in_one_gzip_are_read_on(tmp_path):
    path = tmp_path / "ratings.dat.gz"
    path.write_bytes(b"".join(gzip.compress(f"{line}\n".encode()) for line in RATINGS))
    assert read(path)[1] == ["0011", "12"]


def test_an_archive_of_one_member_is_that_member(tmp_path):
    assert read(archive(tmp_path / "any.zip", any_thing=RATINGS))[1] == ["0011", "12"]
    path = archive(tmp_path / "bad.zip", folder__bad_dat=[*RATINGS, "3::4::5"])
    assert refused(path) == f"{path}/folder/bad.dat line 3: expected 4 columns (userId, movieId, rating, timestamp); got 3: '3::4::5'"


def test_published_archives(tmp_path):
    ml1m = archive(
        tmp_path / "ml-1m.zip",
        **{"ml-1m__ratings_dat": RATINGS, "ml-1m__users_dat": ["1::F::1::10::48067"], "ml-1m__movies_dat": ["0011::Café::War"]},
        **{"ml-1m__README": ["SUMMARY", "========"]},
    )
    log, items = read(ml1m)
    assert (log.format, items) == ("movielens", ["0011", "12"])
    assert log.item_features.to_pylist() == [{"item": "0011", "title": "Café", "genres": "War"}]
    latest = archive(
        tmp_path / "ml-latest-small.zip",
        ml__links_csv=["movieId,imdbId,tmdbId", "1,0114709,862"],
        ml__movies_csv=["movieId,title,genres", "7,A,B"],
        ml__ratings_csv=["userId,movieId,rating,timestamp", "1,7,4.0,964982703"],
        ml__tags_csv=["userId,movieId,tag,timestamp", "2,60756,funny,1445714994"],
    )
    assert read(latest)[1] == ["7"]
    old = archive(
        tmp_path / "ml-100k.zip",
        **{"ml-100k__u_data": ["196\t242\t3\t881250949"], "ml-100k__u1_base": ["1\t1\t5\t874965758"], "ml-100k__u_user": ["1|24|M|x|8"]},
    )
    assert read(old)[1] == ["242"]
    rocket = archive(
        tmp_path / "archive.zip",
        category_tree_csv=["categoryid,parentid", "1016,213"],
        events_csv=["timestamp,visitorid,event,itemid,transactionid", "1433221332117,257597,view,355908,"],
        **{"item_properties_part1_csv": ["timestamp,itemid,property,value", "1435460400000,460429,categoryid,1338"]},
    )
    assert read(rocket)[1] == read(rocket, format="retailrocket")[1] == ["355908"]


def test_several_members_of_a_format_are_one_log(tmp_path):
    path = archive(tmp_path / "logs.zip", b_csv=["user_id,item_id,time", "1,b,2"], a_csv=["user_id,item_id,time", "1,a,2"])
    assert read(path)[1] == ["a", "b"]


def test_an_archive_without_a_log_names_its_members(tmp_path):
    path = archive(tmp_path / "logs.zip", a_txt=["hello"], b_txt=["world"])
    assert refused(path) == f"{path}: expected a log among the members of the archive; got a.txt, b.txt"
    assert refused(archive(path)).endswith("got an empty archive")
    mixed = archive(tmp_path / "mixed.zip", a_dat=RATINGS, b_csv=["1,2,3,pv,5"])
    assert "expected a log of one format; got a.dat (movielens), b.csv (userbehavior); --format names it" in refused(mixed)
    assert read(mixed, format="userbehavior")[1] == ["2"]


def test_a_packed_member(tmp_path):
    path = tmp_path / "logs.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ratings.dat.gz", gzip.compress("\n".join(RATINGS).encode()))
    assert read(path)[1] == ["0011", "12"]


def test_a_damaged_archive_is_named(tmp_path):
    path = archive(tmp_path / "logs.zip", ratings_dat=RATINGS * 1000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).startswith(f"{path}: cannot be read: ")
    path.write_bytes(whole[:60] + bytes(40) + whole[100:])
    assert refused(path).startswith(f"{path}/ratings.dat: cannot be read: ")
    path.write_bytes(b"no archive")
    assert refused(path).startswith(f"{path}: cannot be read: ")


def test_what_is_no_file(tmp_path):
    assert refused(tmp_path / "none.csv") == f"{tmp_path}/none.csv: expected a log file; there is no such file"
    assert refused(tmp_path / "none.zip") == f"{tmp_path}/none.zip: expected a log file; there is no such file"
    assert refused(tmp_path) == f"{tmp_path}: expected a log file; got a folder"


def test_siblings_lie_in_the_same_folder(tmp_path):
    path = archive(tmp_path / "x.zip", a__log_csv=["x"], b__more_csv=["x"], a__more_tsv=["x"])
    log = Source(path, "a/log.csv")
    assert str(log.sibling("more.tsv")) == f"{path}/a/more.tsv"
    assert log.sibling("more.csv") is None
    assert Source(path).sibling("y.zip") is None and Source(path).sibling("x.zip") == Source(path)
