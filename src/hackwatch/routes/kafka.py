"""Alerts as messages of a Kafka topic (the extra `kafka`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import encode
from hackwatch.config import KafkaRouteSettings, KafkaSettings
from hackwatch.routes.route import DeliveryError
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.kafka.client import KafkaError, KafkaException, Message, Producer, Trouble, explain, producer

__all__ = ["IDEMPOTENCY_KEY", "KafkaRoute"]

#: What became of a message: acknowledged, refused, or not known (yet).
Outcome = KafkaError | bool | None
#: Header that holds the alert's id: what comes twice has the same.
IDEMPOTENCY_KEY = "idempotency-key"


class KafkaRoute:
    """One message for each alert: its JSON, keyed by the entity, so that the alerts of one stay in order.

    Headers: `idempotency-key` (the alert's id), `content-type`, `hackwatch-form`. Delivered means acknowledged by all
    replicas in sync; a broker that does not answer within `timeout` seconds is a failure that may pass.
    """

    def __init__(self, settings: KafkaRouteSettings, kafka: KafkaSettings | None = None) -> None:
        """`kafka`: the table `[kafka]`. Raises ConfigurationError for a property that the client does not take."""
        self.name, self._form, self._timeout = settings.name, settings.form, settings.timeout_seconds
        self._where = f"route {self.name}"
        self._address = parse_address(settings.topic)
        self._kafka = kafka or KafkaSettings()
        self._producer: Producer | None = None
        self._trouble = Trouble(self._where, self._kafka)
        # Needs no broker yet; but a wrong property is told now and not with the first alert.
        self._connected()

    def send(self, alerts: Sequence[Alert]) -> None:
        outcomes: list[Outcome] = [None] * len(alerts)
        connected = self._connected()
        for number, alert in enumerate(alerts):
            if not self._produce(connected, alert, outcomes, number):
                break
        # The client itself gives up what the brokers do not take in time, and says why. An error after which it is of
        # no use leaves messages without an outcome.
        with suppress(KafkaException):
            connected.flush(self._timeout + 1.0)
        delivered = next((number for number, outcome in enumerate(outcomes) if outcome is not True), len(alerts))
        if delivered < len(alerts):
            self.close()
            raise self._failure(outcomes[delivered], delivered)
        self._trouble.over()

    def close(self) -> None:
        if self._producer is not None:
            connected, self._producer = self._producer, None
            # What is to be sent again must not arrive from here as well.
            with suppress(KafkaException):
                connected.purge()
                connected.flush(0.0)

    def _produce(self, connected: Producer, alert: Alert, outcomes: list[Outcome], number: int) -> bool:
        """Hand the message to the client; False if it does not take it."""

        def keep(error: KafkaError | None, message: Message) -> None:
            outcomes[number] = True if error is None else error

        headers: list[tuple[str, str | bytes | None]] = [
            (IDEMPOTENCY_KEY, alert.id), ("content-type", "application/json"), ("hackwatch-form", self._form),
        ]  # fmt: skip
        key = alert.entity.encode(errors="backslashreplace")
        value = encode(alert, self._form).encode()
        try:
            connected.produce(self._address.topic, value, key, headers=headers, on_delivery=keep)
        except KafkaException as error:
            outcomes[number] = error.args[0]
            return False
        return True

    def _connected(self) -> Producer:
        if self._producer is None:
            # A broker refuses a whole batch for one message that is too large: each alert travels alone.
            # And the client hears that there is no such topic before it gives up for lack of time.
            milliseconds = max(2, round(self._timeout * 1000))
            own = {
                "message.timeout.ms": milliseconds,
                "topic.metadata.propagation.max.ms": milliseconds // 2,
                "linger.ms": 0,
                "batch.num.messages": 1,
            }
            self._producer = producer(self._address.servers, self._kafka, self._trouble, **own)
        return self._producer

    def _failure(self, outcome: Outcome, delivered: int) -> DeliveryError:
        """Why a message was not taken; what is wrong with the brokers says more than that time is over."""
        error = outcome if isinstance(outcome, KafkaError) else KafkaError(KafkaError._MSG_TIMED_OUT)
        late = error.code() == KafkaError._MSG_TIMED_OUT
        told = self._trouble.explain(error) if late else explain(error, self._where, self._kafka)
        return DeliveryError(
            told.what,
            where=self._where,
            next_step=told.next_step,
            delivered=delivered,
            permanent=error.code() == KafkaError.MSG_SIZE_TOO_LARGE,
        )
