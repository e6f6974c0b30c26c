"""Alerts by syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425)."""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress

from hackwatch.alerts.alert import Alert
from hackwatch.config import SyslogRouteSettings
from hackwatch.routes.rfc5424 import format_message
from hackwatch.routes.route import DeliveryError

__all__ = ["PORTS", "SyslogRoute"]

#: Default port of each protocol.
PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
_UDP_LONGEST = 65507


class SyslogRoute:
    """One syslog message for each alert.

    Syslog knows no answer. Over TCP and TLS, delivered means that the receiver's kernel has acknowledged every
    byte and that the connection was still open then; over UDP it means sent.
    """

    def __init__(self, settings: SyslogRouteSettings) -> None:
        self.name, self._settings, self._protocol = settings.name, settings, settings.protocol
        self._host, self._port = settings.host, settings.port or PORTS[settings.protocol]
        self._where = f"route {self.name}: {self._protocol}://{self._host}:{self._port}"
        self._socket: socket.socket | None = None

    def send(self, alerts: Sequence[Alert]) -> None:
        messages = [format_message(alert, self._settings.form, self._settings.facility) for alert in alerts]
        try:
            if self._protocol == "udp":
                self._send_datagrams(messages)
            else:
                self._send_stream(b"".join(b"%d %b" % (len(message), message) for message in messages))
        except OSError as error:
            self.close()
            raise DeliveryError(f"cannot send: {error}", where=self._where) from error

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def _send_datagrams(self, messages: Sequence[bytes]) -> None:
        for delivered, message in enumerate(messages):
            if len(message) > _UDP_LONGEST:
                raise DeliveryError(
                    f"the message of {len(message)} bytes is too long for UDP",
                    where=self._where,
                    next_step="use protocol tcp or tls, or form native",
                    delivered=delivered,
                    permanent=True,
                )
            self._connected().send(message)

    def _send_stream(self, payload: bytes) -> None:
        if self._socket is not None and _was_closed(self._socket):
            self.close()
        connection = self._connected()
        connection.sendall(payload)
        deadline = time.monotonic() + self._settings.timeout_seconds
        while _unacknowledged(connection):
            if time.monotonic() > deadline:
                raise TimeoutError("the receiver does not acknowledge")
            time.sleep(0.001)
        if _was_closed(connection):
            raise ConnectionResetError("the receiver closed the connection")

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        if self._protocol == "udp":
            family, kind, number, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            plain = socket.socket(family, kind, number)
            plain.connect(address)
        else:
            plain = socket.create_connection((self._host, self._port), timeout=self._settings.timeout_seconds)
        plain.settimeout(self._settings.timeout_seconds)
        self._socket = self._secured(plain) if self._protocol == "tls" else plain
        return self._socket

    def _secured(self, plain: socket.socket) -> socket.socket:
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_file)
            return context.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise


def _was_closed(connection: socket.socket) -> bool:
    """A receiver of syslog never sends; what can be read is the end of the connection, or TLS talking."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    waiting = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1024) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(waiting)


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes that the receiver's kernel has not acknowledged yet (SIOCOUTQ, tcp(7)); 0 where Linux is not."""
    if sys.platform != "linux":
        return 0
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])
