"""Places and keys of an S3 server: from settings and environment, refused where wrong, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.errors import ConfigurationError
from hackwatch.objects import explained, is_remote, storage_options

SECRET = "hunter2hunter2"


def written(folder: Path, text: str) -> Path:
    path = folder / "hackwatch.toml"
    path.write_text(text)
    return path


def options(folder: Path, text: str, environ: dict[str, str]) -> dict[str, str]:
    settings = load_settings(written(folder, f"[lake.storage]\n{text}"), {}, environ)
    found = storage_options(settings.lake.storage, environ)
    return {name: value for name, value in found.items() if name not in ("timeout", "connect_timeout")}


@pytest.mark.parametrize(
    ("place", "remote"),
    [
        ("s3://lake", True),
        ("s3://lake/", True),
        ("s3://my.lake-2/a/B_c/d-1.2/", True),
        ("/var/lake", False),
        ("~/lake", False),
    ],
)
def test_a_lake_is_in_a_folder_or_in_a_bucket(tmp_path: Path, place: str, remote: bool) -> None:
    settings = load_settings(written(tmp_path, f'[lake]\npath = "{place}"\n[detection]\nmodels = "{place}"'), {}, {})
    assert is_remote(settings.lake_location) is is_remote(settings.models_location) is remote
    if remote:
        assert settings.lake_location == settings.models_location == place


def test_relative_folders_begin_at_the_settings_file(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, '[lake]\npath = "lake"\n[detection]\nmodels = "m"'), {}, {})
    assert (settings.lake_location, settings.models_location) == (str(tmp_path / "lake"), str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param('[lake]\npath = "gs://lake"', ":2: lake.path: must be a folder, or s3://BUCKET", id="scheme"),
        pytest.param('[lake]\npath = "s3a://lake"', ":2: lake.path: must be a folder, or s3://BUCKET", id="s3a"),
        pytest.param('[lake]\npath = "s3://"', ":2: lake.path: must be a folder, or s3://BUCKET", id="no bucket"),
        pytest.param('[lake]\npath = "s3://Lake"', ":2: lake.path: must be a folder", id="upper case"),
        pytest.param('[lake]\npath = "s3://lake/a b"', ":2: lake.path: must be a folder", id="odd prefix"),
        pytest.param('[detection]\nmodels = "https://x/y"', ":2: detection.models: must be a folder", id="models"),
        pytest.param('site = ""', ":1: site: ", id="no site"),
        pytest.param(
            f'[lake.storage.options]\naws_secret_access_key = "{SECRET}"', "is a secret: give", id="a secret option"
        ),
        pytest.param('[lake.storage]\nendpiont = "x"', "did you mean endpoint?", id="unknown key"),
        pytest.param('[lake.storage]\nsecret_access_key_env = "NOT_SET"', "NOT_SET is empty or not set", id="unset"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(written(tmp_path, text), {}, {})
    assert any(problem in found for found in raised.value.problems), raised.value.problems
    assert SECRET not in str(raised.value)


KEYS = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token"}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        pytest.param("", {}, {"region": "us-east-1"}, id="nothing"),
        pytest.param(
            "",
            {**KEYS, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://e", "AWS_ALLOW_HTTP": "true"},
            {
                "region": "eu-west-1",
                "endpoint": "http://e",
                "allow_http": "true",
                "access_key_id": "env",
                "secret_access_key": "env-secret",
                "session_token": "env-token",
            },
            id="the environment alone",
        ),
        pytest.param(
            'access_key_id = "own"\nsecret_access_key_env = "S"',
            {**KEYS, "S": SECRET},
            {"region": "us-east-1", "access_key_id": "own", "secret_access_key": SECRET},
            id="keys of one identity are not mixed with another's",
        ),
        pytest.param(
            'endpoint = "http://f"\nallow_http = false\nregion = "r"',
            {"AWS_ENDPOINT_URL": "http://e", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1"},
            {"region": "r", "endpoint": "http://f", "allow_http": "false"},
            id="settings win",
        ),
        pytest.param(
            'options = { virtual_hosted_style_request = "true" }',
            {},
            {"region": "us-east-1", "virtual_hosted_style_request": "true"},
            id="others pass through",
        ),
    ],
)
def test_keys_come_from_settings_then_from_the_usual_variables(
    tmp_path: Path, text: str, environ: dict[str, str], expected: dict[str, str]
) -> None:
    assert options(tmp_path, text, environ) == expected


@pytest.mark.parametrize("source", ["plain", "file", "env"])
def test_secrets_are_taken_from_anywhere_and_never_shown(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("MY_SECRET", SECRET)
    line = {
        "plain": f'secret_access_key = "{SECRET}"',
        "file": 'secret_access_key_file = "secret"',
        "env": 'secret_access_key_env = "MY_SECRET"',
    }[source]
    path = written(tmp_path, f"[lake.storage]\n{line}\n")
    settings = load_settings(path, {})
    assert storage_options(settings.lake.storage)["secret_access_key"] == SECRET
    assert SECRET not in repr(settings)
    shown = CliRunner().invoke(main, ["--config", str(path), "config", "show"])
    assert shown.exit_code == 0
    assert SECRET not in shown.output


ANSWER = (
    "Error performing GET http://x in 1ms - Server returned non-2xx status code: {}: "
    "<Error><Code>{}</Code><Message>{}</Message></Error>"
)


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        (ANSWER.format("404 Not Found", "NoSuchBucket", "No bucket."), "No bucket (NoSuchBucket)", "make the bucket"),
        (ANSWER.format("403 Forbidden", "SignatureDoesNotMatch", "Bad."), "(SignatureDoesNotMatch)", "secret_access"),
        (ANSWER.format("503 Slow", "SlowDown", "Reduce."), "Reduce (SlowDown)", "check that the server runs"),
        ("returned non-2xx status code: 403 Forbidden", "the server refused (403)", "secret_access_key"),
        ("Error performing PUT http://169.254.169.254/latest/api/token", "no keys were given", "access_key_id"),
        ("HTTP error: error sending request ... Connection refused (os error 111)", "cannot be reached", "endpoint"),
    ],
)
def test_what_a_server_says_is_told_in_a_line_with_advice(text: str, what: str, advice: str) -> None:
    error = explained(OSError(text), "s3://lake/x")
    assert what in error.what
    assert "\n" not in error.what
    assert advice in str(error.next_step)
    assert error.where == "s3://lake/x"
