"""The settings written out from their models: as a commented hackwatch.toml, and as the page of the reference."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hackwatch.config.registered import stream_names
from hackwatch.config.routes import ROUTE_TYPES, RouteSettings
from hackwatch.config.settings import Settings
from hackwatch.config.shape import nested_model

__all__ = ["markdown", "template"]

#: Fields that hold a table for each of several names.
_NAMED = ("streams", "correlations")
_HEAD = """\
# hackwatch.toml: the settings of hackwatch. Each line below shows a default; take away the "#" to change it.
# The environment wins over this file (HACKWATCH_ENGINE__EPOCH_SECONDS=2), flags win over both.
# Relative paths start at this file. `hackwatch config check` reports all mistakes at once.
"""


def template(correlations: Mapping[str, float] | None = None) -> str:
    """A hackwatch.toml with every setting, described and commented out.

    It has a table for each registered stream, and one for each of `correlations` (name -> seconds as declared).
    """
    named: dict[str, dict[str, dict[str, Any]]] = {
        "streams": {name: {"topic": f"spool:/var/spool/hackwatch/{name}"} for name in stream_names()},
        "correlations": {name: {"seconds": seconds} for name, seconds in (correlations or {}).items()},
    }
    lines = [_HEAD, *_template_fields(_plain_fields(Settings))]
    for table, model in _tables(Settings):
        fields = _without_secrets(_plain_fields(model))
        for place, (name, values) in enumerate(named.get(table, {"": {}}).items()):
            lines += [f"\n# {_purpose(model)}", f"[{table}.{name}]" if name else f"[{table}]"]
            lines += _template_fields(fields, described=place == 0, values=values)
    for kind, route in ROUTE_TYPES.items():
        lines += [f"\n# {_purpose(route)}", "# [[routes]]", f'# type = "{kind}"']
        lines.append(f'# name = "{kind}"')
        lines += _template_fields(_route_fields(route, everything=kind == "stdout"))
    return "\n".join(lines).rstrip() + "\n"


def markdown() -> str:
    """docs/configuration.md."""
    parts = [_PAGE, "## Top level\n", _rows(_plain_fields(Settings), "")]
    for name, model in _tables(Settings):
        header = f"{name}.NAME" if name in _NAMED else name
        parts += [f"## `[{header}]`\n", _purpose(model) + "\n", _rows(_plain_fields(model), f"{header}.")]
    parts += ["## `[[routes]]`\n", "One table a route. What every route has:\n"]
    parts.append(_rows({"type": _TYPE, **_plain_fields(RouteSettings)}, "routes."))
    for kind, route in ROUTE_TYPES.items():
        own = {key: info for key, info in _plain_fields(route).items() if key not in RouteSettings.model_fields}
        parts += [f'### `type = "{kind}"`\n', _purpose(route) + "\n", *([_rows(own, "routes.")] if own else [])]
    return "\n".join(parts).rstrip() + "\n"


_TYPE = FieldInfo(annotation=Literal[tuple(ROUTE_TYPES)], description="Which kind of route.")  # type: ignore[arg-type] # built at run time
_PAGE = """\
# Settings

Nothing has to be set for the demo or for watching this machine. `hackwatch init` writes a commented `hackwatch.toml`;
`hackwatch config show` prints the settings in force, `hackwatch config check` reports every mistake at once, each with
its line and key.

- **File**: `--config PATH`, else `$HACKWATCH_CONFIG`, else `./hackwatch.toml`, else
  `$XDG_CONFIG_HOME/hackwatch/hackwatch.toml` (`~/.config` without that variable). Relative paths start at the file.
- **Environment** wins over the file: `HACKWATCH_SITE=berlin`, and two underscores for each dot:
  `HACKWATCH_ENGINE__EPOCH_SECONDS=2`, `HACKWATCH_STREAMS__PROCESS__LATENESS_SECONDS=5`. Lists and tables are written as
  in TOML: `HACKWATCH_DETECTION__RULES='["my-rules.toml"]'`. Relative paths start at the current folder.
- **Flags** win over both.
- **Secrets** (`url`, `secret`, `headers` of routes, the keys of `[lake.storage]`, the store's `password`) are never
  printed. Give them as `NAME_file` (a file that holds the value) or `NAME_env` (an environment variable) rather than in
  the settings file.
- The **data folder** is made for its owner alone (mode 0700). One that other users may enter is refused, with the
  command that mends it.

This page is made from the models in `src/hackwatch/config` (`make docs`); a test holds both together.
"""


def _tables(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables of a table and theirs, by dotted name."""
    for name, info in model.model_fields.items():
        if (nested := nested_model(info)) is not None:
            yield before + name, nested
            yield from _tables(nested, f"{before}{name}.")


def _plain_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that are values, not tables."""
    return {
        name: info
        for name, info in model.model_fields.items()
        if nested_model(info) is None and name not in ("routes", "type")
    }


def _without_secrets(fields: dict[str, FieldInfo]) -> dict[str, FieldInfo]:
    """What the template shows: of each secret only the variant by environment."""
    secrets = {name for name, info in fields.items() if SecretStr in get_args(info.annotation)}
    hidden = secrets | {f"{name}_file" for name in secrets}
    return {key: info for key, info in fields.items() if key not in hidden}


def _route_fields(route: type[RouteSettings], *, everything: bool) -> dict[str, FieldInfo]:
    common: set[str] = set() if everything else set(RouteSettings.model_fields)
    return {key: info for key, info in _without_secrets(_plain_fields(route)).items() if key not in common | {"name"}}


def _template_fields(
    fields: dict[str, FieldInfo], *, described: bool = True, values: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """`values`: what is shown instead of the default."""
    shown = {name: _shown(info) for name, info in fields.items()} | dict(values or {})
    for name, info in fields.items():
        if described:
            yield from textwrap.wrap(_text(info), 110, initial_indent="# ", subsequent_indent="# ")
        yield f"# {name} = {_toml(shown[name])}"


def _shown(info: FieldInfo) -> Any:
    """The default, or an example for what has none."""
    if info.examples:
        return info.examples[0]
    return info.default


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _rows(fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, info in fields.items():
        rows.append(f"| `{prefix}{name}` | {_kind(info)} | {_default(info)} | {_text(info)} |")
    return "\n".join(rows) + "\n"


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None:
        return ""
    if info.is_required():
        return "required"
    return "" if info.default is None else f"`{_toml(info.default)}`"


def _kind(info: FieldInfo) -> str:
    names = {Path: "path", str: "text", int: "whole number", float: "number", bool: "true or false"}
    names |= {SecretStr: "text, secret"}
    kind = info.annotation
    parts = [part for part in get_args(kind) if part is not type(None)] if get_origin(kind) is not None else []
    if kind is not None and get_origin(kind) is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if get_origin(kind) is tuple:
        return "list of paths" if Path in parts else "list of texts"
    if get_origin(kind) is dict:
        return f"table of {'secret texts' if SecretStr in parts else 'paths' if Path in parts else 'values'}"
    first: Any = parts[0] if parts else kind
    first = get_args(first)[0] if hasattr(first, "__metadata__") else first
    limits = _limits(info)
    return names.get(first, "number") + (f", {limits}" if limits else "")


def _limits(info: FieldInfo) -> str:
    found = re.findall(r"\b(ge|gt|le)=([\d.]+)", repr(info.metadata))
    signs = {"ge": "at least", "gt": "above", "le": "at most"}
    return ", ".join(f"{signs[sign]} {bound.removesuffix('.0')}" for sign, bound in found)


def _text(info: FieldInfo) -> str:
    return (info.description or "").replace("|", "\\|")


def _purpose(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
