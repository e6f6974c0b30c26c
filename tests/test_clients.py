"""Streams of another kind, that another package registers, are treated as those of a host are everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hackwatch import doctor, streams
from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import ecs, ocsf
from hackwatch.cli.top import counted_by, stream_of
from hackwatch.config import Settings, load_settings, registered
from hackwatch.errors import ConfigurationError
from hackwatch.streams.stream import Noun
from hackwatch.testing import simulated_topics
from hackwatch.top.plain import status_line
from hackwatch.views.live import EntityView, StreamView, View, snapshot
from tests import clients
from tests.alerts.published import PUBLISHED_OCSF
from tests.routes.support import alert
from tests.top.support import entity, stream

CACHES = (streams._registered, streams.get, streams.family, streams.families, registered.stream_names)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The package installed beside hackwatch, here and (by the environment that this is) in other processes."""
    environ = clients.install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for cache in CACHES:
        cache.cache_clear()
    yield environ
    monkeypatch.undo()
    for cache in CACHES:
        cache.cache_clear()


def client_alert(**changes: Any) -> Alert:
    evidence = {"client": "192.0.2.7", "path": "/.env", "status": 404}
    return alert(**({"stream": "requests", "entity": "192.0.2.7", "kind": "rule", "evidence": evidence} | changes))


# ---------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["process", "memory"], "machines"),
        (["requests"], "clients"),
        (["requests", "logins"], "clients"),
        (["process", "requests"], "entities"),
        (["not installed"], "entities"),
        ([], "entities"),
    ],
)
def test_what_people_call_the_entities_of_some_streams(web: object, names: list[str], expected: str) -> None:
    assert streams.noun(names).plural == expected


def test_all_that_is_registered_is_known_to_settings_and_declarations(web: object) -> None:
    assert streams.names() == registered.stream_names() == ("logins", "memory", "process", "requests")
    assert sorted(load_settings(None, {}, {}).streams) == list(streams.names())
    assert streams.in_order(["x", *streams.names()]) == ["process", "memory", "requests", "logins", "x"]
    assert [correlation.name for correlation in streams.correlations()] == ["attacks", "break_ins"]
    assert streams.bounded("break_ins") == streams.bounded("requests") == ("client", "path")
    assert [(found := streams.family_of(name)) and found.name for name in ("logins", "memory", "x")] == [
        "web", "host", None,
    ]  # fmt: skip
    streams.check_correlations(["break_ins", "attacks"])
    with pytest.raises(ConfigurationError, match="no correlation 'x'"):
        streams.check_correlations(["break_ins", "x"])


@pytest.mark.parametrize("reference", ["tests.clients:NOTHING", "no.such.module:X"])
def test_what_a_family_names_and_cannot_be_loaded_is_told(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        streams.load(reference)


def test_the_test_kit_plays_any_family(web: object) -> None:
    topics = simulated_topics(60, 3, family="web", partitions=1)
    assert {name: topic.end_offset(0) for name, topic in topics.items()} == {"requests": 30, "logins": 30}


def test_an_incomplete_declaration_is_a_finding_of_doctor(web: object, tmp_path: Path) -> None:
    def found() -> dict[str, doctor.Finding]:
        return {finding.name: finding for finding in doctor.examine(Settings(data=tmp_path / "data"))}

    assert found()["streams"].what == "logins, memory, process, requests"
    entries = tmp_path / "site" / "clients-1.0.dist-info" / "entry_points.txt"
    entries.write_text(clients.ENTRY.replace("REQUESTS", "LOGINS"))
    for cache in CACHES:
        cache.cache_clear()
    assert found()["stream requests"].level == found()["family web"].level == "fault"


# ---------------------------------------------------------------------------------------------- forms


def test_ecs_and_ocsf_have_the_fields_that_the_stream_declares(web: object) -> None:
    document = ecs(client_alert())
    assert document["source"] == {"ip": "192.0.2.7"}
    assert document["related"] == {"ip": ["192.0.2.7"]}
    assert (document["url"], document["http"]) == ({"path": "/.env"}, {"response": {"status_code": 404}})
    assert "host" not in document
    finding = ocsf(client_alert())
    PUBLISHED_OCSF.validate(finding)
    [evidence] = finding["evidences"]
    assert (evidence["src_endpoint"], evidence["http_response"]) == ({"ip": "192.0.2.7"}, {"code": 404})
    assert finding["resources"] == [{"name": "192.0.2.7", "type": "client"}]


@pytest.mark.parametrize(
    ("changes", "source", "path"),
    [
        pytest.param({}, "192.0.2.7", "/.env", id="a record"),
        pytest.param({"evidence": {"count": 7}}, "192.0.2.7", None, id="a window has the entity alone"),
        pytest.param({"evidence": {"path": 7}}, "192.0.2.7", None, id="a value of another type"),
        pytest.param(
            {"stream": "logins+requests", "evidence": {"logins_path": "/in", "requests_path": "/out"}},
            "192.0.2.7", "/in", id="a pair: its left side",
        ),
        pytest.param({"stream": "requests", "kind": "system", "entity": "hackwatch"}, None, None, id="hackwatch's own"),
        pytest.param({"stream": "gone"}, None, None, id="a stream that is not installed"),
    ],
)  # fmt: skip
def test_whose_fields_an_alert_has(web: object, changes: dict[str, Any], source: str | None, path: str | None) -> None:
    document = ecs(client_alert(**changes))
    assert (document.get("source", {}).get("ip"), document.get("url", {}).get("path")) == (source, path)


# ---------------------------------------------------------------------------------------------- top


def look(*names: str, silent: tuple[str, ...] = ()) -> View:
    kinds = {"process": ("web-1", "web-2"), "requests": ("192.0.2.1", "192.0.2.2", "192.0.2.3")}
    shown: list[EntityView] = []
    for name in names:
        shown += [EntityView(who, (1,) * 60, (0,) * 60, {name: (0, 0)}, (name,)) for who in kinds[name]]
    told: tuple[StreamView, ...] = tuple(stream(name) for name in names)
    told += tuple(stream(name, records=0, partitions=0) for name in silent)
    return View(now=0.0, updated=0.0, state="running", streams=told, entities=tuple(shown))


@pytest.mark.parametrize(
    ("view", "heading", "told", "keys"),
    [
        (look("process"), "machine", "from 2 machines,", {"machines"}),
        (look("requests"), "client", "from 3 clients,", {"clients"}),
        (look("process", "requests"), "entity", "from 2 machines and 3 clients,", {"machines", "clients"}),
        (look("process", silent=("requests",)), "machine", "from 2 machines,", {"machines", "clients"}),
    ],
)
def test_top_calls_entities_what_their_stream_does(
    web: object, view: View, heading: str, told: str, keys: set[str]
) -> None:
    assert view.noun.singular == heading
    assert told in status_line(view)
    assert {"machines", "clients", "entities"} & snapshot(view).keys() == keys


def test_one_that_shows_in_streams_of_both_kinds_is_counted_under_both(web: object) -> None:
    both = EntityView("x", (1,) * 60, (0,) * 60, {}, ("process", "requests"))
    view = View(now=0.0, updated=0.0, streams=(stream("process"), stream("requests")), entities=(both, entity("y")))
    assert "from 2 machines and 1 client," in status_line(view)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/data/spool/requests", "requests"),
        ("spool:requests", "requests"),
        ("kafka://h:9092/requests_stream", "requests"),
        ("kafka://h:9092/weblog", "logins"),
        ("/data/else", None),
    ],
)
def test_a_topic_is_known_by_its_name_or_the_settings(web: object, topic: str, expected: str | None) -> None:
    settings = load_settings(None, {"streams.logins.topic": "kafka://h:9092/weblog"}, {})
    assert stream_of(topic, settings) == expected


@pytest.mark.parametrize(
    ("by", "name", "expected"),
    [
        (None, "requests", ("client", Noun("client", "clients"))),
        (None, None, ("machine", Noun("machine", "machines"))),
        ("machine", None, ("machine", Noun("machine", "machines"))),
        ("path", "requests", ("path", Noun("path", "entities"))),
    ],
)
def test_records_of_a_topic_are_counted_by_the_entity(
    web: object, by: str | None, name: str | None, expected: tuple[str, Noun]
) -> None:
    assert counted_by(by, name) == expected


# ---------------------------------------------------------------------------------------------- commands


@pytest.mark.slow
def test_every_command_knows_them_beside_the_streams_of_a_host(web: dict[str, str], tmp_path: Path) -> None:
    def hackwatch(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "hackwatch", "--data", str(tmp_path / "data"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=web, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    def ask(query: str) -> Any:
        return json.loads(hackwatch("sql", query, "--format", "json"))

    hackwatch("init")
    text = (tmp_path / "hackwatch.toml").read_text(encoding="utf-8")
    for table in ("streams.logins", "streams.memory", "streams.process", "streams.requests"):
        assert f"\n[{table}]\n" in text
    assert "\n[correlations.attacks]\n" in text
    assert "\n[correlations.break_ins]\n" in text
    hackwatch("config", "check")
    shown = json.loads(hackwatch("config", "show", "--json"))["correlations"]["break_ins"]
    assert shown == {"enabled": True, "seconds": 10.0}

    hackwatch("train", "--as", "requests", "--simulated", "--records", "3000", "--trees", "5")
    played = json.loads(hackwatch("feed", "simulate", "web", "--json"))
    assert (played["records"], len(played["clients"])) == (1200, 10)
    hackwatch("run", "--duration", "4")

    status = hackwatch("status", "--max-age", "600", code=1).splitlines()
    assert [line for line in status if "no topic yet" in line] == ["process: no topic yet", "memory: no topic yet"]
    assert any(line.startswith("requests: 600 records") for line in status)
    assert ask("SELECT count(*) AS n, count(DISTINCT client) AS clients FROM requests") == [{"n": 600, "clients": 10}]
    assert "10 clients" in hackwatch("top", "--once")
    assert len(json.loads(hackwatch("top", "--json"))["clients"]) == 10
    topic = str(tmp_path / "data" / "spool" / "requests")
    counted = json.loads(hackwatch("top", "--from", topic, "--from-start", "--json"))
    assert {name: told["records"] for name, told in counted["clients"].items()} == dict.fromkeys(
        clients.SIMULATOR.entities, 60
    )

    file = tmp_path / "requests.ndjson"
    file.write_bytes(clients.SIMULATOR.labelled(5, 500)["requests"])
    hackwatch("normalise", str(file), "--as", "requests", "-o", "requests.parquet", "--labels")
    hackwatch("detect", str(file), "--as", "requests", "-o", "scored.parquet")
    assert json.loads(hackwatch("evaluate", str(file), "--as", "requests", "--json"))["rows"] == 500
    assert hackwatch("drift", "requests").startswith("requests: ")
    hackwatch("learn", "--lake", "--as", "logins", "--json")
