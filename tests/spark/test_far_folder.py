"""A checkpoint folder that only Hadoop can reach: clocks and keys come to the tasks as broadcast variables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hackwatch.errors import DataError
from tests.engine.processes import Folder, Outcome, feed
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, on_spark, work_off_embedded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture
def far(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    """The address of a folder that is not of this file system, in the eyes of Hadoop and of hackwatch."""
    mounted = f"fs.viewfs.mounttable.far.link./{tmp_path.parts[1]}"
    spark.conf.set(mounted, f"file:///{tmp_path.parts[1]}")
    yield f"viewfs://far{tmp_path}/checkpoints"
    spark.conf.unset(mounted)


def test_state_is_carried_over_and_a_lost_file_is_named(spark: SparkSession, far: str, tmp_path: Path) -> None:
    embedded = Folder.make(tmp_path / "embedded")
    sparkling = Folder.make(tmp_path / "spark", more=SPARK + f'checkpoint = "{far}"\n')
    for part in (1, 2):
        for folder in (embedded, sparkling):
            feed(folder, 3000, seed=part)
        work_off_embedded(embedded)
        on_spark(sparkling, spark)
    found = Outcome.of(sparkling)
    assert_same(found, Outcome.of(embedded))
    assert found.accounting["duplicate"].sum() > 20
    state = tmp_path / "checkpoints" / "main" / "state-process"
    names = sorted(path.name for path in state.iterdir() if not path.name.startswith("."))
    assert [name.split(".")[:2] for name in names] == [[kind, n] for kind in ("clocks", "keys") for n in "01"]
    (state / names[0]).unlink()
    with pytest.raises(DataError, match=f"has lost the file {names[0]}") as error:
        on_spark(sparkling, spark)
    assert f"{far}/main/state-process/{names[0]}" in str(error.value)
