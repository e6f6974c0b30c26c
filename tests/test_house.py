"""The house itself: locks, packaging, layers, environment."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from hackwatch import streams
from hackwatch.doctor import EXTRAS
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def extras(*names: str) -> list[str]:
    """The requirements of these extras."""
    return [line for name in names for line in PROJECT["project"]["optional-dependencies"][name]]


LOCKS = {
    "runtime": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]],
    "dev": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["build"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["dependency-groups"]["docs"],
        *(
            line
            for extra, lines in PROJECT["project"]["optional-dependencies"].items()
            if extra != "bench"
            for line in lines
        ),
    ],
    "bench": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["bench"]],
    "build": PROJECT["dependency-groups"]["build"],
    "docs": [*PROJECT["dependency-groups"]["build"], *PROJECT["dependency-groups"]["docs"]],
    "server": [*PROJECT["project"]["dependencies"], *extras("apprise", "kafka", "postgres", "s3")],
    "spark": [*PROJECT["project"]["dependencies"], *extras("apprise", "kafka", "postgres", "s3", "spark")],
}


def locked(name: str) -> dict[str, set[Version]]:
    versions: dict[str, set[Version]] = {}
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    for found in re.finditer(r"^([\w.-]+)==([\w.+!]+)", text, re.MULTILINE):
        versions.setdefault(found[1].lower(), set()).add(Version(found[2]))
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_fulfils_the_project_and_names_no_address(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) == len(
        re.findall(r"\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text)
    )
    versions = locked(name)
    for line in LOCKS[name]:
        wanted = Requirement(line)
        assert versions.get(wanted.name.lower()), f"{line}: run `make lock`"
        assert all(wanted.specifier.contains(version) for version in versions[wanted.name.lower()]), line


def imported(folder: str) -> set[str]:
    """Top-level packages that the Python files of a folder import, the standard library and our own left out."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            names |= {name.partition(".")[0] for name in found}
    third_party = {path.stem for path in (ROOT / "tests" / "third" / "site").glob("*.py")}
    return names - sys.stdlib_module_names - third_party - {"hackwatch", "tests", "tools", "bench"}


def test_every_import_is_a_declared_dependency() -> None:
    modules = {"pyyaml": "yaml", "scikit-learn": "sklearn", "xgboost-cpu": "xgboost", "pytest-xdist": "xdist"}
    extras = PROJECT["project"]["optional-dependencies"]

    def names(lines: list[str]) -> set[str]:
        return {modules.get(name, name.replace("-", "_")) for name in (Requirement(line).name for line in lines)}

    runtime = names([*PROJECT["project"]["dependencies"], *chain.from_iterable(extras.values())])
    assert imported("src") <= runtime
    assert imported("tests") | imported("tools") | imported("bench") <= runtime | names(
        [*PROJECT["dependency-groups"]["dev"], *PROJECT["dependency-groups"]["docs"]]
    )


def test_all_locks_agree() -> None:
    dev = locked("dev")
    for name in LOCKS.keys() - {"dev"}:
        for package, versions in locked(name).items():
            assert dev.get(package, versions) == versions, package


def test_the_doctor_knows_every_extra() -> None:
    assert set(EXTRAS) == set(PROJECT["project"]["optional-dependencies"])


def test_rules_are_part_of_the_package() -> None:
    assert (ROOT / "src" / "hackwatch" / "families" / "host" / "rules.toml").is_file()
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/hackwatch"]


def test_scripts_are_sound() -> None:
    for script in ("tools/environment", "tools/lock", ".ci/run"):
        path = ROOT / script
        assert os.access(path, os.X_OK), script
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------------------------------------- no family is known

SOURCE = ROOT / "src" / "hackwatch"
#: Columns that are words of their own too, in prose about something else.
_COMMON = {"event_time", "finished", "machine", "sequence", "State", "Status", "ts"}
#: Of the pipeline itself; every stream may have them.
_GENERAL = {"event_time", "sequence", "ts"}
#: Where such a name is something else: the machine's memory; where the topics of a test are; a class.
_MAY_NAME = {"doctor.py": {"memory"}, "testing.py": {"memory"}, "runtime/status.py": {"Status"}}
GENERAL = [path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).parts[0] != "families"]


def _columns(family: str) -> set[str]:
    return {column for name in streams.family(family).streams for column in streams.get(name).schema}


def _named(family: str) -> re.Pattern[str]:
    """Finds the columns that only the streams of a family have."""
    names = "|".join(sorted(_columns(family) - _COMMON, key=len, reverse=True))
    return re.compile(rf"\b(?:{names})\b")


@pytest.mark.parametrize("family", streams.family_names())
def test_general_code_names_no_column_that_only_a_family_has(family: str) -> None:
    """Neither in code nor in docstrings, comments and examples of help."""
    column = _named(family)
    found = {
        f"{path.relative_to(SOURCE)}:{number}": line.strip()
        for path in GENERAL
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if column.search(line)
    }
    assert found == {}


def _quoted(path: Path) -> set[str]:
    """The texts of a file that are nothing but one word."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str}


@pytest.mark.parametrize("family", streams.family_names())
def test_general_code_looks_for_no_stream_family_or_column_by_its_name(family: str) -> None:
    told = {family, *streams.family(family).streams, *_columns(family)} - _GENERAL
    named = {path.relative_to(SOURCE).as_posix(): _quoted(path) & told for path in GENERAL}
    assert {place: found for place, found in named.items() if found - _MAY_NAME.get(place, set())} == {}


#: Tests that name columns of hosts, each with its reason; a folder stands for all that is in it.
_TESTS_OF_HOSTS = {
    "families/host": "what that family says and does",
    "upgrade": "data that version 0.1 left, which knew hosts alone",
    "third/days.py": "days of both families, side by side",
    "spark/mlsupport.py": "models of Spark ML as people have trained them on what atop prints",
    "spark/test_ml_guard.py": "models of Spark ML as people have trained them on what atop prints",
    "spark/test_ml_import.py": "models of Spark ML as people have trained them on what atop prints",
    "spark/test_ml_refusals.py": "models of Spark ML as people have trained them on what atop prints",
    "spark/test_ml_train.py": "models of Spark ML as people have trained them on what atop prints",
    "spark/rounds.py": "clocks and keys that earlier versions kept, of the streams that they had",
    "spark/test_correlate.py": "pairs that version 0.1 kept, of the streams that it had",
    "spark/test_cases.py": "what atop prints, through Spark, beside cases of all",
    "spark/test_parity.py": "both engines on simulated hosts",
    "streams/oracle.py": "lists all shipped streams",
    "streams/support.py": "lists all shipped streams",
    "test_deploy.py": "what an image runs has the name of a column",
    "test_own_stream.py": "the shipped example: a stream of a host's disks",
    "test_security.py": "what the page says of the shipped rules",
    "test_watch.py": "the product watches this very machine",
    "top/support.py": "the shipped product on screen, as the golden files have it",
    "top/test_draw.py": "the shipped product on screen, as the golden files have it",
}


def test_general_tests_name_no_column_that_only_hosts_have() -> None:
    """They use the third family (`tests/third`), so that what they prove is true of any."""
    column, tests = _named("host"), ROOT / "tests"
    told = set(_TESTS_OF_HOSTS)
    named = {path.relative_to(tests) for path in tests.rglob("*.py") if column.search(path.read_text(encoding="utf-8"))}
    excused = {path for path in named if told & {part.as_posix() for part in (path, *path.parents)}}
    assert sorted(map(str, named - excused)) == [], "name no host; or say in this file why it must"
    used = {part.as_posix() for path in excused for part in (path, *path.parents)}
    assert told - used == set(), "these need no excuse any more"
