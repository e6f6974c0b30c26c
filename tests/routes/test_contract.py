"""What every route must do, third parties' included: the same battery for all kinds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from hackwatch.alerts.alert import Alert
from hackwatch.config import StdoutRouteSettings
from hackwatch.routes import DeliveryError, Route, open_delivery
from tests.routes.support import (
    HOSTILE,
    HttpReceiver,
    SyslogReceiver,
    alert,
    deliver,
    eventually,
    refusing_port,
    route_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

#: A route under test, and what has arrived so far: one text for each alert, which holds its id or title.
Rig = tuple[Route, Callable[[], list[str]]]


@contextmanager
def file_rig(folder: Path) -> Iterator[Rig]:
    path = folder / "alerts.ndjson"
    yield route_of("file", path=path), lambda: path.read_text().splitlines()


@contextmanager
def webhook_rig(folder: Path) -> Iterator[Rig]:
    with HttpReceiver() as receiver:
        yield route_of("webhook", url=receiver.url), lambda: [body.decode() for _, _, body in receiver.requests]


@contextmanager
def syslog_rig(folder: Path, protocol: Any) -> Iterator[Rig]:
    context = None
    if protocol == "tls":
        import ssl

        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with SyslogReceiver(protocol, context) as receiver:
        settings = {"port": receiver.port, "protocol": protocol, "ca_file": folder / "ca.pem"}
        yield route_of("syslog", form="ocsf", **settings), lambda: [message.decode() for message in receiver.messages]


@contextmanager
def apprise_rig(folder: Path) -> Iterator[Rig]:
    with HttpReceiver() as receiver:
        url = f"json://127.0.0.1:{receiver.port}/"
        yield route_of("apprise", url=url, form="ecs"), lambda: [body.decode() for _, _, body in receiver.requests]


RIGS: dict[str, Callable[[Path], AbstractContextManager[Rig]]] = {
    "file": file_rig,
    "webhook": webhook_rig,
    "syslog over UDP": lambda folder: syslog_rig(folder, "udp"),
    "syslog over TCP": lambda folder: syslog_rig(folder, "tcp"),
    "syslog over TLS": lambda folder: syslog_rig(folder, "tls"),
    "apprise": apprise_rig,
}


@pytest.fixture(params=list(RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path) as (opened, arrived):
        yield opened, arrived
        opened.close()


def arrive(rig: Rig, *alerts: Alert) -> bool:
    return eventually(lambda: len(rig[1]()) == len(alerts)) and all(
        sent.id in text for sent, text in zip(alerts, rig[1](), strict=True)
    )


def test_alerts_arrive_in_order(rig: Rig) -> None:
    rig[0].send([alert(1), alert(2)])
    rig[0].send([alert(3)])
    assert arrive(rig, alert(1), alert(2), alert(3))


def test_nothing_to_send_is_no_failure(rig: Rig) -> None:
    rig[0].send([])
    rig[0].send([alert(1)])
    assert arrive(rig, alert(1))


def test_a_closed_route_opens_again(rig: Rig) -> None:
    rig[0].close()
    rig[0].send([alert(1)])
    assert arrive(rig, alert(1))
    rig[0].close()
    rig[0].close()
    deliver(rig[0], alert(2))
    assert arrive(rig, alert(1), alert(2))


def test_hostile_names_arrive_harmless(rig: Rig) -> None:
    hostile = alert(1, title=HOSTILE, subject=HOSTILE, entity=HOSTILE, evidence={"path": HOSTILE})
    rig[0].send([hostile])
    assert arrive(rig, hostile)
    assert "\x1b" not in rig[1]()[0]


def test_the_name_is_that_of_the_settings(rig: Rig) -> None:
    assert rig[0].name == "r"


def test_stdout_is_a_route(capsys: pytest.CaptureFixture[str]) -> None:
    delivery = open_delivery(StdoutRouteSettings(name="out", type="stdout", max_attempts=3, minimum_severity="high"))
    delivery.route.send([alert(1)])
    delivery.route.close()
    assert json.loads(capsys.readouterr().out)["id"] == alert(1).id
    assert (delivery.max_attempts, delivery.minimum_severity) == (3, "high")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("webhook", {"url": "http://127.0.0.1:{port}/"}),
        ("apprise", {"url": "json://127.0.0.1:{port}/"}),
        ("syslog", {"port": "{port}", "protocol": "tcp"}),
    ],
)
def test_an_absent_receiver_is_no_problem_until_something_is_sent(kind: str, settings: dict[str, str]) -> None:
    with refusing_port() as port:
        filled: dict[str, Any] = {name: value.format(port=port) for name, value in settings.items()}
        absent = route_of(kind, **filled)
        with pytest.raises(DeliveryError) as caught:
            absent.send([alert(1)])
    assert (caught.value.permanent, caught.value.delivered) == (False, 0)


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    route_of("file", path="~/alerts.ndjson").send([alert(1)])
    assert (tmp_path / "alerts.ndjson").exists()
