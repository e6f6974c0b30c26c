"""What the settings say about Kafka, in the words of its Java client, which Spark reads with."""

from __future__ import annotations

from collections.abc import Mapping

from hackwatch.errors import ConfigurationError

__all__ = ["java_options"]

_LOGINS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
#: Of librdkafka alone: what they set is either Spark's affair or has no counterpart.
_LEFT_OUT = ("debug", "log_level", "log.", "queued.", "queue.", "socket.", "statistics.", "topic.metadata.", "builtin.")
_RENAMED = {
    "sasl.mechanisms": "sasl.mechanism",
    "sasl.kerberos.service.name": "sasl.kerberos.service.name",
    "ssl.cipher.suites": "ssl.cipher.suites",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
}


def java_options(properties: Mapping[str, str]) -> dict[str, str]:
    """Options of Spark's Kafka source for properties of librdkafka; what both clients call the same passes through.

    >>> java_options({"security.protocol": "SSL", "ssl.ca.location": "/ca.pem"})
    {'kafka.security.protocol': 'SSL', 'kafka.ssl.truststore.type': 'PEM', 'kafka.ssl.truststore.location': '/ca.pem'}
    """
    java: dict[str, str] = {}
    given = {name: value for name, value in properties.items() if not name.startswith(_LEFT_OUT)}
    user, password = given.pop("sasl.username", None), given.pop("sasl.password", None)
    for name, value in given.items():
        java |= _one(name, value)
    if user is not None and "sasl.jaas.config" not in java:
        mechanism = java.get("sasl.mechanism", "PLAIN").upper()
        java["sasl.jaas.config"] = _login(mechanism, user, password or "")
    return {f"kafka.{name}": value for name, value in java.items()}


def _one(name: str, value: str) -> dict[str, str]:
    if name == "ssl.ca.location":
        return {"ssl.truststore.type": "PEM", "ssl.truststore.location": value}
    if name == "ssl.ca.pem":
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": value}
    if name in ("ssl.certificate.location", "ssl.key.location"):
        part = "ssl.keystore.certificate.chain" if "certificate" in name else "ssl.keystore.key"
        return {"ssl.keystore.type": "PEM", part: _content(name, value)}
    if name in ("ssl.certificate.pem", "ssl.key.pem"):
        part = "ssl.keystore.certificate.chain" if "certificate" in name else "ssl.keystore.key"
        return {"ssl.keystore.type": "PEM", part: value}
    if name == "enable.ssl.certificate.verification":
        raise ConfigurationError(
            "the Java client of Spark cannot do without checking certificates",
            where=f"kafka.properties.{name}",
            next_step="name the authority's certificate: ssl.ca.location",
        )
    if name == "ssl.endpoint.identification.algorithm":
        return {name: "" if value == "none" else value}
    return {_RENAMED.get(name, name): value}


def _content(name: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the file: {error.strerror}",
            where=f"kafka.properties.{name}",
            next_step="correct the path, or let the user that runs hackwatch read it",
        ) from error


def _login(mechanism: str, user: str, password: str) -> str:
    module = _LOGINS.get(mechanism)
    if module is None:
        raise ConfigurationError(
            f"no login by user and password for the mechanism {mechanism}",
            where="kafka.properties",
            next_step="give the Java client's own sasl.jaas.config",
        )
    return f"{module} required username={_quoted(user)} password={_quoted(password)};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
