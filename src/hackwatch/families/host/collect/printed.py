"""How atop prints what it measures: sizes with a unit, command names, scheduling policies.

One way of printing for every source, so that a model trained on what one of them wrote reads the others.
Sizes lose at most 0.05 MiB above 97 MiB, shares are whole per cent: as on atop's screen, and as in the data
sets that were cut from it.
"""

from __future__ import annotations

import polars as pl

__all__ = ["NOT_KNOWN", "POLICIES", "command", "command_expression", "share", "size", "size_expression"]

#: Longest command name that is printed, in characters.
COMMAND_LENGTH = 14

#: What stands in the scheduling columns of a finished process.
NOT_KNOWN = "-"

#: Scheduling policies by the kernel's number (sched(7)); 7 is SCHED_EXT, under a BPF scheduler.
POLICIES = {0: "norm", 1: "fifo", 2: "rr", 3: "btch", 4: "iso", 5: "idle", 6: "dead", 7: "ext"}


def size(kib: int) -> str:
    """KiB with a unit: `88680K`, `519.1M`, `2.0G`; growth may be negative."""
    if -9999 <= kib <= 99999:
        return f"{kib}K"
    number, unit = kib / 1024, "M"
    for larger in "GTP":
        if abs(number) < 999.95:
            break
        number, unit = number / 1024, larger
    return f"{number:.1f}{unit}"


def size_expression(kib: str) -> pl.Expr:
    """`size` over an Int64 column of KiB; keeps the column's name."""
    column = pl.col(kib)
    printed = pl.concat_str(column, pl.lit("K"))
    large = ~column.is_between(-9999, 99999)
    for power, unit in enumerate("MGTP", 1):
        number = column / 1024**power
        printed = pl.when(large).then(pl.concat_str(number.round(1), pl.lit(unit))).otherwise(printed)
        large = number.abs() >= 999.95
    return printed.alias(kib)


def share(part: float, whole: float) -> float:
    """A fraction in whole per cent, as atop prints it: 0.13; 0 where there is no whole."""
    return round(part / whole, 2) if whole > 0 else 0.0


def command(name: bytes, *, finished: bool = False) -> str:
    """A command name as text of at most 14 characters; `<name>` when finished.

    Names are chosen by whoever runs the process. Bytes that are not UTF-8 become `\\xNN`, an empty name `?`. A live
    process that calls itself `<x>` loses the closing bracket: it cannot pass for a finished one.
    """
    text = name.decode("utf-8", "backslashreplace")[:COMMAND_LENGTH] or "?"
    if text.startswith("<") and text.endswith(">"):
        text = text[:-1]
    return f"<{text}>" if finished else text


def command_expression(name: str, finished: str) -> pl.Expr:
    """`command` over a String column and a Boolean column; called CMD."""
    text = pl.col(name).str.head(COMMAND_LENGTH)
    text = pl.when(text == "").then(pl.lit("?")).otherwise(text)
    bracketed = text.str.starts_with("<") & text.str.ends_with(">")
    text = pl.when(bracketed).then(text.str.head(-1)).otherwise(text)
    ended = pl.concat_str(pl.lit("<"), text, pl.lit(">"))
    return pl.when(pl.col(finished)).then(ended).otherwise(text).alias("CMD")
