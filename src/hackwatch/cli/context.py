"""What every command gets: the group's options, and the settings, loaded when first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hackwatch.config import Settings

__all__ = ["CliContext", "pass_context_object", "program"]


class CliContext:
    """Group options of one call of `hackwatch`. `overrides`: dotted setting -> value of a flag, None if not given."""

    def __init__(
        self, config: Path | None = None, overrides: dict[str, Any] | None = None, *, debug: bool = False
    ) -> None:
        self.config, self.debug = config, debug
        self.overrides = dict(overrides or {})
        self._settings: Settings | None = None

    def settings(self, **more: Any) -> Settings:
        """The validated settings, with the log set up by them.

        `more`: further flags of a command, `__` for the dot: `settings(engine__epoch_seconds=1)`.
        """
        if self._settings is None or more:
            from hackwatch import log
            from hackwatch.config import load_settings

            flags = {key.replace("__", "."): value for key, value in more.items()}
            self._settings = load_settings(self.config, {**self.overrides, **flags})
            log.setup(self._settings.log.level, self._settings.log.format)
        return self._settings

    def again(self) -> str:
        """How a person calls hackwatch again, with the same settings and data."""
        data = self.overrides.get("data")
        return program() + (f" --config {self.config}" if self.config else "") + (f" --data {data}" if data else "")


def program() -> str:
    """How a person calls this program again: by its name where the shell finds it, else as it was called now."""
    import shutil
    import sys

    if shutil.which("hackwatch"):
        return "hackwatch"
    called = Path(sys.argv[0])
    return str(called) if called.name == "hackwatch" else f"{sys.executable} -m hackwatch"


pass_context_object = click.make_pass_decorator(CliContext, ensure=True)
