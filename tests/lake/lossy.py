"""A way to a server on which answers get lost: what was asked is done, and whoever asked does not hear of it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from hackwatch.lake import Lake

__all__ = ["Lossy", "by_way_of"]


class Lossy:
    """A port that passes everything on to another, but loses the answers to the next `losing` PUTs to `to`."""

    def __init__(self, port: int, to: bytes, losing: int) -> None:
        self._port, self._to, self.losing, self.lost = port, to, losing, 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # or the thread in accept keeps it open
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        """One request at a time, as clients of HTTP/1.1 send them."""
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", self._port)) as far:
            doomed = threading.Event()
            back = threading.Thread(target=self._answer, args=(far, near, doomed), daemon=True)
            back.start()
            while data := near.recv(1 << 16):
                if data.startswith(b"PUT") and self._to in data.partition(b"\r\n")[0] and self.losing:
                    self.losing -= 1
                    doomed.set()
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
            back.join()

    def _answer(self, far: socket.socket, near: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 16):
                if doomed.is_set():
                    self.lost += 1
                    for one in (near, far):
                        one.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)


def by_way_of(lake: Lake, way: Lossy) -> Lake:
    """The same lake, as a writer sees it who goes that way."""
    return Lake(lake.location, options={**lake.options, "endpoint": way.endpoint})
