"""Following a file: every whole line once, through rotation, truncation, deletion and restarts."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.feeds.follow import Follow
from hackwatch.feeds.lines import CsvLines
from hackwatch.feeds.pace import Progress
from hackwatch.streams.formats import CSV, JSON, recognised
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages
from hackwatch.testing import FakeClock, MemoryTopic
from tests.streams.request import STREAM, short
from tests.third.shop import VISIT
from tests.topics.support import lines


def _never_decoded(messages: Messages, options: DecodeOptions) -> Decoded:
    raise AssertionError("who follows does not decode")


#: It says nothing of its fields: its lines may have any.
ANY = replace(VISIT, decode=_never_decoded)


class Scene:
    """A log, its follower and what arrived; `look` lets the follower see all there is and wait out a rotation."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.log, self.state = folder, folder / "log", folder / "state" / "position.json"
        self.topic, self.clock = MemoryTopic(partitions=1), FakeClock()
        self.options = {"stream": ANY, "form": "json", **options}
        self.start()

    def start(self, **options: Any) -> None:
        """A new process begins to follow."""
        self.follow = Follow(self.log, self.state, clock=self.clock, **{**self.options, **options})

    def write(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def look(self) -> None:
        for _ in range(3):
            while self.follow.step(self.topic):
                pass
            self.clock.advance(2.0)

    @property
    def got(self) -> list[str]:
        return [line.decode() for line in lines(self.topic)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, from_start=True)
    yield made
    made.follow.close()


def test_only_whole_lines_are_sent(scene: Scene) -> None:
    scene.write("one\ntw")
    scene.look()
    assert scene.got == ["one"]
    scene.write("o\nthree\n")
    scene.look()
    assert scene.got == ["one", "two", "three"]


def test_a_file_may_come_later(scene: Scene) -> None:
    scene.look()
    scene.write("one\n")
    scene.look()
    assert scene.got == ["one"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [("old\n", ["new"]), ("old\nhal", ["halnew"]), ("", ["new"])],
    ids=["", "half line", "empty"],
)
def test_it_begins_at_the_end_unless_told(tmp_path: Path, before: str, expected: list[str]) -> None:
    scene = Scene(tmp_path)
    scene.write(before)
    scene.look()
    scene.write("new\n")
    scene.look()
    scene.follow.close()
    assert scene.got == expected


def rename(scene: Scene) -> None:
    scene.log.rename(scene.folder / "log.1")


def rename_and_create(scene: Scene) -> None:
    rename(scene)
    scene.log.touch()


def copy_and_truncate(scene: Scene) -> None:
    shutil.copy(scene.log, scene.folder / "log.1")
    os.truncate(scene.log, 0)


def delete(scene: Scene) -> None:
    scene.log.unlink()


ROTATIONS = {
    "rename": rename,
    "rename and create": rename_and_create,
    "copytruncate": copy_and_truncate,
    "delete": delete,
}


@pytest.mark.parametrize("rotate", ROTATIONS.values(), ids=ROTATIONS.keys())
@pytest.mark.parametrize("after", ["x\n", "a line longer than the file was before\n"], ids=["short", "long"])
def test_rotation_loses_and_doubles_nothing(scene: Scene, rotate: Callable[[Scene], None], after: str) -> None:
    scene.write("one\ntwo\n")
    scene.look()
    rotate(scene)
    scene.write(after)
    scene.look()
    scene.write("last\n")
    scene.look()
    assert scene.got == ["one", "two", after.strip(), "last"]


@pytest.mark.parametrize("rotate", [rename, rename_and_create, delete], ids=["rename", "rename and create", "delete"])
def test_what_was_not_read_before_the_rotation_is_read_after_it(scene: Scene, rotate: Callable[[Scene], None]) -> None:
    scene.write("one\n")
    scene.look()
    scene.write("two\nhalf")
    rotate(scene)
    scene.write("three\n")
    scene.look()
    assert scene.got == ["one", "two", "half", "three"]


def test_a_writer_that_has_not_noticed_the_rotation_is_heard(scene: Scene) -> None:
    with scene.log.open("a") as old:
        old.write("one\n")
        old.flush()
        scene.look()
        rename_and_create(scene)
        scene.write("new\n")
        while scene.follow.step(scene.topic):
            pass
        old.write("two\n")
    scene.look()
    assert scene.got == ["one", "two", "new"]


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_restart_goes_on_where_the_last_run_ended(scene: Scene, killed: bool) -> None:
    scene.write("one\ntw")
    scene.look()
    if not killed:
        scene.follow.close()
    scene.write("o\n")
    scene.start(from_start=False)
    scene.look()
    assert scene.got == ["one", "two"]


def test_a_restart_remembers_where_it_began_even_if_nothing_came(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.write("old\n")
    scene.look()
    scene.write("new\n")
    scene.start()
    scene.look()
    scene.follow.close()
    assert scene.got == ["new"]


def test_a_restart_finds_the_renamed_file_and_then_the_new_one(scene: Scene) -> None:
    scene.write("one\n")
    scene.look()
    scene.follow.close()
    scene.write("two\n")
    rename(scene)
    scene.write("three\n")
    scene.start()
    scene.look()
    assert scene.got == ["one", "two", "three"]


def test_a_restart_after_the_file_is_gone_says_so_and_reads_the_new_one(scene: Scene) -> None:
    scene.write("one\n")
    scene.look()
    scene.follow.close()
    scene.log.unlink()
    scene.write("entirely new\n")
    scene.start(from_start=False)
    notes: list[str | None] = []
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        notes.append(progress.note)
        stop.set()

    scene.follow.run(scene.topic, stop, watch)
    assert scene.got == ["one", "entirely new"]
    assert notes == ["the file that was followed is gone: what was left of it unread is missed"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"device": "x"}'])
def test_a_damaged_position_is_named(scene: Scene, content: str) -> None:
    scene.state.parent.mkdir()
    scene.state.write_text(content)
    with pytest.raises(DataError, match=r"position\.json"):
        scene.look()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(ResourceError, match="log"):
        Scene(tmp_path, from_start=True).look()


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="a pipe cannot be followed"):
        Follow(tmp_path / "pipe", tmp_path / "state", ANY).step(MemoryTopic())


def test_a_line_without_end_comes_in_pieces(scene: Scene) -> None:
    scene.write("x" * (17 << 20) + "\nshort\n")
    scene.look()
    assert [len(line) for line in lines(scene.topic)] == [16 << 20, 1 << 20, 5]


def test_run_sends_flushes_and_remembers(scene: Scene) -> None:
    scene.write("one\ntwo\n")
    stop = threading.Event()
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        stop.set()

    assert scene.follow.run(scene.topic, stop, watch) == Progress(2, 2, 8)
    assert seen == [Progress(2, 2, 8)]
    assert json.loads(scene.state.read_text())["offset"] == 8


def test_a_person_is_told_that_the_file_is_not_there_yet(scene: Scene) -> None:
    stop = threading.Event()
    told: list[str | None] = []

    def watch(progress: Progress) -> None:
        told.append(progress.note)
        scene.write("one\n")
        if progress.records:
            stop.set()

    scene.follow.run(scene.topic, stop, watch)
    assert told[0] is not None
    assert "it is not there yet" in told[0]
    assert told[1:] == [None]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from(["line", "half", "look", "stop", "kill", *(name for name in ROTATIONS if name != "delete")]),
        max_size=25,
    )
)
def test_any_sequence_of_events_loses_and_doubles_no_line(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    scene = Scene(tmp_path_factory.mktemp("scene"), from_start=True)
    written = ""
    for number, step in enumerate(steps):
        if step in ("line", "half"):
            text = f"line {number}\n" if step == "line" else f"half {number} "
            scene.write(text)
            written += text
        elif step == "look":
            scene.look()
        elif step in ("stop", "kill"):
            if step == "stop":
                scene.follow.close()
            scene.start()
        elif scene.log.exists():
            if written and not written.endswith("\n"):
                scene.write("\n")
                written += "\n"
            scene.look()  # a second rotation, and truncation, take away what nobody has read
            ROTATIONS[step](scene)
    scene.write("\n")
    scene.look()
    scene.follow.close()
    assert scene.got == (written + "\n").split("\n")[:-1]


# --- CSV


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b'{"a":1}', "json"), (b" [", "json"), (b"\xef\xbb\xbf{", "json"), (b"[{", "json"), (b"a,b\n1,2\n", "csv"),
        (b'"status";"load %"\n', "csv"), (b"\xef\xbb\xbfstatus\tpath\r\n", "csv"), (b",status,path\n0,1,a\n", "csv"),
        (b"[Wed Oct 11 14:32:52 2000] [error] a, b\n", None), (b"1,2\n", None), (b"ts\n", None),
        (b'::1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 9 "-" "Mozilla/5.0 (X11; KHTML, x)"\n', None),
    ],
)  # fmt: skip
def test_what_the_lines_are_is_seen_from_a_file_s_beginning(head: bytes, form: str | None) -> None:
    found = recognised((JSON, CSV), head)
    assert (found and found.name) == form


@pytest.mark.parametrize(
    ("payload", "expected", "bad"),
    [
        (b"1,2\n", ['{"a":"1","b":"2"}'], 0),
        (b"1,2\r\n\r\n3,4\r\n", ['{"a":"1","b":"2"}', '{"a":"3","b":"4"}'], 0),
        (b"1\n", ['{"a":"1","b":null}'], 0),
        (b"1,2,3\n4,5\n", ["1,2,3", '{"a":"4","b":"5"}'], 1),
        (b'"x,y","say ""hi"""\n', ['{"a":"x,y","b":"say \\"hi\\""}'], 0),
        (b'"open,1\n2,3\n', ['"open,1', '{"a":"2","b":"3"}'], 1),
        (b"\n", [], 0),
        (b"", [], 0),
    ],
    ids=["plain", "carriage returns and blank lines", "short", "long", "quotes", "a stray quote", "blank", "nothing"],
)
def test_csv_lines_become_objects(payload: bytes, expected: list[str], bad: int) -> None:
    converted, unfit = CsvLines.of(b"\xef\xbb\xbfa, b\r\n").to_ndjson(payload)
    assert converted.decode().split("\n")[:-1] == expected
    assert unfit == bad


def test_lines_of_a_stream_s_own_format_are_sent_as_they_are(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stream=STREAM, form=None, from_start=True)
    line = short().decode()
    scene.write(f"{line}\n")
    scene.look()
    scene.write("a stranger's\n")
    scene.look()
    assert scene.got == [line, "a stranger's"]
    scene.follow.close()


def test_a_log_that_a_stranger_begins_anew_is_read_as_the_one_before(tmp_path: Path) -> None:
    scene = Scene(tmp_path, stream=STREAM, form=None, from_start=True)
    line = short().decode()
    scene.write(f"{line}\n")
    scene.look()
    rename(scene)
    scene.write("a stranger's\n")
    scene.look()
    scene.write(f"{line}\n")
    scene.look()
    assert scene.got == [line, "a stranger's", line]
    scene.follow.close()


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("a stranger's\n", "request reads json, csv, short, tabbed"),
        ("a,b\n", "no column source, client, when, bot, bytes, path in the header"),
        ("path,path\n", "columns occur twice: path"),
    ],
)
def test_a_log_of_no_format_of_its_stream_is_refused(tmp_path: Path, head: str, says: str) -> None:
    scene = Scene(tmp_path, stream=STREAM, form=None, from_start=True)
    scene.write(head)
    with pytest.raises(DataError, match=says):
        scene.look()
    assert scene.got == []
    scene.follow.close()


def test_a_csv_is_followed_by_its_header_from_the_end_and_through_rotation(tmp_path: Path) -> None:
    scene = Scene(tmp_path, form=None)
    scene.write("a,b\n0,0\n")
    scene.look()
    scene.write("1,2\n")
    scene.look()
    rename(scene)
    scene.write("b,a\n")
    scene.look()
    scene.write("4,3\n")
    scene.look()
    scene.start()
    scene.write("6,5\n")
    scene.look()
    scene.follow.close()
    assert [json.loads(line) for line in scene.got] == [
        {"a": "1", "b": "2"},
        {"b": "4", "a": "3"},
        {"b": "6", "a": "5"},
    ]
