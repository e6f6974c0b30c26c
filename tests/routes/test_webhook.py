"""Webhooks against a real server: signed, judged by status, and silent about secrets."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme

from hackwatch.alerts.alert import Alert
from hackwatch.errors import ConfigurationError
from hackwatch.routes import DeliveryError, Route
from tests.routes.support import HttpReceiver, alert, deliver, refusing_port, route_of

SECRET = "whsec_" + base64.b64encode(b"correct horse battery staple").decode()


def webhook(url: str, **settings: Any) -> Route:
    return route_of("webhook", name="soc", url=url, **settings)


def failure(route: Route, *alerts: Alert) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        route.send(alerts)
    for secret in ("s3cr3t", "token", SECRET.removeprefix("whsec_"), "pa55"):
        assert secret not in str(caught.value)
    route.close()
    return caught.value


@pytest.mark.parametrize("form", ["native", "ocsf", "ecs"])
def test_a_receiver_can_verify_what_it_gets(form: Any) -> None:
    with HttpReceiver() as receiver:
        route = webhook(receiver.url, form=form, secret=SECRET, headers={"authorization": "Bearer pa55"})
        route.send([alert(1), alert(2)])
        route.close()
    assert len(receiver.requests) == 2
    for sent, (path, headers, body) in zip((alert(1), alert(2)), receiver.requests, strict=True):
        verified = standardwebhooks.Webhook(SECRET).verify(body, headers)
        assert verified == json.loads(body)
        assert path == "/hook?token=s3cr3t"
        assert headers["idempotency-key"] == headers["webhook-id"] == sent.id
        assert headers["content-type"] == "application/json"
        assert headers["authorization"] == "Bearer pa55"
        assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60


def test_a_changed_body_fails_verification() -> None:
    with HttpReceiver() as receiver:
        webhook(receiver.url, secret=SECRET).send([alert()])
    _, headers, body = receiver.requests[0]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body.replace(b"/.env", b"/cart"), headers)


def test_a_secret_without_prefix_is_used_as_it_is() -> None:
    with HttpReceiver() as receiver:
        webhook(receiver.url, secret="plain words").send([alert()])
    _, headers, body = receiver.requests[0]
    assert standardwebhooks.Webhook(base64.b64encode(b"plain words").decode()).verify(body, headers)


def test_without_a_secret_there_is_no_signature() -> None:
    with HttpReceiver() as receiver:
        webhook(receiver.url).send([alert()])
    assert "webhook-signature" not in receiver.requests[0][1]


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        (400, True),
        (401, True),
        (404, True),
        (410, True),
        (413, True),
        (408, False),
        (425, False),
        (429, False),
        (500, False),
        (502, False),
        (503, False),
        ("close", False),
    ],
)
def test_refusals_are_final_or_pass(answer: Any, permanent: bool) -> None:
    with HttpReceiver(204, answer) as receiver:
        error = failure(webhook(receiver.url), alert(1), alert(2), alert(3))
    assert (error.permanent, error.delivered) == (permanent, 1)
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with HttpReceiver() as other, HttpReceiver((status, {"location": other.url})) as receiver:
        error = failure(webhook(receiver.url, secret=SECRET), alert())
    assert error.permanent
    assert "redirect" in str(error)
    assert other.requests == []


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("999999999", 3600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("-1", None)]
)
def test_the_receiver_may_ask_to_wait(value: str, seconds: float | None) -> None:
    with HttpReceiver((429, {"retry-after": value})) as receiver:
        assert failure(webhook(receiver.url), alert()).retry_after == seconds


def test_a_slow_receiver_is_given_up_in_time() -> None:
    with HttpReceiver(2.0) as receiver:
        started = time.monotonic()
        error = failure(webhook(receiver.url, timeout_seconds=0.2), alert())
        assert time.monotonic() - started < 1.5
    assert not error.permanent


def test_nobody_listening_is_tried_again() -> None:
    with refusing_port() as port:
        assert not failure(webhook(f"http://127.0.0.1:{port}/?token=s3cr3t"), alert()).permanent


def test_a_restarted_receiver_is_reached_again() -> None:
    with HttpReceiver() as receiver:
        route = webhook(receiver.url)
        route.send([alert(1)])
        port = receiver.port
    with HttpReceiver(port=port) as again:
        deliver(route, alert(2))
        assert [headers["webhook-id"] for _, headers, _ in again.requests] == [alert(2).id]
    route.close()


def test_a_server_with_an_unknown_certificate_gets_nothing(tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        url = receiver.url.replace("http://", "https://")
        error = failure(webhook(url, ca_file=tmp_path / "ca.pem", timeout_seconds=1.0), alert())
        assert not error.permanent
        missing = failure(webhook(url, ca_file=tmp_path / "none.pem"), alert())
    assert "none.pem" in str(missing)
    assert receiver.requests == []


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org/s3cr3t", "http://", "http://example.org:s3cr3t"])
def test_an_address_that_is_none_is_refused_without_printing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        webhook(url)
    assert "s3cr3t" not in str(caught.value)


def test_a_secret_that_is_no_base64_is_refused_without_printing_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        webhook("http://127.0.0.1/", secret="whsec_pa55!")
    assert "pa55" not in str(caught.value)
