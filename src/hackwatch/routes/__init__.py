"""Routes: where alerts go."""

from __future__ import annotations

from typing import assert_never

from hackwatch.config import (
    AnyRoute,
    AppriseRouteSettings,
    FileRouteSettings,
    KafkaRouteSettings,
    KafkaSettings,
    StdoutRouteSettings,
    SyslogRouteSettings,
    WebhookRouteSettings,
)
from hackwatch.routes.apprise import AppriseRoute
from hackwatch.routes.dispatch import Delivery, Dispatcher
from hackwatch.routes.local import FileRoute, StdoutRoute
from hackwatch.routes.route import DeliveryError, Route
from hackwatch.routes.syslog import SyslogRoute

__all__ = ["Delivery", "DeliveryError", "Dispatcher", "Route", "open_delivery", "open_route"]


def open_delivery(settings: AnyRoute, kafka: KafkaSettings | None = None) -> Delivery:
    """A configured route with what its settings say about retries. `kafka`: the table `[kafka]`."""
    return Delivery(open_route(settings, kafka), settings.max_attempts, minimum_severity=settings.minimum_severity)


def open_route(settings: AnyRoute, kafka: KafkaSettings | None = None) -> Route:
    """The route of one `[[routes]]` entry; connects to nothing yet. `kafka`: the table `[kafka]`.

    Raises ConfigurationError (address) and ResourceError (missing extra). The type checker sees that no type of
    route is forgotten here.
    """
    match settings:
        case StdoutRouteSettings():
            return StdoutRoute(settings)
        case FileRouteSettings():
            return FileRoute(settings)
        case WebhookRouteSettings():
            # Its HTTP client takes half a second to load: only those who have a webhook pay for it.
            from hackwatch.routes.webhook import WebhookRoute

            return WebhookRoute(settings)
        case SyslogRouteSettings():
            return SyslogRoute(settings)
        case AppriseRouteSettings():
            return AppriseRoute(settings)
        case KafkaRouteSettings():
            from hackwatch.routes.kafka import KafkaRoute  # the extra `kafka`, or an error that names it

            return KafkaRoute(settings, kafka)
        case _:
            assert_never(settings)
