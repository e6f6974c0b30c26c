"""hackwatch: watch your streams for hacks.

This module is the door for programs; everything is imported when first used. Stable are the names in `__all__`, the
command line, hackwatch.toml, the lake's columns and the alert's fields. Everything else may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hackwatch import views
    from hackwatch.alerts.alert import Alert
    from hackwatch.config import Settings, load_settings
    from hackwatch.errors import (
        ConfigurationError,
        DataError,
        HackwatchError,
        InternalError,
        ResourceError,
    )

__all__ = [
    "Alert",
    "ConfigurationError",
    "DataError",
    "HackwatchError",
    "InternalError",
    "ResourceError",
    "Settings",
    "__version__",
    "load_settings",
    "views",
]

_HOMES = {
    "Alert": "hackwatch.alerts.alert",
    "ConfigurationError": "hackwatch.errors",
    "DataError": "hackwatch.errors",
    "ResourceError": "hackwatch.errors",
    "HackwatchError": "hackwatch.errors",
    "InternalError": "hackwatch.errors",
    "Settings": "hackwatch.config",
    "load_settings": "hackwatch.config",
}
__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hackwatch")
    if name == "views":
        return importlib.import_module("hackwatch.views")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
