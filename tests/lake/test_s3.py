"""What only a lake in a bucket has: other writers far away, and answers that get lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from hackwatch.errors import ResourceError
from hackwatch.lake import Lake
from tests.conftest import ROOT
from tests.lake.lossy import Lossy, by_way_of
from tests.lake.support import again, records, stored
from tests.servers.s3 import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(s3: Server) -> Lake:
    return Lake(f"{s3.bucket()}/lake", options=s3.options, target_file_mib=1)


def ids(lake: Lake) -> list[int]:
    found: list[int] = lake.scan("t").select("id").collect()["id"].sort().to_list()
    return found


# ---------------------------------------------------------------------- commits of which the writer does not hear


def test_a_commit_whose_answer_is_lost_is_known_for_one_s_own(lake: Lake, lossy: Lossy) -> None:
    """The client asks again by itself, and the server says that the entry is there: it is, and by this very writer."""
    writer = by_way_of(lake, lossy)
    writer.append("t", records(3), 1, "main")
    lossy.losing = 1
    assert writer.append("t", records(3, first=3), 2, "main")
    assert lossy.lost == 1
    assert writer.append("t", records(3, first=6), 3, "main")
    assert ids(lake) == list(range(9))


def test_a_commit_that_is_never_answered_is_not_repeated_and_keeps_its_rows(lake: Lake, lossy: Lossy) -> None:
    writer = by_way_of(lake, lossy)
    writer.append("t", records(3), 1, "main")
    lossy.losing = 1000
    with pytest.raises(ResourceError, match="cannot be reached"):
        writer.append("t", records(3, first=3), 2, "main")
    assert lossy.lost > 1
    lossy.losing = 0
    assert not writer.append("t", records(3, first=3), 2, "main")
    assert ids(lake) == list(range(6))
    assert len(stored(lake)) == 2


_CRASH = """
import os, sys
from hackwatch.lake import Lake
from hackwatch.objects import Bucket
from tests.lake.support import records
import json
real = Bucket.create
def create(*given):
    if sys.argv[2] == "after":
        real(*given)
    os._exit(9)
Bucket.create = create
Lake(sys.argv[1], options=json.loads(os.environ["OPTIONS"])).append("t", records(3, first=3), 2, "main")
"""


def process(code: str, lake: Lake, *arguments: str) -> subprocess.Popen[bytes]:
    import json

    environ = {**os.environ, "OPTIONS": json.dumps(lake.options)}
    return subprocess.Popen([sys.executable, "-c", code, lake.location, *arguments], cwd=ROOT, env=environ)


@pytest.mark.parametrize(("moment", "repeated"), [("before", True), ("after", False)])
def test_a_crash_around_the_commit(lake: Lake, moment: str, repeated: bool) -> None:
    lake.append("t", records(3), 1, "main")
    assert process(_CRASH, lake, moment).wait() == 9
    assert ids(lake) == ([0, 1, 2] if repeated else [0, 1, 2, 3, 4, 5])
    assert lake.append("t", records(3, first=3), 2, "main") is repeated
    assert ids(lake) == [0, 1, 2, 3, 4, 5]


def test_an_epoch_that_another_process_has_committed_leaves_no_file(lake: Lake) -> None:
    """Both find the epoch free; one is faster. The other hears of it when the server refuses its entry."""
    lake.append("t", records(3), 1, "main")
    other = again(lake)
    other.last_epoch("t", "main")
    storage = other._log("t").storage
    create = storage.create

    def late(key: str, data: bytes) -> bool:
        assert lake.append("t", records(3, first=3), 2, "main")
        storage.create = create  # type: ignore[method-assign]
        return create(key, data)

    storage.create = late  # type: ignore[method-assign]
    assert not other.append("t", records(3, first=3), 2, "main")
    assert ids(lake) == list(range(6))
    assert len(stored(lake)) == 2


@pytest.mark.parametrize(("request_", "epochs"), [("write", 1), ("create", 3)])
def test_a_request_that_is_done_after_its_sender_gave_up_harms_nothing(
    own_s3: Server, request_: str, epochs: int
) -> None:
    """The server stands still with the request in its hands: the rows, or the entry that makes them count."""
    lake = Lake(f"{own_s3.bucket()}/lake", options={**own_s3.options, "timeout": "1s"})
    lake.append("t", records(3), 1, "main")
    needed: list[bool] = []
    for epoch in range(2, 2 + epochs):
        storage = lake._log("t").storage
        real = getattr(storage, request_)

        def stand_still(key: str, data: bytes, real: Callable[[str, bytes], bool] = real) -> bool:
            own_s3.freeze()
            return real(key, data)

        setattr(storage, request_, stand_still)
        frame = records(3, first=3 * epoch)
        with pytest.raises(ResourceError, match="cannot be reached"):
            lake.append("t", frame, epoch, "main")
        own_s3.thaw()
        # At once, while the server still works off what was sent before; and again when it has.
        needed.append(lake.append("t", frame, epoch, "main"))
        time.sleep(0.5)
        assert not lake.append("t", frame, epoch, "main")
        assert ids(lake) == [0, 1, 2, *range(6, 3 * epoch + 3)]
    assert all(needed) is (request_ == "write"), "an entry was made by a request that its sender had given up"
    assert lake.compact("t").removed == 1 + epochs
    assert ids(lake) == [0, 1, 2, *range(6, 3 * epochs + 6)]


# ---------------------------------------------------------------------- several machines


_WRITER = """
import json, os, sys
from hackwatch.lake import Lake
from tests.lake.support import records
lake = Lake(sys.argv[1], options=json.loads(os.environ["OPTIONS"]))
for epoch in range(1, 16):
    frame = records(10, first=int(sys.argv[3]) + epoch * 10, site=sys.argv[2])
    assert lake.append("t", frame, epoch, sys.argv[2])
    assert not lake.append("t", frame, epoch, sys.argv[2])
"""


def test_processes_append_while_two_compact_and_one_cleans(lake: Lake) -> None:
    places = [("a", 0), ("b", 1000), ("c", 2000)]
    lake.append("t", records(1, first=5000), 1, "first")
    done = threading.Event()
    joined = [0, 0]
    failures: list[Exception] = []

    def keep_up(number: int) -> None:
        mine = again(lake)
        while not done.is_set():
            try:
                joined[number] += mine.compact("t").removed
                mine.vacuum("t")
            except Exception as error:
                failures.append(error)
                return

    upkeep = [threading.Thread(target=keep_up, args=(number,)) for number in range(2)]
    writers = [process(_WRITER, lake, site, str(first)) for site, first in places]
    for thread in upkeep:
        thread.start()
    codes = [writer.wait() for writer in writers]
    done.set()
    for thread in upkeep:
        thread.join()
    assert failures == []
    assert codes == [0, 0, 0]
    assert ids(lake) == sorted([5000, *(first + number for _, first in places for number in range(10, 160))])
    assert sum(joined) > 0
    assert [lake.last_epoch("t", site) for site, _ in places] == [15, 15, 15]


def test_a_site_joins_its_own_files_alone(lake: Lake) -> None:
    for epoch in range(1, 5):
        for site in ("a", "b"):
            lake.append("t", records(5, site=site), epoch, site)
    assert lake.compact("t", site="a").removed == 4
    files = lake.scan("t").select("site").collect()["site"].value_counts().sort("site")["count"].to_list()
    assert files == [20, 20]
    assert lake.statistics("t").files == 1 + 4
    assert lake.compact("t").removed == 4


def test_vacuum_deletes_what_is_no_longer_used(lake: Lake) -> None:
    for epoch in range(1, 5):
        lake.append("t", records(5, first=5 * epoch), epoch, "main")
    lake.compact("t")
    assert lake.vacuum("t") == []
    lake.retention_hours = 0
    gone = lake.vacuum("t", dry_run=True)
    assert all(name.startswith(f"{lake.location}/t/date=") for name in gone)
    assert len(stored(lake)) == 5
    assert lake.vacuum("t") == gone
    assert len(stored(lake)) == 1
    assert ids(lake) == list(range(5, 25))
