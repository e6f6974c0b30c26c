"""`hackwatch learn` from this machine, or from what one has sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.families.host.simulate import labelled
from hackwatch.topics import open_writer


def test_learn_refuses_no_time_at_all(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["--data", str(tmp_path / "data"), "learn", "--minutes", "0.1"])
    assert found.exit_code != 0
    assert "samples" in str(found.exception) + found.output


def test_learn_from_a_spool(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "spool").mkdir(mode=0o700, parents=True)
    data.chmod(0o700)
    for stream, frame in zip(("process", "memory"), labelled(4, records=3000, attack_share=0.0), strict=True):
        writer = open_writer(f"spool:{data / 'spool' / stream}")
        writer.append_payload(frame.drop("label", "type").write_ndjson().encode())
        writer.close()
    found = CliRunner().invoke(main, ["--data", str(data), "learn", "--spool", "--json"])
    assert found.exit_code == 0, found.output
    assert {name: facts["records"] for name, facts in json.loads(found.stdout).items()} == {
        "process": 3000,
        "memory": 3000,
    }


@pytest.mark.slow
@pytest.mark.platform
def test_learn_from_this_machine(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    found = CliRunner().invoke(
        main, ["--data", str(tmp_path / "data"), "learn", "--minutes", "0.3", "--interval", "0.2"]
    )
    assert found.exit_code == 0, str(found.exception)
    assert "engines use them now" in found.output
