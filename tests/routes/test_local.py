"""Standard output and files: whole lines, whatever happens to the file."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hackwatch.config import StdoutRouteSettings
from hackwatch.routes import DeliveryError, Route
from hackwatch.routes.local import StdoutRoute
from tests.routes.support import alert, route_of


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "alerts.ndjson"


@pytest.fixture
def route(path: Path) -> Iterator[Route]:
    route = route_of("file", path=path)
    yield route
    route.close()


def test_stdout_gets_a_json_line_for_each_alert(capsys: pytest.CaptureFixture[str]) -> None:
    route_of("stdout", form="ocsf").send([alert(1), alert(2)])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["finding_info"]["uid"] for line in lines] == [alert(1).id, alert(2).id]


def test_a_closed_stdout_is_a_failure_to_try_again() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(DeliveryError) as caught:
        StdoutRoute(StdoutRouteSettings(name="out", type="stdout"), stream).send([alert()])
    assert not caught.value.permanent


def test_a_file_is_private_and_appended_to(route: Route, path: Path) -> None:
    route.send([alert(1), alert(2)])
    route.close()
    route.send([alert(3)])
    assert ids(path) == [alert(number).id for number in (1, 2, 3)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("rotate", ["moved", "deleted", "replaced"])
def test_a_rotated_file_is_made_anew(route: Route, path: Path, rotate: str) -> None:
    route.send([alert(1)])
    if rotate == "deleted":
        path.unlink()
    else:
        path.rename(path.with_suffix(".1"))
    if rotate == "replaced":
        path.touch()
    route.send([alert(2)])
    assert ids(path) == [alert(2).id]


def test_a_file_that_was_emptied_in_place_is_written_from_its_beginning(route: Route, path: Path) -> None:
    route.send([alert(1)])
    os.truncate(path, 0)
    route.send([alert(2)])
    assert ids(path) == [alert(2).id]


def test_a_line_cut_short_by_a_crash_is_never_glued_to_the_next(route: Route, path: Path) -> None:
    route.send([alert(1)])
    os.truncate(path, path.stat().st_size - 10)
    route.send([alert(2)])
    first, second = path.read_text().splitlines()
    assert not first.endswith("}")
    assert json.loads(second)["id"] == alert(2).id


def test_a_disk_that_fills_up_leaves_whole_lines_only(route: Route, path: Path) -> None:
    route.send([alert(1)])
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(DeliveryError, match="cannot append") as caught:
            route.send([alert(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not caught.value.permanent
    assert path.read_bytes() == before
    route.send([alert(2)])
    assert ids(path) == [alert(1).id, alert(2).id]


def test_what_is_no_file_is_refused_without_waiting_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DeliveryError, match="not a regular file"):
        route_of("file", path=pipe).send([alert()])
    with pytest.raises(DeliveryError, match=r"Is a directory"):
        route_of("file", path=tmp_path).send([alert()])
