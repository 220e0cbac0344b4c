"""Published log formats of text: how the first line shows each, and what its columns are."""

import re
from typing import TYPE_CHECKING

from jaxrec.data.reading.heads import Head, require
from jaxrec.data.reading.layout import Layout
from jaxrec.data.reading.time_units import TimeColumn
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.data.reading.formats import ReadOptions

USERBEHAVIOR_LINE = re.compile(r"[^,]*,[^,]*,[^,]*,(pv|buy|cart|fav),-?\d+")
CLICK_LINE = re.compile(r"[^,]+,\d{4}-\d\d-\d\dT[^,]+Z,[^,]+,[^,]*")
BUY_LINE = re.compile(r"[^,]+,\d{4}-\d\d-\d\dT[^,]+Z,[^,]+,[^,]*,[^,]*")
_MOVIELENS_LINES = {"::": re.compile(r"[^:]+::[^:]+::[\d.]+::\d+"), "\t": re.compile(r"\d+\t\d+\t\d+\t\d+")}
_RETAILROCKET = ("timestamp", "visitorid", "event", "itemid", "transactionid")
_DIGINETICA = (
    ("session_id", "user_id", "item_id", "timeframe", "eventdate"),
    ("sessionId", "userId", "itemId", "timeframe", "eventdate"),
)
_TMALL = ("user_id", "item_id", "cat_id", "seller_id", "brand_id", "time_stamp", "action_type")
_TMALL_ACTIONS = {"0": "click", "1": "cart", "2": "buy", "3": "fav"}
_RATINGS = ("userId", "movieId", "rating", "timestamp")
_GRU4REC = ("SessionId", "ItemId", "Time")
_RECBOLE_NAME = re.compile(r"(.*):(token|token_seq|float|float_seq)")


def with_category(format: str, columns: dict[str, str], options: "ReadOptions") -> dict[str, str]:
    """Columns of a log, of which --item_field names the one that is recommended.

    Raises:
      InputError: a category is wanted and there is none.
    """
    if options.item_field == "item":
        return columns
    if "feature:category" not in columns:
        raise InputError(f"--item_field: expected item, a {format} log has no category; got category")
    others = {role: name for role, name in columns.items() if role != "feature:category"}
    return {**others, "item": columns["feature:category"]}


def is_userbehavior(head: Head, options: "ReadOptions") -> bool:
    return bool(USERBEHAVIOR_LINE.fullmatch(head.first))


def userbehavior(head: Head, options: "ReadOptions") -> Layout:
    """Alibaba UserBehavior: no header; user, item, category, behaviour, unix seconds."""
    names = ("user", "item", "category", "behavior", "timestamp")
    columns = {"user": "user", "item": "item", "behavior": "behavior", "feature:category": "category"}
    return Layout("userbehavior", names, with_category("userbehavior", columns, options), (TimeColumn("timestamp", "s"),))


def is_rsc15(head: Head, options: "ReadOptions") -> bool:
    return bool(CLICK_LINE.fullmatch(head.first) or BUY_LINE.fullmatch(head.first))


def rsc15(head: Head, options: "ReadOptions") -> Layout:
    """RecSys Challenge 2015: no header; a file of clicks, or one of buys."""
    shape = next((line.count(",") for line in head.lines if CLICK_LINE.fullmatch(line) or BUY_LINE.fullmatch(line)), 3)
    columns = {"session": "session", "item": "item"}
    times = (TimeColumn("timestamp", "iso8601"),)
    if shape == 4:
        names = ("session", "timestamp", "item", "price", "quantity")
        return Layout("rsc15", names, with_category("rsc15 buys", columns, options), times, behavior="buy")
    names = ("session", "timestamp", "item", "category")
    columns = with_category("rsc15", {**columns, "feature:category": "category"}, options)
    return Layout("rsc15", names, columns, times, behavior="click")


def is_retailrocket(head: Head, options: "ReadOptions") -> bool:
    return set(_RETAILROCKET) <= set(head.header(","))


def retailrocket(head: Head, options: "ReadOptions") -> Layout:
    """RetailRocket's events.csv; times in milliseconds."""
    columns = with_category("retailrocket", {"user": "visitorid", "item": "itemid", "behavior": "event"}, options)
    return _with_header(head, "retailrocket", _RETAILROCKET[:4], ",", columns, (TimeColumn("timestamp", "ms"),))


def is_diginetica(head: Head, options: "ReadOptions") -> bool:
    return head.header(";") in _DIGINETICA


def diginetica(head: Head, options: "ReadOptions") -> Layout:
    """CIKM Cup 2016's item views: a date, and milliseconds since the session began."""
    older, newer = _DIGINETICA
    names = newer if newer[0] in head.header(";") else older
    columns = with_category("diginetica", {"user": names[1], "session": names[0], "item": names[2]}, options)
    times = (TimeColumn("eventdate", "date"), TimeColumn("timeframe", "ms"))
    return _with_header(head, "diginetica", names, ";", columns, times, no_user=("", "NA"))


def is_tmall(head: Head, options: "ReadOptions") -> bool:
    return set(_TMALL) <= set(head.header(","))


def tmall(head: Head, options: "ReadOptions") -> Layout:
    """Tmall's repeat buyers log: days of one year."""
    columns = {"user": "user_id", "item": "item_id", "behavior": "action_type", "feature:category": "cat_id"}
    columns = with_category("tmall", {**columns, "feature:seller": "seller_id", "feature:brand": "brand_id"}, options)
    times = (TimeColumn("time_stamp", "mmdd", year=options.year),)
    return _with_header(head, "tmall", _TMALL, ",", columns, times, behavior_names=_TMALL_ACTIONS)


def is_movielens(head: Head, options: "ReadOptions") -> bool:
    return head.header(",") == _RATINGS or any(line.fullmatch(head.first) for line in _MOVIELENS_LINES.values())


def movielens(head: Head, options: "ReadOptions") -> Layout:
    """GroupLens MovieLens: ratings.dat, ratings.csv or u.data."""
    columns, times = {"user": "userId", "item": "movieId"}, (TimeColumn("timestamp", "s"),)
    columns = with_category("movielens", columns, options)
    fitting = (separator for line in head.lines for separator, shape in _MOVIELENS_LINES.items() if shape.fullmatch(line))
    separator = next(fitting, ",")
    if separator == ",":
        return _with_header(head, "movielens", _RATINGS, ",", columns, times)
    return Layout("movielens", _RATINGS, columns, times, separator)


def is_recbole(head: Head, options: "ReadOptions") -> bool:
    names = [_RECBOLE_NAME.fullmatch(name) for name in head.header("\t")]
    return all(names) and {"item_id", "timestamp"} <= {name[1] for name in names}


def recbole(head: Head, options: "ReadOptions") -> Layout:
    """RecBole's atomic files: tab-separated, names with types."""
    typed = tuple(head.first.split("\t"))
    names = {name.partition(":")[0]: name for name in typed}
    usual = {"user": "user_id", "session": "session_id", "item": "item_id"}
    columns = {role: names[name] for role, name in usual.items() if name in names}
    require(head, "recbole", ["item_id", "timestamp"], tuple(names))
    if len(columns) == 1:
        require(head, "recbole", ["user_id"], tuple(names))
    columns, times = with_category("recbole", columns, options), (TimeColumn(names["timestamp"], "s"),)
    require(head, "recbole", [], typed)
    return Layout("recbole", typed, columns, times, "\t", header=True, no_user=_no_user(columns))


def is_gru4rec(head: Head, options: "ReadOptions") -> bool:
    return set(_GRU4REC) <= set(head.header("\t"))


def gru4rec(head: Head, options: "ReadOptions") -> Layout:
    """GRU4Rec's preprocessed files: tab-separated with a header; Time in unix seconds, maybe with a fraction."""
    columns = {"user": "UserId"} if "UserId" in head.header("\t") else {}
    columns = with_category("gru4rec", {**columns, "session": "SessionId", "item": "ItemId"}, options)
    return _with_header(head, "gru4rec", _GRU4REC, "\t", columns, (TimeColumn("Time", "s"),), no_user=_no_user(columns))


def _no_user(columns: dict[str, str]) -> tuple[str, ...]:
    """A session goes on without a user, so that one may be missing there."""
    return ("",) if "session" in columns else ()


def _with_header(head: Head, format: str, wanted: tuple[str, ...], separator: str, columns, times, **more) -> Layout:
    names = head.header(separator)
    require(head, format, list(wanted), names)
    return Layout(format, names, columns, times, separator, header=True, quotes=True, **more)
