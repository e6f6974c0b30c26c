"""What families declare of their programs and recordings is checked, found and used by general code."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch import cli, doctor, streams
from hackwatch.config import Settings
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.feeds.collector import local_collectors
from hackwatch.feeds.replay import Replay, check_recording, read_recording
from hackwatch.streams.checks import family_problems
from hackwatch.streams.declarations import Aggregate, Count, Mean, Panel
from hackwatch.streams.stream import Pace
from hackwatch.testing import FakeClock, MemoryTopic
from tests import clients
from tests.topics.support import everything


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"simulator": "tests.clients"}, "simulator: 'tests.clients' names no object; write \"module:name\""),
        ({"collectors": {"see": "tests/clients.py"}}, "collector see: 'tests/clients.py' names no object"),
        ({"collectors": {"follow": "tests.clients:X"}}, "collector 'follow': name a command of small letters"),
        ({"collectors": {"Se e": "tests.clients:X"}}, "collector 'Se e': name a command of small letters"),
        ({"watch": "see"}, "watch: there is no collector 'see'"),
        ({"simulator": None, "demo": True}, "demo: there is nothing to show without a simulator"),
        ({"rules": "rules.toml"}, "rules: 'rules.toml' names no file"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_a_family_names_is_looked_at_before_it_is_loaded(changes: dict[str, Any], says: str) -> None:
    [problem] = family_problems(replace(clients.FAMILY, **changes), dict.fromkeys(clients.NAMES, clients.LOGINS).get)
    assert says in problem


PATHS = Aggregate("paths", "logins", ("path",), (Count("seen"), Mean("took", "seconds")))
PANEL = Panel("busiest", "the busiest paths", "logins", "paths", "seen")


@pytest.mark.parametrize(
    ("panels", "says"),
    [
        ([{}], []),
        ([{"top": 1}, {"name": "other", "top": 20}], []),
        ([{"aggregate": "clients"}], ["panel busiest: the family has no aggregate 'clients' of 'logins'"]),
        ([{"stream": "requests"}], ["panel busiest: the family has no aggregate 'paths' of 'requests'"]),
        ([{"measure": "bytes"}], ["panel busiest: the aggregate 'paths' has no measure 'bytes'"]),
        ([{"measure": "took"}], ["panel busiest: 'took' does not add up over sources; name a Count, Sum or Distinct"]),
        ([{"title": ""}], ["panel busiest: title: say in 1 to 40 characters what is shown"]),
        ([{}, {"title": "again"}], ["panel busiest: declared twice; give each a name of its own"]),
        (
            [{"top": 0, "measure": "bytes"}, {"name": "more", "top": 21}],
            [
                "panel busiest: top: 0 keys cannot be shown; name 1 to 20",
                "panel busiest: the aggregate 'paths' has no measure 'bytes'",
                "panel more: top: 21 keys cannot be shown; name 1 to 20",
            ],
        ),
    ],
    ids=[
        "good",
        "as few and many as can be",
        "aggregate",
        "stream",
        "measure",
        "mean",
        "title",
        "twice",
        "all at once",
    ],
)
def test_a_panel_is_of_what_the_family_declares(panels: list[dict[str, Any]], says: list[str]) -> None:
    shown = tuple(replace(PANEL, **changes) for changes in panels)
    family = replace(clients.FAMILY, aggregates=(PATHS,), panels=shown)
    assert family_problems(family, dict.fromkeys(clients.NAMES, clients.LOGINS).get) == says


def test_panels_are_asked_for_by_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(PANEL, name="other", stream="requests")
    monkeypatch.setattr(streams, "families", lambda: (replace(clients.FAMILY, panels=(PANEL, other)),))
    assert (streams.panels("logins"), streams.panels("requests"), streams.panels("gone")) == ((PANEL,), (other,), ())


def test_a_collector_belongs_to_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [replace(clients.FAMILY, name=name, collectors={"see": "tests.clients:X"}) for name in ("one", "two")]
    monkeypatch.setattr(streams, "families", lambda: tuple(both))
    with pytest.raises(ConfigurationError, match="families one, two: the collector 'see' is declared"):
        streams.collectors()


def test_without_a_family_that_watches_or_plays_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "families", lambda: (clients.FAMILY,))
    with pytest.raises(ConfigurationError, match="no installed family can watch this machine"):
        local_collectors()
    with pytest.raises(ConfigurationError, match="no installed family has a demo"):
        streams.demo_family()


def test_a_collector_that_cannot_be_loaded_is_a_finding_of_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streams, "collectors", lambda: {"see": "tests.clients:NOTHING"})
    [found] = [finding for finding in doctor.examine(Settings(data=tmp_path)) if finding.name == "see"]
    assert found.level == "fault"
    assert "tests.clients:NOTHING" in found.what


def test_a_recording_of_any_stream_with_a_pace_is_replayed(tmp_path: Path) -> None:
    """By its own fields: its entity, its time, its texts."""
    pace = Pace(2.0, 3, 3)
    stream, file, topic = replace(clients.REQUESTS, pace=pace), tmp_path / "requests.csv", MemoryTopic(partitions=1)
    rows = [{**clients.record(number), "path": "404"} for number in range(40)]
    pl.DataFrame(rows).write_csv(file)
    recording = read_recording(file, stream, ["192.0.2.7"])
    check_recording(recording, stream, file)
    Replay(recording, pace, cycles=2, clock=FakeClock(wall=1000.9)).run(topic, threading.Event())
    arrays = [json.loads(line) for line in everything(topic)]
    assert [[(record["client"], record["path"], record["at"]) for record in records] for records in arrays] == [
        [("192.0.2.7", "404", moment)] * 3 for moment in (1000, 1002)
    ]
    assert [record["seconds"] for record in arrays[0]] == [0.007, 0.017, 0.027]


def test_whom_to_play_must_be_known(tmp_path: Path) -> None:
    stream, file = replace(clients.REQUESTS, pace=Pace(2.0, 3, 3)), tmp_path / "requests.csv"
    pl.DataFrame([clients.record(1)]).drop("client").write_csv(file)
    with pytest.raises(DataError, match="the recording has no column client"):
        read_recording(file, stream)
    assert read_recording(file, stream, ["a", "b"]).entities == ("a", "b")


@click.command()
def greet() -> None:
    """A command as another package brings it."""
    click.echo("hello")


@pytest.mark.parametrize(
    ("name", "place", "code", "told"),
    [
        ("greet", "tests.test_families:greet", 0, "hello"),
        ("greet", "tests.test_families:nothing", 2, "the command 'greet' cannot be loaded"),
        ("greet", "tests.clients:FAMILY", 2, "tests.clients:FAMILY is no command of click"),
        ("top", "tests.test_families:greet", 0, "Usage: "),
    ],
    ids=["one", "of nothing", "no command", "a name that is taken"],
)
def test_a_package_brings_commands(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str, code: int, told: str
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: [EntryPoint(name, place, group)])
    done = CliRunner().invoke(cli.main, [name] if name == "greet" else [name, "--help"])
    assert done.exit_code == code, done.output
    assert told in done.output
    assert ("Installed:" in CliRunner().invoke(cli.main, ["--help"]).output) == (name == "greet")
