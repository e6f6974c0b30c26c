"""What a killed driver leaves in the checkpoint folder of a query that has hardly begun.

Spark writes each file of a checkpoint under a hidden name, `.NAME.UUID.tmp`, and renames it. A kill in between leaves
the hidden file. Since 4.1 Spark begins a query only if `offsets`, `commits` and `state` are empty, so that nobody adds
to the state of another query; but it counts the hidden file too, and the query would never start again. Once there are
the offsets of a batch Spark does not look, and what is left does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["clear_unfinished"]

#: `.0.UUID.tmp`, from a task `.1.delta.UUID.TID7.tmp`.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.TID\d+)?\.tmp")
_BATCH = re.compile(r"\d+")


def clear_unfinished(spark: SparkSession, folder: str) -> list[str]:
    """Delete unfinished writes below a query's checkpoint folder if it has no whole batch; the names of the files.

    `folder`: as Spark is told it, a path or an address that Hadoop knows (hdfs://, s3a://); it need not exist. The
    checksums (`.crc`) of local files go with them. Raises what py4j makes of Hadoop's errors.
    """
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(folder)
    # As Spark itself reads the checkpoint: with what the session says of Hadoop, and where no scheme is named on its
    # default file system, which need not be this machine's.
    files = path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    logs = [jvm.org.apache.hadoop.fs.Path(path, name) for name in ("offsets", "commits")]
    if not files.exists(path) or any(_has_batch(files, log) for log in logs):
        return []
    unfinished = [found for found in _below(files, path) if _UNFINISHED.fullmatch(found.getName())]
    for found in unfinished:
        files.delete(found, False)
    return [str(found.getName()) for found in unfinished]


def _has_batch(files: Any, log: Any) -> bool:
    return files.exists(log) and any(_BATCH.fullmatch(status.getPath().getName()) for status in files.listStatus(log))


def _below(files: Any, path: Any) -> Iterator[Any]:
    """The paths of all files below one."""
    found = files.listFiles(path, True)
    while found.hasNext():
        yield found.next().getPath()
