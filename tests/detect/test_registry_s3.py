"""A registry in a bucket: the same as in a folder, for several machines at once."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from hackwatch.alerts.system import Notice
from hackwatch.cli import main
from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.registry import Registry
from hackwatch.detect.registry.bucket_storage import BucketStorage
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.objects import Bucket
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.registry import WatchedRegistry
from tests.conftest import mode
from tests.detect.support import STREAM, records
from tests.servers.s3 import SECRET, Server
from tests.third.support import labelled, shop

__all__ = ["shop"]

pytestmark = pytest.mark.slow
TEST = records(20, seed=3)
Machine = Callable[[str], Registry]


@pytest.fixture
def url(s3: Server) -> str:
    return f"{s3.bucket()}/shared/models"


@pytest.fixture
def machine(s3: Server, url: str, tmp_path: Path) -> Machine:
    """The registry as a machine of this name sees it."""
    return lambda name: Registry(BucketStorage(url, s3.options, tmp_path / name))


@pytest.fixture
def one(bundles: dict[str, Bundle]) -> Bundle:
    return bundles["supervised"]


def test_an_empty_registry(machine: Machine) -> None:
    registry = machine("a")
    assert registry.current("visit") is None
    assert registry.list() == ()
    with pytest.raises(DataError, match="no model"):
        registry.load("visit")
    with pytest.raises(ConfigurationError, match="no model"):
        registry.rollback(STREAM)


def test_what_one_machine_does_the_other_sees(machine: Machine, bundles: dict[str, Bundle]) -> None:
    here, there = machine("here"), machine("there")
    first = here.add(bundles["supervised"], STREAM)
    second = there.add(bundles["permuted"], STREAM, promote=False)
    assert (first[:13], second[:13]) == ("visit-000001-", "visit-000002-")
    assert there.current("visit") == first
    assert [(entry.version, entry.current, entry.method) for entry in here.list()] == [
        (first, True, "supervised"),
        (second, False, "permuted"),
    ]
    here.promote(second, STREAM)
    assert there.load("visit").version == second
    about = there.show("visit")
    assert about["method"] == "permuted"
    assert [entry["version"] for entry in about["promotions"]] == [first, second]
    assert there.rollback(STREAM) == first
    assert here.current("visit") == first
    with pytest.raises(ConfigurationError, match="no earlier"):
        here.rollback(STREAM)
    with pytest.raises(ConfigurationError, match="has no model version"):
        here.promote("visit-000009-beef", STREAM)


def test_what_was_added_scores_alike_elsewhere(machine: Machine, bundle: Bundle) -> None:
    machine("here").add(bundle, STREAM)
    assert machine("there").load("visit", threads=2).score(TEST).tolist() == bundle.score(TEST).tolist()


def test_copies_are_private(machine: Machine, one: Bundle, tmp_path: Path) -> None:
    machine("here").add(one, STREAM)
    machine("there").load("visit")
    for path in (tmp_path / "there").rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_the_layout_is_that_of_a_folder(machine: Machine, one: Bundle, s3: Server, url: str, tmp_path: Path) -> None:
    """So that whoever has a folder of models can copy it there."""
    version = Registry(tmp_path / "models").add(one, STREAM)
    for file in (tmp_path / "models").rglob("*"):
        if file.is_file():
            Bucket(url, s3.options).write(file.relative_to(tmp_path / "models").as_posix(), file)
    registry = machine("there")
    assert registry.load("visit").version == version
    assert registry.add(one, STREAM)[:13] == "visit-000002-"


def test_a_damaged_copy_is_fetched_again(machine: Machine, one: Bundle, tmp_path: Path) -> None:
    registry = machine("here")
    version = registry.add(one, STREAM)
    registry.load("visit")
    copy = next((tmp_path / "here").rglob(f"{version}/model.ubj"))
    copy.write_bytes(b"other trees")
    assert registry.load("visit").score(TEST).tolist() == one.score(TEST).tolist()


def test_a_bundle_that_was_altered_in_the_bucket_is_refused(
    machine: Machine, one: Bundle, s3: Server, url: str
) -> None:
    kept, damaged = (machine("here").add(one, STREAM, promote=number == 0) for number in range(2))
    (s3.file(url) / "visit" / damaged / "model.ubj").write_bytes(b"other trees")
    registry = machine("there")
    with pytest.raises(DataError, match="sha256"):
        registry.promote(damaged, STREAM)
    assert registry.current("visit") == kept


def test_half_a_bundle_is_none_and_its_number_is_not_used_again(
    machine: Machine, one: Bundle, s3: Server, url: str
) -> None:
    """A trainer that dies while it writes leaves files without the document that makes them a bundle."""
    half = machine("here").add(one, STREAM, promote=False)
    (s3.file(url) / "visit" / half / "bundle.json").unlink()
    registry = machine("there")
    assert registry.list() == ()
    with pytest.raises(ConfigurationError, match="has no model version"):
        registry.promote(half, STREAM)
    assert registry.add(one, STREAM)[:13] == "visit-000002-"


def _add_some(url: str, options: Mapping[str, str], cache: Path, source: Path) -> None:
    bundle = load_bundle(source)
    registry = Registry(BucketStorage(url, options, cache))
    for _ in range(5):
        registry.add(bundle, STREAM)


def test_trainers_on_two_machines_take_different_numbers_and_lose_no_promotion(
    machine: Machine, one: Bundle, s3: Server, url: str, tmp_path: Path
) -> None:
    save_bundle(one, tmp_path / "bundle")
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=_add_some, args=(url, s3.options, tmp_path / name, tmp_path / "bundle")) for name in "ab"
    ]
    for worker in workers:
        worker.start()
    registry, seen = machine("reader"), set()
    while any(worker.is_alive() for worker in workers):
        if version := registry.current("visit"):
            seen.add(registry.load("visit", version).version)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    versions = [entry.version for entry in registry.list()]
    assert [int(version.split("-")[1]) for version in versions] == list(range(1, 11))
    promoted = [entry["version"] for entry in registry.show("visit")["promotions"]]
    assert sorted(promoted) == versions
    assert seen <= set(versions)


def test_of_two_that_promote_at_once_neither_is_lost(machine: Machine, one: Bundle) -> None:
    registry = machine("here")
    versions = [registry.add(one, STREAM, promote=False) for _ in range(4)]
    start = threading.Barrier(4)

    def promote(number: int) -> None:
        mine = machine(f"machine-{number}")
        start.wait()
        mine.promote(versions[number], STREAM)

    threads = [threading.Thread(target=promote, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promoted = [entry["version"] for entry in registry.show("visit")["promotions"]]
    assert sorted(promoted) == versions


@pytest.mark.usefixtures("shop")
def test_commands_work_on_it(s3: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET", SECRET)

    def on(machine: str, *arguments: str) -> str:
        config = tmp_path / f"{machine}.toml"
        config.write_text(f'data = "{machine}"\n[detection]\nmodels = "{url}"\n{s3.settings()}')
        done = CliRunner().invoke(main, ["--config", str(config), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    labelled("visit", 1, 3000).write_ndjson(tmp_path / "visit.ndjson")
    training = ("train", "--as", "visit", str(tmp_path / "visit.ndjson"), "--trees", "3")
    first = on("trainer", *training).split(":")[0]
    on("trainer", *training, "--seed", "2", "--out", str(tmp_path / "bundle"))
    assert f"* {first}" in on("berlin", "models", "list")
    second = on("madrid", "models", "import", str(tmp_path / "bundle")).split()[-1]
    assert (first[:13], second[:13]) == ("visit-000001-", "visit-000002-")
    assert f"engines use {second} now" in on("berlin", "models", "promote", second)
    assert second in on("madrid", "models", "show", "visit")
    assert f"engines use {first} again" in on("trainer", "models", "rollback", "visit")
    assert f"* {first}" in on("madrid", "models", "list")


# ---------------------------------------------------------------------- as an engine sees it, and the server away


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def raises(watched: WatchedRegistry) -> bool:
    try:
        watched.current("visit")
    except ResourceError:
        return True
    return False


def test_an_engine_outlives_its_registry(own_s3: Server, one: Bundle, tmp_path: Path) -> None:
    url = own_s3.bucket()
    options = {**own_s3.options, "connect_timeout": "1s"}
    trainer = Registry(BucketStorage(url, options, tmp_path / "trainer"))
    first = trainer.add(one, STREAM)

    def engine() -> WatchedRegistry:
        watched = WatchedRegistry(Registry(BucketStorage(url, options, tmp_path / "engine")), ("visit", "login"), 1.0)
        watched.start()
        return watched

    watched = engine()
    assert (watched.current("visit"), watched.current("login")) == (first, None)
    second = trainer.add(one, STREAM)
    until(lambda: watched.current("visit") == second)
    own_s3.stop()
    until(lambda: raises(watched))
    assert watched.load("visit", second).version == second, "its copy is on this machine"
    watched.close()

    later = engine()
    assert later.current("visit") == second, "what this machine saw last"
    until(lambda: raises(later))
    own_s3.start()
    until(lambda: not raises(later))
    third = trainer.add(one, STREAM)
    until(lambda: later.current("visit") == third)
    later.close()


def test_an_engine_that_asks_late_gets_its_copy_though_the_registry_has_gone(
    own_s3: Server, one: Bundle, tmp_path: Path
) -> None:
    url = own_s3.bucket()
    options = {**own_s3.options, "connect_timeout": "1s"}
    first = Registry(BucketStorage(url, options, tmp_path / "trainer")).add(one, STREAM)
    watched = WatchedRegistry(Registry(BucketStorage(url, options, tmp_path / "engine")), ("visit",), 1.0)
    reports: list[Notice] = []
    models = Models(watched, ("visit",), reports.append)
    watched.start()
    own_s3.stop()
    time.sleep(4.0)  # the thread has looked again, and was refused
    models.refresh()
    assert (models.current().versions(), reports) == ({"visit": first}, [])
    models.refresh()
    assert [notice.title for notice in reports] == [f"The registry of models cannot be read, going on with {first}"]
    watched.close()
