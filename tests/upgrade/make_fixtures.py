"""Makes the fixtures: runs real engines of version 0.1, ends them in the middle of work, and packs what they left.

Run it from a checkout of version 0.1, with hackwatch 0.1 and the parts for Spark installed, in about five minutes:

    python -m tests.upgrade.make_fixtures

All archives have the same messages in their topics, so one undisturbed run says what must come of each of them. What
every folder has in common (topics, models, settings) is packed once. A store names the host that its engine ran on:
`unshare --uts sh -c 'hostname localhost; python -m tests.upgrade.make_fixtures'` gives it another name.

The messages are such that finer notions of time judge them alike: a machine's records are in one partition, all
machines come forward together within seconds, what is late is more than a minute behind its own machine too, and the
end is far from any boundary of a window. Some messages are sent again across the moments at which engines end.
"""

from __future__ import annotations

import json
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import hackwatch
from hackwatch.families.host.simulate import Faults, generate
from hackwatch.families.host.simulate.bulk import Batch
from tests.engine.processes import NAMES, START, STARTED, EngineProcess, Folder, add_models, until, work_off
from tests.spark.drivers import Driver, batches, command, commits, logged, read
from tests.spark.support import SPARK
from tests.upgrade.support import EXPECTED, FIXTURES, query, summary

#: With this seed both partitions see attacks, and one goes on while engines end.
SEED, MACHINES, PROCESSES, ATTACK_SHARE = 30, 9, 5, 0.1
#: Between two samples of a machine, and in all: windows of two minutes end far from here.
SAMPLE_SECONDS, SECONDS = 6, 420
FAULTS = Faults(disorder_seconds=2, late_share=0.025, late_seconds=(68.5, 70), malformed_share=0.005)
#: Samples that are committed when an engine ends; up to where it may have read, with a new interval of suppression and
#: so with alerts; the rest comes after its end.
COMMITTED, BEGUN, ALL = 38, 45, SECONDS // SAMPLE_SECONDS
#: Samples before which the last message of each machine comes again.
REPEATED = (*range(3, ALL, 5), BEGUN)

#: Between these samples are the batches of Spark: it calls a window final a batch later than the embedded engine.
SPARK_PARTS = (0, 13, 27, COMMITTED)
EPOCH = "SELECT epoch FROM pipeline"
#: How many queries the pipeline is on Spark, and after how long a silence they are done.
QUERIES, REST_SECONDS = 5, 4.0

SETTINGS = """\
[engine]
epoch_seconds = 6.0
idle_seconds = 1e9
batch_bytes = 65536
status_seconds = 1.0
[detection]
drift_alerts = false
[alerts]
suppress_seconds = 240
window_warmup = 1
window_minimum = 1
[lake]
compact_minutes = 0
retention_hours = 1e6
[store]
retention_days = 1e6
[spool]
retention_gib = 0.0
retention_hours = 0.0
[log]
format = "json"
[streams.process]
duplicates_key = "uuid"
"""
#: What all folders have in common, apart from the settings.
COMMON = ("spool/*/topic.json", "spool/*/p*/*", "models/**/*")
#: What is of no use to anybody else.
LEFT_OUT = ("engine.lock", "store.sqlite-shm")

Sample = dict[str, list[tuple[str, bytes]]]


def samples() -> list[Sample]:
    """Messages of each stream by machine, sample for sample; the first one without faults, so that all clocks begin."""
    found = [_parts(batch) for batch in islice(_generated(FAULTS), ALL)]
    found[0] = _parts(next(_generated(None)))
    for at in REPEATED:
        found[at]["process"] = _repeated(found[at - 1]["process"]) + found[at]["process"]
    return found


def _generated(faults: Faults | None) -> Iterator[Batch]:
    return generate(
        1_000_000,
        SEED,
        machines=MACHINES,
        processes=PROCESSES,
        attack_share=ATTACK_SHARE,
        start=START,
        records_per_second=2 * MACHINES * PROCESSES / SAMPLE_SECONDS,
        identified=True,
        faults=faults,
    )


def _parts(batch: Batch) -> Sample:
    return {name: list(getattr(batch, name).parts()) for name in NAMES}


def _repeated(sample: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """For each machine the last message that is on time for sure: its source sends it again."""
    again = []
    for machine, lines in sample:
        newest = [line for line in lines.splitlines(keepends=True) if line.startswith(b'{"sequence"')]
        again.append((machine, max(newest, key=lambda line: float(json.loads(line)["ts"]))))
    return again


def write(folder: Folder, some: Sequence[Sample], *, pause: float = 0.0) -> None:
    for sample in some:
        with folder.writers() as writers:
            for name in NAMES:
                for machine, lines in sample[name]:
                    writers[name].append_payload(lines, key=machine)
        time.sleep(pause)


def make(path: Path, models: Path | None, *, more: str = "") -> Folder:
    """A data folder with settings and models, its own or copied ones."""
    folder = Folder(path)
    for private in (path, folder.data):
        private.mkdir(mode=0o700)
    folder.config.write_text(more + SETTINGS)
    if models is None:
        add_models(folder, seed=1)
    else:
        shutil.copytree(models, folder.data / "models")
    with folder.writers():
        pass  # the topics are there before the first engine is
    return folder


def commit_first(folder: Folder, engine: EngineProcess, story: Sequence[Sample]) -> None:
    """One epoch; more messages come then."""
    until(lambda: folder.worked_off() or not engine.alive, "the first part is committed")
    assert engine.alive, engine.log
    write(folder, story[COMMITTED:BEGUN], pause=0.05)
    assert query(folder, EPOCH) == [(1,)], "this machine is too slow: the second epoch is over"


def kill_embedded(folder: Folder, story: Sequence[Sample]) -> None:
    """One epoch is committed; micro-batches of the next one are logged, and some are not."""
    write(folder, story[:COMMITTED])
    with folder.run() as engine:
        commit_first(folder, engine, story)
        engine.kill()
    assert query(folder, EPOCH) == [(1,)]
    assert query(folder, "SELECT count(*) FROM batch") > [(2,)]
    write(folder, story[BEGUN:])


def stop_embedded(folder: Folder, story: Sequence[Sample]) -> None:
    """Ctrl-C, with which the second epoch is committed."""
    write(folder, story[:COMMITTED])
    with folder.run() as engine:
        commit_first(folder, engine, story)
        engine.send(signal.SIGINT)
        assert engine.ended() == 0, engine.log
    assert query(folder, EPOCH) == [(2,)]
    write(folder, story[BEGUN:])


def kill_spark(folder: Folder, story: Sequence[Sample]) -> bool:
    """Some batches of every query are committed, another one of ingest is begun; True if it is in the lake already."""
    with Driver(folder, command(folder)) as driver:
        driver.wait_for(lambda: STARTED in driver.log, "the engine starts")
        for first, last in pairwise(SPARK_PARTS):
            before = batches(folder)
            write(folder, story[first:last])
            driver.wait_for(partial(_worked, folder, before), "all queries have worked")
            _rest(folder)
        at_rest = commits(folder)
        write(folder, story[COMMITTED:BEGUN])
        until(lambda: commits(folder) > at_rest, "a commit to the lake", pause=0.0)
        driver.kill()
    write(folder, story[BEGUN:])
    return logged(folder) > 0


def _worked(folder: Folder, before: int) -> bool:
    return read(folder) and batches(folder) >= before + QUERIES


def _rest(folder: Folder) -> None:
    """Until no query has worked for a while."""
    now, before = batches(folder), -1
    while now > before:
        time.sleep(REST_SECONDS)
        now, before = batches(folder), now


def pack(archive: str, files: Sequence[Path], root: Path) -> None:
    """Files with names below `root`, without what tells of the machine: owners and times."""
    with tarfile.open(FIXTURES / f"{archive}.tar.xz", "w:xz", preset=9) as tar:
        for path in sorted(files):
            tar.add(path, path.relative_to(root), recursive=False, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(START)
    return member


def common(folder: Folder) -> list[Path]:
    return [path for pattern in COMMON for path in folder.data.glob(pattern)]


def own(folder: Folder) -> list[Path]:
    left_out = {*common(folder), *(folder.data / name for name in LEFT_OUT)}
    return [path for path in folder.data.rglob("*") if path not in left_out]


def main() -> None:
    assert hackwatch.__version__.startswith("0.1."), "the fixtures are those of version 0.1"
    FIXTURES.mkdir(exist_ok=True)
    story = samples()
    with tempfile.TemporaryDirectory() as base:
        calm = make(Path(base) / "calm", None)
        models = calm.data / "models"
        write(calm, story)
        work_off(calm)
        EXPECTED.write_text(_json(summary(calm)))
        pack("topics", [calm.config, *common(calm)], calm.path)
        killed, stopped = (make(Path(base) / name, models) for name in ("killed", "stopped"))
        kill_embedded(killed, story)
        stop_embedded(stopped, story)
        number = 0
        while not kill_spark(sparkling := make(Path(base) / f"spark-{number}", models, more=SPARK), story):
            number += 1
        folders = {"embedded-killed": killed, "embedded-stopped": stopped, "spark-killed": sparkling}
        for name, folder in folders.items():
            assert [path.read_bytes() for path in common(folder) if path.is_file()] == [
                path.read_bytes() for path in common(calm) if path.is_file()
            ]
            pack(name, own(folder), folder.path)


def _json(found: Mapping[str, Any]) -> str:
    """A line for each entry, so that a difference can be read."""
    parts = []
    for name, entries in found.items():
        if isinstance(entries, dict):
            parts.append(
                (name, "{", [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()], "}")
            )
        else:
            parts.append((name, "[", [json.dumps(entry) for entry in entries], "]"))
    shown = (f"{json.dumps(name)}: {begin}\n" + ",\n".join(lines) + f"\n{end}" for name, begin, lines, end in parts)
    return "{\n" + ",\n".join(shown) + "\n}\n"


if __name__ == "__main__":
    main()
