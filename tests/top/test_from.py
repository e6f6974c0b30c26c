"""`hackwatch top --from TOPIC` as a command: in a terminal, in lines, for scripts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch import topics
from hackwatch.cli import main
from tests.top.test_consumer import message
from tests.top.test_terminal import Terminal


def top(*arguments: str) -> Result:
    by = ["--by", "client"] if "--from" in arguments else []
    return CliRunner().invoke(main, ["top", *by, *arguments])


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    """A spool with 3 records of client 4, 1 of client 5 and a broken message."""
    folder = tmp_path / "visit_stream"
    writer = topics.open_writer(str(folder))
    writer.append([message("4", "4"), message("4"), message("5"), b"broken"])
    writer.close()
    return folder


def test_from_the_start_it_counts_all_for_a_script_without_any_data_folder(topic: Path) -> None:
    done = top("--from", str(topic), "--from-start", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {name: found["records"] for name, found in told["entities"].items()} == {"4": 3, "5": 1}
    assert (told["topic"], told["messages"], told["records"], told["unreadable"]) == ("visit_stream", 4, 4, 1)


def test_once_prints_lines_and_writes_the_chart(topic: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart.html"
    done = top("--from", f"spool:{topic}", "--from-start", "--once", "--save-plot", str(chart))
    assert done.exit_code == 0, done.output
    assert "3 records in 2 min" in done.stdout
    assert "visit_stream: records a second by client" in chart.read_text()


def test_it_counts_what_comes_while_it_looks(topic: Path) -> None:
    writer = topics.open_writer(str(topic))
    timer = threading.Timer(0.5, lambda: writer.append([message("6")]))
    timer.start()
    done = top("--from", str(topic), "--duration", "1.5", "--json")
    timer.join()
    assert {name: found["records"] for name, found in json.loads(done.stdout)["entities"].items()} == {"6": 1}


def test_without_a_terminal_it_writes_lines_until_it_is_stopped(topic: Path) -> None:
    done = top("--from", str(topic), "--from-start", "--duration", "0.5")
    assert done.exit_code == 0, done.output
    assert "visit_stream" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--from-start",), "--from-start goes with --from"),
        (("--by", "site"), "--by goes with --from"),
        (("--save-plot", "a.png"), "--save-plot goes with --from"),
        (("--from", "nothing://here"), "is not the address of a topic"),
        (("--from", "TOPIC", "--save-plot", "a.pdf"), "a chart is a .png or .html file"),
    ],
    ids=["from-start alone", "by alone", "plot alone", "address", "kind of plot"],
)
def test_what_makes_no_sense_is_refused(topic: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = top(*(str(topic) if argument == "TOPIC" else argument for argument in arguments))
    assert done.exit_code == 2
    assert complaint in done.stderr


@pytest.mark.slow
def test_in_a_terminal_it_draws_what_arrives_and_leaves_the_terminal_as_it_was(topic: Path) -> None:
    terminal = Terminal("top", "--from", str(topic), "--by", "client")
    try:
        terminal.expect("last 2 minutes")
        writer = topics.open_writer(str(topic))
        writer.append([message("web-1", "\x1b[2J")])
        terminal.expect("web-1")
        terminal.type(b"q")
        assert terminal.end() == 0
        assert terminal.restored
        assert rb"\x1b[2J" in terminal.written
    finally:
        terminal.close()
