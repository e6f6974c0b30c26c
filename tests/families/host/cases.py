"""What each printed value means: the tables of the host streams, traps included, for every way to decode.

Notebooks in circulation get many of these wrong. A comment says how, beside the right value.
"""

from __future__ import annotations

from typing import Any

__all__ = ["COUNTS", "NICES", "NO_COUNTS", "NO_SHARES", "NO_SIZES", "PROGRAMS", "SHARES", "SIZES", "TIMES"]

_KI, _MI, _GI, _TI = 2.0**10, 2.0**20, 2.0**30, 2.0**40

#: A size as it is printed, and its bytes: powers of 1024.
SIZES: list[tuple[Any, float]] = [
    ("88680K", 88680 * _KI),  # str.replace('.K', '') with a regular expression eats the digit: 8868
    ("132.3M", 132.3 * _MI),  # sizes are not decimal: 132.3 x 10^6 is 5 % too small
    ("519.1M", 519.1 * _MI),
    ("1.2G", 1.2 * _GI),  # '.2G' eaten by a pattern '.G' leaves 1
    ("2.0G", 2 * _GI),
    ("1.5T", 1.5 * _TI),
    ("0K", 0.0),  # '.K' eats the zero as well and leaves nothing: NaN
    ("5K", 5 * _KI),  # K x 10^9 in one notebook: 4.9 TB for a small process
    (" 24K", 24 * _KI),  # stray space in front
    ("24K ", 24 * _KI),
    ("\t24K\r", 24 * _KI),
    ("\u00a024K", 24 * _KI),
    ("-1.5M", -1.5 * _MI),  # growth may be negative
    ("-12K", -12 * _KI),
    ("+12K", 12 * _KI),
    ("612.3", 612.3),  # no letter: bytes
    ("612", 612.0),
    ("1e3K", 1000 * _KI),
    (612, 612.0),
    (612.5, 612.5),
    (-4096, -4096.0),
    ("1234567890.25K", 1234567890.25 * _KI),  # too long for the quick way
]

NO_SIZES: list[Any] = ["", "K", "-", "12KB", "1 2K", "12k", "12P", "1,5M", "0x10K", "infK", "nanK", "inf"]

#: A fault counter as it is printed, and the events: powers of 1000.
COUNTS: list[tuple[Any, int]] = [
    ("17", 17),
    ("24K", 24_000),  # counters are counted in thousands: 24 x 1024 is a size
    (" 24K", 24_000),
    ("1438e3", 1_438_000),  # atop 2.8 prints large counters so; int() fails, a digit filter makes it 14383
    ("2M", 2_000_000),
    ("1.1M", 1_100_000),  # 1.1 x 10^6 is 1100000.0000000002 in binary
    ("3G", 3_000_000_000),
    ("17.0", 17),  # what pandas writes when a column had a gap
    (17, 17),
    (17.0, 17),
    (1e3, 1000),
]

NO_COUNTS: list[Any] = ["", "K", "-1", -1, "17.5", 17.5, "1T", "24KK", "nan", "1e300", True, "1e19"]

#: A share as it is printed, and the fraction of the whole. "13%" stripped of its sign is 13 times all memory.
SHARES: list[tuple[Any, float]] = [
    (0.13, 0.13), ("0.13", 0.13), ("13%", 0.13), (" 13 % ", 0.13), ("0%", 0.0), ("100%", 1.0), (1, 1.0), (0, 0.0),
]  # fmt: skip

NO_SHARES: list[Any] = ["101%", 1.01, -0.01, "13", "%", "nan", "inf", ""]

#: PRI and NICE as they are printed, and the true niceness.
NICES: list[tuple[Any, Any, int | None]] = [
    (0, 0, 0),  # finished during the interval
    (0, 20, 0),
    (0, "-", 0),
    (100, 20, -20),  # kernel worker: the minus sign was lost in the published tables
    (109, 11, -11),
    (119, 1, -1),
    (120, 0, 0),
    (121, 0, 1),  # notebooks map five values of PRI and leave all others as printed
    (130, 10, 10),
    (139, 19, 19),
    (" 139", "19", 19),
    (99, -5, -5),  # real-time priorities keep what they came with
    (49, 0, 0),
    (1, "-", None),
    ("-", "-", None),
    ("-", 0, 0),
]

#: CMD as it is printed, the program's name, and whether it has finished.
PROGRAMS: list[tuple[Any, str, bool]] = [
    ("apache2", "apache2", False),
    ("<grep>", "grep", True),
    ("<<a>>", "<a>", True),
    ("<>", "<>", False),
    ("<", "<", False),
    ("<grep", "<grep", False),
    ("a>", "a>", False),
    (" sshd", " sshd", False),  # a program may call itself so, to look like another
    ("kworker/u8:2", "kworker/u8:2", False),
    ("[kworker/0:1]", "[kworker/0:1]", False),
    ("\x1b[2J", "\x1b[2J", False),
    ("café", "café", False),
    ("true", "true", False),
    (7, "7", False),
]

#: ts as it is printed, and the event time.
TIMES: list[tuple[Any, str]] = [
    (1554218915, "2019-04-02T15:28:35.000000"),
    ("1554218915", "2019-04-02T15:28:35.000000"),
    (1554218915.25, "2019-04-02T15:28:35.250000"),
    (" 1554218915.000001 ", "2019-04-02T15:28:35.000001"),
]
