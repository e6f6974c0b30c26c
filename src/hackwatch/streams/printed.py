"""How values are printed: units, and addresses, dates and booleans, one in plain Python and columns of them at once.

Both ways of a kind read the same prints and give the same values.
"""

from __future__ import annotations

import re
from calendar import timegm
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import polars as pl

__all__ = [
    "COUNT_UNITS",
    "FALSE",
    "SIZE_UNITS",
    "SPACES",
    "TRUE",
    "address",
    "addresses",
    "boolean",
    "booleans",
    "moment",
    "moments",
]

#: Stray characters around a printed value: blank, tab, carriage return, no-break space.
SPACES = " \t\r\xa0"

#: Counters are counted in thousands, sizes in kibibytes (atop's val2valstr and val2memstr).
COUNT_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}
SIZE_UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}

TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
FALSE = frozenset({"false", "f", "no", "n", "off", "0"})

_PART = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"^{_PART}(?:\.{_PART}){{3}}$"
_USUAL = re.compile(_IPV4)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_ZONE = "(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):?(?P<minutes>[0-5][0-9])"
#: RFC 3339, and what ISO 8601 allows beside it: a comma, no colon in the offset, no offset (UTC).
_ISO = (
    rf"^(?P<date>[12][0-9]{{3}}-[0-9]{{2}}-[0-9]{{2}})[Tt ](?P<clock>{_CLOCK})"
    rf"(?:[.,](?P<fraction>[0-9]{{1,9}}))?(?:[Zz]|{_ZONE})?$"
)
#: The Common Log Format (https://httpd.apache.org/docs/current/logs.html#common).
_CLF = rf"^(?P<date>[0-9]{{2}}/(?:{'|'.join(_MONTHS)})/[12][0-9]{{3}}):(?P<clock>{_CLOCK}) {_ZONE}$"
_ISO_ONE, _CLF_ONE = re.compile(_ISO), re.compile(_CLF)


@lru_cache(maxsize=1 << 16)
def address(text: str) -> str | None:
    """The canonical form (RFC 5952) of an IP address without zone; None if the text is none.

    >>> address("2001:DB8::0:1"), address("::ffff:192.0.2.1"), address("192.0.2.01")
    ('2001:db8::1', '192.0.2.1', None)
    """
    if _USUAL.match(text) and not text.endswith("\n"):
        return text
    if "%" in text:
        return None
    try:
        found = IPv6Address(text)
    except AddressValueError:
        return None
    mapped: IPv4Address | None = found.ipv4_mapped
    return str(mapped or found)


def addresses(text: pl.Expr) -> pl.Expr:
    """The same of a column; what is no usual IPv4 address is looked at once for each value."""
    return text.map_batches(_addresses, return_dtype=pl.String())


def _addresses(texts: pl.Series) -> pl.Series:
    usual = texts.str.contains(_IPV4)
    if usual.all(ignore_nulls=True):
        return texts
    unusual = texts.filter(~usual).unique().to_list()
    found = {text: address(text) for text in unusual}
    old, new = pl.Series(list(found), dtype=pl.String), pl.Series(list(found.values()), dtype=pl.String)
    return texts.replace_strict(old, new, default=texts, return_dtype=pl.String())


def boolean(text: str) -> bool | None:
    """What a printed boolean says; None if it says neither."""
    text = text.lower()
    return True if text in TRUE else False if text in FALSE else None


def booleans(text: pl.Expr) -> pl.Expr:
    """The same of a column."""
    low = text.str.to_lowercase()
    return pl.when(low.is_in(sorted(TRUE))).then(True).when(low.is_in(sorted(FALSE))).then(False)


def moment(text: str) -> float | None:
    """Unix seconds of a date and time of ISO 8601 or the Common Log Format; None if the text is none.

    >>> moment("10/Oct/2000:13:55:36 -0700"), moment("2000-10-10 20:55:36.25")
    (971211336.0, 971211336.25)
    """
    found = _ISO_ONE.match(text) or _CLF_ONE.match(text)
    if found is None or text.endswith("\n"):
        return None
    parts = found.groupdict()
    year, month, day = _date(parts["date"])
    if not 1 <= month <= 12 or not 1 <= day <= _days(year, month):
        return None
    seconds = timegm((year, month, day, *map(int, parts["clock"].split(":"))))
    if parts["sign"]:
        offset = int(parts["hours"]) * 3600 + int(parts["minutes"]) * 60
        seconds += offset if parts["sign"] == "-" else -offset
    return seconds + float(f"0.{parts.get('fraction') or 0}")


def moments(text: pl.Expr) -> pl.Expr:
    """The same of a column."""
    iso, clf = text.str.extract_groups(_ISO), text.str.extract_groups(_CLF)
    fraction = pl.concat_str(pl.lit("0."), iso.struct.field("fraction").fill_null("0")).cast(pl.Float64)
    return pl.coalesce(_seconds(iso, "%Y-%m-%d") + fraction, _seconds(clf, "%d/%b/%Y").cast(pl.Float64))


def _seconds(parts: pl.Expr, date: str) -> pl.Expr:
    """Whole Unix seconds of the parts of a date and time; null if there are none, or no such day."""
    printed = pl.concat_str(parts.struct.field("date"), pl.lit("T"), parts.struct.field("clock"))
    local = printed.str.to_datetime(f"{date}T%H:%M:%S", time_unit="us", strict=False).dt.epoch("s")
    hours, minutes = (parts.struct.field(name).cast(pl.Int64).fill_null(0) for name in ("hours", "minutes"))
    offset = hours * 3600 + minutes * 60
    return local + pl.when(parts.struct.field("sign") == "-").then(offset).otherwise(-offset)


def _date(text: str) -> tuple[int, int, int]:
    if text[4] == "-":
        return int(text[:4]), int(text[5:7]), int(text[8:])
    return int(text[7:]), _MONTHS.index(text[3:6]) + 1, int(text[:2])


def _days(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
