"""One table of settings names the S3 server, for hackwatch's own lake and for Spark's S3A alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hackwatch.config import Settings
from hackwatch.spark.buckets import bucket_configuration, bucket_secrets, s3a_package, tell_secrets
from hackwatch.spark.session import configuration
from tests.servers.spark import missing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SERVER = {"endpoint": "http://127.0.0.1:7070", "access_key_id": "ann", "secret_access_key": "correct-horse"}
KEYS = {"fs.s3a.access.key": "ann", "fs.s3a.secret.key": "correct-horse"}


def settings(path: str | None, storage: dict[str, Any], **spark: Any) -> Settings:
    return Settings.model_validate({"lake": {"path": path, "storage": storage}, "spark": spark})


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ({}, {"endpoint.region": "us-east-1"}),
        ({"region": "eu-central-1"}, {"endpoint.region": "eu-central-1"}),
        (
            SERVER,
            {
                "endpoint": "http://127.0.0.1:7070",
                "endpoint.region": "us-east-1",
                "path.style.access": "true",
            },
        ),
        (
            {"endpoint": "https://s3.example.org", "options": {"virtual_hosted_style_request": "true"}},
            {"endpoint": "https://s3.example.org", "endpoint.region": "us-east-1", "path.style.access": "false"},
        ),
        (
            {"access_key_id": "ann", "secret_access_key": "correct-horse", "session_token": "t"},
            {
                "endpoint.region": "us-east-1",
                "aws.credentials.provider": "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
            },
        ),
    ],
)
def test_the_server_of_the_lake_is_told_to_spark(storage: dict[str, Any], expected: dict[str, str]) -> None:
    found = bucket_configuration(settings("s3://hackwatch/lake", storage))
    assert found == {f"spark.hadoop.fs.s3a.{name}": value for name, value in expected.items()}


def test_without_a_bucket_spark_is_told_nothing() -> None:
    assert bucket_configuration(settings("/var/lib/lake", SERVER)) == {}


def test_checkpoints_in_a_bucket_are_reached_too() -> None:
    found = bucket_configuration(settings(None, SERVER, checkpoint="s3a://hackwatch/checkpoints"))
    assert found["spark.hadoop.fs.s3a.endpoint"] == SERVER["endpoint"]


@pytest.mark.parametrize(
    ("path", "storage", "expected"),
    [
        pytest.param("s3://hackwatch/lake", SERVER, KEYS, id="a key"),
        pytest.param(
            "s3://hackwatch/lake",
            {**SERVER, "session_token": "t"},
            {**KEYS, "fs.s3a.session.token": "t"},
            id="temporary",
        ),
        pytest.param("s3://hackwatch/lake", {}, {}, id="none: S3A looks for itself"),
        pytest.param("/var/lib/lake", SERVER, {}, id="no bucket"),
    ],
)
def test_keys_are_told_apart_from_what_everybody_may_see(
    path: str, storage: dict[str, Any], expected: dict[str, str]
) -> None:
    given = settings(path, storage)
    assert bucket_secrets(given) == expected
    conf = configuration(given, kafka=False)
    assert "correct-horse" not in str(conf), "it stands on the command line of the JVM, which all users can read"


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_hadoop_gets_the_keys(spark: SparkSession) -> None:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    tell_secrets(spark, settings("s3://hackwatch/lake", SERVER))
    try:
        assert {name: hadoop.get(name) for name in KEYS} == KEYS
    finally:
        for name in KEYS:
            hadoop.unset(name)


def test_the_session_gets_it_and_what_a_person_wrote_wins() -> None:
    given = settings("s3://hackwatch/lake", SERVER, conf={"spark.hadoop.fs.s3a.path.style.access": False})
    conf = configuration(given, kafka=False)
    assert conf["spark.hadoop.fs.s3a.endpoint"] == SERVER["endpoint"]
    assert conf["spark.hadoop.fs.s3a.path.style.access"] == "false"
    assert conf["spark.jars.packages"].endswith(s3a_package())


def test_the_client_for_s3_fits_the_hadoop_of_pyspark() -> None:
    pytest.importorskip("pyspark", reason="needs the extra spark")
    assert s3a_package().startswith("org.apache.hadoop:hadoop-aws:3.")
