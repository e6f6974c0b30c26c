"""Recorded cases of clocks that lie, stand still or share a key, of hosts and judged by their rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.engine.clocked import Site

CASES = ROOT / "tests" / "cases"
HOSTS = ("process", "memory")


def case(name: str) -> list[bytes]:
    return (CASES / name).read_bytes().splitlines()


@pytest.mark.parametrize(("seconds", "final"), [(40, [True, True, True, False]), (90, [True, True, True, True])])
def test_windows_close_though_one_partition_is_empty_and_all_are_silent(
    tmp_path: Path, seconds: float, final: list[bool]
) -> None:
    site = Site(tmp_path, HOSTS)
    site.send("process", case("22-idle-partition.ndjson"))
    site.run(seconds)
    site.engine.drain()
    assert site.windows() == final


def test_a_liar_and_a_slow_machine_harm_nobody_and_are_named(tmp_path: Path) -> None:
    site = Site(tmp_path, HOSTS, partitions=1)
    site.send("process", case("30-clocks.ndjson"))
    site.run(10)
    site.engine.drain()
    assert set(site.late()) <= {"liar"}
    named = [alert for alert in site.store.triage.alerts() if alert.rule == "clock-skew"]
    assert {alert.entity for alert in named} == {"liar", "slow"}
    assert {alert.kind for alert in named} == {"system"}
    skewed = site.engine.parts.pipeline.state("process").clocks.skew.named()
    assert set(skewed) == {"liar", "slow"}
    assert skewed["liar"] > 0 > skewed["slow"]


@pytest.mark.parametrize("batch_bytes", [4096, 1 << 20], ids=["cut into pieces", "in one batch"])
def test_keys_belong_to_their_source_whatever_the_cut(tmp_path: Path, batch_bytes: int) -> None:
    site = Site(tmp_path, HOSTS, partitions=1, duplicates_key="uuid")
    site.start(batch_bytes)
    for line in case("31-duplicates.ndjson"):
        site.send("process", [line])
        if batch_bytes == 4096:
            site.run(0.1)
    site.run(1)
    site.engine.drain()
    rows = site.lake.rows("process")
    assert dict(rows.group_by("machine").len().iter_rows()) == {"m0": 3, "evil": 1, "victim": 1}
    assert "victim" in {alert.entity for alert in site.store.triage.alerts()}
