"""A view that is always the same: in every test of this folder."""

from __future__ import annotations

from typing import Any

from hackwatch.detect.detector import Driver
from hackwatch.store import StoredAlert
from hackwatch.views.live import EntityView, Note, StreamView, View

#: 2026-01-31 18:04:10 UTC, the begin of a column of 10 s.
NOW = 1_769_882_650.0


def alert(**changes: Any) -> StoredAlert:
    values: dict[str, Any] = {
        "id": "4893f2f1" * 4, "sequence": 3, "kind": "attack", "stream": "process+memory", "entity": "web-1",
        "rule": "correlated-suspects", "title": "hping3 is suspect in process and memory on web-1",
        "severity": "critical", "risk": 96, "subject": "hping3", "subjects": ("hping3",), "first_seen": NOW - 9,
        "last_seen": NOW - 1, "created": NOW - 8, "technique": "T1498", "tactic": "impact", "count": 412,
        "drivers": {
            "process": (Driver("CMD", "hping3", "systemd", 3.0), Driver("CPU", "98 %", "1 %", 2.0)),
            "memory": (Driver("RSIZE", "130.1 MiB", "4.4 MiB", 2.5),),
        },
    }  # fmt: skip
    return StoredAlert(**(values | changes))


def stream(name: str, **changes: Any) -> StreamView:
    values: dict[str, Any] = {
        "name": name, "records": 60_250, "on_time": 60_241, "late": 9, "duplicate": 0, "rejected": 0,
        "suspects": 40, "rate": 1_006.5, "lag_bytes": 700, "watermark_age": 20.4, "model": f"{name}-000001-ab12",
    }  # fmt: skip
    return StreamView(**(values | changes))


def entity(name: str, suspects: int = 0) -> EntityView:
    quiet, busy = 45, 15
    return EntityView(
        name,
        tuple(40 + 10 * (bucket // 10 % 2) for bucket in range(60)),
        (0,) * quiet + (suspects,) * busy,
        {"process": (suspects * 3, suspects), "memory": (suspects * 2, 0)},
        ("process", "memory"),
    )


def view(**changes: Any) -> View:
    values: dict[str, Any] = {
        "now": NOW, "state": "running", "updated": NOW - 0.5, "started": NOW - 60, "pid": 7, "rate": 2_013.0,
        "latency_p50": 14.2, "latency_p99": 38.4, "epoch": 12, "epoch_age": 3.1,
        "streams": (stream("process"), stream("memory", late=0)),
        "entities": tuple(entity(f"web-{n}", suspects=2 * (n == 1)) for n in range(1, 6)),
        "alerts": (
            alert(),
            alert(
                id="2f" * 16, sequence=2, kind="rule", stream="process", entity="desk-2", rule="network-scanner",
                title="A network scanner is running", severity="medium", risk=55, subject="nmap", created=NOW - 31,
                technique="T1046", count=1, drivers={}, evidence={"CMD": "nmap", "CPU": 0.05},
            ),
            alert(
                id="a0" * 16, sequence=1, kind="rule", entity="web-3", title="A crypto-currency miner is using the "
                "processor", severity="high", created=NOW - 59, technique="T1496", status="acknowledged", count=2,
                subject="xmrig", drivers={"process": (Driver("TRUN", "40 threads", "1 threads", 1.0),)},
            ),
        ),
        "notes": (
            Note(NOW - 60, "5 simulated machines at work"),
            Note(NOW - 10, "simulated: dos on web-1 begins (hping3)", "truth"),
            Note(NOW - 8, "found: dos on web-1, 1.2 s after its begin", "found"),
        ),
        "notes_title": "the simulation",
    }  # fmt: skip
    return View(**(values | changes))
