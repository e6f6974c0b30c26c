"""Alerts to send, and receivers to send them to: real servers on the loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter

from hackwatch.alerts.alert import Alert, Cause
from hackwatch.config import AnyRoute, KafkaSettings
from hackwatch.detect.detector import Driver
from hackwatch.routes import DeliveryError, Route, open_route

__all__ = [
    "HOSTILE",
    "HttpReceiver",
    "SyslogReceiver",
    "alert",
    "deliver",
    "eventually",
    "frames",
    "refusing_port",
    "route_of",
]

#: A name as an attacker would choose it.
HOSTILE = '=cmd|"\x1b[2J]\\\n\r\x07\x9b31m\u202eé\ud800'


def alert(number: int = 1, **changes: Any) -> Alert:
    made = Alert(
        id=f"{number:032x}",
        kind="attack",
        stream="visit",
        entity="203.0.113.7",
        rule="account-takeover",
        title="203.0.113.7 is suspect in visit (/.env) and login",
        severity="high",
        risk=88,
        subject="/.env",
        first_seen=1_700_000_000.25,
        last_seen=1_700_000_009.5,
        created=1_700_000_010.0,
        technique="T1059.004",
        tactic="execution",
        count=3,
        drivers={"visit": (Driver("seconds", "9.3 s", "0.1 s", 3.2), Driver("path", "/.env", "/cart", 1.1))},
        evidence={"client": "203.0.113.7", "path": "/.env", "status": 404, "login_waited": float("nan")},
        causes=(Cause("spool:visit", 0, 1024, 3), Cause("spool:login", 1, 2048)),
        models={"visit": "visit-000003-9f2c"},
    )
    return replace(made, **changes)


def route_of(kind: str, *, kafka: KafkaSettings | None = None, name: str = "r", **settings: Any) -> Route:
    """A route of that type, as its table of the settings says."""
    table: Any = TypeAdapter(AnyRoute).validate_python({"type": kind, "name": name, **settings})
    return open_route(table, kafka)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class HttpReceiver:
    """A web server that keeps what is posted and answers from a script (then 204).

    An answer is a status, or (status, headers), or "close" (hang up), or seconds to wait before 204 (a float).
    """

    def __init__(self, *answers: Any, port: int = 0) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=s3cr3t"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, body))
                self._answer(receiver.answers.pop(0) if receiver.answers else 204)

            def _answer(self, answer: Any) -> None:
                if answer == "close":
                    self.close_connection = True
                    return
                if isinstance(answer, float):
                    time.sleep(answer)
                    answer = 204
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler


class SyslogReceiver:
    """A syslog server over UDP, TCP or TLS that keeps every message."""

    def __init__(self, protocol: str, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._context = context
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        self._listening = socket.socket(socket.AF_INET, kind)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        if protocol != "udp":
            self._listening.listen()
        target = self._datagrams if protocol == "udp" else self._accept
        self._thread = threading.Thread(target=target, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.hang_up()
        # A blocked accept() or recv() is only woken by shutdown or by a datagram.
        if self._listening.type == socket.SOCK_DGRAM:
            self._listening.sendto(b"", self._listening.getsockname())
        else:
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def hang_up(self) -> None:
        """Close what is connected, go on listening."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections.clear()

    def _datagrams(self) -> None:
        while message := self._listening.recv(65536):
            self.messages.append(message)

    def _accept(self) -> None:
        try:
            while True:
                plain, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()
        except OSError:
            return

    def _serve(self, plain: socket.socket) -> None:
        try:
            connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            self.connections.append(connection)
            self._read(connection)
        except OSError:
            plain.close()

    def _read(self, connection: socket.socket) -> None:
        waiting = b""
        while data := connection.recv(4096):
            waiting += data
            for message, rest in frames(waiting):
                self.messages.append(message)
                waiting = rest


def frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Octet-counted messages (RFC 6587) at the beginning of `data`, each with what follows it."""
    while (head := data.partition(b" "))[1]:
        length = int(head[0])
        if len(head[2]) < length:
            return
        data = head[2][length:]
        yield head[2][:length], data


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def deliver(route: Route, *alerts: Alert, attempts: int = 3) -> None:
    """Send as the dispatcher does: again after a failure that may pass."""
    for attempt in range(attempts):
        try:
            route.send(alerts)
        except DeliveryError as error:
            if error.permanent or attempt == attempts - 1:
                raise
        else:
            return
