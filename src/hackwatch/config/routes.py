"""The settings of routes: where alerts go, one class a type, told apart by `type`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, SecretStr, field_validator, model_validator

from hackwatch.config.table import Location, Name, Table
from hackwatch.words import Form, Severity

__all__ = [
    "ROUTE_TYPES",
    "AnyRoute",
    "AppriseRouteSettings",
    "FileRouteSettings",
    "KafkaRouteSettings",
    "RouteSettings",
    "StdoutRouteSettings",
    "SyslogRouteSettings",
    "WebhookRouteSettings",
]


class RouteSettings(Table):
    """What every route has."""

    name: Name = Field(
        examples=["soc"], description="Name of the route, unique: shown by `hackwatch routes` and in metrics."
    )
    enabled: bool = Field(True, description="Whether new alerts are sent here.")
    form: Form = Field(
        "native",
        description="Form of the alert: hackwatch's own, OCSF Detection Finding, or Elastic Common Schema.",
    )
    minimum_severity: Severity = Field("informational", description="Alerts below this severity are not sent here.")
    max_attempts: int = Field(20, ge=1, description="Attempts before a message is given up and counted as dead.")
    timeout_seconds: float = Field(10.0, gt=0, description="Longest wait for one attempt, seconds.")


class StdoutRouteSettings(RouteSettings):
    """One JSON line for each alert on standard output of the engine."""

    type: Literal["stdout"]


class FileRouteSettings(RouteSettings):
    """One JSON line for each alert, appended to a file."""

    type: Literal["file"]
    path: Path = Field(
        examples=["/var/log/hackwatch/alerts.ndjson"],
        description="File that alerts are appended to, one JSON object a line; private to its owner.",
    )


class WebhookRouteSettings(RouteSettings):
    """One HTTP POST for each alert, signed if a secret is given."""

    type: Literal["webhook"]
    url: SecretStr | None = Field(
        None, description="Address that alerts are posted to (hidden: it often holds a token)."
    )
    url_file: Path | None = Field(None, description="File that holds the address.")
    url_env: str | None = Field(None, examples=["SOC_URL"], description="Environment variable that holds the address.")
    secret: SecretStr | None = Field(None, description="Key of the HMAC-SHA256 signature; better `secret_file`.")
    secret_file: Path | None = Field(None, description="File that holds the key of the signature.")
    secret_env: str | None = Field(
        None, examples=["SOC_SECRET"], description="Environment variable that holds the key of the signature."
    )
    headers: dict[str, SecretStr] = Field({}, description="More headers of the request; values are never shown.")
    ca_file: Path | None = Field(
        None,
        examples=["/etc/ssl/certs/ca-certificates.crt"],
        description="Certificates (PEM) that the server is checked against.",
    )

    @model_validator(mode="after")
    def _has_url(self) -> WebhookRouteSettings:
        if self.url is None:
            raise ValueError("a webhook needs url, url_file or url_env")
        return self

    @property
    def address(self) -> str:
        """The address in the clear: not to be shown."""
        return self.url.get_secret_value() if self.url else ""


class SyslogRouteSettings(RouteSettings):
    """One RFC 5424 message for each alert, over UDP, TCP or TLS."""

    type: Literal["syslog"]
    host: str = Field("127.0.0.1", min_length=1, description="Host of the syslog server.")
    port: int | None = Field(
        None, examples=[6514], ge=1, le=65535, description="Its port. Default 514 (UDP), 601 (TCP), 6514 (TLS)."
    )
    protocol: Literal["udp", "tcp", "tls"] = Field("udp", description="Transport.")
    facility: int = Field(13, ge=0, le=23, description="Facility number (RFC 5424 table 1; 13 is log audit).")
    ca_file: Path | None = Field(
        None,
        examples=["/etc/ssl/certs/ca-certificates.crt"],
        description="Certificates (PEM) that a TLS server is checked against.",
    )


class AppriseRouteSettings(RouteSettings):
    """E-mail, chat and many others through Apprise (the extra `apprise`)."""

    type: Literal["apprise"]
    url: SecretStr | None = Field(None, description="Apprise URL, e.g. `mailtos://user:password@example.org`; hidden.")
    url_file: Path | None = Field(None, description="File that holds the Apprise URL.")
    url_env: str | None = Field(
        None, examples=["SOC_URL"], description="Environment variable that holds the Apprise URL."
    )

    @model_validator(mode="after")
    def _has_url(self) -> AppriseRouteSettings:
        if self.url is None:
            raise ValueError("an apprise route needs url, url_file or url_env")
        return self

    @property
    def address(self) -> str:
        """The address in the clear: not to be shown."""
        return self.url.get_secret_value() if self.url else ""


class KafkaRouteSettings(RouteSettings):
    """One message for each alert in a Kafka topic (the extra `kafka`); the client is that of `[kafka]`."""

    type: Literal["kafka"]
    topic: Location = Field(
        examples=["kafka://broker:9092/alerts"],
        description="Topic that alerts are sent to, keyed by the entity; `kafka://HOST:PORT/TOPIC`.",
    )

    @field_validator("topic")
    @classmethod
    def _is_kafka(cls, value: str) -> str:
        if not value.startswith("kafka://"):
            raise ValueError("must be kafka://HOST:PORT/TOPIC")
        return value


#: All types of routes: this is the one place that lists them.
AnyRoute = Annotated[
    StdoutRouteSettings
    | FileRouteSettings
    | WebhookRouteSettings
    | SyslogRouteSettings
    | AppriseRouteSettings
    | KafkaRouteSettings,
    Field(discriminator="type"),
]

#: Each route's `type` -> its settings.
ROUTE_TYPES: dict[str, type[RouteSettings]] = {
    get_args(settings.model_fields["type"].annotation)[0]: settings for settings in get_args(get_args(AnyRoute)[0])
}
