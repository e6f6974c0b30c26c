"""How settings and commands ask for a stream's own ways to read: what it lacks is said, with what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import StreamSettings
from hackwatch.errors import ConfigurationError
from hackwatch.streams.options import of_settings, with_own
from hackwatch.streams.stream import DecodeOptions
from tests.streams.support import named
from tests.third.shop import shop

__all__ = ["shop"]

OWN = frozenset({"letterless_mib"})

#: Settings of a stream, and the decode options that they mean.
MEANT: dict[str, tuple[str, dict[str, Any], DecodeOptions]] = {
    "nothing set": ("visit", {}, DecodeOptions()),
    "a key and a limit": (
        "visit",
        {"duplicates_key": "uuid", "max_message_bytes": 2048},
        DecodeOptions(key="uuid", max_message_bytes=2048),
    ),
    "an option": ("visit", {"options": ("letterless_mib",)}, DecodeOptions(own=OWN)),
    "formats": ("request", {"formats": ("tabbed", "short")}, DecodeOptions(formats=("tabbed", "short"))),
}

#: Settings that a stream cannot follow, and what is said of it.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an option that it lacks": ("visit", {"options": ("kib",)}, "visit has no option 'kib'"),
    "one that only others have": ("request", {"letterless_kib": True}, "request has no option 'letterless_kib'"),
    "a format that it lacks": ("request", {"formats": ("short", "clf")}, "request has no line format 'clf'"),
    "a format of files only": ("visit", {"formats": ("csv",)}, "visit has no line format 'csv'"),
}


@pytest.mark.parametrize(("stream", "settings", "meant"), MEANT.values(), ids=MEANT)
def test_settings_mean_decode_options(stream: str, settings: dict[str, Any], meant: DecodeOptions) -> None:
    assert of_settings(named(stream), StreamSettings(**settings)) == meant


@pytest.mark.parametrize(("stream", "settings", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_stream_lacks_is_said(stream: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        of_settings(named(stream), StreamSettings(**settings))
    assert str(caught.value).startswith(f"streams.{stream}.")
    assert caught.value.next_step


def test_options_add_up() -> None:
    assert with_own(named("visit"), DecodeOptions(labels=True), ["letterless_mib"]) == DecodeOptions(
        labels=True, own=OWN
    )


@pytest.mark.usefixtures("shop")
def test_config_check_knows_what_streams_can_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "hackwatch.toml"
    file.write_text('[streams.visit]\noptions = ["kib"]\n')
    result = CliRunner().invoke(main, ["--config", str(file), "config", "check"])
    assert result.exit_code == 2
    assert "visit has no option 'kib'" in result.stderr
    assert "use some of: letterless_mib" in result.stderr
