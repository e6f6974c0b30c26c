"""Settings: where they come from, who wins, and how all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hackwatch.config import Settings, find_file, load_settings, prepare_data_folder
from hackwatch.config.registered import stream_names
from hackwatch.errors import ConfigurationError, HackwatchError, ResourceError
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def written(folder: Path, text: str) -> Path:
    path = folder / "hackwatch.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(
    path: Path | None, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, flags, environ or {"HOME": "/home/ann"})
    return caught.value.problems


def test_no_file_is_needed() -> None:
    settings = load_settings(None, {}, {"XDG_DATA_HOME": "/srv/data"})
    assert settings.data == Path("/srv/data/hackwatch")
    assert tuple(sorted(settings.streams)) == stream_names()
    assert {"login", "visit"} <= settings.streams.keys()
    assert settings.engine.epoch_seconds == 5
    assert settings.streams["visit"].lateness_seconds == 20


def test_the_file_is_overruled_by_the_environment_and_that_by_flags(tmp_path: Path) -> None:
    path = written(
        tmp_path, '[engine]\nepoch_seconds = 1\nepoch_records = 1\nbatch_bytes = 2000\n[log]\nlevel = "debug"'
    )
    environ = {"HACKWATCH_ENGINE__EPOCH_RECORDS": "2", "HACKWATCH_ENGINE__BATCH_BYTES": "3000"}
    settings = load_settings(path, {"engine.batch_bytes": 4000, "log.level": None}, environ)
    assert (settings.engine.epoch_seconds, settings.engine.epoch_records, settings.engine.batch_bytes) == (1, 2, 4000)
    assert settings.log.level == "debug"


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        pytest.param("HACKWATCH_SITE", "berlin", lambda s: s.site == "berlin", id="top level"),
        pytest.param("HACKWATCH_METRICS__PORT", "9464", lambda s: s.metrics.port == 9464, id="number"),
        pytest.param("HACKWATCH_CORRELATION__ENABLED", "no", lambda s: not s.correlation.enabled, id="truth"),
        pytest.param("HACKWATCH_STREAMS__LOGIN__ENABLED", "0", lambda s: not s.streams["login"].enabled, id="a stream"),
        pytest.param(
            "HACKWATCH_CORRELATIONS__LOGINS__SECONDS",
            "5",
            lambda s: s.correlation_of("logins") == (True, 5.0),
            id="a correlation",
        ),
        pytest.param(
            "HACKWATCH_DETECTION__RULES", '["a.toml"]', lambda s: s.detection.rules == (Path("a.toml"),), id="list"
        ),
        pytest.param(
            "HACKWATCH_ROUTES", '[{name = "a", type = "stdout"}]', lambda s: s.routes[0].name == "a", id="tables"
        ),
        pytest.param("HACKWATCH_SITE", "", lambda s: s.site == "local", id="an empty variable is not set"),
        pytest.param("HACKWATCH_MY_TOKEN", "x", lambda s: s == Settings(data=s.data), id="another's variable"),
    ],
)
def test_environment(name: str, text: str, read: Any) -> None:
    assert read(load_settings(None, {}, {name: text}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("sight = 1", "hackwatch.toml:1: sight: unknown key; did you mean site?", id="unknown key"),
        pytest.param("[engines]\n", "hackwatch.toml:1: engines: unknown key; did you mean engine?", id="unknown table"),
        pytest.param("[engine]\n\nepoch = 1", "hackwatch.toml:3: engine.epoch: unknown key", id="nothing like it"),
        pytest.param(
            "[engine]\nepoch_seconds = -1",
            "hackwatch.toml:2: engine.epoch_seconds: should be greater than 0",
            id="range",
        ),
        pytest.param(
            '[streams.visit]\n"window_seconds" = 1.5',
            "hackwatch.toml:2: streams.visit.window_seconds: should be a valid integer",
            id="type, quoted key",
        ),
        pytest.param("log.level = 'loud'", "hackwatch.toml:1: log.level: should be 'debug', 'info'", id="dotted key"),
        pytest.param(
            'site = "a/b"', "hackwatch.toml:1: site: string should match pattern", id="a name that cannot be a folder"
        ),
        pytest.param(
            "x = [\n 1, # site = 2\n]\nsite = 3",
            "hackwatch.toml:4: site: should be a valid string",
            id="after an array",
        ),
        pytest.param(
            'pipeline = """\nsite = 2\n"""\nsite = 3', "hackwatch.toml:4: site: should be", id="after multi-line text"
        ),
        pytest.param("site = 'a'\nsite = 'b'", "hackwatch.toml:2: site: set twice, first in line 1", id="key twice"),
        pytest.param("[log]\n[engine]\n[log]\n", "hackwatch.toml:3: log: set twice, first in line 1", id="table twice"),
        pytest.param("[engine\n", "hackwatch.toml:1: not valid TOML: expected ']'", id="syntax"),
        pytest.param("site = 'a", "hackwatch.toml:1: not valid TOML: ", id="syntax at the end"),
        pytest.param(
            '[[routes]]\ntype = "stdout"\n[[routes]]\nname = "b"\ntype = "file"\npath = 3',
            "hackwatch.toml:6: routes[1].path: ",
            id="second route",
        ),
        pytest.param('[[routes]]\ntype = "stdout"', "hackwatch.toml:1: routes[0].name: is required", id="required"),
        pytest.param(
            '[[routes]]\ntype = "post"\nname = "a"',
            "hackwatch.toml:1: routes[0]: tag 'post' found using 'type'",
            id="type",
        ),
        pytest.param(
            '[[routes]]\ntype = "webhook"\nname = "a"',
            "hackwatch.toml:1: routes[0]: a webhook needs url, url_file or url_env",
            id="a rule over several keys",
        ),
        pytest.param(
            '[[routes]]\ntype = "webhook"\nname = "a"\nurl = "http://h"\n[routes.headers]\nX = 1',
            "hackwatch.toml:6: routes[0].headers.X: should be a valid string",
            id="table in a route",
        ),
        pytest.param(
            '[[routes]]\ntype = "stdout"\nname = "a"\n[[routes]]\ntype = "stdout"\nname = "a"',
            "routes must have different names; more than one is called a",
            id="names",
        ),
    ],
)
def test_each_mistake_is_told_with_its_line_and_key(tmp_path: Path, text: str, told: str) -> None:
    found = problems(written(tmp_path, text))
    assert any(told in problem for problem in found), found


def test_all_mistakes_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "site = 1\n[log]\nlevel = 2\ncolour = true\n")
    environ = {"HACKWATCH_ENGINE__POLL_SECONDS": "soon", "HACKWATCH_ENGINE_EPOCH_SECONDS": "2"}
    found = problems(path, {"log.format": "xml"}, environ)
    assert len(found) == 6
    assert any(p.startswith("environment HACKWATCH_ENGINE__POLL_SECONDS: engine.poll_seconds: ") for p in found)
    assert any("did you mean HACKWATCH_ENGINE__EPOCH_SECONDS?" in p for p in found)
    assert any(p.startswith("command line: log.format: should be 'human' or 'json'") for p in found)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "hackwatch.toml"
    path.write_bytes(b'site = "\xff"')
    assert problems(path) == (f"{path}: not UTF-8 text (byte 8)",)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "hackwatch.toml"
    path.write_bytes(b'\xef\xbb\xbfsite = "a"')
    assert load_settings(path, {}, {}).site == "a"


@given(text=st.text(alphabet="[]{}\"'=.#,\n \\ab1", max_size=60))
def test_any_text_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), text)
    try:
        told: tuple[str, ...] | None = None
        load_settings(path, {}, {})
    except ConfigurationError as error:
        told = error.problems
    assert told is None or all(problem.startswith(f"{path}:") for problem in told)


# ---------------------------------------------------------------------------------------------- which file


def test_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "config" / "hackwatch"
    home.mkdir(parents=True)
    environ = {"XDG_CONFIG_HOME": str(home.parent)}
    assert find_file(None, environ) is None
    at_home = written(home, "")
    assert find_file(None, environ) == at_home
    written(tmp_path, "")
    assert find_file(None, environ) == Path("hackwatch.toml")
    assert find_file(None, {**environ, "HACKWATCH_CONFIG": str(at_home)}) == at_home
    assert find_file(tmp_path / "hackwatch.toml", {"HACKWATCH_CONFIG": "no"}) == tmp_path / "hackwatch.toml"


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such settings file"):
        load_settings(tmp_path / "none.toml", {}, {})


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("data", "d", "{folder}/d"),
        ("data", "/d", "/d"),
        ("lake.path", "../lake", "{folder}/../lake"),
        ("store.url", "s.sqlite", "{folder}/s.sqlite"),
        ("store.url", "sqlite:s.sqlite", "sqlite:{folder}/s.sqlite"),
        ("store.url", "postgresql://host/db", "postgresql://host/db"),
        ("streams.visit.topic", "spool:/t", "spool:/t"),
        ("streams.visit.topic", "spool:t", "spool:{folder}/t"),
        ("site", "d", "d"),
    ],
)
def test_relative_paths_start_at_the_file(tmp_path: Path, key: str, value: str, meant: str) -> None:
    found: Any = load_settings(written(tmp_path, f'{key} = "{value}"'), {}, {}).shown()
    for part in key.split("."):
        found = found[part]
    assert found == meant.format(folder=tmp_path)


# ---------------------------------------------------------------------------------------------- secrets


ROUTE = '[[routes]]\nname = "a"\ntype = "webhook"\n'


def test_secrets_come_from_files_and_the_environment_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n", encoding="utf-8")
    text = ROUTE + 'url_env = "SOC"\nsecret_file = "key"\nheaders = {Authorization = "Bearer hunter2"}'
    settings = load_settings(written(tmp_path, text), {}, {"SOC": "https://soc/hunter2"})
    route = settings.routes[0]
    assert route.type == "webhook"
    assert route.url is not None
    assert route.url.get_secret_value() == "https://soc/hunter2"
    assert route.secret is not None
    assert route.secret.get_secret_value() == "hunter2"
    for shown in (repr(settings), str(settings), repr(settings.shown())):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            'url = "u"\nsecret = "hunter2"\nsecret_env = "X"',
            "6: routes[0].secret_env: give only one of secret, secret_env",
        ),
        ('url = "u"\nsecret_env = "UNSET"', "5: routes[0].secret_env: UNSET is empty or not set"),
        ('url = "u"\nsecret_file = "none"', "5: routes[0].secret_file: cannot read the secret: No such file"),
        ('url = "u"\nsecret = ["hunter2"]', "5: routes[0].secret: "),
        ('url = "u"\nsecret_file = 7', "5: routes[0].secret_file: "),
        ('url = "u"\nheaders = "hunter2"', "5: routes[0].headers: "),
    ],
)
def test_a_wrong_secret_is_told_without_it(tmp_path: Path, keys: str, told: str) -> None:
    found = problems(written(tmp_path, ROUTE + keys))
    assert any(told in problem for problem in found), found
    assert "hunter2" not in "".join(found)


# ---------------------------------------------------------------------------------------------- derived, frozen


def test_places_follow_from_the_data_folder_unless_set() -> None:
    settings = Settings(data=Path("/d"))
    assert settings.spool_url("visit") == "spool:/d/spool/visit"
    assert settings.spool_url("another") == "spool:/d/spool/another"
    assert settings.store_url == "/d/store.sqlite"
    assert (settings.lake_location, settings.models_location) == ("/d/lake", "/d/models")
    settings = load_settings(None, {"lake.path": "/l", "store.url": "sqlite:/s", "streams.visit.topic": "/t"}, {})
    assert (settings.lake_location, settings.store_url, settings.spool_url("visit")) == ("/l", "sqlite:/s", "/t")


@pytest.mark.parametrize(
    ("text", "attacks", "logins"),
    [
        ("", (True, None), (True, None)),
        ("[correlation]\nseconds = 7", (True, 7.0), (True, 7.0)),
        ("[correlation]\nenabled = false", (False, None), (False, None)),
        ("[correlations.logins]\nenabled = false", (True, None), (False, None)),
        ("[correlation]\nseconds = 7\n[correlations.logins]\nseconds = 9", (True, 7.0), (True, 9.0)),
        ("[correlation]\nseconds = 7\n[correlations.logins]", (True, 7.0), (True, 7.0)),
        ("[correlation]\nenabled = false\n[correlations.logins]\nenabled = true", (False, None), (True, None)),
        ("[correlation]\nseconds = 7\n[correlations.logins]\nenabled = false", (True, 7.0), (False, 7.0)),
    ],
)
def test_a_correlation_is_as_its_own_table_says_then_the_table_of_all_then_as_declared(
    tmp_path: Path, text: str, attacks: tuple[bool, float | None], logins: tuple[bool, float | None]
) -> None:
    settings = load_settings(written(tmp_path, text), {}, {})
    assert (settings.correlation_of("attacks"), settings.correlation_of("logins")) == (attacks, logins)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "site", "b")  # noqa: B010 # a plain assignment is already refused by the type checker


# ---------------------------------------------------------------------------------------------- data folder


def test_a_data_folder_is_made_private(tmp_path: Path) -> None:
    folder = prepare_data_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_empty_one_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    assert prepare_data_folder(tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_one_with_content_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "spool").mkdir(parents=True)
    with pytest.raises(ResourceError, match="other users may enter") as caught:
        prepare_data_folder(tmp_path / "a")
    assert caught.value.next_step == f"chmod 700 {tmp_path / 'a'}"
    (tmp_path / "a").chmod(0o700)
    prepare_data_folder(tmp_path / "a")


def test_nobody_is_told_to_change_a_folder_that_is_not_hackwatchs(tmp_path: Path) -> None:
    """`chmod 700 /tmp` would be the end of a machine."""
    (tmp_path / "a" / "other").mkdir(parents=True)
    with pytest.raises(ResourceError, match="other users may enter") as caught:
        prepare_data_folder(tmp_path / "a")
    assert caught.value.next_step == f"give hackwatch a folder of its own: --data {tmp_path / 'a' / 'hackwatch'}"


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(HackwatchError, match="cannot use the data folder"):
        prepare_data_folder(tmp_path / "a")
