"""The Apprise route: a real Apprise posting to a real server; a missing extra says so."""

from __future__ import annotations

import importlib
import json
import logging
import socketserver
import threading
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.routes import DeliveryError
from tests.routes.support import HOSTILE, HttpReceiver, alert, route_of

# Apprise imports a module that Python 3.13 no longer has, where it is there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def test_a_notification_explains_the_alert() -> None:
    with HttpReceiver() as receiver:
        route_of("apprise", name="mail", url=f"json://127.0.0.1:{receiver.port}/").send(
            [alert(1), alert(2, title=HOSTILE)]
        )
    first, second = (json.loads(body) for _, _, body in receiver.requests)
    assert first["title"].startswith("203.0.113.7 is suspect")
    assert "usually 0.1 s" in first["message"]
    assert "\x1b" not in second["title"] + second["message"]


class Postman(socketserver.StreamRequestHandler):
    """The server's side of SMTP, as far as a sender without TLS and login needs it."""

    letters: list[EmailMessage]

    def handle(self) -> None:
        self._say("220 here")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self._say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.letters.append(message_from_bytes(text, policy=default))
            self._say("221 bye" if line == b"QUIT" else "250 ok")

    def _say(self, answer: str) -> None:
        self.wfile.write(f"{answer}\r\n".encode())


def test_an_alert_arrives_by_mail() -> None:
    letters: list[EmailMessage] = []
    handler = type("Handler", (Postman,), {"letters": letters})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        url = f"mailto://{address}/?from=hackwatch@example.org&to=soc@example.org&mode=insecure&format=text"
        route_of("apprise", name="mail", url=url).send([alert(1)])
        server.shutdown()
    [letter] = letters
    assert letter["Subject"].startswith("203.0.113.7 is suspect")
    assert "soc@example.org" in letter["To"]
    body = letter.get_body()
    assert body is not None
    assert "usually 0.1 s" in body.get_content()


def test_a_failure_says_how_far_it_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with HttpReceiver(200, 500) as receiver:
        route = route_of("apprise", name="mail", url=f"json://127.0.0.1:{receiver.port}/?token=s3cr3t")
        with pytest.raises(DeliveryError) as caught:
            route.send([alert(1), alert(2)])
    assert (caught.value.delivered, caught.value.permanent) == (1, False)
    assert "s3cr3t" not in str(caught.value)


def test_an_address_that_apprise_does_not_know_is_not_printed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        route_of("apprise", name="mail", url="nothing://s3cr3t")
    assert "s3cr3t" not in str(caught.value)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ResourceError, match=r"hackwatch\[apprise\]"):
        route_of("apprise", name="mail", url="json://127.0.0.1/")
