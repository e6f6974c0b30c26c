"""`hackwatch topics` and `hackwatch feed` on a real Kafka."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch import streams
from hackwatch.cli import main
from hackwatch.cli.learn import _from_topic
from hackwatch.topics import open_reader
from hackwatch.topics.kafka.reader import KafkaReader
from tests.servers.kafka import PASSWORD, USER, Broker
from tests.third.support import SHOP, shop_all_along
from tests.topics.support import Settled, everything

__all__ = ["shop_all_along"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shop_all_along")]
_NUMBERS = count()


class Place:
    """A data folder whose streams are Kafka topics that do not exist yet."""

    def __init__(self, kafka: Broker, folder: Path) -> None:
        self.kafka, self.folder, self.number = kafka, folder, next(_NUMBERS)
        text = "".join(f'[streams.{name}]\ntopic = "{self.url(name)}"\n' for name in SHOP)
        (folder / "hackwatch.toml").write_text(text, encoding="utf-8")

    def url(self, name: str) -> str:
        return self.kafka.url(f"cli-{self.number}-{name}")

    def run(self, *arguments: str, fails: int = 0) -> Result:
        command = ["--config", str(self.folder / "hackwatch.toml"), "--data", str(self.folder / "data"), *arguments]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == fails, done.output
        return done

    def messages(self, url: str) -> list[bytes]:
        reader = open_reader(url)
        assert isinstance(reader, KafkaReader)
        try:
            return everything(Settled(reader))
        finally:
            reader.close()


@pytest.fixture
def place(kafka: Broker, tmp_path: Path) -> Place:
    return Place(kafka, tmp_path)


def test_a_topic_is_made_filled_listed_described_and_read(place: Place) -> None:
    assert "nothing yet" in place.run("topics", "list").output
    place.run("topics", "create", "visit", "--partitions", "3", "--retention-hours", "2")
    sent = json.loads(
        place.run("feed", "simulate", "shop", "--rate", "2000", "--duration", "1", "--json").stdout.splitlines()[-1]
    )
    assert sent["to"] == f"{place.url('visit')}, {place.url('login')}"

    told = {one["stream"]: one for one in json.loads(place.run("topics", "list", "--json").output)}
    visits, logins = told["visit"], told["login"]
    assert (visits["stream"], visits["address"], len(visits["partitions"])) == ("visit", place.url("visit"), 3)
    assert visits["kept_messages"] == visits["unread_messages"] > 0
    assert len(logins["partitions"]) == 2, "made by the feed, as the settings say"

    described = json.loads(place.run("topics", "describe", "visit", "--json").output)
    assert (described["replication"], described["retention_hours"]) == (1, 2.0)
    assert [part["leader"] for part in described["partitions"]] == [1, 1, 1]
    shown = place.run("topics", "describe", place.url("visit")).output
    assert "replication 1, messages kept for 2 hours" in shown
    assert "by nobody" in shown

    full = max(described["partitions"], key=lambda part: int(part["end"]))
    arguments = ("topics", "read", "visit", "--partition", str(full["partition"]))
    last = place.run(*arguments, "--last", "2").output.splitlines()
    assert len(last) == 2
    assert all(json.loads(line)["client"] for line in last)
    first = place.run(*arguments, "--offset", "1", "--limit", "3").output.splitlines()
    assert first == place.run(*arguments, "--limit", "4").output.splitlines()[1:]


def test_the_doctor_looks_at_the_topics(place: Place) -> None:
    place.run("topics", "create", "visit", "--partitions", "3")
    assert topics_found(place) == {
        "topic of visit": ("ok", f"{place.url('visit')}: 3 partitions, 0 messages to read"),
        "topic of login": ("hint", f"{place.url('login')} can be reached and does not exist yet"),
    }
    config = place.folder / "hackwatch.toml"
    config.write_text(config.read_text().replace(place.kafka.address, "127.0.0.1:1"))
    assert {level for level, _ in topics_found(place, fails=4).values()} == {"fault"}


def topics_found(place: Place, fails: int = 0) -> dict[str, tuple[str, str]]:
    findings = json.loads(place.run("doctor", "--json", fails=fails).stdout)
    found = findings["findings"] if isinstance(findings, dict) else findings
    return {one["name"]: (one["level"], one["what"]) for one in found if one["name"].startswith("topic of")}


def test_what_is_not_there_or_not_for_kafka_is_said(place: Place) -> None:
    assert "there is no topic here" in place.run("topics", "describe", "visit", fails=2).output
    place.run("topics", "create", "visit")
    assert "the topic exists already" in place.run("topics", "create", "visit", fails=2).output
    assert "there is no partition 7" in place.run("topics", "read", "visit", "--partition", "7", fails=2).output
    assert "set retention.ms of the topic" in place.run("topics", "prune", "visit", fails=2).output
    nowhere = "kafka://127.0.0.1:1/visit"
    assert "no Kafka broker answers" in place.run("topics", "describe", nowhere, fails=4).output


@pytest.mark.parametrize("to", ["{kafka}/cli-to-{stream}-a", "{kafka}"])
def test_simulated_streams_go_to_topics_of_their_names(place: Place, to: str) -> None:
    where = to.replace("{kafka}", f"kafka://{place.kafka.address}")
    done = place.run("feed", "simulate", "shop", "--rate", "1000", "--duration", "1", "--to", where, "--json")
    sent = json.loads(done.stdout.splitlines()[-1])["messages"]
    topics = [where.replace("{stream}", name) if "{stream}" in where else f"{where}/{name}" for name in SHOP]
    assert sum(len(place.messages(topic)) for topic in topics) == sent > 0


def test_lines_of_a_file_and_samples_of_this_machine_go_to_kafka(place: Place) -> None:
    file = place.folder / "lines.ndjson"
    file.write_bytes(b"".join(b'{"line": %d}\n' % number for number in range(50)))
    place.run(
        "feed", "follow", str(file), "--as", "visit", "--from-start", "--to", place.url("followed"), "--duration", "2"
    )
    assert place.messages(place.url("followed")) == file.read_bytes().split(b"\n")[:-1]
    collected = place.url("collected-{stream}")
    place.run("feed", "collect", "--once", "--to", collected)
    for name in streams.family("host").streams:
        assert len(place.messages(collected.replace("{stream}", name))) > 3


def test_learning_reads_a_kafka_topic_to_its_end(place: Place) -> None:
    place.run("feed", "simulate", "shop", "--rate", "4000", "--duration", "1", "--quiet")
    found = _from_topic(place.url("visit"), streams.get("visit"), most=1_000_000)
    assert found.height == len(place.messages(place.url("visit"))) > 500


def test_passwords_work_from_the_environment_and_are_never_printed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run("topics", "create", "visit")
    text = (place.folder / "hackwatch.toml").read_text().replace(place.kafka.address, place.kafka.sasl_address)
    login = (
        f'[kafka]\nproperties = {{"security.protocol" = "SASL_PLAINTEXT", "sasl.mechanism" = "PLAIN", '
        f'"sasl.username" = "{USER}"}}\nsecrets_env = {{"sasl.password" = "SOME_PASSWORD"}}\n'
    )
    (place.folder / "hackwatch.toml").write_text(text + login)
    monkeypatch.setenv("SOME_PASSWORD", PASSWORD)
    assert "2" in place.run("topics", "describe", "visit").output
    monkeypatch.setenv("SOME_PASSWORD", "guess-4711")
    for arguments in (("topics", "describe", "visit"), ("feed", "simulate", "shop", "--duration", "1")):
        refused = place.run(*arguments, fails=4)
        assert "Kafka refuses the login" in refused.output
        assert "guess-4711" not in refused.output + refused.stderr
