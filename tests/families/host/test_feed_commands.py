"""`hackwatch feed`: what plays, replays and collects hosts, as commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.topics.spool import SpoolReader
from tests.topics.support import everything


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), "feed", *arguments])


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in everything(SpoolReader(folder))]


def samples(topic: Path) -> list[list[dict[str, Any]]]:
    """Messages that are arrays of records."""
    found: list[Any] = list(records(topic))
    assert all(isinstance(array, list) for array in found)
    return found


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "recording.csv"
    header = "PID,CMD,TRUN,TSLPI,TSLPU,POLI,NICE,PRI,RTPR,CPUNR,Status,EXC,State,CPU"
    path.write_text(f"{header}\n1,a,0,1,0,norm,0,120,0,0,-,0,S,0%\n2,b,0,1,0,norm,0,120,0,0,-,0,S,1%\n")
    return path


def test_replay_fills_the_topic_that_the_engine_reads(tmp_path: Path, csv: Path) -> None:
    data = tmp_path / "data"
    asked = (
        "--csv",
        str(csv),
        "--cycles",
        "2",
        "--speed",
        "1000",
        "--machines",
        "7,8",
        "--message",
        "record",
        "--json",
    )
    result = run(data, "replay", "process", *asked)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    sent = records(data / "spool" / "process")
    assert summary["records"] == summary["messages"] == len(sent)
    assert 40 <= len(sent) <= 200
    assert {record["machine"] for record in sent} == {7, 8}
    assert summary["bytes"] == sum(len(line) + 1 for line in everything(SpoolReader(data / "spool" / "process")))


def test_a_recording_of_another_stream_is_not_sent(tmp_path: Path, csv: Path) -> None:
    result = run(tmp_path, "replay", "memory", "--csv", str(csv), "--to", str(tmp_path / "topic"), "--cycles", "1")
    assert result.exit_code == 3
    assert "this is no recording of memory: MINFLT: missing" in result.stderr
    assert not (tmp_path / "topic").exists()


def test_simulate_fills_both_topics_at_its_rate(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "simulate",
        "host",
        "--rate",
        "5000",
        "--duration",
        "1",
        "--quiet",
        "--to",
        str(tmp_path / "to"),
        "--json",
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["attacks"] == 0
    assert 2500 <= summary["records"] <= 10_000
    assert (
        len(records(tmp_path / "to" / "process")) == len(records(tmp_path / "to" / "memory")) == summary["records"] / 2
    )


def test_simulate_puts_what_a_machine_sends_at_once_into_one_message(tmp_path: Path) -> None:
    options = ["--rate", "5000", "--duration", "1", "--quiet", "--message", "array", "--to", str(tmp_path / "to")]
    result = run(tmp_path, "simulate", "host", *options, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    arrays = [array for name in ("process", "memory") for array in samples(tmp_path / "to" / name)]
    assert len(arrays) == summary["messages"] < summary["records"] / 10
    assert sum(map(len, arrays)) == summary["records"]
    assert all(len({record["machine"] for record in array}) == 1 for array in arrays)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is needed")
def test_collect_puts_a_sample_into_one_message_of_each_stream(tmp_path: Path) -> None:
    result = run(tmp_path, "collect", "--once", "--message", "array", "--to", str(tmp_path / "to"), "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    [sample], [memory] = (samples(tmp_path / "to" / name) for name in ("process", "memory"))
    assert os.getpid() in {record["PID"] for record in sample}
    assert (summary["messages"], summary["records"]) == (2, len(sample) + len(memory))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is needed")
def test_collect_takes_a_sample_of_this_machine(tmp_path: Path) -> None:
    result = run(tmp_path, "collect", "--once", "--machine", "me", "--to", str(tmp_path / "to"), "--json")
    assert result.exit_code == 0, result.output
    found = records(tmp_path / "to" / "process")
    assert os.getpid() in {record["PID"] for record in found}
    assert {record["machine"] for record in found} == {"me"}
    assert json.loads(result.stdout)["records"] == 2 * len(found)


def test_collect_says_when_a_file_is_not_from_atop(tmp_path: Path, csv: Path) -> None:
    result = run(tmp_path, "collect", "--atop", str(csv), "--to", str(tmp_path / "to"))
    assert result.exit_code == 3
    assert "atop -P" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (("replay", "process", "--csv", "/nowhere.csv"), 2, "/nowhere.csv"),
        (("replay", "disk", "--csv", __file__), 2, "disk"),
        (("simulate", "host", "--rate", "5"), 2, "rate is 5"),
        (("collect", "--interval", "0"), 2, "0.0"),
        (("simulate", "host", "--to", "kafka://broker/x"), 2, "kafka"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], code: int, names: str) -> None:
    result = run(tmp_path, *arguments)
    assert (result.exit_code, names in result.output) == (code, True), result.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_with_the_sum_and_whole_messages(tmp_path: Path, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "hackwatch",
        "--data",
        str(tmp_path),
        "feed",
        "simulate",
        "host",
        "--json",
        "--attack-every",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stdout
        assert "attack begins" in process.stderr.readline()  # it runs
        process.send_signal(number)
        summary = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert len(records(tmp_path / "spool" / "process")) == summary["records"] / 2 > 0
