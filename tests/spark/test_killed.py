"""A real driver of Spark killed with SIGKILL again and again: what it keeps equals an undisturbed run."""

from __future__ import annotations

import random
import time
from functools import lru_cache
from pathlib import Path

import pytest

from hackwatch.families.host.simulate.bulk import Batch
from hackwatch.lake import Lake
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.processes import FAULTS, NAMES, Folder, Outcome, simulated
from tests.servers.kafka import Broker
from tests.servers.spark import missing
from tests.sizes import size
from tests.spark.drivers import Driver, batches, command, commits, logged
from tests.spark.support import SPARK, assert_same, work_off_embedded

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

RECORDS, KILLS, SEED = size(24_000, 12_000), size(10, 5), 7


@lru_cache(maxsize=1)
def made() -> list[Batch]:
    return list(simulated(RECORDS, SEED, FAULTS))


def write(folder: Folder, life: int) -> None:
    """The share of the records of one life."""
    share = made()[life * len(made()) // KILLS : (life + 1) * len(made()) // KILLS]
    assert share, "every life has something to do"
    with folder.writers() as writers:
        for batch in share:
            for name in NAMES:
                getattr(batch, name).write_to(writers[name])


def live(folder: Folder, chance: random.Random, *, at_the_lake: bool) -> None:
    """Start a driver, and kill it: just when the lake has grown, or some time after a batch."""
    before = commits(folder), batches(folder)
    with Driver(folder, command(folder)) as driver:
        if at_the_lake:
            driver.wait_for(lambda: commits(folder) > before[0], "a commit to the lake")
        else:
            driver.wait_for(lambda: batches(folder) > before[1], "a batch")
            time.sleep(chance.uniform(0.0, 1.0))


@pytest.mark.timeout(3600)
def test_every_record_counts_once_over_many_kills(kafka: Broker, tmp_path: Path) -> None:
    """Both read the same topics of Kafka, the undisturbed one by the embedded engine."""
    chance = random.Random(SEED)
    for name in NAMES:
        kafka.create(f"spark-killed-{name}", 2)
    calm = KafkaFolder.on(tmp_path / "calm", kafka, "spark-killed")
    disturbed = KafkaFolder.on(tmp_path / "disturbed", kafka, "spark-killed", more=SPARK)
    unfinished = 0
    for number in range(KILLS):
        write(disturbed, number)
        live(disturbed, chance, at_the_lake=number % 2 == 0)
        unfinished += logged(disturbed) > 0
    work_off_embedded(calm)
    calm.close()
    with Driver(disturbed, command(disturbed, "--available-now")) as last:
        assert last.ended() == 0, last.log[-4000:]
    assert unfinished, "some kill came between the lake and the store, or before"
    assert_same(Outcome.of(disturbed), Outcome.of(calm))
    for name in NAMES:
        rows = Lake(disturbed.data / "lake").scan(name).select("partition", "offset", "index").collect()
        assert rows.is_unique().all()
