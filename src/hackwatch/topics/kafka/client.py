"""Making Kafka clients, and saying what their errors mean."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hackwatch.config import KafkaSettings
from hackwatch.errors import ConfigurationError, ResourceError

try:
    from confluent_kafka import (
        Consumer,
        KafkaError,
        KafkaException,
        Message,
        Producer,
        TopicCollection,
        TopicPartition,
    )
    from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined] # are there
    from confluent_kafka.cimpl import NewTopic
except ImportError as _error:
    raise ResourceError(
        "kafka:// addresses need the extra `kafka`", next_step="pip install 'hackwatch[kafka]'"
    ) from _error

__all__ = [
    "AdminClient",
    "ConfigResource",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "NewTopic",
    "OffsetSpec",
    "Producer",
    "ResourceType",
    "TopicCollection",
    "TopicPartition",
    "Trouble",
    "admin",
    "consumer",
    "explain",
    "producer",
]

_LOG = logging.getLogger(__name__)
SILENT_SECONDS = 60.0
_Client = TypeVar("_Client")

#: A broker that is back is found again within a second. What the client prints by itself is said by `Trouble`, once.
_COMMON: dict[str, Any] = {
    "client.id": "hackwatch",
    "log_level": 2,
    "log.connection.close": False,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.keepalive.enable": True,
    "socket.nagle.disable": True,
}
#: Messages come as soon as they are there, many at a time while catching up; what waits here is bounded.
_CONSUMER: dict[str, Any] = {
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    "fetch.message.max.bytes": 1 << 20,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 8 << 10,
}
#: What reading by the engine's own positions rests on: not to be set by anyone.
_BY_POSITION: dict[str, Any] = {
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
}
_PRODUCER: dict[str, Any] = {
    "compression.type": "lz4",
    "linger.ms": 5,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 64 << 10,
    "message.max.bytes": 16 << 20,
    "partitioner": "consistent_random",
}
#: What durability rests on.
_DURABLE: dict[str, Any] = {"acks": "all", "enable.idempotence": True}


class Trouble:
    """What a client says is wrong with its brokers; the same is said in the log once a minute at the most.

    Called from whatever thread serves the client's callbacks.
    """

    def __init__(self, where: str, settings: KafkaSettings) -> None:
        self._where, self._settings = where, settings
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._fatal: ResourceError | None = None
        self._last: KafkaError | None = None
        self._since: float | None = None

    def __call__(self, error: KafkaError) -> None:
        now, name = time.monotonic(), error.name()
        with self._lock:
            if error.code() in _USELESS and self._since is None:
                self._since = now
            vague = error.code() == KafkaError._ALL_BROKERS_DOWN  # says less than why each of them is
            if not vague or self._last is None:
                self._last = error
            if error.fatal():
                self._fatal = explain(error, self._where, self._settings)
            said = vague or now - self._said.get(name, float("-inf")) < SILENT_SECONDS
            if not said:
                self._said[name] = now
        if not said:
            _LOG.warning("kafka: %s", self._settings.hidden(error.str()), extra={"topic": self._where})

    def over(self) -> None:
        """The brokers answer."""
        if self._last is not None:
            with self._lock:
                self._last = self._since = None

    def down(self, seconds: float) -> bool:
        """Whether no broker has been of use for so long. A moment of it is normal: of several addresses that a name
        has, the first one may be dead.
        """
        return self._since is not None and time.monotonic() - self._since >= seconds

    def check(self) -> None:
        """Raise an error after which the client is of no use."""
        if self._fatal is not None:
            raise self._fatal

    def explain(self, error: KafkaError | KafkaException | None = None) -> ResourceError:
        """The error, or rather what lies behind it: a request that timed out does not know why."""
        cause = self._last or error
        assert cause is not None
        return explain(cause, self._where, self._settings)


def consumer(
    servers: str, group: str, settings: KafkaSettings, trouble: Trouble | None = None, **more: Any
) -> Consumer:
    """A client that reads at the positions it is told."""
    properties = {**_COMMON, **_CONSUMER, **settings.client(), **_BY_POSITION, "group.id": group, **more}
    return _made(Consumer, servers, properties, settings, trouble)


def producer(servers: str, settings: KafkaSettings, trouble: Trouble | None = None, **more: Any) -> Producer:
    """A client that writes durably, each message once and in order."""
    properties = {**_COMMON, **_PRODUCER, **settings.client(), **_DURABLE, **more}
    return _made(Producer, servers, properties, settings, trouble)


def admin(servers: str, settings: KafkaSettings, trouble: Trouble | None = None) -> AdminClient:
    """A client that makes and describes topics."""
    return _made(AdminClient, servers, {**_COMMON, **settings.client()}, settings, trouble)


def _made(
    kind: Callable[[dict[str, Any]], _Client],
    servers: str,
    properties: Mapping[str, Any],
    settings: KafkaSettings,
    trouble: Trouble | None,
) -> _Client:
    given = {**properties, "bootstrap.servers": servers, "logger": _library_log()}
    if trouble is not None:
        given["error_cb"] = trouble
    try:
        return kind(given)
    except (KafkaException, TypeError, ValueError) as error:
        what = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise ConfigurationError(
            settings.hidden(f"the Kafka client does not take its properties: {what}"),
            where="[kafka] properties",
            next_step="correct them; the names are those of librdkafka's CONFIGURATION.md",
        ) from None  # the cause would show the properties


def _library_log() -> logging.Logger:
    """The client's own log: as Python's, where a filter or level can reach it."""
    return logging.getLogger(f"{__name__}.library")


def explain(error: KafkaError | KafkaException, where: str, settings: KafkaSettings) -> ResourceError:
    """A client's error as one that says who must act."""
    cause: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    what, next_step = _meaning(cause)
    return ResourceError(settings.hidden(what), where=where, next_step=next_step)


#: Nothing can be done while one of these holds.
_USELESS = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_UNREACHABLE = (
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
)


def _meaning(error: KafkaError) -> tuple[str, str]:
    """What is wrong, and what to do next."""
    code = error.code()
    if code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        return (
            f"Kafka refuses the login: {error.str()}",
            "check sasl.mechanism, sasl.username and the password ([kafka] properties and secrets_env)",
        )
    if code == KafkaError._SSL:
        return f"TLS with Kafka failed: {error.str()}", "check the ssl.* properties in [kafka]"
    if "AUTHORIZATION" in error.name():
        return f"Kafka does not allow it: {error.str()}", "ask for the rights that docs/deployment.md lists"
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return "there is no such topic in Kafka", "`hackwatch topics create` makes it"
    if code in _UNREACHABLE:
        return f"no Kafka broker answers: {error.str()}", (
            "check that the brokers run and that the address is right; where they want TLS or a login, "
            "security.protocol in [kafka] properties"
        )
    return f"Kafka: {error.str()}", "check the brokers and [kafka] properties"
