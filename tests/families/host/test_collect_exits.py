"""Messages of the kernel about ending threads, as linux/taskstats.h lays them out, put together by process."""

from __future__ import annotations

import struct

import pytest

from hackwatch.families.host.collect import exits
from hackwatch.families.host.collect.exits import Exit, ExitListener

LAST = 0x20


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def notice(
    pid: int, group: int, *, name: bytes = b"nc", status: int = 0, flags: int = 0, padding: bool = False
) -> bytes:
    """One thread's end: 2 ms of CPU time, 3 minor faults, 1 major."""
    stats = bytearray(560)
    struct.pack_into("=HxxIB", stats, 0, 16, status, flags)
    stats[80 : 80 + len(name)] = name
    struct.pack_into("=I", stats, 128, pid)
    struct.pack_into("=QQQQ", stats, 152, 1500, 500, 3, 1)
    struct.pack_into("=I", stats, 368, group)
    inner = attribute(1, struct.pack("=I", pid)) + (attribute(6, b"") if padding else b"") + attribute(3, bytes(stats))
    body = struct.pack("=BBH", 2, 1, 0) + attribute(4, inner)
    return struct.pack("=IHHII", 16 + len(body), 31, 0, 0, 0) + body


class Socket:
    """Gives prepared messages, then nothing."""

    def __init__(self, *messages: bytes | OSError) -> None:
        self.messages = list(messages)

    def recv(self, _: int) -> bytes:
        if not self.messages:
            raise BlockingIOError
        message = self.messages.pop(0)
        if isinstance(message, OSError):
            raise message
        return message

    def close(self) -> None: ...


def listener(*messages: bytes | OSError) -> ExitListener:
    listener = ExitListener.__new__(ExitListener)
    listener.__dict__.update(lost=0, _groups={}, _socket=Socket(*messages))
    return listener


@pytest.mark.parametrize("padding", [False, True])
def test_a_process_of_one_thread_ends_at_once(padding: bool) -> None:
    message = notice(7, 7, status=3 << 8, flags=LAST, padding=padding)
    assert listener(message).drain() == [Exit(7, b"nc", 3 << 8, 2000, 3, 1)]


def test_a_process_of_several_threads_ends_with_the_last_under_its_first_ones_name() -> None:
    ears = listener(
        notice(8, 7, name=b"worker"), notice(7, 7, name=b"java", status=9), notice(9, 7, name=b"gc", flags=LAST)
    )
    assert ears.drain() == [Exit(7, b"java", 9, 6000, 9, 3)]


def test_a_thread_that_ends_is_no_process_that_ends() -> None:
    assert listener(notice(8, 7, name=b"worker")).drain() == []


def test_lost_messages_are_counted_and_the_rest_is_read() -> None:
    ears = listener(OSError(105, "No buffer space available"), notice(7, 7, flags=LAST))
    assert [process.pid for process in ears.drain()] == [7]
    assert ears.lost == 1


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 19, b"\0" * 64, b"\xff" * 64, notice(7, 7, flags=LAST)[:300]],
    ids=["empty", "short", "zeros", "ones", "cut"],
)
def test_a_message_of_another_form_is_passed_over(message: bytes) -> None:
    assert listener(message).drain() == []


def test_groups_whose_end_was_lost_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "_OPEN_GROUPS", 3)
    ears = listener(*(notice(100 + group, group) for group in range(10)))
    ears.drain()
    assert len(ears._groups) == 3
