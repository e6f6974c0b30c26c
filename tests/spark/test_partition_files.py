"""Clocks and keys in files beside the checkpoint: what a restart takes up, what crashes leave, how damage is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.config import EngineSettings, StreamSettings
from hackwatch.errors import DataError
from hackwatch.pipeline import clocks as clocks_module
from hackwatch.pipeline.core import Now
from hackwatch.spark import clockfiles
from hackwatch.spark.folder import LocalFolder
from hackwatch.spark.statefiles import write_state
from tests.families.host.scored import START, Record
from tests.spark.rounds import OPTIONS, PARTITIONS, Driver, Round, files_in, rounds

WALL = 2e9
#: Each runs some batches, with files on disk.
EXAMPLES = 25
#: Many sources, so that files of what has changed are written beside whole ones.
MANY = replace(OPTIONS, stream=StreamSettings(), engine=EngineSettings(idle_seconds=5.0, max_sources=1000))


def whole(driver: Driver) -> tuple[dict[str, Any], list[pl.DataFrame]]:
    """All that is known of clocks."""
    small, frames = driver.state.clocks.snapshot()
    return small, [frames["clocks"].sort("partition", "source"), frames["sources"].sort("source")]


def assert_same(one: Driver, other: Driver) -> None:
    (small, frames), (same, expected) = whole(one), whole(other)
    assert small == same
    for frame, like in zip(frames, expected, strict=True):
        assert_frame_equal(frame, like)


def names(driver: Driver) -> set[str]:
    return set(driver.folder.names())


@pytest.fixture(params=["few", "many"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were very many sources: files of changes, and clocks that are not all looked at each time."""
    if request.param == "many":
        monkeypatch.setattr(clockfiles, "FEW_CLOCKS", 0)
        monkeypatch.setattr(clockfiles, "MOST_FILES", 3)
        monkeypatch.setattr(clockfiles, "MOST_SWEEPS", 2)
        monkeypatch.setattr(clocks_module, "FEW_SOURCES", 0)


def of(*sources: str, at: float = 0.0, partition: int = 0, key: str | None = None) -> Round:
    """A batch in one partition."""
    return Round({partition: [Record(at, machine=name, key=key) for name in sources]}, [[partition]], 5, 1.0, [])


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sizes")
@settings(max_examples=EXAMPLES)
@given(rounds(most=8), st.booleans(), st.sampled_from([3.0, 1e5]))
def test_a_restart_after_any_batch_finds_all_clocks_as_they_were(batches: list[Round], far: bool, long: float) -> None:
    """A watermark that silence or another partition's backlog has moved is there too, in no file; and after a day of
    silence sources are gone."""
    elapsed = 0.0
    with files_in(far=far) as place:
        driver = Driver(place)
        for batch in batches:
            elapsed += batch.seconds and (long if batch.seconds > 1 else batch.seconds)
            driver.step(batch, Now(WALL, elapsed))
            again = driver.restarted()
            assert_same(again, driver)
            assert names(driver) == driver.files.names()


@pytest.mark.usefixtures("sizes")
@settings(max_examples=EXAMPLES)
@given(rounds(most=6))
def test_a_batch_that_is_repeated_after_a_crash_does_the_same(batches: list[Round]) -> None:
    """The crash comes before the commit: new files are there, and nobody names them."""
    elapsed = 0.0
    with files_in() as calm, files_in() as place:
        undisturbed, driver = Driver(calm), Driver(place)
        for batch in batches:
            elapsed += batch.seconds
            now = Now(WALL, elapsed)
            driver.take(batch, now)
            driver = driver.restarted()
            assert names(driver) == driver.files.names(), "what nobody names is cleared"
            found, marks = driver.step(batch, now)
            expected, same = undisturbed.step(batch, now)
            assert_frame_equal(found, expected)
            assert marks == same
            assert_same(driver, undisturbed)


def test_a_crash_between_the_commit_and_the_deletion() -> None:
    with files_in() as place:
        driver = Driver(place)
        driver.step(of("a"), Now(WALL, 1.0))
        driver.take(of("a", at=5), Now(WALL, 2.0))
        driver.commit()
        assert names(driver) == {"clocks.0.1", "clocks.0.2", "keys.0.1", "keys.0.2"}
        again = driver.restarted()
        assert names(again) == {"clocks.0.2", "keys.0.2"}
        assert_same(again, driver)


def test_what_a_write_has_left_that_was_cut_off_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f".clocks.0.7.{'0' * 32}.tmp").write_bytes(b"half")
    (tmp_path / ".of-somebody-else").touch()
    Driver(LocalFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [".of-somebody-else"]


def test_two_copies_of_a_task_write_the_same(tmp_path: Path) -> None:
    """Speculation, and a copy that goes on after its batch counts."""
    driver, batch = Driver(LocalFolder(tmp_path)), of("a", "b", key="k")
    contents = []
    for _ in range(2):
        driver.judge(batch, Now(WALL, 1.0))
        contents.append((tmp_path / "keys.0.1").read_bytes())
    assert contents[0] == contents[1]


# -- partitions and batches --------------------------------------------------------------------------------------------


def test_a_partition_without_records_keeps_its_file() -> None:
    with files_in() as place:
        driver = Driver(place)
        driver.step(of("a", partition=1, key="k"), Now(WALL, 1.0))
        for step in range(2, 60):
            driver.step(of("b", at=step), Now(WALL, float(step)))
        assert names(driver) == {"clocks.1.1", "keys.1.1", "clocks.0.59", "keys.0.59"}
        again = driver.restarted()
        assert_same(again, driver)
        assert again.state.clocks.mark("a") > driver.state.clocks.lateness, "it has moved on with engine time"
        found, _ = again.step(of("a", partition=1, key="k"), Now(WALL, 60.0))
        assert found["late"].to_list() == [True], "by what has passed meanwhile"


def test_only_what_a_batch_has_moved_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockfiles, "FEW_CLOCKS", 10)
    all_of_them = [f"m{number}" for number in range(100)]
    with files_in() as place:
        driver = Driver(place, options=MANY)
        driver.step(of(*all_of_them), Now(WALL, 1.0))
        for step in range(2, 12):
            driver.step(of("m1", "m2", at=step), Now(WALL, float(step)))
        assert names(driver) == {f"clocks.0.{epoch}" for epoch in range(1, 12)}
        driver.step(of(*all_of_them[:50], at=20), Now(WALL, 12.0))
        assert names(driver) == {"clocks.0.12"}, "half of them have moved since"
        assert_same(driver.restarted(), driver)


def test_neither_the_commit_nor_the_plan_grows_with_sources_and_keys() -> None:
    sizes = []
    for count in (10, 900):
        with files_in() as place:
            driver = Driver(place, options=replace(MANY, stream=OPTIONS.stream))
            for step in (1.0, 2.0):
                driver.step(of(*(f"m{n}" for n in range(count)), at=step, key="k"), Now(WALL, step))
            sizes.append((len(driver.committed), len(str(driver.plan(Now(WALL, 3.0)).known))))
    assert sizes[0][0] == pytest.approx(sizes[1][0], abs=20)
    assert sizes[0][1] == pytest.approx(sizes[1][1], abs=20)


def test_a_task_reads_only_the_files_of_its_partitions(tmp_path: Path) -> None:
    """Those of others only for a source that is new to it."""
    driver = Driver(
        LocalFolder(tmp_path), options=replace(OPTIONS, engine=EngineSettings(idle_seconds=5.0, max_sources=1))
    )
    for partition in range(PARTITIONS):
        driver.step(of("a", "crowd", partition=partition), Now(WALL, 1.0))
    for path in tmp_path.glob("*.[12].*"):
        path.unlink()
    found, _ = driver.judge(of("a", at=-1000), Now(WALL, 2.0))
    assert found["late"].to_list() == [True]
    with pytest.raises(DataError, match="has lost the file"):
        driver.judge(of("b", at=5), Now(WALL, 2.0))


def test_a_source_that_comes_to_a_further_partition_is_judged_by_what_has_passed() -> None:
    with files_in() as place:
        driver = Driver(place)
        driver.step(of("a", at=100, partition=0), Now(WALL, 1.0))
        driver.step(of("b", at=100, partition=1), Now(WALL, 1.0))
        found, _ = driver.restarted().step(of("a", at=50, partition=1), Now(WALL, 1.0))
        assert found["late"].to_list() == [True]


def test_a_key_is_not_repeated_in_later_batches_and_after_restarts() -> None:
    with files_in() as place:
        driver = Driver(place)
        found = []
        for step, key in enumerate(["k", "l", "k", "m", "l"]):
            told, _ = driver.step(of("a", at=step, key=key), Now(WALL, float(step)))
            found += told["repeated"].to_list()
            driver = driver.restarted()
        assert found == [False, False, True, False, True]


def test_what_one_watermark_of_version_0_1_had_passed_stays_passed() -> None:
    """Its sources with open windows are in no partition until they send again; then their clocks take over."""
    with files_in() as place:
        driver = Driver(place)
        passed = round((START + 500) * 1e6)
        driver.state.clocks.restore_partitions(passed, {0: passed + 20_000_000}, 0.0, ["a", "b"])
        driver.files.begin(driver.state.clocks, {}, 0)
        driver.commit()
        driver = driver.restarted()
        found, _ = driver.step(of("a", "new", at=499), Now(WALL, 1.0))
        assert found["late"].to_list() == [True, True]
        found, marks = driver.step(of("a", at=700), Now(WALL, 2.0))
        assert (found["late"].to_list(), set(marks.moved)) == ([False], {"a"})
        assert_same(driver.restarted(), driver)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clocks.0.1", "keys.0.1"])
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.unlink(), "has lost the file {}"),
        (lambda path: path.write_bytes(b""), "the file {} in the checkpoint folder is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "the file {} in the checkpoint folder is damaged"),
        (
            lambda path: path.write_bytes(b"?" + path.read_bytes()[1:]),
            "the file {} in the checkpoint folder is damaged",
        ),
        (lambda path: path.write_bytes(path.read_bytes() + b"?"), "the file {} in the checkpoint folder is damaged"),
    ],
    ids=["lost", "empty", "cut off", "changed", "longer"],
)
def test_a_file_that_is_not_sound_is_named_at_the_start_and_by_tasks(
    tmp_path: Path, name: str, harm: Any, says: str
) -> None:
    driver = Driver(LocalFolder(tmp_path))
    driver.step(of("a", key="k"), Now(WALL, 1.0))
    harm(tmp_path / name)
    for action in (driver.restarted, lambda: driver.judge(of("a", key="k"), Now(WALL, 2.0))):
        with pytest.raises(DataError, match=re.escape(says.format(name))) as error:
            action()
        assert error.value.where == f"{tmp_path}/{name}"
        assert "put back the checkpoint folder" in str(error.value)


def test_a_file_of_nobody_is_no_damage(tmp_path: Path) -> None:
    driver = Driver(LocalFolder(tmp_path))
    driver.step(of("a"), Now(WALL, 1.0))
    write_state(LocalFolder(tmp_path), "clocks.0.9", b"of a batch that did not count")
    assert_same(driver.restarted(), driver)
    assert not (tmp_path / "clocks.0.9").exists()
