"""Syslog: the grammar of RFC 5424 parsed back, and real receivers over UDP, TCP and TLS."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.alert import SEVERITIES
from hackwatch.routes import DeliveryError, Route
from hackwatch.routes.rfc5424 import format_message
from hackwatch.text import printable
from tests.routes.support import HOSTILE, SyslogReceiver, alert, deliver, eventually, refusing_port, route_of

# RFC 5424 section 6, with its limits of length.
NAME = r"[\x21-\x3c\x3e\x3f-\x5c\x5e-\x7e]{1,32}?"
PARAMETER = rf'(?:{NAME})="(?:[^"\\\]]|\\["\\\]])*"'
MESSAGE = re.compile(
    r"<(?P<pri>[1-9]\d{0,2}|0)>1"
    r" (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z)"
    r" (?P<host>[\x21-\x7e]{1,255}) (?P<app>[\x21-\x7e]{1,48}) (?P<proc>[\x21-\x7e]{1,128})"
    r" (?P<msgid>[\x21-\x7e]{1,32})"
    rf" \[(?P<sdid>[\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{{1,32}})(?P<params>(?: {PARAMETER})*)\]"
    r" \ufeff(?P<text>[^\x00-\x1f\x7f]*)",
)


def parse(message: bytes) -> tuple[re.Match[str], dict[str, str]]:
    match = MESSAGE.fullmatch(message.decode("utf-8"))
    assert match, message
    pairs = re.findall(r'(\w+)="((?:[^"\\\]]|\\["\\\]])*)"', match["params"])
    return match, {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in pairs}


def test_a_message_says_what_one_filters_by() -> None:
    match, parameters = parse(format_message(alert(), hostname="here-1"))
    assert match["pri"] == str(13 * 8 + 3)
    assert match["time"] == "2023-11-14T22:13:30.000000Z"
    assert (match["host"], match["app"], match["msgid"], match["sdid"]) == (
        "here-1",
        "hackwatch",
        "attack",
        "alert@32473",
    )
    assert match["text"].startswith("203.0.113.7 is suspect in visit (/.env) and login [high, risk 88")
    assert parameters == {
        "id": alert().id,
        "rule": "account-takeover",
        "severity": "high",
        "risk": "88",
        "stream": "visit",
        "entity": "203.0.113.7",
        "subject": "/.env",
        "count": "3",
        "site": "local",
        "technique": "T1059.004",
        "tactic": "execution",
    }


@pytest.mark.parametrize(("severity", "number"), list(zip(SEVERITIES, (6, 5, 4, 3, 2), strict=True)))
@pytest.mark.parametrize("facility", [0, 13, 23])
def test_priority_is_facility_and_severity(severity: Any, number: int, facility: int) -> None:
    match, _ = parse(format_message(alert(severity=severity), facility=facility))
    assert int(match["pri"]) == facility * 8 + number


@pytest.mark.parametrize("form", ["ocsf", "ecs"])
def test_the_other_forms_travel_as_json(form: Any) -> None:
    match, _ = parse(format_message(alert(), form))
    assert json.loads(match["text"])


@given(name=st.text(), host=st.text(max_size=300))
def test_no_name_breaks_the_grammar(name: str, host: str) -> None:
    message = format_message(alert(subject=name, entity=name, title=name, rule=name), hostname=host)
    _, parameters = parse(message)
    assert parameters["subject"] == printable(name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@contextmanager
def receiving(
    protocol: str, authority: trustme.CA, names: str = "127.0.0.1", port: int = 0
) -> Iterator[SyslogReceiver]:
    context = None
    if protocol == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(names).configure_cert(context)
    with SyslogReceiver(protocol, context, port) as receiver:
        yield receiver


def opened(protocol: Any, port: int, ca_file: Path, **more: Any) -> Route:
    return route_of("syslog", name="siem", port=port, protocol=protocol, ca_file=ca_file, timeout_seconds=2.0, **more)


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
def test_receivers_get_every_alert_once_and_in_order(protocol: str, authority: trustme.CA, ca_file: Path) -> None:
    sent = [alert(number, subject=HOSTILE, title=HOSTILE * number) for number in range(1, 20)]
    with receiving(protocol, authority) as receiver:
        route = opened(protocol, receiver.port, ca_file)
        route.send(sent[:5])
        route.send(sent[5:])
        assert eventually(lambda: len(receiver.messages) == len(sent))
        route.close()
    assert [parse(message)[1]["id"] for message in receiver.messages] == [each.id for each in sent]
    assert len(receiver.connections) == 0


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_a_receiver_that_hung_up_is_connected_again(protocol: str, authority: trustme.CA, ca_file: Path) -> None:
    with receiving(protocol, authority) as receiver:
        route = opened(protocol, receiver.port, ca_file)
        route.send([alert(1)])
        assert eventually(lambda: len(receiver.messages) == 1)
        receiver.hang_up()
        deliver(route, alert(2))
        assert eventually(lambda: len(receiver.messages) == 2)
        route.close()
    assert [parse(message)[1]["id"] for message in receiver.messages] == [alert(1).id, alert(2).id]


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_nobody_listening_is_tried_again(protocol: str, ca_file: Path) -> None:
    with refusing_port() as port, pytest.raises(DeliveryError) as caught:
        opened(protocol, port, ca_file).send([alert()])
    assert not caught.value.permanent


@pytest.mark.parametrize(("issuer", "names"), [("other", "127.0.0.1"), ("ours", "example.org")])
def test_a_server_that_cannot_prove_itself_gets_nothing(
    issuer: str, names: str, authority: trustme.CA, ca_file: Path
) -> None:
    with receiving("tls", authority if issuer == "ours" else trustme.CA(), names) as receiver:
        with pytest.raises(DeliveryError, match="certificate"):
            opened("tls", receiver.port, ca_file).send([alert()])
        assert receiver.messages == []


def test_what_no_datagram_can_hold_is_given_up(authority: trustme.CA, ca_file: Path) -> None:
    with receiving("udp", authority) as receiver:
        route = opened("udp", receiver.port, ca_file, form="ocsf")
        with pytest.raises(DeliveryError, match="too long for UDP") as caught:
            route.send([alert(1), alert(2, evidence={"path": "x" * 70_000})])
        assert (caught.value.permanent, caught.value.delivered) == (True, 1)
        route.close()
