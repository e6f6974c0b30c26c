"""Window edges, lateness and joins as tables: the pure core, the embedded engine and Spark are held to the same."""

from __future__ import annotations

from tests.third.scored import Record

__all__ = ["JOINS", "LATENESS", "ORDERS", "WINDOW_EDGES"]

#: A record's time and the start of its window, seconds after START; windows are two minutes long.
#: (A window of 119 s, as in one notebook, would begin another one at 119.)
WINDOW_EDGES: dict[str, tuple[float, int]] = {
    "a start belongs to its window": (0, 0),
    "the last second too": (119, 0),
    "and the last microsecond": (119.999999, 0),
    "an end belongs to the next": (120, 120),
    "before is the one before": (-0.000001, -120),
}

#: Event times of a partition, seconds, in offset order, and which are late: more than 20 s behind the greatest before.
LATENESS: dict[str, tuple[list[float], list[bool]]] = {
    "in order": ([0, 1, 2], [False, False, False]),
    "exactly at the watermark is on time": ([100, 80], [False, False]),
    "a microsecond behind it is late": ([100, 79.999999], [False, True]),
    "a late record does not move the watermark back": ([100, 50, 85], [False, True, False]),
    "judged by what came before, not after": ([100, 130, 105], [False, False, True]),
    "the same times in another order": ([105, 100, 130], [False, False, False]),
}

#: A record of the left and of the right stream, and how many pairs they are.
JOINS: dict[str, tuple[Record, Record, int]] = {
    "just less than 30 s apart": (Record(0, suspect=True), Record(29.999999, suspect=True), 1),
    "30 s apart is too far": (Record(0, suspect=True), Record(30, suspect=True), 0),
    "right first": (Record(29.999999, suspect=True), Record(0, suspect=True), 1),
    "right too long before": (Record(30, suspect=True), Record(0, suspect=True), 0),
    "at the same time": (Record(7, suspect=True), Record(7, suspect=True), 1),
    "suspect in one stream only": (Record(0, suspect=True), Record(0), 0),
    "another session": (Record(0, suspect=True), Record(0, suspect=True, session=2), 0),
    "another agent": (Record(0, suspect=True), Record(0, suspect=True, agent="x"), 0),
    "another client": (Record(0, suspect=True), Record(0, suspect=True, client="c2"), 0),
}

#: In which order the two records may arrive.
ORDERS = ("left first", "right first", "together")
