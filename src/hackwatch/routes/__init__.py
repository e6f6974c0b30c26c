"""Routes: where alerts go."""

from __future__ import annotations

from hackwatch.config import AppriseRoute as AppriseSettings
from hackwatch.config import FileRoute as FileSettings
from hackwatch.config import KafkaRoute as KafkaRouteSettings
from hackwatch.config import KafkaSettings, RouteSettings
from hackwatch.config import StdoutRoute as StdoutSettings
from hackwatch.config import SyslogRoute as SyslogSettings
from hackwatch.config import WebhookRoute as WebhookSettings
from hackwatch.errors import ConfigurationError
from hackwatch.routes.apprise import AppriseRoute
from hackwatch.routes.base import DeliveryError, Route
from hackwatch.routes.dispatch import Delivery, Dispatcher
from hackwatch.routes.local import FileRoute, StdoutRoute
from hackwatch.routes.syslog import SyslogRoute

__all__ = ["Delivery", "DeliveryError", "Dispatcher", "Route", "open_delivery", "open_route"]


def open_delivery(settings: RouteSettings, kafka: KafkaSettings | None = None) -> Delivery:
    """A configured route with what its settings say about retries. `kafka`: the table `[kafka]`."""
    return Delivery(open_route(settings, kafka), settings.max_attempts, minimum_severity=settings.minimum_severity)


def open_route(settings: RouteSettings, kafka: KafkaSettings | None = None) -> Route:
    """The route of one `[[routes]]` entry; connects to nothing yet. `kafka`: the table `[kafka]`.

    Raises ConfigurationError (address) and ResourceError (missing extra).
    """
    name, form = settings.name, settings.form
    match settings:
        case StdoutSettings():
            return StdoutRoute(name, form)
        case FileSettings(path=path):
            return FileRoute(name, path.expanduser(), form)
        case WebhookSettings(url=url, secret=secret) if url is not None:
            # Its HTTP client takes half a second to load: only those who have a webhook pay for it.
            from hackwatch.routes.webhook import WebhookRoute

            return WebhookRoute(
                name,
                url.get_secret_value(),
                form,
                secret=secret.get_secret_value() if secret else None,
                headers={header: value.get_secret_value() for header, value in settings.headers.items()},
                timeout=settings.timeout_seconds,
                ca_file=settings.ca_file,
            )
        case SyslogSettings():
            return SyslogRoute(
                name,
                settings.host,
                settings.port,
                settings.protocol,
                form,
                facility=settings.facility,
                timeout=settings.timeout_seconds,
                ca_file=settings.ca_file,
            )
        case AppriseSettings(url=url) if url is not None:
            return AppriseRoute(name, url.get_secret_value(), form)
        case KafkaRouteSettings(topic=topic):
            from hackwatch.routes.kafka import KafkaRoute  # the extra `kafka`, or an error that names it

            return KafkaRoute(name, topic, form, settings=kafka, timeout=settings.timeout_seconds)
    raise ConfigurationError(f"route {name!r} is of no known type", where="routes")
