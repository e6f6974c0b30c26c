"""The topic of enriched records: every scored record as JSON, for others to read (the extra `kafka`)."""

from __future__ import annotations

import time
from collections.abc import Mapping

import polars as pl

from hackwatch.config import KafkaSettings
from hackwatch.errors import ResourceError
from hackwatch.streams.stream import Stream
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.kafka.admin import ensure_topic
from hackwatch.topics.kafka.client import KafkaError, KafkaException, Message, Producer, Trouble, producer

__all__ = ["IDENTITY", "EnrichedSink", "enriched"]

#: What names a record: a consumer that keeps the last positions it has seen can drop repeats by these fields.
IDENTITY = ("topic", "partition", "offset", "index")

#: Columns of the lake's layout, no part of the record.
_LAYOUT = ("date",)

#: Records turned into JSON at a time.
SLICE = 10_000
#: How long one attempt waits for the brokers; then the engine says that it waits, and tries again.
PATIENCE_SECONDS, LOOK_SECONDS = 5.0, 0.2
#: Only failures are reported back: a call for each record would cost more than sending it. After a failure nothing
#: that follows in its partition is sent either, so that positions only grow there, but for what is sent again.
_OWN = {
    "message.timeout.ms": 0, "delivery.report.only.error": True, "linger.ms": 20, "enable.gapless.guarantee": True,
}  # fmt: skip


def enriched(stream: Stream, records: pl.DataFrame) -> pl.DataFrame:
    """Columns `key` (the entity) and `value` (one JSON object a record), both String, in the order of the records.

    `records`: what goes to the lake table of the stream: its schema, `score`, `prediction`, `rules`, `late`, those
    of its panel, and if they are there `topic`, `partition`, `offset`, `index`, `processing_time`, `epoch`, `site`. All
    of them become fields, and `stream` with them. Times are ISO 8601 in UTC (`event_time` beside `ts` in Unix seconds);
    null, NaN and infinity become null.
    """
    columns = [name for name in records.columns if name not in _LAYOUT]
    fields = [pl.lit(stream.name).alias("stream"), *columns]
    return records.select(key=pl.col(stream.entity), value=pl.struct(fields).struct.json_encode())


class EnrichedSink:
    """An `EpochSink` that sends to a Kafka topic, which is made with so many `partitions` unless it exists.

    One message a record, keyed by its entity; see `enriched` for its fields. `write` returns when all replicas
    in sync have all of them. An attempt that brokers do not answer goes on where it was; only if the client itself had
    to give up are the records of the call sent again from the first.
    """

    def __init__(
        self, url: str, streams: Mapping[str, Stream], settings: KafkaSettings | None = None, *, partitions: int = 2
    ) -> None:
        self._address, self._streams = parse_address(url), streams
        self._settings, self._partitions = settings or KafkaSettings(), partitions
        self._trouble = Trouble(str(self._address), self._settings)
        self._producer: Producer | None = None
        self._call: tuple[str, int] | None = None
        self._handed_over = 0
        self._refused: KafkaError | None = None

    @property
    def name(self) -> str:
        return f"topic {self._address.topic}"

    def write(self, stream: str, frame: pl.DataFrame, epoch: int) -> None:
        if self._call != (stream, epoch):
            self._call, self._handed_over = (stream, epoch), 0
        try:
            connected = self._connected()
            while self._handed_over < len(frame):
                part = enriched(self._streams[stream], frame.slice(self._handed_over, SLICE))
                self._hand_over(connected, part["key"].to_list(), part["value"].to_list())
            self._confirm(connected)
        except ResourceError:
            if self._refused is not None:
                self._start_again()
            raise
        self._trouble.over()

    def close(self) -> None:
        """Let go of the client; what is still under way belongs to an epoch that does not count yet."""
        self._producer = None

    def _connected(self) -> Producer:
        if self._producer is None:
            ensure_topic(self._address, self._partitions, self._settings)
            self._producer = producer(
                self._address.servers, self._settings, self._trouble, on_delivery=self._undelivered, **_OWN
            )
        return self._producer

    def _hand_over(self, connected: Producer, keys: list[str], values: list[str]) -> None:
        """Give messages to the client, which holds so many until they are acknowledged."""
        topic = self._address.topic
        for key, value in zip(keys, values, strict=True):
            while True:
                try:
                    connected.produce(topic, value, key)
                except BufferError:
                    self._make_room(connected)
                except KafkaException as error:
                    raise self._failed(error) from None
                else:
                    break
            self._handed_over += 1
        self._serve(connected, 0.0)

    def _make_room(self, connected: Producer) -> None:
        waiting, until = len(connected), time.monotonic() + PATIENCE_SECONDS
        while len(connected) >= waiting:
            self._serve(connected, LOOK_SECONDS)
            if time.monotonic() > until:
                raise self._unanswered(len(connected))

    def _confirm(self, connected: Producer) -> None:
        """Wait until all is acknowledged, as long as there is progress."""
        waiting, until = len(connected), time.monotonic() + PATIENCE_SECONDS
        while waiting:
            left = self._serve(connected, LOOK_SECONDS)
            if left < waiting:
                waiting, until = left, time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > until:
                raise self._unanswered(left)

    def _serve(self, connected: Producer, seconds: float) -> int:
        """Let the client report what became of messages; how many are not acknowledged yet."""
        try:
            left = connected.flush(seconds)
        except KafkaException as error:  # one after which the client sends nothing more
            raise self._failed(error) from None
        if self._refused is not None:
            raise self._trouble.explain(self._refused)
        return left

    def _undelivered(self, error: KafkaError | None, _message: Message) -> None:
        self._refused = self._refused or error

    def _failed(self, error: KafkaException) -> ResourceError:
        self._refused = self._refused or error.args[0]
        return self._trouble.explain(self._refused)

    def _unanswered(self, waiting: int) -> ResourceError:
        told = self._trouble.explain(KafkaError(KafkaError._TIMED_OUT))
        return ResourceError(
            f"{told.what} ({waiting:,} records wait)", where=str(self._address), next_step=told.next_step
        )

    def _start_again(self) -> None:
        """The client gave messages up: nobody knows which, so all of the call go out again, by a new client."""
        self._call = self._refused = None
        self._trouble = Trouble(str(self._address), self._settings)
        self.close()
