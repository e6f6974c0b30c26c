"""Alerts by HTTP POST, signed as Standard Webhooks says (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import ssl
from collections.abc import Sequence

import httpx

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import encode
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import WebhookRouteSettings
from hackwatch.errors import ConfigurationError
from hackwatch.routes.route import DeliveryError

__all__ = ["WebhookRoute", "sign"]

#: Refusals that may pass: request timeout, conflict, too early, too many requests.
_MAY_PASS = frozenset({408, 409, 425, 429})
_LONGEST_WAIT = 3600.0


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: base64 of HMAC-SHA256 over `id.timestamp.body`.

    A secret that begins with `whsec_` is base64 behind that, any other is taken as it is.

    >>> sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """  # noqa: E501 - the published example of the standard
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(_key(secret), content, hashlib.sha256).digest()).decode()


def _key(secret: str, where: str | None = None) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ConfigurationError(
            "a webhook secret that begins with whsec_ must be base64 behind it",
            where=where,
            next_step="correct the secret, or leave whsec_ away to use it as it is",
        ) from None


class WebhookRoute:
    """One POST for each alert.

    Headers: `webhook-id` and `Idempotency-Key` (the alert's id), `webhook-timestamp`, and `webhook-signature` if
    there is a secret. Any 2xx means delivered. Redirects are not followed: what they lead to was not configured.
    """

    def __init__(self, settings: WebhookRouteSettings, clock: Clock | None = None) -> None:
        """Raises ConfigurationError: an address that is none, a secret that is not in its own form."""
        self.name, self._settings = settings.name, settings
        self._where = f"route {self.name}"
        self._url = self._checked(settings.address)
        self._secret = settings.secret.get_secret_value() if settings.secret else None
        if self._secret is not None:
            _key(self._secret, self._where)
        own = {header: value.get_secret_value() for header, value in settings.headers.items()}
        self._headers = {"User-Agent": "hackwatch", "Content-Type": "application/json", **own}
        self._clock = clock or SystemClock()
        self._client: httpx.Client | None = None

    def send(self, alerts: Sequence[Alert]) -> None:
        for delivered, alert in enumerate(alerts):
            try:
                self._post(alert)
            except DeliveryError as error:
                error.delivered = delivered
                raise

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post(self, alert: Alert) -> None:
        body = encode(alert, self._settings.form).encode()
        timestamp = int(self._clock.wall())
        headers = {"Idempotency-Key": alert.id, "webhook-id": alert.id, "webhook-timestamp": str(timestamp)}
        if self._secret is not None:
            headers["webhook-signature"] = sign(self._secret, alert.id, timestamp, body)
        try:
            # Streamed, because only the status matters: the receiver's body, of any size, is left unread.
            with self._connected().stream("POST", self._url, content=body, headers=headers) as response:
                self._judge(response)
        except httpx.HTTPError as error:
            # Only the kind of error: its text may hold the address, and the address a token.
            raise DeliveryError(f"no answer: {type(error).__name__}", where=self._where) from None

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        wait = response.headers.get("retry-after", "")
        raise DeliveryError(
            f"refused with status {status}" + (", a redirect, which is not followed" if response.is_redirect else ""),
            where=self._where,
            permanent=status < 500 and status not in _MAY_PASS,
            retry_after=min(float(wait), _LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", wait) else None,
        )

    def _connected(self) -> httpx.Client:
        if self._client is None:
            try:
                ca_file = self._settings.ca_file
                verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
            except OSError as error:
                raise DeliveryError(f"cannot use the certificates: {error}", where=str(ca_file)) from error
            timeout = self._settings.timeout_seconds
            self._client = httpx.Client(timeout=timeout, follow_redirects=False, verify=verify, headers=self._headers)
        return self._client

    def _checked(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url.strip())
            good = parsed.scheme in ("http", "https") and bool(parsed.host)
        except httpx.InvalidURL:
            good = False
        if not good:
            raise ConfigurationError(
                "the address of the webhook is no http or https address",
                where=self._where,
                next_step="correct url, url_file or url_env of the route",
            )
        return parsed
