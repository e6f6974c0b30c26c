"""The simulated records are those of the published tables: their values, their printing; all of them decode."""

from __future__ import annotations

import re
from functools import cache

import polars as pl
import pytest

from hackwatch.families.host.simulate import TYPES, Faults, World, generate, labelled
from hackwatch.families.host.simulate.printed import MEMORY_COLUMNS, PROCESS_COLUMNS, size
from hackwatch.streams import get
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages
from tests.feeds.lines import number, offsets

SIZES = ("VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW")


@cache
def both() -> tuple[pl.DataFrame, pl.DataFrame]:
    return labelled(3, records=80_000)


def normal(stream: int) -> pl.DataFrame:
    return both()[stream].filter(pl.col("label") == 0)


def decode(stream: str, payload: bytes, **options: bool) -> Decoded:
    messages = Messages("t", 0, payload, offsets(payload), len(payload))
    return get(stream).decode(messages, DecodeOptions(**options))  # type: ignore[arg-type]  # only flags are given


@pytest.mark.parametrize(
    ("kib", "printed"),
    [
        (0, "0K"),
        (24, "24K"),
        (-24, "-24K"),
        (88_680, "88680K"),
        (99_999, "99999K"),
        (100_000, "97.7M"),
        (531_558, "519.1M"),
        (-531_558, "-519.1M"),
        (1_023_948, "999.9M"),
        (1_023_949, "1.0G"),
        (2 * 1024**2, "2.0G"),
        (1024**3, "1.0T"),
    ],
)
def test_size_is_printed_in_six_characters(kib: int, printed: str) -> None:
    frame = pl.DataFrame({"kib": [kib]}, schema={"kib": pl.Int64})
    assert frame.select(size(pl.col("kib"))).item() == printed
    assert len(printed.lstrip("-")) <= 6


def test_columns_are_those_of_the_messages() -> None:
    process, memory = both()
    assert tuple(process.columns) == (*PROCESS_COLUMNS, "label", "type")
    assert tuple(memory.columns) == (*MEMORY_COLUMNS, "label", "type")
    assert all(re.fullmatch(r"-?\d+K|-?\d+\.\d[MGT]", v) for name in SIZES for v in memory[name].unique())
    assert process["CMD"].str.strip_chars("<>").str.len_chars().max() == 14


@pytest.mark.parametrize(
    ("column", "mean", "deviation", "tolerance"),
    [
        ("PID", 3081.4, 950.8, 0.15),
        ("TRUN", 0.0817, 0.281, 0.15),
        ("TSLPI", 5.403, 11.22, 0.25),
        ("NICE", 5.20, 8.75, 0.1),
        ("PRI", 112.7, 17.75, 0.05),
        ("CPUNR", 1.514, 1.139, 0.05),
        ("EXC", 0.0196, 1.21, 0.6),  # made of a handful of rows
        ("CPU", 0.0408, 0.1747, 0.25),
    ],
)
def test_normal_process_values_are_distributed_as_published(
    column: str, mean: float, deviation: float, tolerance: float
) -> None:
    values = normal(0)[column]
    assert values.mean() == pytest.approx(mean, rel=tolerance)
    assert values.std() == pytest.approx(deviation, rel=tolerance)


@pytest.mark.parametrize(
    ("what", "share", "within"),
    [
        (pl.col("State") == "S", 0.93, 0.01),
        (pl.col("State") == "R", 0.05, 0.01),
        (pl.col("State") == "E", 0.0184, 0.004),
        (pl.col("Status") == "-", 0.97, 0.01),
        (pl.col("PRI") == 100, 0.25, 0.02),
        ((pl.col("PRI") == 120) & (pl.col("NICE") == 0), 0.73, 0.025),
        (pl.col("RTPR") == 0, 1.0, 0.0),
        (pl.col("TSLPU") > 0, 0.00033, 0.0003),
    ],
    ids=["sleeping", "running", "ended", "seen before", "kernel worker", "usual priority", "no real time", "waiting"],
)
def test_normal_shares_are_as_published(what: pl.Expr, share: float, within: float) -> None:
    assert normal(0).select(what.mean()).item() == pytest.approx(share, abs=within)


def test_more_than_a_hundred_programs_live_here() -> None:
    assert normal(0)["CMD"].str.strip_chars("<>").n_unique() > 100


def test_kernel_workers_lost_the_sign_of_their_nice_value() -> None:
    assert normal(0).filter(pl.col("PRI") == 100)["NICE"].unique().to_list() == [20]


def test_finished_process_is_printed_in_angle_brackets_without_scheduling_and_memory() -> None:
    process, memory = both()
    ended = process.filter(pl.col("State") == "E")
    assert ended["CMD"].str.contains(r"^<.+>$").all()
    assert not process.filter(pl.col("State") != "E")["CMD"].str.contains("[<>]").any()
    assert set(ended["Status"]) == {"NE", "-E"}
    assert set(ended["POLI"]) == {"-"}
    assert ended.select(pl.max_horizontal("NICE", "PRI", "RTPR", "CPUNR", "TRUN", "TSLPI").max()).item() == 0
    gone = memory.filter(pl.col("CMD").str.starts_with("<"))
    assert len(gone) == len(ended)
    assert all(set(gone[name]) == {"0K"} for name in SIZES)
    assert set(gone["MEM"]) == {0.0}


def test_dashes_are_printed_for_scheduling_on_request() -> None:
    world = World(1, 5, dashes=True)
    process = pl.concat([world.sample(float(second))[0] for second in range(5)])
    ended = process.filter(pl.col("State") == "E")
    assert len(ended)
    assert {value for name in ("POLI", "NICE", "PRI", "RTPR", "CPUNR") for value in ended[name]} == {"-"}
    assert "-" not in process.filter(pl.col("State") != "E")["PRI"].to_list()


def test_new_process_grew_from_nothing() -> None:
    process, memory = both()
    rows = memory.with_columns(process["Status"], process["PRI"])
    new = rows.filter((pl.col("Status") == "N") & (pl.col("PRI") != 100))
    assert len(new) > 100
    assert (new["VSIZE"] == new["VGROW"]).all()
    assert (new["RSIZE"] == new["RGROW"]).all()


def test_first_interval_of_an_unsettled_world_shows_all_as_new() -> None:
    process, memory = World(2, 3, settled=False).sample(1_700_000_000.0)
    lasting = process["State"] != "E"
    assert set(process.filter(lasting)["Status"]) == {"N"}
    assert (memory["VSIZE"] == memory["VGROW"]).all()
    user = memory.filter((process["PRI"] == 120) & lasting)
    assert 1_500 < number(user["MINFLT"].median()) < 6_000


@pytest.mark.parametrize("stream", ["process", "memory"])
@pytest.mark.parametrize("dashes", [False, True], ids=["numbers", "dashes"])
def test_every_record_decodes(stream: str, dashes: bool) -> None:
    world = World(5, 5, dashes=dashes)
    for kind in TYPES:
        world.attack(kind, 0.0)
    frames = [world.sample(1_700_000_000.0 + 5 * step)[stream == "memory"] for step in range(8)]
    frame = pl.concat(frames)
    decoded = decode(stream, frame.write_ndjson().encode(), labels=True)
    assert decoded.rejected.to_dicts() == []
    assert len(decoded.records) == len(frame)
    assert decoded.records["label"].to_list() == frame["label"].to_list()
    assert decoded.records["type"].to_list() == frame["type"].to_list()
    assert decoded.records["finished"].to_list() == frame["CMD"].str.starts_with("<").to_list()
    assert not decoded.unknown_fields


def test_malformed_messages_are_all_rejected_and_nothing_else() -> None:
    rejected = 0
    for batch in generate(20_000, 3, faults=Faults(malformed_share=0.05)):
        decoded = decode("process", batch.process.data)
        assert decoded.messages == len(batch.process) == len(decoded.records) + len(decoded.rejected)
        rejected += len(decoded.rejected)
    assert rejected / 10_000 == pytest.approx(0.05, abs=0.01)
