"""What all tests share: settings of Hypothesis, shared data, and strict runs in which a skip is a failure."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
#: In a strict run (HACKWATCH_TEST_STRICT=1, as in CI) nothing may be skipped for want of a part, but for these markers.
STRICT = os.environ.get("HACKWATCH_TEST_STRICT") == "1"
MAY_SKIP = ("platform", "shared_data")

pytest_plugins = ["tests.servers.kafka", "tests.servers.spark", "tests.servers.postgres", "tests.servers.s3"]

hypothesis.settings.register_profile("steady", deadline=None, derandomize=STRICT, print_blob=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The settings, data and variables of who runs the tests play no part."""
    for name in [name for name in os.environ if name.startswith("HACKWATCH_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A usual umask, so that tests of private files mean something."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def minds_hanging_up() -> Iterator[None]:
    """SIGHUP ends programs, as usual, also where the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the checkout, for tests marked `shared_data`."""
    folder = Path(os.environ.get("HACKWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no shared data beside the checkout (HACKWATCH_TEST_DATA names another place)")
    return folder


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    may_skip = hasattr(report, "wasxfail") or any(item.get_closest_marker(name) for name in MAY_SKIP)
    if STRICT and report.skipped and not may_skip:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in a strict run: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if STRICT and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped in a strict run: {report.longrepr}"
    return report
