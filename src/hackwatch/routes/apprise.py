"""Alerts by e-mail, chat and much else through Apprise (the extra `apprise`)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import encode, summary, text
from hackwatch.config import AppriseRouteSettings
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.routes.route import DeliveryError

__all__ = ["AppriseRoute"]


class AppriseRoute:
    """One notification for each alert: the explanation as text, or the JSON of the forms `ocsf` and `ecs`."""

    def __init__(self, settings: AppriseRouteSettings) -> None:
        """Raises ResourceError without the extra, ConfigurationError for an address that Apprise does not know."""
        self.name, self._form, self._where = settings.name, settings.form, f"route {settings.name}"
        self._apprise = self._load(settings.address)

    def send(self, alerts: Sequence[Alert]) -> None:
        for delivered, alert in enumerate(alerts):
            body = text(alert) if self._form == "native" else encode(alert, self._form)
            if not self._apprise.notify(body=body, title=summary(alert), body_format="text"):
                # Apprise logs the cause, and does so with the address: it stays there.
                raise DeliveryError("Apprise could not deliver", where=self._where, delivered=delivered)

    def close(self) -> None:
        """Apprise keeps nothing open."""

    def _load(self, url: str) -> Any:
        try:
            apprise = importlib.import_module("apprise")
        except ImportError as error:
            raise ResourceError(
                "routes of type apprise need the extra `apprise`",
                where=self._where,
                next_step="pip install 'hackwatch[apprise]'",
            ) from error
        target = apprise.Apprise()
        if not target.add(url.strip()):
            raise ConfigurationError(
                "Apprise does not understand the address",
                where=self._where,
                next_step="correct url, url_file or url_env of the route; see `apprise --details` for the kinds",
            )
        return target
