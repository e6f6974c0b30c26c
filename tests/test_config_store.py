"""The address of the store: its password comes from many places, and is shown in none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.config.address import parted, with_password
from hackwatch.errors import ConfigurationError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("address", "shown", "password"),
    [
        ("postgresql://ann@h/d", "postgresql://ann@h/d", None),
        ("postgresql://ann:p%40ss@h:5432/d", "postgresql://ann@h:5432/d", "p@ss"),
        ("postgres://ann:@[::1]:5/d", "postgres://ann@[::1]:5/d", ""),
        ("postgresql://ann:p@h1:1,h2:2/d?target_session_attrs=read-write",
         "postgresql://ann@h1:1,h2:2/d?target_session_attrs=read-write", "p"),
        ("postgresql:///d?host=%2Frun&password=x%26y&sslmode=require", "postgresql:///d?host=%2Frun&sslmode=require",
         "x&y"),
        ("postgresql://h/d?application_name=a@b", "postgresql://h/d?application_name=a@b", None),
        ("postgresql://", "postgresql://", None),
        # Not escaped as an address needs it; all of it is hidden nonetheless.
        ("postgresql://ann:p/s@h/d", "postgresql://ann@h/d", "p/s"),
        ("postgresql://ann:p@s:s/w?r#d@h/d", "postgresql://ann@h/d", "p@s:s/w?r#d"),
        ("postgresql://ann:p@s/s@h", "postgresql://ann@h", "p@s/s"),
    ],
)  # fmt: skip
def test_an_address_and_its_password(address: str, shown: str, password: str | None) -> None:
    assert parted(address) == (shown, password)
    assert parted(with_password(shown, password)) == (shown, password)


@given(
    st.text(min_size=1), st.sampled_from(["postgresql://ann@h:5/d?sslmode=require", "postgresql:///d", "postgresql://"])
)
def test_any_password_comes_back(password: str, address: str) -> None:
    assert parted(with_password(address, password)) == (address, password)


@given(st.text(alphabet="@:/?#&=%[]a1", min_size=1))
def test_no_password_is_shown_however_it_is_written(text: str) -> None:
    assert SECRET not in parted(f"postgresql://ann:{SECRET}{text}@h/d")[0]


def settings(folder: Path, store: str, environ: dict[str, str] | None = None) -> Any:
    file = folder / "hackwatch.toml"
    file.write_text(f"[store]\n{store}\n")
    return load_settings(file, {}, environ or {})


@pytest.mark.parametrize(
    "store",
    [
        f'url = "postgresql://ann:{SECRET}@h/d"',
        f'url = "postgresql://ann@h/d?password={SECRET}"',
        f'url = "postgresql://ann@h/d"\npassword = "{SECRET}"',
        'url = "postgresql://ann@h/d"\npassword_env = "STORE"',
        'url = "postgresql://ann@h/d"\npassword_file = "secret"',
    ],
)
def test_the_password_from_anywhere_is_used_and_never_shown(tmp_path: Path, store: str) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    found = settings(tmp_path, store, {"STORE": SECRET})
    assert found.store_url == f"postgresql://ann:{SECRET}@h/d"
    assert found.store.url == "postgresql://ann@h/d"
    assert SECRET not in repr(found) + str(found) + json.dumps(found.shown())
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        result = CliRunner().invoke(
            main, ["--config", str(tmp_path / "hackwatch.toml"), *arguments], env={"STORE": SECRET}
        )
        assert result.exit_code == 0, result.output
        assert "postgresql://ann@h/d" in result.output
        assert SECRET not in result.output


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (f'url = "postgresql://ann:{SECRET}@h/d"\npassword = "{SECRET}"', "give the password once"),
        (f'url = "postgresql://ann@h/d"\npassword = "{SECRET}"\npassword_env = "STORE"', "give only one of"),
        (f'url = "postgresql://ann@h/d?sslpassword={SECRET}"', "sslpassword"),
        (f'url = "postgresql://ann:{SECRET}@h/d"\nretention_days = "x"', "store.retention_days"),
    ],
)
def test_a_wrong_address_is_told_without_the_password(tmp_path: Path, store: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, store, {"STORE": SECRET})
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_store_that_is_a_file_needs_no_password(tmp_path: Path) -> None:
    assert settings(tmp_path, f'url = "sqlite:/s"\npassword = "{SECRET}"').store_url == "sqlite:/s"
