"""Buckets as Spark reaches them: the settings of the S3 server in the words of Hadoop's S3A."""

from __future__ import annotations

import re
from pathlib import Path

from hackwatch.config import Settings

__all__ = ["S3A_CLASS", "bucket_configuration", "s3a_package", "uses_buckets"]

S3A_CLASS = "org.apache.hadoop.fs.s3a.S3AFileSystem"
_TEMPORARY = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"
_PREFIX = "spark.hadoop.fs.s3a."


def uses_buckets(settings: Settings) -> bool:
    """Whether Spark itself reads or writes a bucket: the lake, or its checkpoints."""
    return settings.lake_location.startswith("s3://") or settings.spark_checkpoint.startswith("s3a://")


def bucket_configuration(settings: Settings) -> dict[str, str]:
    """Spark's configuration for the S3 server of `[lake.storage]`; empty without a bucket.

    What is not set there comes from where S3A looks by itself: the `AWS_...` variables, or the role of the machine.
    Spark's own pages hide keys and tokens by their names.
    """
    if not uses_buckets(settings):
        return {}
    storage = settings.lake.storage
    conf: dict[str, str | None] = {"endpoint": storage.endpoint, "endpoint.region": storage.region or "us-east-1"}
    if storage.endpoint is not None:
        virtual = storage.options.get("virtual_hosted_style_request", "false")
        conf["path.style.access"] = "false" if virtual == "true" else "true"
    if storage.access_key_id is not None and storage.secret_access_key is not None:
        conf |= {"access.key": storage.access_key_id, "secret.key": storage.secret_access_key.get_secret_value()}
        if storage.session_token is not None:
            conf["session.token"] = storage.session_token.get_secret_value()
            conf["aws.credentials.provider"] = _TEMPORARY
    return {f"{_PREFIX}{name}": value for name, value in conf.items() if value is not None}


def s3a_package() -> str:
    """The Maven coordinates of S3A that fit the Hadoop within the installed PySpark."""
    import pyspark

    jars = Path(pyspark.__file__).parent / "jars"
    for jar in jars.glob("hadoop-client-api-*.jar"):
        if found := re.fullmatch(r"hadoop-client-api-([\d.]+)\.jar", jar.name):
            return f"org.apache.hadoop:hadoop-aws:{found[1]}"
    return "org.apache.hadoop:hadoop-aws"
