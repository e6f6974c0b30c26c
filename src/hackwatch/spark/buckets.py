"""Buckets as Spark reaches them: the settings of the S3 server in the words of Hadoop's S3A."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hackwatch.config import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["S3A_CLASS", "bucket_configuration", "bucket_secrets", "s3a_package", "tell_secrets", "uses_buckets"]

S3A_CLASS = "org.apache.hadoop.fs.s3a.S3AFileSystem"
_TEMPORARY = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"
_PREFIX = "fs.s3a."
#: What a name of Hadoop's configuration is called in Spark's.
_IN_SPARK = "spark.hadoop."


def uses_buckets(settings: Settings) -> bool:
    """Whether Spark itself reads or writes a bucket: the lake, or its checkpoints."""
    return settings.lake_location.startswith("s3://") or settings.spark_checkpoint.startswith("s3a://")


def bucket_configuration(settings: Settings) -> dict[str, str]:
    """Spark's configuration for the S3 server of `[lake.storage]`; empty without a bucket.

    What is not set there comes from where S3A looks by itself: the `AWS_...` variables, or the role of the machine.
    The keys are not in it: see `tell_secrets`.
    """
    if not uses_buckets(settings):
        return {}
    storage = settings.lake.storage
    conf: dict[str, str | None] = {"endpoint": storage.endpoint, "endpoint.region": storage.region or "us-east-1"}
    if storage.endpoint is not None:
        virtual = storage.options.get("virtual_hosted_style_request", "false")
        conf["path.style.access"] = "false" if virtual == "true" else "true"
    if f"{_PREFIX}session.token" in bucket_secrets(settings):
        conf["aws.credentials.provider"] = _TEMPORARY
    return {f"{_IN_SPARK}{_PREFIX}{name}": value for name, value in conf.items() if value is not None}


def bucket_secrets(settings: Settings) -> dict[str, str]:
    """The keys of `[lake.storage]` by their names in Hadoop's configuration."""
    storage = settings.lake.storage
    if not uses_buckets(settings) or storage.access_key_id is None or storage.secret_access_key is None:
        return {}
    keys = {"access.key": storage.access_key_id, "secret.key": storage.secret_access_key.get_secret_value()}
    if storage.session_token is not None:
        keys["session.token"] = storage.session_token.get_secret_value()
    return {f"{_PREFIX}{name}": value for name, value in keys.items()}


def tell_secrets(session: SparkSession, settings: Settings) -> None:
    """Give Hadoop the keys once its JVM runs; a configuration of Spark would show them on the JVM's command line."""
    given, hadoop = session.sparkContext.getConf(), session.sparkContext._jsc.hadoopConfiguration()
    for name, value in bucket_secrets(settings).items():
        if not given.contains(f"{_IN_SPARK}{name}"):
            hadoop.set(name, value)


def s3a_package() -> str:
    """The Maven coordinates of S3A that fit the Hadoop within the installed PySpark."""
    import pyspark

    jars = Path(pyspark.__file__).parent / "jars"
    for jar in jars.glob("hadoop-client-api-*.jar"):
        if found := re.fullmatch(r"hadoop-client-api-([\d.]+)\.jar", jar.name):
            return f"org.apache.hadoop:hadoop-aws:{found[1]}"
    return "org.apache.hadoop:hadoop-aws"
