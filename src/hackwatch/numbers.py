"""Numbers that options take: such that no command meets one which it cannot use."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["COUNT", "POSITIVE", "SEED", "Number", "Whole"]

#: What stores, arrays and files can hold.
_MOST = 2**63 - 1


class Number(click.FloatRange):
    """A number in a range; click's own ranges take NaN and infinity, which are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number in a range, of 64 bits at most."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if abs(number) > _MOST:
            self.fail(f"{value} is too large.", param, ctx)
        return number


#: Seconds, a rate, a share: more than nothing.
POSITIVE = Number(min=0, min_open=True)
#: So many of something.
COUNT = Whole(min=1)
#: Where random numbers begin.
SEED = Whole(min=0)
