"""A lake in a bucket: what one is told of servers and keys that are wrong, and the commands that use it."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.doctor import examine
from hackwatch.errors import ConfigurationError, HackwatchError, ResourceError
from hackwatch.lake import Lake
from hackwatch.objects import Bucket
from tests.lake.lossy import Lossy, by_way_of
from tests.lake.support import records
from tests.servers.s3 import SECRET, Server, missing

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(s3: Server) -> Lake:
    return Lake(f"{s3.bucket()}/lake", options=s3.options, target_file_mib=1)


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
        with pytest.raises(ResourceError) as raised:
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
        with pytest.raises(ResourceError, match="overwrite another"):
            bucket.create("key", b"data")
        with pytest.raises(ResourceError, match="overwrite another"):
            bucket.replace("key", b"data", '"tag"')
        server.shutdown()


def test_a_server_that_goes_away_while_rows_are_read_is_named(lake: Lake, lossy: Lossy) -> None:
    lake.append("t", records(3), 1, "main")
    reader = by_way_of(lake, lossy)
    scan = reader.scan("t")
    lossy.close()
    with pytest.raises(ResourceError, match="cannot be reached"), reader.reading():
        scan.collect()


def failing(*_: object, **__: object) -> NoReturn:
    raise OSError(28, "No space left on device")


def test_what_is_wrong_with_this_machine_is_not_blamed_on_the_server(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in (1, 2):
        lake.append("t", records(3), epoch, "main")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", failing)
    with pytest.raises(ResourceError, match="No space left") as raised:
        lake.compact("t")
    assert "free space" in str(raised.value)
    assert raised.value.where == tempfile.gettempdir()


def test_upkeep_names_a_server_that_goes_away_half_way(lake: Lake, lossy: Lossy) -> None:
    for epoch in (1, 2):
        lake.append("t", records(3), epoch, "main")
    lake.compact("t")
    worker = by_way_of(lake, lossy)
    worker.retention_hours = 0
    storage = worker.storage("t")
    table = storage.table()
    lossy.close()
    with pytest.raises(ResourceError, match="cannot be reached"), storage.explained():
        table.vacuum(0, dry_run=True, full=True, enforce_retention_duration=False)


def test_options_that_no_server_has_are_a_wrong_setting(s3: Server) -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        Lake("s3://some-bucket", options={**s3.options, "nonsense": "1"}).tables()


def test_without_the_extra_it_says_how_to_get_it(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(ResourceError, match=r"pip install 'hackwatch\[s3\]'"):
        Lake("s3://some-bucket", options=s3.options).tables()


# ---------------------------------------------------------------------- the command line


def test_commands_work_on_it(lake: Lake, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET", SECRET)
    for epoch in (1, 2):
        lake.append("visit", records(10, first=10 * epoch), epoch, "main")
    config = tmp_path / "hackwatch.toml"
    config.write_text(f'data = "data"\n[lake]\npath = "{lake.location}"\n{s3.settings()}')

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["--config", str(config), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "2 files" in run("lake", "compact").replace("visit: ", "")
    assert '"rows":20' in run("lake", "statistics", "--json")
    assert run("sql", "SELECT count(*) AS n, min(id) AS first FROM visit WHERE id > 12", "--format", "csv") == (
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
