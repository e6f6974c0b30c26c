"""From hackwatch.toml, the environment and flags to `Settings`; all that is wrong is reported at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from hackwatch.config.key_lines import KeyLines, KeyPath, dotted, find_lines
from hackwatch.config.settings import Settings, default_data_folder
from hackwatch.config.shape import Place, tables
from hackwatch.config.table import LOCATION
from hackwatch.errors import ConfigurationError, ResourceError

__all__ = ["PREFIX", "find_file", "load_settings"]

PREFIX = "HACKWATCH_"
_SYNTAX = re.compile(r"^(.*) \(at (?:line (\d+), column \d+|end of document)\)$", re.DOTALL)
_LOCAL = re.compile(r"^([a-z]+:)(.*)$")


@dataclass(slots=True)
class _Gathered:
    """Values from all sources, merged; where each came from; what is wrong so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def origin(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return "settings"

    def problem(self, path: KeyPath, what: str) -> None:
        self.problems.append(f"{self.origin(path)}: {dotted(path)}: {what}" if path else what)


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings from one file, `HACKWATCH_...` variables and flags, the later ones winning.

    `path`: the file; None looks for it (see `find_file`). `overrides`: dotted key -> value, None values are left out.
    Raises ConfigurationError whose `problems` name all wrong settings with file and line (or variable, or flag).
    """
    environ = os.environ if environ is None else environ
    gathered = _Gathered()
    file = find_file(path, environ)
    if file is not None:
        _read_file(gathered, file)
    _read_environment(gathered, environ)
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(gathered, tuple(key.split(".")), value, "command line")
    _resolve_secrets(gathered, environ)
    gathered.values.setdefault("data", default_data_folder(environ))
    settings = _validate(gathered)
    if gathered.problems or settings is None:
        count = len(gathered.problems)
        raise ConfigurationError(
            f"{count} problem{'s' if count > 1 else ''} in the settings",
            where=str(file) if file else None,
            next_step="mend them all; `hackwatch config check` looks again",
            problems=tuple(gathered.problems),
        )
    return settings


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file: given, `$HACKWATCH_CONFIG`, `./hackwatch.toml`, or the one in `$XDG_CONFIG_HOME/hackwatch`."""
    asked = path or (Path(environ["HACKWATCH_CONFIG"]) if environ.get("HACKWATCH_CONFIG") else None)
    if asked is not None:
        if not asked.exists() or asked.is_dir():
            raise ConfigurationError(
                "there is no such settings file", where=str(asked), next_step="`hackwatch init` writes one"
            )
        return asked
    home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next(
        (file for file in (Path("hackwatch.toml"), home / "hackwatch" / "hackwatch.toml") if file.is_file()),
        None,
    )


def _read_file(gathered: _Gathered, file: Path) -> None:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        gathered.problems.append(f"{file}: not UTF-8 text (byte {error.start})")
        return
    except OSError as error:
        raise ResourceError(f"cannot read the settings: {error.strerror}", where=str(file)) from error
    lines = find_lines(text)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        gathered.problems.extend(_syntax_problems(file, text, error, lines))
        return
    gathered.values = values
    gathered.origins = {key: f"{file}:{line}" for key, line in lines.lines.items()}
    _anchor_paths(values, file.parent)


def _syntax_problems(file: Path, text: str, error: tomllib.TOMLDecodeError, lines: KeyLines) -> Iterator[str]:
    if lines.repeated:
        for path, first, again in lines.repeated:
            yield f"{file}:{again}: {dotted(path)}: set twice, first in line {first}"
        return
    match = _SYNTAX.match(str(error))
    what, line = (match[1], match[2] or len(text.splitlines())) if match else (str(error), 1)
    yield f"{file}:{line}: not valid TOML: {what[:1].lower()}{what[1:]}"


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Relative paths of a file mean: relative to that file."""
    for place in tables(Settings, values):
        for name, info in place.fields.items():
            given = place.values.get(name)
            if not _holds(info, Path) and not _is_location(info):
                continue
            if isinstance(given, str):
                place.values[name] = _anchored(given, folder)
            elif isinstance(given, list):
                place.values[name] = [_anchored(item, folder) if isinstance(item, str) else item for item in given]
            elif isinstance(given, dict):
                place.values[name] = {
                    key: _anchored(item, folder) if isinstance(item, str) else item for key, item in given.items()
                }


def _anchored(text: str, folder: Path) -> str:
    scheme, path = match.groups() if (match := _LOCAL.match(text)) else ("", text)
    return text if "://" in text else f"{scheme}{folder / Path(path).expanduser()}"


def _is_location(info: FieldInfo) -> bool:
    return LOCATION in info.metadata or any(
        LOCATION in getattr(part, "__metadata__", ()) for part in get_args(info.annotation)
    )


def _holds(info: FieldInfo, kind: type) -> bool:
    return info.annotation is kind or any(kind is part for part in get_args(info.annotation))


def _read_environment(gathered: _Gathered, environ: Mapping[str, str]) -> None:
    keys = _environment_names()
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or not text:
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if len(path) > 1 or path[0] in Settings.model_fields:
            _put(gathered, path, _environment_value(text), f"environment {name}")
        elif name.removeprefix(PREFIX).lower() in keys:
            right = PREFIX + keys[name.removeprefix(PREFIX).lower()].upper().replace(".", "__")
            gathered.problems.append(f"environment {name}: not a setting; did you mean {right}?")


def _environment_names() -> dict[str, str]:
    """Every nested key with single underscores -> its dotted form: people forget the second underscore."""
    return {
        dotted((*place.path, name)).replace(".", "_"): dotted((*place.path, name))
        for place in tables(Settings, {})
        for name in place.fields
        if place.path
    }


def _environment_value(text: str) -> Any:
    """Lists and tables are written as in TOML, everything else as it is."""
    if text[:1] in "[{":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _put(gathered: _Gathered, path: KeyPath, value: Any, origin: str) -> None:
    table: Any = gathered.values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            gathered.problems.append(f"{origin}: {dotted(path)}: {part} is not a table")
            return
    table[path[-1]] = value
    gathered.origins = {key: label for key, label in gathered.origins.items() if key[: len(path)] != path}
    gathered.origins[path] = origin


def _resolve_secrets(gathered: _Gathered, environ: Mapping[str, str]) -> None:
    """Fill each secret from its `NAME_file` or `NAME_env`, and tables of secrets from those of the same name."""
    for place in tables(Settings, gathered.values):
        for name, info in place.fields.items():
            given = [key for key in (name, f"{name}_file", f"{name}_env") if place.values.get(key) is not None]
            if not _holds(info, SecretStr) or not given:
                continue
            if name == "secrets":
                _resolve_table(gathered, place, [key for key in given if key != name], environ)
            elif len(given) > 1:
                gathered.problem((*place.path, given[1]), f"give only one of {', '.join(given)}")
            elif given[0] != name:
                place.values[name] = _secret((*place.path, given[0]), place.values[given[0]], gathered, environ)


def _resolve_table(gathered: _Gathered, place: Place, sources: Sequence[str], environ: Mapping[str, str]) -> None:
    """A table of secrets: each key of `secrets_env` and `secrets_file` becomes one of `secrets`."""
    found: dict[str, Any] = {}
    for source in sources:
        table = place.values[source]
        for key, where in table.items() if isinstance(table, dict) else ():
            found[key] = _secret((*place.path, source, key), where, gathered, environ)
    if found:
        known = place.values.get("secrets")
        place.values["secrets"] = {**(known if isinstance(known, dict) else {}), **found}


def _secret(path: KeyPath, where: Any, gathered: _Gathered, environ: Mapping[str, str]) -> str:
    """What the file or variable holds; if it holds nothing, a problem is noted."""
    of_file = any(str(part).endswith("_file") for part in path[-2:])
    try:
        value = Path(where).read_text(encoding="utf-8").strip() if of_file else environ.get(str(where), "")
    except (OSError, UnicodeDecodeError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        gathered.problem(path, f"cannot read the secret: {reason}")
        return "unreadable"
    if not value:
        gathered.problem(path, f"{where} is empty or not set")
    return value or "unset"


def _validate(gathered: _Gathered) -> Settings | None:
    try:
        return Settings.model_validate(gathered.values)
    except ValidationError as error:
        known = {place.path: place.fields for place in tables(Settings, gathered.values)}
        for details in error.errors(include_url=False, include_context=False, include_input=False):
            path = _key_path(details["loc"])
            gathered.problem(path, _explain(details["type"], details["msg"], path, known))
        return None


def _key_path(location: tuple[int | str, ...]) -> KeyPath:
    path = tuple(part for part in location if part != "[key]")
    return path[:2] + path[3:] if path[:1] == ("routes",) and len(path) > 2 else path  # drops the union's tag


def _explain(kind: str, message: str, path: KeyPath, known: Mapping[KeyPath, Mapping[str, FieldInfo]]) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), list(known.get(path[:-1], ())), n=1)
        return f"unknown key; did you mean {near[0]}?" if near else "unknown key"
    if kind == "missing":
        return "is required"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]
