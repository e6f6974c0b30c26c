"""What a route is: something that takes alerts out of hackwatch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hackwatch.alerts.alert import Alert
from hackwatch.errors import ResourceError

__all__ = ["DeliveryError", "Route"]


class DeliveryError(ResourceError):
    """A route could not hand over an alert.

    `delivered`: how many of the alerts, from the first, were handed over before. `permanent`: trying the next one
    again is no use. `retry_after`: seconds that the receiver asked to wait. The text never holds a secret.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        next_step: str | None = None,
        delivered: int = 0,
        permanent: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.delivered, self.permanent, self.retry_after = delivered, permanent, retry_after


class Route(Protocol):
    """One way out. Used by one thread at a time; opened lazily, so that a receiver may be away at the start."""

    @property
    def name(self) -> str:
        """As the settings say; asked at any time."""
        ...

    def send(self, alerts: Sequence[Alert]) -> None:
        """Hand over the alerts in order; an alert may come again, with the same id, if that was not certain.

        Called by the route's own thread whenever alerts are due, with none to 16 of them; it may take as long as the
        route's `timeout_seconds` for each. Raises DeliveryError; anything else counts as none delivered.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; `send` opens them again.

        Called when the dispatcher has stopped, by another thread than that of `send`; may be called twice. Raises
        nothing.
        """
        ...
