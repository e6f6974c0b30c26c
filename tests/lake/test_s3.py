"""What only a lake in a bucket has: other writers far away, answers that get lost, servers and keys that are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.doctor import examine
from hackwatch.errors import ConfigurationError, EnvironmentError_, HackwatchError
from hackwatch.lake import Lake
from hackwatch.objects import Bucket
from tests.conftest import ROOT
from tests.lake.lossy import Lossy
from tests.lake.support import again, records, stored
from tests.servers.s3 import SECRET, Server, missing

pytestmark = pytest.mark.slow
COMMITS = b"/_delta_log/"


@pytest.fixture
def lake(s3: Server) -> Lake:
    return Lake(f"{s3.bucket()}/lake", options=s3.options, target_file_mib=1)


def ids(lake: Lake) -> list[int]:
    found: list[int] = lake.scan("t").select("id").collect()["id"].sort().to_list()
    return found


# ---------------------------------------------------------------------- commits of which the writer does not hear


@pytest.fixture
def lossy(s3: Server) -> Iterator[Lossy]:
    way = Lossy(s3.port, COMMITS, losing=0)
    yield way
    way.close()


def by_way_of(lake: Lake, way: Lossy) -> Lake:
    return Lake(lake.location, options={**lake.options, "endpoint": way.endpoint})


def test_a_commit_whose_answer_is_lost_is_known_for_one_s_own(lake: Lake, lossy: Lossy) -> None:
    """The client asks again by itself, and the server says that the entry is there: it is, and by this very writer."""
    writer = by_way_of(lake, lossy)
    writer.append("t", records(3), 1, "main")
    lossy.losing = 1
    assert writer.append("t", records(3, first=3), 2, "main")
    assert lossy.lost == 1
    assert writer.append("t", records(3, first=6), 3, "main")
    assert ids(lake) == list(range(9))


def test_a_commit_that_is_never_answered_is_not_repeated_and_keeps_its_rows(lake: Lake, lossy: Lossy) -> None:
    writer = by_way_of(lake, lossy)
    writer.append("t", records(3), 1, "main")
    lossy.losing = 1000
    with pytest.raises(EnvironmentError_, match="cannot be reached"):
        writer.append("t", records(3, first=3), 2, "main")
    assert lossy.lost > 1
    lossy.losing = 0
    assert not writer.append("t", records(3, first=3), 2, "main")
    assert ids(lake) == list(range(6))
    assert len(stored(lake)) == 2


_CRASH = """
import os, sys
from hackwatch.lake import Lake
from hackwatch.objects import Bucket
from tests.lake.support import records
import json
real = Bucket.create
def create(*given):
    if sys.argv[2] == "after":
        real(*given)
    os._exit(9)
Bucket.create = create
Lake(sys.argv[1], options=json.loads(os.environ["OPTIONS"])).append("t", records(3, first=3), 2, "main")
"""


def process(code: str, lake: Lake, *arguments: str) -> subprocess.Popen[bytes]:
    import json

    environ = {**os.environ, "OPTIONS": json.dumps(lake.options)}
    return subprocess.Popen([sys.executable, "-c", code, lake.location, *arguments], cwd=ROOT, env=environ)


@pytest.mark.parametrize(("moment", "repeated"), [("before", True), ("after", False)])
def test_a_crash_around_the_commit(lake: Lake, moment: str, repeated: bool) -> None:
    lake.append("t", records(3), 1, "main")
    assert process(_CRASH, lake, moment).wait() == 9
    assert ids(lake) == ([0, 1, 2] if repeated else [0, 1, 2, 3, 4, 5])
    assert lake.append("t", records(3, first=3), 2, "main") is repeated
    assert ids(lake) == [0, 1, 2, 3, 4, 5]


def test_an_epoch_that_another_process_has_committed_leaves_no_file(lake: Lake) -> None:
    """Both find the epoch free; one is faster. The other hears of it when the server refuses its entry."""
    lake.append("t", records(3), 1, "main")
    other = again(lake)
    other.last_epoch("t", "main")
    home = other._log("t").home
    create = home.create

    def late(key: str, data: bytes) -> bool:
        assert lake.append("t", records(3, first=3), 2, "main")
        home.create = create  # type: ignore[method-assign]
        return create(key, data)

    home.create = late  # type: ignore[method-assign]
    assert not other.append("t", records(3, first=3), 2, "main")
    assert ids(lake) == list(range(6))
    assert len(stored(lake)) == 2


@pytest.mark.parametrize(("request_", "epochs"), [("write", 1), ("create", 3)])
def test_a_request_that_is_done_after_its_sender_gave_up_harms_nothing(
    own_s3: Server, request_: str, epochs: int
) -> None:
    """The server stands still with the request in its hands: the rows, or the entry that makes them count."""
    lake = Lake(f"{own_s3.bucket()}/lake", options={**own_s3.options, "timeout": "1s"})
    lake.append("t", records(3), 1, "main")
    needed: list[bool] = []
    for epoch in range(2, 2 + epochs):
        home = lake._log("t").home
        real = getattr(home, request_)

        def stand_still(key: str, data: bytes, real: Callable[[str, bytes], bool] = real) -> bool:
            own_s3.freeze()
            return real(key, data)

        setattr(home, request_, stand_still)
        frame = records(3, first=3 * epoch)
        with pytest.raises(EnvironmentError_, match="cannot be reached"):
            lake.append("t", frame, epoch, "main")
        own_s3.thaw()
        # At once, while the server still works off what was sent before; and again when it has.
        needed.append(lake.append("t", frame, epoch, "main"))
        time.sleep(0.5)
        assert not lake.append("t", frame, epoch, "main")
        assert ids(lake) == [0, 1, 2, *range(6, 3 * epoch + 3)]
    assert all(needed) is (request_ == "write"), "an entry was made by a request that its sender had given up"
    assert lake.compact("t").removed == 1 + epochs
    assert ids(lake) == [0, 1, 2, *range(6, 3 * epochs + 6)]


# ---------------------------------------------------------------------- several machines


_WRITER = """
import json, os, sys
from hackwatch.lake import Lake
from tests.lake.support import records
lake = Lake(sys.argv[1], options=json.loads(os.environ["OPTIONS"]))
for epoch in range(1, 16):
    frame = records(10, first=int(sys.argv[3]) + epoch * 10, site=sys.argv[2])
    assert lake.append("t", frame, epoch, sys.argv[2])
    assert not lake.append("t", frame, epoch, sys.argv[2])
"""


def test_processes_append_while_two_compact_and_one_cleans(lake: Lake) -> None:
    places = [("a", 0), ("b", 1000), ("c", 2000)]
    lake.append("t", records(1, first=5000), 1, "first")
    done = threading.Event()
    joined = [0, 0]
    failures: list[Exception] = []

    def keep_up(number: int) -> None:
        mine = again(lake)
        while not done.is_set():
            try:
                joined[number] += mine.compact("t").removed
                mine.vacuum("t")
            except Exception as error:
                failures.append(error)
                return

    upkeep = [threading.Thread(target=keep_up, args=(number,)) for number in range(2)]
    writers = [process(_WRITER, lake, site, str(first)) for site, first in places]
    for thread in upkeep:
        thread.start()
    codes = [writer.wait() for writer in writers]
    done.set()
    for thread in upkeep:
        thread.join()
    assert failures == []
    assert codes == [0, 0, 0]
    assert ids(lake) == sorted([5000, *(first + number for _, first in places for number in range(10, 160))])
    assert sum(joined) > 0
    assert [lake.last_epoch("t", site) for site, _ in places] == [15, 15, 15]


def test_a_site_joins_its_own_files_alone(lake: Lake) -> None:
    for epoch in range(1, 5):
        for site in ("a", "b"):
            lake.append("t", records(5, site=site), epoch, site)
    assert lake.compact("t", site="a").removed == 4
    files = lake.scan("t").select("site").collect()["site"].value_counts().sort("site")["count"].to_list()
    assert files == [20, 20]
    assert lake.statistics("t").files == 1 + 4
    assert lake.compact("t").removed == 4


def test_vacuum_deletes_what_is_no_longer_used(lake: Lake) -> None:
    for epoch in range(1, 5):
        lake.append("t", records(5, first=5 * epoch), epoch, "main")
    lake.compact("t")
    assert lake.vacuum("t") == []
    lake.retention_hours = 0
    gone = lake.vacuum("t", dry_run=True)
    assert all(name.startswith(f"{lake.location}/t/date=") for name in gone)
    assert len(stored(lake)) == 5
    assert lake.vacuum("t") == gone
    assert len(stored(lake)) == 1
    assert ids(lake) == list(range(5, 25))


# ---------------------------------------------------------------------- servers and keys that are wrong


ASKED: list[Callable[[Lake], object]] = [
    lambda lake: lake.append("t", records(1), 9, "main"),
    lambda lake: lake.last_epoch("t", "main"),
    lambda lake: lake.tables(),
    lambda lake: lake.scan("t"),
    lambda lake: lake.dataset("t"),
    lambda lake: lake.statistics("t"),
    lambda lake: lake.compact("t"),
    lambda lake: lake.vacuum("t"),
]
WRONG = [
    pytest.param({"secret_access_key": "not-the-secret"}, "secret_access_key_env", id="secret"),
    pytest.param({"access_key_id": "nobody"}, "secret_access_key_env", id="user"),
    pytest.param({"endpoint": "http://127.0.0.1:9"}, "check that the server runs", id="endpoint"),
    pytest.param({"allow_http": "false"}, "allow_http", id="no http"),
]


@pytest.mark.parametrize(("change", "advice"), WRONG)
def test_whoever_cannot_get_at_it_is_told_why(lake: Lake, change: dict[str, str], advice: str) -> None:
    lake.append("t", records(1), 1, "main")
    wrong = Lake(lake.location, options={**lake.options, **change})
    for ask in ASKED:
        with pytest.raises(EnvironmentError_) as raised:
            ask(wrong)
        assert advice in str(raised.value.next_step)
        assert str(raised.value.where).startswith(lake.location)
        assert SECRET not in str(raised.value)
        assert "not-the-secret" not in str(raised.value)
        assert "\n" not in raised.value.what


def test_a_bucket_that_is_missing_is_named(s3: Server) -> None:
    lake = Lake("s3://no-such-bucket/lake", options=s3.options)
    for ask in ASKED:
        with pytest.raises(HackwatchError, match="NoSuchBucket") as raised:
            ask(lake)
        assert raised.value.exit_code == 4
        assert "make the bucket" in str(raised.value)


class Careless(BaseHTTPRequestHandler):
    """A server that takes whatever it is given, whatever the conditions."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_without_conditional_writes_is_refused(s3: Server) -> None:
    """Two writers would overwrite each other's commits there, and nobody would hear of it."""
    with HTTPServer(("127.0.0.1", 0), Careless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bucket = Bucket("s3://careless", {**s3.options, "endpoint": f"http://127.0.0.1:{server.server_port}"})
        with pytest.raises(EnvironmentError_, match="overwrite another"):
            bucket.create("key", b"data")
        with pytest.raises(EnvironmentError_, match="overwrite another"):
            bucket.replace("key", b"data", '"tag"')
        server.shutdown()


def test_a_server_that_goes_away_while_rows_are_read_is_named(lake: Lake, lossy: Lossy) -> None:
    lake.append("t", records(3), 1, "main")
    reader = by_way_of(lake, lossy)
    scan = reader.scan("t")
    lossy.close()
    with pytest.raises(EnvironmentError_, match="cannot be reached"), reader.reading():
        scan.collect()


def failing(*_: object, **__: object) -> NoReturn:
    raise OSError(28, "No space left on device")


def test_what_is_wrong_with_this_machine_is_not_blamed_on_the_server(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in (1, 2):
        lake.append("t", records(3), epoch, "main")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", failing)
    with pytest.raises(EnvironmentError_, match="No space left") as raised:
        lake.compact("t")
    assert "free space" in str(raised.value)
    assert raised.value.where == tempfile.gettempdir()


def test_upkeep_names_a_server_that_goes_away_half_way(lake: Lake, lossy: Lossy) -> None:
    for epoch in (1, 2):
        lake.append("t", records(3), epoch, "main")
    lake.compact("t")
    worker = by_way_of(lake, lossy)
    worker.retention_hours = 0
    home = worker.home("t")
    table = home.table()
    lossy.close()
    with pytest.raises(EnvironmentError_, match="cannot be reached"), home.explained():
        table.vacuum(0, dry_run=True, full=True, enforce_retention_duration=False)


def test_options_that_no_server_has_are_a_wrong_setting(s3: Server) -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        Lake("s3://some-bucket", options={**s3.options, "nonsense": "1"}).tables()


def test_without_the_extra_it_says_how_to_get_it(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(EnvironmentError_, match=r"pip install 'hackwatch\[s3\]'"):
        Lake("s3://some-bucket", options=s3.options).tables()


# ---------------------------------------------------------------------- the command line


def test_commands_work_on_it(lake: Lake, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET", SECRET)
    for epoch in (1, 2):
        lake.append("process", records(10, first=10 * epoch), epoch, "main")
    config = tmp_path / "hackwatch.toml"
    config.write_text(f'data = "data"\n[lake]\npath = "{lake.location}"\n{s3.settings()}')

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["--config", str(config), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "2 files" in run("lake", "compact").replace("process: ", "")
    assert '"rows":20' in run("lake", "statistics", "--json")
    assert run("sql", "SELECT count(*) AS n, min(id) AS first FROM process WHERE id > 12", "--format", "csv") == (
        "n,first\n17,13\n"
    )
    assert "would be deleted" in run("lake", "vacuum", "--dry-run")
    shown = run("config", "show")
    assert lake.location in shown
    assert SECRET not in shown


@pytest.mark.parametrize(("secret", "level", "said"), [(SECRET, "ok", "several writers are safe"), ("x", "fault", "S")])
def test_the_doctor_tries_the_bucket(
    lake: Lake, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, level: str, said: str
) -> None:
    monkeypatch.setenv("S3_SECRET", secret)
    config = tmp_path / "hackwatch.toml"
    config.write_text(f'data = "data"\n[lake]\npath = "{lake.location}"\n{s3.settings()}')
    found = {finding.name: finding for finding in examine(load_settings(config))}
    assert found["lake on S3"].level == level
    assert said in found["lake on S3"].what
    assert "models on S3" not in found
    assert Bucket(lake.location, lake.options).keys() == []


def test_a_wrong_secret_ends_a_command_with_advice(
    lake: Lake, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", "wrong-one")
    config = tmp_path / "hackwatch.toml"
    config.write_text(f'data = "data"\n[lake]\npath = "{lake.location}"\n{s3.settings()}')
    done = CliRunner().invoke(main, ["--config", str(config), "lake", "statistics"])
    assert done.exit_code == 4
    assert "SignatureDoesNotMatch" in done.stderr
    assert "secret_access_key_env" in done.stderr
    assert "wrong-one" not in done.output


def test_ordinary_variables_give_the_keys(lake: Lake, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from hackwatch.lake import open_lake

    lake.append("t", records(4), 1, "main")
    for name, value in (
        ("AWS_ENDPOINT_URL", s3.endpoint),
        ("AWS_ACCESS_KEY_ID", s3.options["access_key_id"]),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(name, value)
    opened = open_lake(load_settings(None, {"lake.path": lake.location}, {}))
    assert opened.tables() == ["t"]
    assert opened.scan("t").select(pl.len()).collect().item() == 4
    assert opened.dataset("t").count_rows() == 4


def test_the_server_is_there_for_these_tests() -> None:
    assert missing() is None
