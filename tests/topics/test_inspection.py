"""`hackwatch topics`: what a person sees of a spool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.errors import ConfigurationError
from hackwatch.topics.inspection import inspect_topic, last_messages, messages_from
from hackwatch.topics.spool import SpoolReader, SpoolWriter
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose topic of visits holds 30 messages in three segments of one partition."""
    data = tmp_path / "data"
    out = SpoolWriter(data / "spool" / "visit", partitions=1, segment_bytes=100)
    for number in range(30):
        out.append([b"message%02d" % number])
    SpoolReader(data / "spool" / "visit", name="slow").commit({0: 200})
    SpoolReader(data / "spool" / "visit").commit({0: 300})
    return data


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), "topics", *arguments])


def test_what_a_topic_holds(data: Path) -> None:
    status = inspect_topic(data / "spool" / "visit")
    [part] = status.partitions
    assert (part.start, part.end, part.segments, dict(part.committed)) == (0, 300, 3, {"main": 300, "slow": 200})
    assert (status.kept_bytes, status.unread_bytes) == (300, 100)


def test_a_topic_that_nobody_wrote_to_holds_nothing(tmp_path: Path) -> None:
    status = inspect_topic(tmp_path / "none")
    assert (status.partitions, status.kept_bytes, status.unread_bytes) == ((), 0, 0)


@pytest.mark.parametrize("count", [1, 3, 29, 30, 31])
def test_the_last_messages(data: Path, count: int) -> None:
    expected = [b"message%02d" % number for number in range(30)][-count:]
    assert last_messages(data / "spool" / "visit", 0, count) == expected


def test_the_last_messages_are_whole_however_long(tmp_path: Path) -> None:
    SpoolWriter(tmp_path, partitions=1).append([b"a", b"x" * (3 << 20), b"b"])
    assert [len(message) for message in last_messages(tmp_path, 0, 2)] == [3 << 20, 1]


def test_messages_from_a_position(data: Path) -> None:
    assert list(messages_from(data / "spool" / "visit", 0, 280, 5)) == [b"message28", b"message29"]
    with pytest.raises(ConfigurationError, match="no partition 3"):
        list(messages_from(data / "spool" / "visit", 3))


def test_list_and_describe_for_people_and_scripts(data: Path) -> None:
    shown = run(data, "list")
    assert shown.exit_code == 0
    told = {line.split()[0]: line.split()[1:] for line in shown.output.splitlines()[1:]}
    assert told["visit"][:5] == ["1", "300", "B", "100", "B"]
    assert " ".join(told["login"]).startswith("nothing yet")
    by_name = {entry["stream"]: entry for entry in json.loads(run(data, "list", "--json").output)}
    assert by_name["visit"]["unread_bytes"] == 100
    assert by_name["login"]["partitions"] == []
    assert "slow 200" in run(data, "describe", "visit").output
    assert json.loads(run(data, "describe", "visit", "--json").output)["partitions"][0]["end"] == 300


def test_read_prints_messages_without_obeying_them(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "topic", partitions=1).append([b"\x1b[31mred", b"\xff"])
    assert run(tmp_path, "read", str(tmp_path / "topic")).output == "\\x1b[31mred\n\\xff\n"


def test_read_raw_gives_the_bytes(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "topic", partitions=1).append([b"\x1b\xff"])
    assert run(tmp_path, "read", str(tmp_path / "topic"), "--raw").stdout_bytes == b"\x1b\xff\n"


def test_prune_deletes_what_all_readers_committed(data: Path) -> None:
    result = run(data, "prune", "visit", "--keep-gib", "0", "--json")
    assert json.loads(result.output) == {"segments": 2, "bytes": 200}
    assert inspect_topic(data / "spool" / "visit").partitions[0].start == 200


def test_a_topic_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "describe", "visit")
    assert result.exit_code == 2
    assert str(tmp_path / "spool" / "visit") in result.output
