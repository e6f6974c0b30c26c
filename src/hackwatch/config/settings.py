"""The settings of hackwatch: one frozen table a subject, each field described, checked and with a working default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hackwatch.config.address import is_server, with_password
from hackwatch.config.kafka import KafkaSettings, topic_address
from hackwatch.config.lake import LakeSettings, folder_or_bucket
from hackwatch.config.registered import stream_names
from hackwatch.config.routes import AnyRoute
from hackwatch.config.spark import SparkSettings
from hackwatch.config.store import StoreSettings
from hackwatch.config.table import Location, Name, Role, Table

__all__ = [
    "AlertSettings",
    "CorrelationSettings",
    "DetectionSettings",
    "EngineSettings",
    "EnrichmentSettings",
    "LakeSettings",
    "LogSettings",
    "MetricsSettings",
    "OneCorrelationSettings",
    "Settings",
    "SpoolSettings",
    "StoreSettings",
    "StreamSettings",
    "default_data_folder",
]


def default_data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_DATA_HOME/hackwatch`, or `~/.local/share/hackwatch`."""
    base = (os.environ if environ is None else environ).get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "hackwatch"


class EngineSettings(Table):
    """The embedded engine: how it cuts the streams into micro-batches (latency) and epochs (durability)."""

    epoch_seconds: float = Field(5.0, gt=0, description="Time between two commits to lake and store, seconds.")
    epoch_records: int = Field(100_000, ge=1, description="An epoch also ends after this many records.")
    batch_bytes: int = Field(10 << 20, ge=1024, description="Most bytes of messages taken into one micro-batch.")
    poll_seconds: float = Field(0.002, gt=0, description="Wait before looking again when no message is there, seconds.")
    idle_seconds: float = Field(
        30.0,
        gt=0,
        description="A source silent for longer moves on with the engine's clock, seconds.",
    )
    max_sources: int | None = Field(
        None,
        examples=[100_000],
        ge=1,
        description="Sources of a stream with a clock of their own; those beyond share one. Without a number: 100,000, "
        "on Spark 2,000,000.",
    )
    in_flight: int = Field(
        2, ge=1, description="Micro-batches being scored at a time; while there are so many, nothing more is read."
    )
    threads: int = Field(0, ge=0, description="Threads that decode and score; 0 takes one per core.")
    status_seconds: float = Field(1.0, gt=0, description="Time between two updates of the live status, seconds.")
    reload_seconds: float = Field(
        1.0, gt=0, description="Time between two looks at the registry for a newly promoted model, seconds."
    )


class StreamSettings(Table):
    """One stream: where its messages come from, and its sense of time."""

    enabled: bool = Field(True, description="Whether the engine reads this stream.")
    topic: Location | None = Field(
        None,
        examples=["spool:/var/spool/hackwatch/process"],
        description="Topic to read: a spool folder, `spool:PATH` or `kafka://HOST:PORT/TOPIC` (several brokers: "
        "`HOST:PORT,HOST:PORT`). Without one: the spool under the data folder.",
    )
    partitions: int = Field(2, ge=1, le=1024, description="Partitions of a topic when a feed creates it.")
    lateness_seconds: float = Field(
        20.0,
        ge=0,
        description="A record this far behind the greatest event time of its source is late, seconds.",
    )
    window_seconds: int = Field(120, ge=1, description="Length of a window in event time, seconds, aligned to 1970.")
    future_seconds: float = Field(
        3600.0, gt=0, description="Records further ahead of the wall clock than this are rejected, seconds."
    )
    duplicates_key: str | None = Field(
        None,
        examples=["uuid"],
        description="Message field that names a record (e.g. `uuid`): repeats within the lateness are dropped.",
    )
    detectors: tuple[Role, ...] = Field(
        (),
        examples=[["content"]],
        description="Roles of further detectors (small letters and `_`): each scores beside the champion, into columns "
        "of its own (`<role>_score`, `<role>_model`).",
    )
    alert_on_suspect: bool = Field(False, description="Raise an alert for each suspect record of this stream alone.")
    formats: tuple[str, ...] = Field(
        (),
        examples=[["combined"]],
        description="Line formats that a message is tried against that is not JSON, in this order. Without: all that "
        "the stream has.",
    )
    options: tuple[str, ...] = Field(
        (),
        examples=[["letterless_kib"]],
        description="Options of the stream's own that are on (docs/streams.md).",
    )
    letterless_kib: bool = Field(
        False,
        description="The same as `options` with `letterless_kib`: memory sizes without a unit letter are KiB instead "
        "of bytes.",
    )
    max_message_bytes: int = Field(1 << 20, ge=1024, description="Longer messages are rejected, bytes.")
    spark_ml: Path | None = Field(
        None,
        examples=["/var/lib/hackwatch/pipeline-model"],
        description="Folder of a saved Spark ML PipelineModel that scores this stream on the Spark engine.",
    )

    @field_validator("detectors")
    @classmethod
    def _are_further_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "champion" in value:
            raise ValueError("champion is there without being named; name the roles beside it")
        if len(set(value)) < len(value):
            raise ValueError("a role is named twice")
        return value

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, value: str | None) -> str | None:
        return topic_address(value)


class CorrelationSettings(Table):
    """All correlations: joins of the suspects of two streams, such as the same program suspect in both."""

    enabled: bool = Field(True, description="Whether pairs of suspects that belong together are looked for.")
    seconds: float | None = Field(
        None,
        examples=[30.0],
        gt=0,
        description="The two event times must be less than this apart, seconds. Without one: as each is declared.",
    )


class OneCorrelationSettings(Table):
    """One correlation; what is not set here is as `[correlation]` says."""

    enabled: bool | None = Field(
        None, examples=[True], description="Whether this one is looked for. Without it: as `correlation.enabled`."
    )
    seconds: float | None = Field(
        None,
        examples=[30.0],
        gt=0,
        description="The two event times must be less than this apart, seconds. Without one: `correlation.seconds`.",
    )


class EnrichmentSettings(Table):
    """Files that enrichers look things up in: columns that messages do not hold come from them."""

    tables: dict[Name, Path] = Field(
        default_factory=dict,
        examples=[{"countries": "/var/lib/hackwatch/countries.parquet"}],
        description="The file of each table by its name: CSV with a header (`.csv`, `.tsv`) or Parquet (`.parquet`). "
        "It is read again when it changes; without one the columns that need it stay empty.",
    )

    @field_validator("tables")
    @classmethod
    def _are_tables(cls, value: dict[str, Path]) -> dict[str, Path]:
        wrong = [str(path) for path in value.values() if path.suffix not in (".csv", ".tsv", ".parquet")]
        if wrong:
            raise ValueError(f"must be .csv, .tsv or .parquet: {', '.join(wrong)}")
        return value


class DetectionSettings(Table):
    """Trained models, rules beside them, and the watch over drift."""

    models: Location | None = Field(
        None,
        examples=["/var/lib/hackwatch/models"],
        description="Registry of trained models: a folder, or `s3://BUCKET/PREFIX`; several engines may share one. "
        "Without one: `models` under the data folder.",
    )
    rules: tuple[Path, ...] = Field((), description="Rule files (TOML), beside the shipped rules.")
    shipped_rules: bool = Field(True, description="Whether the rules that come with hackwatch are used.")
    drift_records: int = Field(
        20_000,
        ge=100,
        description="Records of a stream that are compared with the training statistics at a time.",
    )
    drift_psi: float = Field(
        0.25,
        gt=0,
        description="Population stability index of a column, or of the score, from which on drift raises an alert.",
    )
    drift_alerts: bool = Field(True, description="Whether drift raises a system alert.")

    @field_validator("models")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        return folder_or_bucket(value)


class AlertSettings(Table):
    """When an alert is raised, and when it is only counted."""

    suppress_seconds: int = Field(
        600, ge=1, description="Repeats of a rule on an entity within an interval of this length are one counted alert."
    )
    window_history: int = Field(
        30, ge=2, description="Last finished windows of an entity that a window is compared with."
    )
    window_warmup: int = Field(
        5, ge=1, description="Finished windows of an entity that are needed before any of its windows can alert."
    )
    window_minimum: int = Field(5, ge=1, description="A window with fewer distinct suspects never raises an alert.")
    window_deviations: float = Field(
        6.0, gt=0, description="Robust standard deviations above the entity's usual count that make a window anomalous."
    )


class SpoolSettings(Table):
    """The embedded topics: folders of newline-delimited segments."""

    segment_mib: int = Field(64, ge=1, description="A segment is closed at this size, MiB.")
    retention_gib: float = Field(
        10.0, ge=0, description="Above this size of a topic the oldest committed segments are deleted, GiB; 0: never."
    )
    retention_hours: float = Field(
        24.0, ge=0, description="Committed segments older than this are deleted, hours; 0: never."
    )
    durability: Literal["none", "interval", "always"] = Field(
        "interval",
        description="When an append is forced to disk: `none` (by the system), `interval` (each second), `always`.",
    )


class MetricsSettings(Table):
    """The Prometheus endpoint."""

    port: int | None = Field(
        None, examples=[9464], ge=0, le=65535, description="Port of the endpoint; without one there is none."
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that the endpoint listens on.")


class LogSettings(Table):
    """The log, written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["human", "json"] = Field("human", description="`human` lines, or one JSON object a line.")


def _with_default_streams(given: Any) -> Any:
    return {**{name: {} for name in stream_names()}, **given} if isinstance(given, Mapping) else given


class Settings(Table):
    """All settings. Everything has a default: no file is needed for the demo or for watching this machine."""

    data: Path = Field(
        default_factory=default_data_folder,
        examples=["/var/lib/hackwatch"],
        description="Data folder, private to its owner. Default `~/.local/share/hackwatch`, or under `$XDG_DATA_HOME`.",
    )
    site: Name = Field(
        "local", description="Name of this installation; partition column of the lake and part of alerts."
    )
    pipeline: Name = Field("main", description="Name of the pipeline: identifies its checkpoints in store and lake.")
    engine: EngineSettings = EngineSettings()
    spark: SparkSettings = SparkSettings()
    streams: dict[Name, StreamSettings] = Field(
        default_factory=lambda: {name: StreamSettings() for name in stream_names()},
        description="One table for each registered stream.",
    )
    correlation: CorrelationSettings = CorrelationSettings()
    correlations: dict[Name, OneCorrelationSettings] = Field(
        default_factory=dict, description="One table for each correlation that differs from `[correlation]`."
    )
    enrichment: EnrichmentSettings = EnrichmentSettings()
    detection: DetectionSettings = DetectionSettings()
    alerts: AlertSettings = AlertSettings()
    routes: tuple[AnyRoute, ...] = Field((), description="Where alerts go: one `[[routes]]` table each.")
    lake: LakeSettings = LakeSettings()
    store: StoreSettings = StoreSettings()
    spool: SpoolSettings = SpoolSettings()
    kafka: KafkaSettings = KafkaSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _default_streams(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "streams" in values:
            return {**values, "streams": _with_default_streams(values["streams"])}
        return values

    @field_validator("correlations")
    @classmethod
    def _only_what_is_said(cls, given: dict[str, OneCorrelationSettings]) -> dict[str, OneCorrelationSettings]:
        return {name: table for name, table in given.items() if table.model_fields_set}

    @model_validator(mode="after")
    def _route_names_differ(self) -> Settings:
        names = [route.name for route in self.routes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"routes must have different names; more than one is called {', '.join(twice)}")
        return self

    @property
    def models_location(self) -> str:
        """The registry of trained bundles: a folder or `s3://...`. `detect.registry.open_registry` opens it."""
        return self.detection.models or str(self.data / "models")

    @property
    def models_cache(self) -> Path:
        """Copies of bundles from a registry that is in a bucket."""
        return self.data / "models-cache"

    @property
    def tables_folder(self) -> Path:
        """Copies of the tables of enrichers, as long as a replay may ask for them."""
        return self.data / "tables"

    @property
    def lake_location(self) -> str:
        """The Delta tables, one folder each: a folder or `s3://...`. `lake.open_lake` opens it."""
        return self.lake.path or str(self.data / "lake")

    @property
    def store_url(self) -> str:
        """What `store.open_store` opens; it may hold a password: not to be shown."""
        secret = self.store.password.get_secret_value() if self.store.password else None
        url = self.store.url or str(self.data / "store.sqlite")
        return with_password(url, secret) if is_server(url) else url

    @property
    def spark_checkpoint(self) -> str:
        """The folder of Spark's checkpoints."""
        return self.spark.checkpoint or str(self.data / "spark")

    @property
    def kafka_group(self) -> str:
        """The consumer group that shows how far the engine has read."""
        return self.kafka.group or f"hackwatch-{self.pipeline}"

    @property
    def lock_file(self) -> Path:
        """Held by the one engine that works in the data folder."""
        return self.data / "engine.lock"

    def spool_url(self, stream: str) -> str:
        """The topic of a stream for `topics.open_reader` and `open_writer`: as set, or a spool in the data folder."""
        given = self.streams[stream].topic if stream in self.streams else None
        return given or f"spool:{self.data / 'spool' / stream}"

    def correlation_of(self, name: str) -> tuple[bool, float | None]:
        """Whether a correlation is looked for, and its seconds; None: as it is declared."""
        own = self.correlations.get(name, OneCorrelationSettings())
        enabled = self.correlation.enabled if own.enabled is None else own.enabled
        return enabled, own.seconds if own.seconds is not None else self.correlation.seconds

    def shown(self) -> dict[str, Any]:
        """The settings as plain values, secrets as `**********`."""
        return self.model_dump(mode="json")
