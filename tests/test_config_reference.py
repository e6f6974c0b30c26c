"""The template and the reference are written from the models and say what the models say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from hackwatch.config import Settings, load_settings, reference, settings
from hackwatch.config.key_lines import dotted
from hackwatch.config.reference import markdown, template
from hackwatch.config.routes import ROUTE_TYPES
from hackwatch.config.shape import tables

SOURCE = Path(__file__).parent.parent / "src" / "hackwatch"
ENVIRONMENT = {"KAFKA_PASSWORD": "k", "SOC_URL": "https://example.org", "SOC_SECRET": "s", "STORE_PASSWORD": "p"}


CORRELATIONS = {"attacks": 30.0, "logins": 10.0}
NAMED: dict[str, Any] = {"streams": {"NAME": {}}, "correlations": {"NAME": {}}}


def test_the_template_as_it_is_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hackwatch.toml"
    path.write_text(template(CORRELATIONS), encoding="utf-8")
    assert load_settings(path, {}, {}) == load_settings(None, {}, {})


def test_every_line_of_the_template_can_be_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "hackwatch.toml"
    text = re.sub(r"^# (\[\[routes\]\]|[a-z_]+ = .*)$", r"\1", template(CORRELATIONS), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    settings = load_settings(path, {}, ENVIRONMENT)
    assert [route.type for route in settings.routes] == list(ROUTE_TYPES)
    values = tomllib.loads(text)
    for place in tables(
        Settings, {"streams": {"process": {}, "memory": {}}, "correlations": {name: {} for name in CORRELATIONS}}
    ):
        given: Any = values
        for part in place.path:
            given = given[part]
        secrets = {name for name, info in place.fields.items() if SecretStr in get_args(info.annotation)}
        hidden = secrets | {f"{name}_file" for name in secrets}  # only the variant by environment is shown
        assert place.fields.keys() - hidden <= given.keys(), place.path


def test_the_template_has_a_table_for_each_of_any_number_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (settings, reference):
        monkeypatch.setattr(module, "stream_names", lambda: ("access", "memory", "process"))
    text = template(CORRELATIONS)
    values = tomllib.loads(re.sub(r"^# ([a-z_]+ = .*)$", r"\1", text.partition("[kafka]")[0], flags=re.MULTILINE))
    assert {name: table["topic"] for name, table in values["streams"].items()} == {
        name: f"spool:/var/spool/hackwatch/{name}" for name in ("access", "memory", "process")
    }
    assert {name: table["seconds"] for name, table in values["correlations"].items()} == CORRELATIONS
    assert sorted(load_settings(None, {}, {}).streams) == ["access", "memory", "process"]


def test_every_setting_has_a_described_row() -> None:
    text = markdown()
    given = {**NAMED, "routes": [{"type": kind} for kind in ROUTE_TYPES]}
    for place in tables(Settings, given):
        for name, info in place.fields.items():
            key = re.sub(r"\[\d+\]", "", dotted((*place.path, name)))
            if info.description is not None and key not in ("streams", "correlations", "routes"):
                assert re.search(rf"^\| `{re.escape(key)}` \|.*\S+.*\|$", text, re.MULTILINE), key
            elif key not in ("routes.type",):
                assert f"## `[{key}" in text or f"## `[[{key}" in text, key


def test_every_setting_is_used() -> None:
    sources = [path for path in SOURCE.rglob("*.py") if path.parent.name != "config"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    given = {**NAMED, "routes": [{"type": kind} for kind in ROUTE_TYPES]}
    derived = {
        "lake.path",
        "detection.models",
        "store.url",
        "store.password",
        "streams.NAME.topic",
        "correlations.NAME.enabled",
        "correlations.NAME.seconds",
    }  # by lake_location and the like
    derived |= {"kafka.properties", "kafka.secrets"}  # by KafkaSettings.client
    unused = {
        re.sub(r"\[\d+\]", "", dotted((*place.path, name)))
        for place in tables(Settings, given)
        for name in place.fields
        if not re.search(rf"\.{name}\b|\b{name}=", text) and not name.endswith(("_file", "_env"))
    }
    assert unused <= derived
