"""Sketches: estimates within their stated error, exact up to the bound, in any way of counting."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from hackwatch.pipeline import measures
from hackwatch.pipeline.aggregates import Aggregates
from hackwatch.streams.declarations import (
    Distinct,
    Quantile,
    Top,
)
from tests.pipeline.counted import (
    SECOND,
    START,
    Request,
    declared,
    frame,
    new,
    reopened,
    request,
)


def many(number: int, distinct: int) -> list[Request]:
    draw = random.Random(5)
    return [
        (draw.random() * 100, "a", "s1", f"/{min(int(draw.paretovariate(0.6)), distinct)}", draw.randrange(distinct),
         draw.gauss(500, 100), True)
        for _ in range(number)
    ]  # fmt: skip


SMALL = (
    Distinct("paths", "path", exact=50), Distinct("statuses", "status", exact=50), Top("top", "path", 5, exact=64),
    Quantile("sizes", "bytes", (0.05, 0.5, 0.95)),
)  # fmt: skip


def added(requests: list[Request]) -> Aggregates:
    target = new(declared(*SMALL))
    for i in range(0, len(requests), 700):
        target.add(frame(requests[i : i + 700]))
        target.take_changes()
    return target


def merged(requests: list[Request]) -> Aggregates:
    target, task = new(declared(*SMALL)), new(declared(*SMALL))
    for i in range(0, len(requests), 700):
        target.merge(reopened(task.partial(frame(requests[i : i + 700]))))
    return target


def restarted(requests: list[Request]) -> Aggregates:
    first, target = added(requests[:5_000]), new(declared(*SMALL))
    target.restore(reopened(first.snapshot()))
    target.add(frame(requests[5_000:]))
    return target


def mixed(requests: list[Request]) -> Aggregates:
    """Exact and estimated states merged, each way round."""
    few, most = added(requests[:20]), added(requests[20:])
    target = new(declared(*SMALL))
    target.merge(few.snapshot())
    target.merge(most.snapshot())
    target.merge(new(declared(*SMALL)).snapshot())
    return target


@pytest.mark.parametrize("way", [added, merged, restarted, mixed])
def test_estimates_are_within_their_error(way: Callable[[list[Request]], Aggregates]) -> None:
    requests = many(10_000, 6_000)
    (closed,) = way(requests).close({"s1": (START + 120) * SECOND})
    for name, column in (("paths", 3), ("statuses", 4)):
        assert closed.values[name] == pytest.approx(len({r[column] for r in requests}), rel=3 * 0.008)
    counts, shown = Counter(r[3] for r in requests), closed.values["top"]
    assert sum(each["count"] for each in shown) == len(requests)
    slack = 3.5 / 128 * len(requests)  # of a frequent-items sketch of 128 places
    for each, (_, count) in zip(shown[:2], counts.most_common(2), strict=False):
        assert counts[each["value"]] - slack <= each["count"] <= counts[each["value"]]
        assert count - counts[each["value"]] <= slack
    sizes = sorted(r[5] for r in requests if r[5] is not None)
    for rank, value in zip((0.05, 0.5, 0.95), closed.values["sizes"], strict=True):
        assert sum(size <= value for size in sizes) / len(sizes) == pytest.approx(rank, abs=2 * 0.0133)


@pytest.mark.parametrize("way", [added, merged])
def test_up_to_the_bound_everything_is_exact(way: Callable[[list[Request]], Aggregates]) -> None:
    requests: list[Request] = [(float(i), "a", "s1", f"/{i % 50}", i % 50, float(i), False) for i in range(110)]
    (closed,) = way(requests).close({"s1": (START + 120) * SECOND})
    assert (closed.values["paths"], closed.values["statuses"]) == (50, 50)
    assert closed.values["top"][:2] == [{"value": "/0", "count": 3}, {"value": "/1", "count": 3}]
    assert closed.values["top"][-1] == {"value": None, "count": 110 - 15}
    assert closed.values["sizes"] == [5.0, 54.0, 104.0]


def test_a_sketch_is_never_left_again() -> None:
    target = new(declared(Distinct("paths", "path", exact=3)))
    target.add(frame([request(i, path=f"/{i}") for i in range(4)]))
    saved = target.snapshot()
    assert saved["paths"].to_list() == [None]
    assert isinstance(saved["paths__sketch"][0], bytes)
    again = new(replace(target.aggregate, measures=(Distinct("paths", "path", exact=1_000),)))
    again.restore(saved)
    again.add(frame([request(5, path="/0"), request(6, path="/9")]))
    assert again.take_changes()["paths"].to_list() == [5]
    assert again.snapshot()["paths"].to_list() == [None]


def test_sketches_are_as_large_as_their_stated_error_asks() -> None:
    import datasketches

    errors = [
        datasketches.hll_sketch.get_rel_err(False, True, size, 1) for size in (measures._LG_K - 1, measures._LG_K)
    ]
    assert errors[0] > measures.STANDARD_ERROR >= errors[1]
