"""Addresses of Kafka topics: kafka://HOST:PORT[,HOST:PORT]/TOPIC."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hackwatch.errors import ConfigurationError

__all__ = ["SCHEME", "Address", "is_kafka", "parse_address", "parse_servers"]

SCHEME = "kafka://"
DEFAULT_PORT = 9092
_FORM = "kafka://HOST:PORT[,HOST:PORT...]/TOPIC"
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)(?::(\d{1,5}))?")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Address:
    """A topic of a cluster. `servers`: HOST:PORT of some brokers, separated by commas."""

    servers: str
    topic: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.servers}/{self.topic}"


def is_kafka(url: str) -> bool:
    """Whether it is the address of something in Kafka."""
    return url.startswith("kafka:")


def parse_address(url: str) -> Address:
    """The brokers and the topic that an address names; ConfigurationError if it does not name both.

    >>> parse_address("kafka://one,two:9093/process_stream")
    Address(servers='one:9092,two:9093', topic='process_stream')
    """
    servers, slash, topic = _body(url).partition("/")
    if not slash or not topic:
        raise _wrong(url, "no topic after the brokers")
    if not _TOPIC.fullmatch(topic):
        raise _wrong(url, f"{topic!r} cannot be the name of a topic (letters, digits, `.`, `_`, `-`; at most 249)")
    return Address(_servers(url, servers), topic)


def parse_servers(url: str) -> str:
    """The brokers of an address, with or without a topic, as `HOST:PORT,HOST:PORT`."""
    return _servers(url, _body(url).partition("/")[0])


def _body(url: str) -> str:
    if not url.startswith(SCHEME):
        raise _wrong(url, f"it does not begin with {SCHEME}")
    if "@" in url:
        # What stands before the @ may be a password.
        raise ConfigurationError(
            "a login does not belong in the address of a topic",
            where=f"{SCHEME}...@{url.rpartition('@')[2]}",
            next_step="set sasl.username in [kafka] properties, and the password by [kafka] secrets_env",
        )
    return url.removeprefix(SCHEME)


def _servers(url: str, text: str) -> str:
    found = []
    for server in text.split(","):
        match = _SERVER.fullmatch(server.strip())
        port = int(match[2] or DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise _wrong(url, f"{server.strip()!r} is not HOST:PORT" if server.strip() else "no broker in it")
        found.append(f"{match[1]}:{port}")
    return ",".join(found)


def _wrong(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{url!r} is not the address of a Kafka topic: {why}", next_step=f"write {_FORM}")
