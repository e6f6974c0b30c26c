"""The settings of Kafka clients: properties pass through, secrets come from elsewhere and are never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from hackwatch.config.table import Location, Name, Table

__all__ = ["KafkaSettings", "topic_address"]

#: Properties that hold a secret, whatever table they were written into.
_SECRET = re.compile(r"password|passphrase|secret|\.pem$|oauthbearer\.config|\bjaas\b")
#: What exactly once and the addresses rest on; not for anyone to set.
_OURS = {
    "bootstrap.servers": "name the brokers in the addresses of topics",
    "metadata.broker.list": "name the brokers in the addresses of topics",
    "group.id": "set group",
    "auto.offset.reset": "hackwatch keeps the positions itself",
    "enable.auto.commit": "hackwatch keeps the positions itself",
    "enable.auto.offset.store": "hackwatch keeps the positions itself",
    "enable.partition.eof": "hackwatch sets it",
    "enable.idempotence": "it is always on",
    "acks": "it is always `all`",
    "request.required.acks": "it is always `all`",
    "transactional.id": "hackwatch does not use transactions",
}


_ADDRESS = re.compile(r"kafka://[^/@\s]+/[A-Za-z0-9._-]{1,249}")


def topic_address(value: str | None) -> str | None:
    """The value, unless it begins as the address of a Kafka topic and is none, or as that of something else."""
    if value is not None and value.startswith("kafka:") and not _ADDRESS.fullmatch(value):
        raise ValueError("must be kafka://HOST:PORT[,HOST:PORT]/TOPIC, without a login")
    if value is not None and "://" in value and not value.startswith(("kafka:", "spool:")):
        raise ValueError("must be a folder, spool:PATH or kafka://HOST:PORT/TOPIC")
    return value


class KafkaSettings(Table):
    """How to reach Kafka: one set of properties for all topics with a `kafka://` address."""

    properties: dict[str, str | bool | int | float] = Field(
        {},
        examples=[{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "hackwatch"}],
        description="Any property of librdkafka, passed on as it is. Secret ones are hidden; better `secrets_env`.",
    )
    secrets: dict[str, SecretStr] = Field(
        {}, description="Properties that are never shown; better `secrets_env` or `secrets_file`."
    )
    secrets_env: dict[str, str] = Field(
        {},
        examples=[{"sasl.password": "KAFKA_PASSWORD"}],
        description="Property -> environment variable that holds its value.",
    )
    secrets_file: dict[str, Path] = Field({}, description="Property -> file that holds its value.")
    group: Name | None = Field(
        None,
        examples=["hackwatch-main"],
        description="Consumer group under which positions are shown to lag tools. Default `hackwatch-<pipeline>`.",
    )
    enriched: Location | None = Field(
        None,
        examples=["kafka://broker:9092/enriched"],
        description="Topic that every scored record is sent to as JSON. Without one: none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, values: Any) -> Any:
        """A secret written among the properties is one all the same."""
        given = values.get("properties") if isinstance(values, Mapping) else None
        if not isinstance(given, Mapping):
            return values
        secret = {name: value for name, value in given.items() if _SECRET.search(str(name))}
        if not secret:
            return values
        plain = {name: value for name, value in given.items() if name not in secret}
        known = values.get("secrets")
        return {**values, "properties": plain, "secrets": {**secret, **(known if isinstance(known, Mapping) else {})}}

    @field_validator("properties", "secrets")
    @classmethod
    def _not_ours(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if name in _OURS:
                raise ValueError(f"{name} cannot be set: {_OURS[name]}")
        return values

    @field_validator("enriched")
    @classmethod
    def _is_kafka(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("kafka://"):
            raise ValueError("must be kafka://HOST:PORT/TOPIC")
        return topic_address(value)

    def client(self) -> dict[str, str]:
        """All properties as librdkafka takes them, secrets in clear: for a client, never to be shown."""
        plain = {name: _text(value) for name, value in self.properties.items()}
        return plain | {name: value.get_secret_value() for name, value in self.secrets.items()}

    def hidden(self, text: str) -> str:
        """The text with every secret in it blotted out."""
        for value in self.secrets.values():
            if value.get_secret_value():
                text = text.replace(value.get_secret_value(), "**********")
        return text


def _text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
