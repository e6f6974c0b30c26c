"""docs/families.md, done: its files installed beside hackwatch as they are on the page, and its commands run.

Not a line of hackwatch is changed for it. The files are installed as pip does it, by their metadata on the path.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
FILES: Mapping[str, str] = dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
[TRIED] = re.findall(r"^## Try it\n\n```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Tried:
    """What the commands of the page printed, in their order, each in a process of its own."""

    folder: Path
    told: Mapping[str, str]

    def of(self, *words: str) -> str:
        """The output of the one command that holds these words."""
        [command] = [command for command in self.told if all(word in command for word in words)]
        return self.told[command]


def install(site: Path) -> None:
    """The package of the page, and what pip would write of it."""
    for name, text in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = site / "hackwatch_volumes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""])
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))


def run(folder: Path, command: str, code: int = 0) -> str:
    """What a command prints, results and messages, as a shell runs it in `folder`."""
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        ["bash", "-c", command.replace("hackwatch ", f"{sys.executable} -m hackwatch ", 1)], cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HACKWATCH_DATA": str(folder / "data")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def ask(folder: Path, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(folder, f'hackwatch sql --format json "{query}"'))
    return found


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    folder = tmp_path_factory.mktemp("own")
    install(folder / "site")
    commands = [line.removeprefix("$ ") for line in TRIED.splitlines()]
    return Tried(folder, {command: run(folder, command) for command in commands if possible(command)})


def possible(command: str) -> bool:
    """`watch` runs the collector of hosts too, which needs Linux."""
    return "watch --plain" not in command or sys.platform == "linux"


def test_settings_have_a_table_of_it(tried: Tried) -> None:
    assert "\n[streams.volume]\n" in (tried.folder / "hackwatch.toml").read_text(encoding="utf-8")


def test_the_doctor_looks_at_its_stream_and_its_collector(tried: Tried) -> None:
    lines = tried.of("doctor").splitlines()
    assert any(re.match(r"ok +volumes +/ can be looked at, \d+% used$", line) for line in lines)
    assert any(re.match(r"ok +streams .*\bvolume\b", line) for line in lines)
    assert any(re.match(r"\w+ +collect ", line) for line in lines), "that of hosts is there as before"


def test_its_commands_are_among_the_others(tried: Tried) -> None:
    assert tried.of("hackwatch volumes") == "server, mount, size, used, at, event_time\n"
    assert re.search(
        r"^Installed:\n  volumes +Of the package hackwatch-volumes\.$", run(tried.folder, "hackwatch --help"), re.M
    )
    listed = run(tried.folder, "hackwatch feed --help").partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)] == [
        "collect", "follow", "replay", "simulate", "volumes",
    ]  # fmt: skip
    assert "--path TEXT" in run(tried.folder, "hackwatch feed volumes --help")


def test_what_it_sends_is_scored_counted_and_kept(tried: Tried) -> None:
    sent = re.search(r"simulate: ([\d,]+) records", tried.of("feed simulate"))
    assert sent is not None
    assert "attack begins: flood on nas-" in tried.of("feed simulate")
    [row] = ask(tried.folder, "SELECT count(*) AS n, max(score) > 0 AS scored FROM volume WHERE server LIKE 'nas-%'")
    assert row == {"n": int(sent[1].replace(",", "")), "scored": True}
    assert {f"nas-{number}" for number in range(5)} < set(tried.of("count(*) AS records").split())
    assert re.search(r"^ *fullness +[1-9]", tried.of("aggregates"), re.MULTILINE)


def test_its_rule_names_server_and_volume(tried: Tried) -> None:
    assert re.search(r"^ *nas-\d +/\w* +volume-full$", tried.of("FROM alerts"), re.MULTILINE)
    assert "volume-full" in tried.of("rules list")


def test_who_looks_on_sees_servers(tried: Tried) -> None:
    assert re.search(r"\bvolume\b", tried.of("top --once"))
    assert "nas-" in tried.of("top --once")
    assert re.search(r"^the busiest servers \(samples, 60 s from .*\): .*nas-\d \d", tried.of("top --once"), re.M)
    assert re.search(r"^volume: [\d,]+ records", run(tried.folder, "hackwatch status --max-age 600 || true"), re.M)


@pytest.mark.skipif(sys.platform != "linux", reason="collects from /proc")
def test_watching_this_machine_watches_its_volumes_too(tried: Tried) -> None:
    told = tried.of("watch --plain")
    assert re.search(r"watching \S+: how full its volumes are, every 5 s, rules at once", told)
    assert re.search(r"watching \S+: a sample of all processes every 5 s, rules at once", told)
    assert "SELECT mount, max(used) AS most FROM volume" in told
    for stream in ("volume", "process"):
        [row] = ask(tried.folder, f"SELECT count(*) AS n FROM {stream} WHERE event_time > now() - INTERVAL 5 MINUTE")
        assert row["n"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="collects from /proc")
def test_what_has_too_few_records_keeps_nobody_else_from_being_learned(tried: Tried) -> None:
    told = run(tried.folder, "hackwatch --data other learn --minutes 0.2 --interval 0.4", code=3)
    assert "process: learned from" in told
    assert "records of volume, at least" in told
