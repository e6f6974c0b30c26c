"""Roles in the engine: loaded, logged and repeated like the champion, which none of them can stop or alter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hackwatch.alerts.system import Notice
from hackwatch.config import load_settings
from hackwatch.detect.detector import Detector
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.options import roles_of
from hackwatch.store import open_store
from tests.engine.support import (
    Crash,
    Crasher,
    House,
    Planted,
    PlantedSource,
    Result,
    simulated_topics,
    work_off,
)
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

ROLES = {"visit": ("content",)}


class Numbered(Planted):
    """A detector whose score says which version it is: `visit-3` scores 0.3."""

    def __init__(self, version: str) -> None:
        super().__init__("visit")
        self.version = version

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        return np.full(len(records), int(self.version[-1]) / 10, np.float32)


class FakeBundles(PlantedSource):
    """A registry with numbered versions for the role `content`; some are damaged, some fail at scoring."""

    def __init__(self, version: str | None = "visit-1") -> None:
        super().__init__()
        self.point(version)
        self.damaged: set[str] = set()

    def point(self, version: str | None) -> None:
        self.versions |= {} if version is None else {"visit:content": version}

    def load(self, stream: str, version: str) -> Detector:
        if version in self.damaged:
            raise DataError("truncated", where=version)
        return super().load(stream, version) if version.endswith("planted") else Numbered(version)


def house(folder: Path, bundles: FakeBundles | None, seed: int = 3) -> House:
    return House(simulated_topics(seed, 600), open_store(folder / "store.sqlite"), source=bundles, roles=ROLES)


def test_all_that_the_champion_decides_is_the_same_beside_a_challenger(tmp_path: Path) -> None:
    results = {}
    for name, roles in (("alone", {}), ("beside", ROLES)):
        (tmp_path / name).mkdir()
        where = House(
            simulated_topics(3, 600), open_store(tmp_path / name / "s.sqlite"), source=FakeBundles(), roles=roles
        )
        work_off(where.engine(1))
        results[name] = Result.of(where)
        rows = where.lake.rows("visit")
        assert ("content_score" in rows.columns) == (name == "beside")
        assert set(rows["model"]) == {"visit-planted"}
    assert results["alone"] == results["beside"]
    assert set(rows["content_score"]) == {np.float32(0.1)}
    assert set(rows["content_model"]) == {"visit-1"}
    assert "content_score" not in where.lake.rows("login").columns


@pytest.mark.parametrize("at", range(4, 40, 3))
def test_a_crash_repeats_the_versions_of_all_roles(tmp_path: Path, at: int) -> None:
    """A batch that was logged before the crash is scored again by the version it names, though another one came."""
    bundles = FakeBundles()
    where = house(tmp_path, bundles)
    with pytest.raises(Crash):
        work_off(where.engine(1, Crasher(at, after=True)))
    logged = where.store.checkpoints.latest("main")
    bundles.point("visit-2")
    work_off(where.engine(2))
    rows = where.lake.rows("visit")
    named = [f"visit-{round(score * 10)}" for score in rows["content_score"]]
    assert named == rows["content_model"].to_list(), "each row names the version that scored it"
    for entry in logged.batches if logged else ():
        assert entry.models["visit:content"] == "visit-1"
        for part in entry.ranges:
            if part.stream == "visit":
                of = rows.filter(
                    pl.col("partition") == part.partition, pl.col("offset").is_between(part.start, part.end - 1)
                )
                assert set(of["content_model"]) <= {"visit-1"}


def models(bundles: FakeBundles, reports: list[Notice]) -> Models:
    return Models(bundles, SHOP, reports.append, ROLES)


def test_a_damaged_challenger_is_refused_and_nothing_else_changes() -> None:
    bundles, reports = FakeBundles(), list[Notice]()
    found = models(bundles, reports)
    found.refresh()
    before = found.current().versions()
    bundles.point("visit-2")
    bundles.damaged.add("visit-2")
    for _ in range(2):
        found.refresh()
    assert found.current().versions() == before
    assert [notice.title for notice in reports] == ["Model visit-2 was refused as content, going on with visit-1"], (
        "said once"
    )
    bundles.point("visit-3")
    found.refresh()
    assert found.current().versions() == before | {"visit:content": "visit-3"}


def test_a_challenger_that_fails_at_scoring_is_said_once_a_version() -> None:
    reports: list[Notice] = []
    found = models(FakeBundles("visit-x"), reports)
    found.refresh()
    member = found.current().panels["visit"].others["content"]
    assert member is not None
    assert member.score(pl.DataFrame({"status": [1]})).to_list() == [None], "'x' is no number"
    for _ in range(2):
        found.refresh()
    [notice] = reports
    assert (notice.rule, notice.stream) == ("model-failed", "visit")
    assert "invalid literal" in notice.detail


def test_a_role_that_was_not_logged_is_vacant_and_one_that_is_gone_is_passed_over() -> None:
    found = models(FakeBundles(), [])
    found.refresh()
    again = found.exactly({"visit": "visit-planted", "visit:challenger": "visit-7"})
    assert again.versions() == {"visit": "visit-planted"}
    assert found.exactly({"visit:content": "visit-4"}).versions() == {"visit:content": "visit-4"}


@pytest.mark.parametrize(
    ("detectors", "says"),
    [
        ('["Content"]', "should match pattern"),
        ('["champion"]', "champion is there without being named"),
        ('["content", "content"]', "named twice"),
    ],
)
def test_roles_that_the_settings_may_not_name(tmp_path: Path, detectors: str, says: str) -> None:
    file = tmp_path / "hackwatch.toml"
    file.write_text(f"[streams.visit]\ndetectors = {detectors}\n")
    with pytest.raises(ConfigurationError) as raised:
        load_settings(file)
    assert says in str(raised.value)


def test_a_role_whose_columns_the_stream_has_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hackwatch import streams

    file = tmp_path / "hackwatch.toml"
    file.write_text('[streams.visit]\ndetectors = ["content"]\n')
    assert roles_of(load_settings(file)) == {"process": (), "memory": (), "visit": ("content",), "login": ()}
    schema = streams.get("visit").schema
    monkeypatch.setitem(schema, "content_score", pl.Float32())
    with pytest.raises(ConfigurationError, match="content_score"):
        roles_of(load_settings(file))
