"""The log cannot be forged by what attackers write; the metrics add up."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hackwatch import log, metrics
from hackwatch.counts import OUTCOMES, Counts
from hackwatch.errors import ResourceError
from hackwatch.text import printable


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    log.logger("hackwatch").handlers.clear()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nginx", "nginx"),
        ("köttbullar 🍖", "köttbullar 🍖"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
    ],
)
def test_text_from_outside_cannot_command_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_for_people() -> None:
    out = io.StringIO()
    log.setup("info", "human", out)
    log.logger("engine").info("epoch\x1b[2J done", extra={"epoch": 7, "seconds": 0.123456789, "site": "a b"})
    log.logger("engine").debug("unseen")
    line = out.getvalue()
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d [\d:.]{12}Z info engine: epoch\\x1b\[2J done epoch=7 seconds=0\.123457 site="a b"\n', line
    )


def test_objects_for_machines() -> None:
    out = io.StringIO()
    log.setup("debug", "json", out)
    try:
        raise ValueError("bad\nline")
    except ValueError:
        log.logger("engine").exception("failed", extra={"epoch": 7})
    (line,) = out.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"], entry["epoch"]) == (
        "error",
        "hackwatch.engine",
        "failed",
        7,
    )
    assert "ValueError: bad\nline" in entry["traceback"]
    assert entry["time"].endswith("Z")


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_every_record_is_counted_once() -> None:
    before = {o: sample("hackwatch_records_total", stream="s", partition="3", outcome=o) for o in OUTCOMES}
    metrics.add_records("s", 3, Counts(messages=2, on_time=4, late=3, duplicate=2, rejected=1, suspects=1))
    after = {o: sample("hackwatch_records_total", stream="s", partition="3", outcome=o) for o in OUTCOMES}
    grown = {outcome: after[outcome] - before[outcome] for outcome in after}
    assert grown == {"on_time": 4, "late": 3, "duplicate": 2, "rejected": 1}


def test_every_metric_is_fed() -> None:
    source = Path(metrics.__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in source.glob("*/**/*.py"))
    functions = [name for name in metrics.__all__ if name.startswith(("add_", "set_")) or name == "serve"]
    assert not [name for name in functions if f"metrics.{name}(" not in text]


def test_many_latencies_at_once_are_as_many_single_ones() -> None:
    metrics.add_latencies("latency", np.array([0.001, 0.0011, 0.5, 100.0]))
    metrics.add_latencies("latency", np.array([]))

    def bucket(edge: str) -> float:
        return sample("hackwatch_latency_seconds_bucket", stream="latency", le=edge)

    assert [bucket(edge) for edge in ("0.001", "0.002", "0.2", "0.5", "60.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert sample("hackwatch_latency_seconds_count", stream="latency") == 4
    assert sample("hackwatch_latency_seconds_sum", stream="latency") == pytest.approx(100.5021)


def test_only_the_model_in_use_is_shown() -> None:
    metrics.set_model("m", "m-1")
    metrics.set_model("m", "m-2")
    assert sample("hackwatch_model_info", stream="m", version="m-1") == 0
    assert sample("hackwatch_model_info", stream="m", version="m-2") == 1
    metrics.set_model("m", None)
    assert sample("hackwatch_model_info", stream="m", version="m-2") == 0


def test_names_from_outside_do_not_become_labels() -> None:
    metrics.add_unknown_fields("u", {"evil\x00": 2, "other": 3})
    assert sample("hackwatch_unknown_fields_total", stream="u") == 5


@pytest.mark.parametrize("state", ["running", "recovering", "stopped", "paused: disk full"])
def test_engine_state(state: str) -> None:
    metrics.set_engine_state(state)
    name = state.partition(":")[0]
    assert sample("hackwatch_engine_state", hackwatch_engine_state=name) == 1


def test_the_endpoint_serves_until_closed() -> None:
    metrics.add_alerts([("rule", "high"), ("rule", "high")])
    with metrics.serve(0) as server:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            text = answer.read().decode()
        assert re.search(r'hackwatch_alerts_total\{kind="rule",severity="high"\} \d+', text)
        with pytest.raises(ResourceError, match="cannot serve metrics") as caught:
            metrics.serve(server.port)
        assert caught.value.where == f"127.0.0.1:{server.port}"
    metrics.serve(server.port).close()
