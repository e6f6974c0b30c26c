"""The door: what a notebook, a page or a command asks of a data folder, of whatever family."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hackwatch import streams, views
from hackwatch.alerts.alert import Alert, Cause
from hackwatch.config import Settings, load_settings
from hackwatch.errors import DataError, ResourceError
from hackwatch.lake import Lake
from hackwatch.store import NoStore, open_store
from hackwatch.views import every
from tests.store.support import alert
from tests.test_status import STREAM
from tests.third.support import decoded, labelled, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def settings_of(data: Path) -> Settings:
    return load_settings(overrides={"data": str(data)})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> tuple[Settings, pl.DataFrame, Alert]:
    """A data folder with visits, an alert about one of them, and an engine's last words."""
    data = tmp_path_factory.mktemp("views") / "data"
    data.mkdir(mode=0o700)
    stream = streams.get("visit")
    rows = decoded(stream, labelled("visit", records=1_000), labels=False)
    date = pl.col("event_time").dt.date().alias("date")
    Lake(data / "lake").append("visit", rows.with_columns(date, pl.lit("local").alias("site")), 1, "main")
    who = rows.group_by(stream.entity).len().sort("len", stream.entity)[stream.entity][-1]
    own = rows.filter(pl.col(stream.entity) == who).sort("event_time", "partition", "offset", "index")
    cause = own.row(own.height // 2, named=True)
    at = cause["event_time"].timestamp()
    raised = alert(
        1, stream="visit", kind="rule", entity=who, first_seen=at, last_seen=at,
        causes=(Cause("visit", cause["partition"], cause["offset"], cause["index"]),),
    )  # fmt: skip
    with open_store(data / "store.sqlite") as store:
        store.checkpoints.log_batches("main", (), [raised])
        now = time.time()
        told = {"pipeline": "main", "pid": 7, "site": "local", "started": now, "updated": now, "state": "running"}
        figures = {"epoch": 4, "epoch_age": 2.0, "rate": 10.0, "latency_ms": {"p50": 5.0, "p99": 9.0}}
        late = {**STREAM, "late_sources": {"web-1": 7}, "skewed_sources": {"web-2": -90.0}}
        store.statuses.write("main", {**told, **figures, "streams": {"visit": late}})
    return settings_of(data), own, raised


@pytest.fixture
def data(kept: tuple[Settings, pl.DataFrame, Alert]) -> Iterator[views.Views]:
    with views.open(kept[0]) as opened:
        yield opened


def test_the_counters_of_streams(data: views.Views) -> None:
    status = data.status()
    (visit,) = status.streams
    assert (status.state, status.healthy, visit.name, visit.late, visit.rejected) == ("running", True, "visit", 1, 7)
    assert (visit.late_sources, visit.skewed_sources) == ({"web-1": 7}, {"web-2": -90.0})
    assert not data.status(now=status.updated + 31).healthy


def test_alerts_and_one_of_them(data: views.Views) -> None:
    (found,) = data.alerts(severity="high")
    assert data.alert(found.id[:6]) == found
    assert not data.alerts(severity="critical")
    assert data.mutes() == []


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_records_of_an_entity_by_page(data: views.Views, kept: tuple[Settings, pl.DataFrame, Alert], size: int) -> None:
    _, own, raised = kept
    place = ("event_time", "partition", "offset", "index")
    found = list(every(lambda cursor: data.records("visit", entity=raised.entity, limit=size, cursor=cursor)))
    assert [tuple(one.values[name] for name in place) for one in found] == own.select(place).rows()
    assert found[0].event_time == own["event_time"][0].timestamp()


def test_records_around_an_alert(data: views.Views, kept: tuple[Settings, pl.DataFrame, Alert]) -> None:
    _, own, raised = kept
    around = data.around(raised, seconds=1e6)
    assert list(around) == ["visit"]
    assert len(around["visit"]) == min(own.height, 100)
    (cause,) = [one for one in around["visit"] if one.causes]
    assert cause.event_time == raised.first_seen
    alone = data.around(raised, seconds=0.001)["visit"]
    assert all(one.event_time == raised.first_seen for one in alone)
    assert data.around(replace(raised, kind="system")) == {}


def test_the_last_records(data: views.Views) -> None:
    frame = data.latest(streams.get("visit"), 10)
    assert frame.height == 10
    assert frame["event_time"].is_sorted()
    with pytest.raises(DataError, match="no records of login yet"):
        data.latest(streams.get("login"), 10)


def test_sql(data: views.Views) -> None:
    frame = pl.DataFrame(data.sql("SELECT count(*) AS n FROM visit v, alerts a WHERE v.index >= 0"))
    assert frame["n"].to_list() == [1_000]


def test_before_the_first_run_there_is_nothing(tmp_path: Path) -> None:
    with views.open(settings_of(tmp_path / "data")) as data:
        with pytest.raises(NoStore):
            data.alerts()
        assert list(data.sql("SELECT 1 AS n").rows()) == [(1,)]
    with pytest.raises(ResourceError, match="no engine has run in this data folder"):
        views.of_engine(settings_of(tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []
