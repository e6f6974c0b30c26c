"""The registry: versions appear whole, the pointer moves at once, and a crash at any step leaves old or new."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.registry import Registry
from hackwatch.errors import ConfigurationError, DataError
from tests.conftest import mode
from tests.detect.support import SCHEMA, STREAM, records

TEST = records(20, seed=3)


@pytest.fixture
def one(bundles: dict[str, Bundle]) -> Bundle:
    """The quickest bundle to save."""
    return bundles["supervised"]


def test_an_empty_registry(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    assert registry.current("visit") is None
    assert registry.list() == ()
    with pytest.raises(DataError, match="no model"):
        registry.load("visit")


def test_add_list_show_promote_roll_back(tmp_path: Path, bundles: dict[str, Bundle]) -> None:
    registry = Registry(tmp_path / "models")
    first = registry.add(bundles["supervised"], STREAM)
    second = registry.add(bundles["permuted"], STREAM, promote=False)
    assert (first[:13], second[:13]) == ("visit-000001-", "visit-000002-")
    assert registry.current("visit") == first
    assert [(entry.version, entry.current, entry.method) for entry in registry.list()] == [
        (first, True, "supervised"),
        (second, False, "permuted"),
    ]
    registry.promote(second, STREAM)
    assert registry.load("visit").version == second
    about = registry.show("visit")
    assert about["method"] == "permuted"
    assert [entry["version"] for entry in about["promotions"]] == [first, second]
    assert registry.rollback(STREAM) == first
    assert registry.current("visit") == first
    with pytest.raises(ConfigurationError, match="no earlier"):
        registry.rollback(STREAM)


def test_each_role_has_a_pointer_of_its_own(tmp_path: Path, bundles: dict[str, Bundle]) -> None:
    registry = Registry(tmp_path / "models")
    champion = registry.add(bundles["supervised"], STREAM)
    pointer = (tmp_path / "models/visit/current.json").read_bytes()
    challenger = registry.add(bundles["permuted"], STREAM, role="challenger")
    registry.promote(champion, STREAM, "content")
    assert (tmp_path / "models/visit/current.json").read_bytes() == pointer, "the champion's is as it was"
    assert [registry.current("visit", role) for role in ("champion", "challenger", "content", "other")] == [
        champion, challenger, champion, None,
    ]  # fmt: skip
    assert {entry.version: (entry.current, entry.roles) for entry in registry.list()} == {
        champion: (True, ("champion", "content")),
        challenger: (False, ("challenger",)),
    }
    about = registry.show("visit", challenger)
    assert (about["current"], about["roles"]) == (False, ["challenger"])
    assert [entry["version"] for entry in about["role_promotions"]["challenger"]] == [challenger]
    registry.promote(champion, STREAM, "challenger")
    assert registry.rollback(STREAM, "challenger") == challenger
    assert Registry(tmp_path / "models").current("visit", "challenger") == challenger
    for role in ("challenger", "never"):
        with pytest.raises(ConfigurationError, match=f"in the role '{role}'"):
            registry.rollback(STREAM, role)
    assert registry.current("visit") == champion


def test_what_was_added_scores_alike(tmp_path: Path, bundle: Bundle) -> None:
    registry = Registry(tmp_path / "models")
    registry.add(bundle, STREAM)
    assert registry.load("visit", threads=2).score(TEST).tolist() == bundle.score(TEST).tolist()


def test_is_private(tmp_path: Path, one: Bundle) -> None:
    registry = Registry(tmp_path / "models")
    version = registry.add(one, STREAM)
    folders = [tmp_path / "models", tmp_path / "models/visit", tmp_path / "models/visit" / version]
    assert {mode(folder) for folder in folders} == {0o700}
    assert mode(tmp_path / "models/visit/current.json") == 0o600


def test_another_process_sees_a_promotion_by_its_stamp(tmp_path: Path, one: Bundle) -> None:
    writer, reader = Registry(tmp_path), Registry(tmp_path)
    first = writer.add(one, STREAM)
    assert reader.current("visit") == first
    second = writer.add(one, STREAM)
    assert reader.current("visit") == second


def test_the_pointer_is_read_only_when_it_changed(tmp_path: Path, one: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(tmp_path)
    version = registry.add(one, STREAM)
    assert registry.current("visit") == version

    def never(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Registry, "_history", never)
    assert registry.current("visit") == version


def test_roll_back_skips_a_damaged_version(tmp_path: Path, one: Bundle) -> None:
    registry = Registry(tmp_path)
    first, second, _ = (registry.add(one, STREAM) for _ in range(3))
    (tmp_path / "visit" / second / "model.ubj").write_bytes(b"")
    assert registry.rollback(STREAM) == first


def test_a_damaged_version_is_listed_with_its_problem_and_not_promoted(tmp_path: Path, one: Bundle) -> None:
    registry = Registry(tmp_path)
    kept, damaged = (registry.add(one, STREAM, promote=number == 0) for number in range(2))
    (tmp_path / "visit" / damaged / "bundle.json").write_bytes(b"{}")
    assert [bool(entry.problem) for entry in registry.list("visit")] == [False, True]
    with pytest.raises(DataError):
        registry.promote(damaged, STREAM)
    assert registry.current("visit") == kept


@pytest.mark.parametrize("name", ["visit-999999-beef", "../visit-000001-aaaa", "login-000001-aaaa", "x", ""])
def test_an_unknown_version_is_refused(tmp_path: Path, one: Bundle, name: str) -> None:
    registry = Registry(tmp_path)
    registry.add(one, STREAM)
    with pytest.raises(ConfigurationError, match="has no model version"):
        registry.promote(name or "visit-", STREAM)


def test_a_damaged_pointer_says_what_to_do(tmp_path: Path, one: Bundle) -> None:
    registry = Registry(tmp_path)
    registry.add(one, STREAM)
    (tmp_path / "visit/current.json").write_text('{"promotions": 3}')
    with pytest.raises(DataError, match="damaged"):
        registry.current("visit")


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(replace(STREAM, name="login"), "not 'login'", id="another stream"),
        pytest.param(
            replace(STREAM, schema=pl.Schema({name: kind for name, kind in SCHEMA.items() if name != "load"})),
            "load was Float64, is missing",
            id="column gone",
        ),
        pytest.param(
            replace(STREAM, schema=pl.Schema({**SCHEMA, "status": pl.String()})),
            "status was Int64, is String",
            id="column of another type",
        ),
    ],
)
def test_import_refuses_what_does_not_fit(tmp_path: Path, one: Bundle, stream: Any, said: str) -> None:
    save_bundle(one, tmp_path / "bundle")
    registry = Registry(tmp_path / "models")
    with pytest.raises(DataError, match=said):
        registry.import_(tmp_path / "bundle", stream)
    assert registry.list() == ()


def test_import_of_an_altered_bundle_is_refused(tmp_path: Path, one: Bundle) -> None:
    save_bundle(one, tmp_path / "bundle")
    (tmp_path / "bundle/model.ubj").write_bytes(b"other trees")
    with pytest.raises(DataError, match="sha256"):
        Registry(tmp_path / "models").import_(tmp_path / "bundle", STREAM)


def test_import_keeps_the_scores(tmp_path: Path, bundle: Bundle) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    registry = Registry(tmp_path / "models")
    version = registry.import_(tmp_path / "bundle", STREAM, promote=True)
    assert registry.current("visit") == version
    assert registry.load("visit").score(TEST).tolist() == load_bundle(tmp_path / "bundle").score(TEST).tolist()


class _Crash(BaseException):
    """Not an Exception: nothing may handle it."""


def _crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the number-th call that changes the disk crash before it happens; how many calls there were."""
    calls = 0

    def guard(real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise _Crash
            return real(*given, **named)

        return guarded

    monkeypatch.setattr(os, "fsync", guard(os.fsync))
    monkeypatch.setattr(Path, "rename", guard(Path.rename))
    monkeypatch.setattr(Path, "replace", guard(Path.replace))
    monkeypatch.setattr(Path, "mkdir", guard(Path.mkdir))
    # After a crash nobody cleans up.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    return lambda: calls


def test_a_crash_at_any_step_of_adding_leaves_the_old_or_the_new(tmp_path: Path, one: Bundle) -> None:
    number, crashed = 0, True
    while crashed:
        number += 1
        folder = tmp_path / str(number)
        old = Registry(folder).add(one, STREAM)
        with pytest.MonkeyPatch.context() as patch:
            _crash_at(number, patch)
            try:
                new = Registry(folder).add(one, STREAM)
                crashed = False
            except _Crash:
                new = ""
        after = Registry(folder)
        current = after.current("visit")
        versions = [entry.version for entry in after.list()]
        assert current in ({old} if new == "" and len(versions) == 1 else set(versions))
        assert all(entry.problem is None for entry in after.list())
        assert after.load("visit").score(TEST).tolist() == one.score(TEST).tolist()
        assert after.add(one, STREAM) not in versions
    assert number > 8


def _add_some(folder: Path, source: Path) -> None:
    bundle = load_bundle(source)
    for _ in range(4):
        Registry(folder).add(bundle, STREAM)


@pytest.mark.slow
def test_processes_add_at_the_same_time(tmp_path: Path, one: Bundle) -> None:
    save_bundle(one, tmp_path / "bundle")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_add_some, args=(tmp_path / "models", tmp_path / "bundle")) for _ in range(3)]
    for worker in workers:
        worker.start()
    registry, seen = Registry(tmp_path / "models"), set()
    while any(worker.is_alive() for worker in workers):
        if version := registry.current("visit"):
            seen.add(registry.load("visit", version).version)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [int(entry.version.split("-")[1]) for entry in registry.list()] == list(range(1, 13))
    assert len(json.loads((tmp_path / "models/visit/current.json").read_text())["promotions"]) == 12


def test_scoring_needs_neither_scikit_learn_nor_pandas(tmp_path: Path, bundle: Bundle) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    code = (
        "import sys; from pathlib import Path; from hackwatch.detect.registry import Registry; "
        "from hackwatch.detect.bundle import load_bundle; from hackwatch.detect.registry.canary import canary_batch; "
        "from tests.detect.support import STREAM; bundle = load_bundle(Path(sys.argv[1])); "
        "batch = canary_batch(bundle, STREAM); bundle.score(batch); bundle.explain(batch); "
        "print([name for name in ('sklearn', 'joblib') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert found.stdout.strip() == "[]"
