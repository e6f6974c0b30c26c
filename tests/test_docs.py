"""The docs say what is true: nothing that exists is missing, nothing that is written is broken, commands work."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import hackwatch.errors
from hackwatch import metrics
from hackwatch.alerts.alert import Alert, Cause
from hackwatch.cli import COMMANDS
from hackwatch.detect.detector import Driver
from hackwatch.streams import get
from tests.conftest import ROOT
from tools.reference import PAGES, commands

DOCS = ROOT / "docs"
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
TEXTS = [*(ROOT / name for name in OUTSIDE), *sorted(DOCS.glob("*.md"))]


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------- complete


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_are_what_the_program_says(page: str) -> None:
    assert read(page) == PAGES[page](), "run `make docs`"


def test_every_command_and_option_has_help_and_the_big_ones_examples() -> None:
    missing = []
    for name, command in commands():
        missing += [] if (command.help or "").strip() else [name]
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        missing += [f"{name} {option.opts[0]}" for option in options if not option.help]
        if name.removeprefix("hackwatch ") in COMMANDS and "hackwatch " not in f"{command.help}{command.epilog}":
            missing.append(f"{name}: examples")
    assert not missing


def metric_families() -> Iterator[str]:
    for family in metrics.REGISTRY.collect():
        yield family.name + ("_total" if family.type == "counter" else "")


def test_every_metric_is_documented() -> None:
    names = {name for name in metric_families() if not name.endswith("_created")}
    documented = set(re.findall(r"^\| `(hackwatch_\w+)`", read("operations.md"), re.MULTILINE))
    assert documented == names


def test_every_error_is_documented_with_its_exit_code() -> None:
    for name in hackwatch.errors.__all__:
        error = getattr(hackwatch.errors, name)
        assert re.search(rf"^\| `{name}` \| {error.exit_code} \|", read("architecture.md"), re.MULTILINE), name


def test_the_picture_of_the_layers_shows_those_that_are_checked() -> None:
    checked = (ROOT / ".importlinter").read_text(encoding="utf-8").partition("layers =\n")[2].partition("containers")[0]
    rows = [{name.strip() for name in re.split("[|:]", line)} for line in checked.splitlines() if line.strip()]
    picture = read("architecture.md").partition("```text\n")[2].partition("```")[0]
    shown = [set(line[:72].split()) for line in picture.splitlines() if line.strip(" .")]
    assert shown == rows[1:], "behind column 72 stand the captions"


def test_every_file_that_the_architecture_names_is_there() -> None:
    page, package = read("architecture.md"), ROOT / "src" / "hackwatch"
    found, folder = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page)), ""
    for line in page.partition("src/hackwatch/\n")[2].partition("```")[0].splitlines():
        named, file = re.match(r"  (?:(\w+)/)? +(\w+\.py) ", line).groups()  # type: ignore[union-attr]  # fails else
        folder = named or folder
        found.add(f"{folder}/{file}")
    assert len(found) > 40
    assert not [name for name in found if not (package / name).exists() and not (ROOT / name).exists()]


def test_every_alert_field_is_documented() -> None:
    section = read("operations.md").partition("## Alert fields")[2].partition("\n## ")[0]
    first_cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", first_cells)) == {field.name for field in fields(Alert)}
    for kind in (Driver, Cause):
        assert all(f"`{field.name}`" in section for field in fields(kind))


@pytest.mark.parametrize("stream", ["process", "memory"])
def test_every_column_is_documented(stream: str) -> None:
    section = read("streams.md").partition(f"## `{stream}`")[2].partition("\n## ")[0]
    cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", cells)) == set(get(stream).schema)


# ---------------------------------------------------------------------------------------------- sound


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    to_be_made = re.findall(r"<!-- file: (\S+) -->", text)
    for name in re.findall(r"`((?:src|tests|bench|docs|tools)/[\w./*-]*\w)`", text):
        assert name in to_be_made or list(ROOT.glob(name)), name


#: Commands of the package that a page makes.
_MADE = {"families.md": {name: click.Command(name) for name in ("hackwatch volumes", "hackwatch feed volumes")}}


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    known = {**dict(commands()), **_MADE.get(page.name, {})}
    text = page.read_text(encoding="utf-8")
    spoken = re.findall(r"^(?:\$ )?hackwatch .*$", text, re.MULTILINE) + re.findall(r"`(hackwatch [^`]+)`", text)
    for line in spoken:
        words = re.match(r"hackwatch (?:--[\w-]+ \S+ )*([a-z]+)(?: ([a-z]+))?", line.removeprefix("$ "))
        if words is None:
            continue
        name = f"hackwatch {words[1]}"
        assert name in known, line
        if isinstance(known[name], click.Group) and words[2]:
            assert f"{name} {words[2]}" in known, line


def test_the_first_screen_says_what_how_fast_and_for_whom_and_how_to_start() -> None:
    """In ten lines, with the figures that sizing is reckoned by; then two commands that exist."""
    before, _, after = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n```sh\n")
    title, *lines = filter(None, before.splitlines())
    assert title == "# hackwatch"
    assert len(lines) <= 10
    for said in ("**How fast:**", "**For whom:**"):
        assert said in before
    (figure,) = re.findall(r"^\| `E` \|.*\| ([\d,]+) \|$", read("deployment.md"), re.MULTILINE)
    assert f"{figure} records a second" in before
    commands_ = [line.partition("#")[0].split() for line in after.partition("```")[0].splitlines()]
    assert commands_ == [["make", "demo"], ["hackwatch", "watch"]]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        return [path for folder in ("src", "tests", "docs", "tools") for path in (ROOT / folder).rglob("*.*")]
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_nothing_names_the_machine_it_was_made_on() -> None:
    machine = re.compile(
        rb"/(?:work|farm|home/\w+|root)/[\w.]|/tmp/bash" + rb"_jobs|https?://[^\s\"']*(?:pypi|pythonhosted)\."
    )
    own = Path(__file__)
    allowed = (b"/home/ann",)
    for path in tracked():
        if path == own or not path.is_file() or path.suffix in (".png", ".gz", ".parquet"):
            continue
        for found in machine.finditer(path.read_bytes()):
            assert found[0].startswith(allowed), f"{path}: {found[0]!r}"


# ---------------------------------------------------------------------------------------------- executed


def modules_with_examples() -> list[str]:
    source = ROOT / "src"
    found = [path for path in sorted(source.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(source).with_suffix("").parts) for path in found]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert (failed, tried > 0) == (0, True)


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- run -->\n```console\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the tour collects from /proc")
@pytest.mark.platform
def test_the_commands_of_the_readme_work_one_after_the_other(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "HACKWATCH_DATA": str(tmp_path / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    lines = readme_commands()
    assert len(lines) >= 8
    for line in lines:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if "sql" in line:
            assert re.search(r"^ *\S.* +\d+ +[\d.]+$", done.stdout, re.MULTILINE), done.stdout
    assert (tmp_path / "process.parquet").stat().st_size > 0
