"""Looks at the machine: every finding says what is there, whether it is enough, and what helps."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import resource
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hackwatch import streams
from hackwatch.config import Settings
from hackwatch.config.folders import advice
from hackwatch.errors import ConfigurationError, HackwatchError
from hackwatch.feeds.collector import Collector, Finding, Level
from hackwatch.objects import Bucket, is_remote, storage_options
from hackwatch.topics.kafka.address import is_kafka

__all__ = ["EXTRAS", "Finding", "examine"]

#: Extra -> the module that shows that it is installed, and what it is for.
EXTRAS = {
    "apprise": ("apprise", "routes to e-mail, chat and others"),
    "kafka": ("confluent_kafka", "topics on Kafka"),
    "plot": ("matplotlib", "charts as pictures"),
    "postgres": ("psycopg", "a store on PostgreSQL"),
    "s3": ("obstore", "lake and models on S3"),
    "spark": ("pyspark", "the engine on Spark"),
    "tune": ("optuna", "tuning of models"),
    "bench": ("bytewax", "what the benchmark compares with"),
}
_MEND = "repair or uninstall its package; or, of a stream: [streams.NAME] enabled = false"
_MADE = 1_767_225_600  # 2026-01-01: a clock before this was never set


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; a check that itself fails is a fault that says so."""
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _python, _cores, _memory, _libraries, _data_folder, _disk, _buckets, _files, _streams, _topics, _store, _engine,
        _collectors, _clock, _extras, _java,
    ]  # fmt: skip
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(settings)
        except Exception as error:
            name = check.__name__.strip("_").replace("_", " ")
            findings.append(Finding(name, "fault", f"could not be looked at: {error}"))
    return findings


def _python(_: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("python", "ok", f"{version} ({sys.executable})")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() in ("Linux", "Darwin"):
        yield Finding("system", "ok", system)
    else:
        yield Finding("system", "hint", f"{system}: not tested", "use Linux or macOS, or WSL")


def _cores(_: Settings) -> Iterator[Finding]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"{count} core{'s' if count > 1 else ''}"
    yield (
        Finding("processor", "ok", what)
        if count > 1
        else Finding("processor", "hint", f"{what}: feed and engine share it", "two cores or more for high rates")
    )


def _memory(_: Settings) -> Iterator[Finding]:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        size = min(size, int(text) / 2**30)
    level: Level = "ok" if size >= 1 else "hint"
    yield Finding("memory", level, f"{size:.1f} GiB", "" if level == "ok" else "the engine wants about 0.5 GiB")


def _libraries(_: Settings) -> Iterator[Finding]:
    try:
        import xgboost
    except Exception as error:  # its loader raises its own error when the OpenMP library is missing
        mac = platform.system() == "Darwin"
        yield Finding(
            "xgboost",
            "fault",
            f"cannot be loaded: {str(error).strip().splitlines()[0]}",
            "brew install libomp" if mac else "python -m pip install --force-reinstall xgboost-cpu",
        )
    else:
        yield Finding("xgboost", "ok", xgboost.__version__)


def _data_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data
    if not folder.exists():
        parent = _existing(folder)
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("data folder", "ok", f"{folder} will be made")
        else:
            yield Finding("data folder", "fault", f"{folder} cannot be made in {parent}", "hackwatch --data DIR ...")
        return
    status = folder.stat()
    if not folder.is_dir():
        yield Finding("data folder", "fault", f"{folder} is not a folder", "hackwatch --data DIR ...")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data folder", "fault", f"{folder} cannot be written", advice(folder, "sudo chown -R $USER"))
    elif stat.S_IMODE(status.st_mode) & 0o077 and any(folder.iterdir()):
        yield Finding("data folder", "fault", f"other users may enter {folder}", advice(folder, "chmod 700"))
    else:
        yield Finding("data folder", "ok", str(folder))


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.data)).free / 2**30
    wanted = settings.spool.retention_gib or 10
    level: Level = "fault" if free < 0.1 else "hint" if free < wanted else "ok"
    advice = "" if level == "ok" else f"free some space, or lower spool.retention_gib (now {wanted:g}) and keep less"
    yield Finding("disk space", level, f"{free:.1f} GiB free", advice)


def _buckets(settings: Settings) -> Iterator[Finding]:
    """Whether lake and models in a bucket can be used: writes one small object there and deletes it."""
    for name, place in (("lake", settings.lake_location), ("models", settings.models_location)):
        if is_remote(place):
            try:
                Bucket(place, storage_options(settings.lake.storage)).prove(again=True)
            except HackwatchError as error:
                yield Finding(f"{name} on S3", "fault", f"{error.where}: {error.what}", error.next_step or "")
            else:
                yield Finding(f"{name} on S3", "ok", f"{place}: several writers are safe")


def _files(_: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    level: Level = "ok" if soft >= 256 else "hint"
    yield Finding("open files", level, f"at most {soft} (up to {hard})", "" if level == "ok" else "ulimit -n 1024")


def _streams(settings: Settings) -> Iterator[Finding]:
    """Whether every stream that is read, and every family, is declared completely."""
    names = [name for name, of in settings.streams.items() if of.enabled]
    loads: dict[str, Callable[[], object]] = {f"stream {name}": partial(streams.get, name) for name in names}
    loads |= {f"family {name}": partial(streams.family, name) for name in streams.family_names()}
    faults = 0
    for declared, load in loads.items():
        try:
            load()
        except ConfigurationError as error:
            faults += 1
            yield Finding(declared, "fault", "; ".join((error.what, *error.problems)), _MEND)
    if not faults:
        yield Finding("streams", "ok", ", ".join(names) or "none is enabled")


def _topics(settings: Settings) -> Iterator[Finding]:
    """Whether topics on Kafka can be reached; spools are made when they are needed."""
    for stream, of in settings.streams.items():
        if of.enabled and is_kafka(url := settings.spool_url(stream)):
            try:
                yield _topic(stream, url, settings)
            except HackwatchError as error:
                yield Finding(f"topic of {stream}", "fault", f"{error.where}: {error.what}", error.next_step or "")


def _topic(stream: str, url: str, settings: Settings) -> Finding:
    from hackwatch.topics.kafka.address import parse_address
    from hackwatch.topics.kafka.admin import describe_topic

    status = describe_topic(parse_address(url), settings.kafka, (settings.kafka_group,))
    if not status.partitions:
        what = f"{url} can be reached and does not exist yet"
        return Finding(f"topic of {stream}", "hint", what, f"hackwatch topics create {stream}, or a feed makes it")
    kept = f"{len(status.partitions)} partitions, {status.unread_messages:,} messages to read"
    return Finding(f"topic of {stream}", "ok", f"{url}: {kept}")


def _store(settings: Settings) -> Iterator[Finding]:
    """Whether a store that is elsewhere can be reached; the one in the data folder is made when it is needed."""
    if settings.store.url is None:
        return
    from hackwatch.store import NoStore, open_store

    try:
        open_store(settings.store_url, read_only=True).close()
    except NoStore:
        yield Finding("store", "ok", f"{settings.store.url} can be reached; the engine will make the tables")
    except HackwatchError as error:
        yield Finding("store", "fault", f"{error.where}: {error.what}", error.next_step or "")
    else:
        yield Finding("store", "ok", settings.store.url)


def _engine(settings: Settings) -> Iterator[Finding]:
    """Whether an engine works in the data folder: it holds a lock as long as it lives."""
    try:
        with settings.lock_file.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        yield Finding("engine", "ok", "not running")
    except BlockingIOError:
        yield Finding("engine", "ok", "running (hackwatch top shows it)")
    except OSError as error:
        yield Finding("engine", "fault", f"{settings.lock_file}: {error.strerror}")
    else:
        yield Finding("engine", "ok", "not running")


def _collectors(_: Settings) -> Iterator[Finding]:
    """What the collectors of all families need of the system."""
    for name, reference in streams.collectors().items():
        try:
            collector: Collector = streams.load(reference)
            yield from collector.examine()
        except Exception as error:  # a third party's
            yield Finding(name, "fault", f"could not be looked at: {error}", _MEND)


def _clock(settings: Settings) -> Iterator[Finding]:
    now = time.time()
    if now < _MADE:
        yield Finding(
            "clock", "fault", f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set it: timedatectl set-ntp true"
        )
        return
    newest = (
        max((path.stat().st_mtime for path in settings.data.glob("*")), default=0.0) if settings.data.is_dir() else 0.0
    )
    if newest > now + 60:
        yield Finding("clock", "hint", f"behind the newest data file by {newest - now:.0f} s", "check the time source")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now)))


def _extras(_: Settings) -> Iterator[Finding]:
    for extra, (module, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Finding(f"extra {extra}", "ok", f"installed: {purpose}")
        else:
            yield Finding(f"extra {extra}", "hint", f"not installed: {purpose}", f"pip install 'hackwatch[{extra}]'")


def _java(_: Settings) -> Iterator[Finding]:
    """Whether the engine on Spark would find a Java, if it is installed."""
    from hackwatch.spark.session import check_java

    if importlib.util.find_spec(EXTRAS["spark"][0]) is None:
        return
    try:
        check_java(os.environ)
    except HackwatchError as error:
        yield Finding("java", "hint", f"{error.where}: {error.what}", error.next_step or "")
    else:
        yield Finding("java", "ok", "new enough for Spark")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next((folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists()), Path("/"))
