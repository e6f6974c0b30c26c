"""Hears from the kernel of every process that ends: also of those that began and ended between two samples.

Source: Documentation/accounting/taskstats.rst and linux/taskstats.h. The kernel sends each ending thread's own
accounting (name, exit status, CPU time, faults), so nothing has to be read in a race. Needs CAP_NET_ADMIN, the
first PID namespace, and the thread group fields of taskstats version 12 (Linux 5.19).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Exit", "ExitListener", "NotAudible"]

_GENERIC, _CONTROLLER = 16, 16
_REQUEST, _ACKNOWLEDGE, _ERROR = 1, 4, 2
_FAMILY_NAME, _FAMILY_ID, _GET_FAMILY = 2, 1, 3
_GET, _OF_PID, _REGISTER_CPUS = 1, 1, 3
_STATS, _AGGREGATE_PID = 3, 4
_FORCED_BUFFER = 33  # SO_RCVBUFFORCE
_BUFFER_BYTES = 8 << 20
_LAST_OF_GROUP = 0x20

# version, exit status, flags | name | PID | user and system microseconds, minor and major faults | thread group
_LAYOUT = struct.Struct("=HxxIB71x32s16xI20x4Q184xI")

#: Threads of groups that have not ended yet; when something was lost, their end may never be heard.
_OPEN_GROUPS = 65_536


class NotAudible(Exception):
    """The kernel does not tell us of ending processes; the text says why."""


@dataclass(slots=True)
class Exit:
    """A process that ended: its last name, wait status, CPU microseconds and faults of the threads that we heard."""

    pid: int
    name: bytes = b""
    status: int = 0
    microseconds: int = 0
    minor_faults: int = 0
    major_faults: int = 0

    @property
    def code(self) -> int:
        """Exit code, or the signal that ended it."""
        return self.status & 0x7F or self.status >> 8 & 0xFF

    @property
    def letter(self) -> str:
        """How it ended, as atop marks it: E exit, S signal, C signal with core dump."""
        if not self.status & 0x7F:
            return "E"
        return "C" if self.status & 0x80 else "S"


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _attributes(message: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(kind, start, end) of the netlink attributes in message[start:end]."""
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", message, start)
        if length < 4:
            return
        yield kind & 0x3FFF, start + 4, min(start + length, end)
        start += length + 3 & ~3


def _stats(message: bytes) -> int | None:
    """Where the taskstats of one thread begin in a message."""
    for kind, start, end in _attributes(message, 20, len(message)):
        if kind == _AGGREGATE_PID:
            for inner, at, stop in _attributes(message, start, end):
                if inner == _STATS and stop - at >= _LAYOUT.size:
                    return at
    return None


class ExitListener:
    """A subscription to ending processes; `drain` takes what came since. Raises NotAudible on opening.

    `lost` counts how often the kernel dropped messages because we were slow.
    """

    def __init__(self) -> None:
        if not hasattr(socket, "AF_NETLINK"):
            raise NotAudible("needs Linux")
        self.lost = 0
        self._groups: dict[int, Exit] = {}
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC)
        try:
            self._subscribe()
        except (OSError, struct.error) as error:
            self._socket.close()
            raise NotAudible(f"needs CAP_NET_ADMIN on the host and Linux 5.19: {error}") from error
        except NotAudible:
            self._socket.close()
            raise

    def close(self) -> None:
        """End the subscription; the kernel forgets it with the socket."""
        self._socket.close()

    def drain(self) -> list[Exit]:
        """Processes that ended since the last call, in order; never waits."""
        ended: list[Exit] = []
        while True:
            try:
                message = self._socket.recv(65_536)
            except BlockingIOError:
                return ended
            except OSError:  # ENOBUFS: the kernel had to drop some; the rest is still to be read
                self.lost += 1
                continue
            if (process := self._hear(message)) is not None:
                ended.append(process)

    def _subscribe(self) -> None:
        self._socket.bind((0, 0))
        self._socket.settimeout(2)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _FORCED_BUFFER, _BUFFER_BYTES)
        answer = self._ask(_CONTROLLER, _GET_FAMILY, _attribute(_FAMILY_NAME, b"TASKSTATS\0"))
        places = [start for kind, start, _ in _attributes(answer, 20, len(answer)) if kind == _FAMILY_ID]
        family = struct.unpack_from("=H", answer, places[0])[0] if places else 0
        own = self._ask(family, _GET, _attribute(_OF_PID, struct.pack("=I", os.getpid())))
        at = _stats(own)
        version = struct.unpack_from("=H", own, at)[0] if at is not None else 0
        # Version 15 (Linux 6.14) moved every field; 16 moved them back.
        if version < 12 or version == 15:
            raise NotAudible(f"needs Linux 5.19 (this kernel's taskstats are version {version})")
        with open("/sys/devices/system/cpu/possible", "rb") as possible:
            cpus = possible.read().strip()
        self._ask(family, _GET, _attribute(_REGISTER_CPUS, cpus + b"\0"), _REQUEST | _ACKNOWLEDGE)
        self._socket.setblocking(False)

    def _ask(self, family: int, command: int, payload: bytes, flags: int = _REQUEST) -> bytes:
        body = struct.pack("=BBH", command, 1, 0) + payload
        self._socket.send(struct.pack("=IHHII", 16 + len(body), family, flags, 1, 0) + body)
        answer = self._socket.recv(65_536)
        if struct.unpack_from("=H", answer, 4)[0] == _ERROR:
            code = -struct.unpack_from("=i", answer, 16)[0]
            if code:
                raise OSError(code, os.strerror(code))
        return answer

    def _hear(self, message: bytes) -> Exit | None:
        """Add one thread to its process; the process when this was its last thread."""
        at = _stats(message)
        if at is None:
            return None
        _, status, flags, name, pid, user, system, minor, major, group = _LAYOUT.unpack_from(message, at)
        process = self._groups.setdefault(group, Exit(group))
        process.microseconds += user + system
        process.minor_faults += minor
        process.major_faults += major
        if pid == group or not process.name:
            process.name, process.status = name.rstrip(b"\0"), status
        if flags & _LAST_OF_GROUP:
            return self._groups.pop(group)
        if len(self._groups) > _OPEN_GROUPS:
            del self._groups[next(iter(self._groups))]
        return None
