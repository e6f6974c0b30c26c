"""Files of records: NDJSON, JSON arrays, CSV; gzipped, with a byte order mark, torn, broken."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.errors import DataError, ResourceError
from hackwatch.feeds import files
from hackwatch.feeds.files import read_file
from hackwatch.streams.stream import Decoded, DecodeOptions
from tests.streams.request import STREAM, short
from tests.streams.support import VISIT as SOUND
from tests.streams.support import named, record
from tests.third.shop import VISIT

BOM = b"\xef\xbb\xbf"
LOG = b'::1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 9 "-" "Mozilla/5.0 (X11; KHTML, x)"\n'
HEADER = "client,server,path,agent,status,bytes,seconds,ts,label"


def read(path: Path, content: bytes, stream: str = "visit", **options: Any) -> Decoded:
    path.write_bytes(content)
    chunks = list(read_file(path, named(stream), DecodeOptions(**options)))
    return Decoded(
        pl.concat([chunk.records for chunk in chunks]),
        pl.concat([chunk.rejected for chunk in chunks]),
        sum(chunk.messages for chunk in chunks),
    )


def ndjson(count: int) -> bytes:
    return b"".join(json.dumps(record("visit", bytes=n)).encode() + b"\n" for n in range(count))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.dat"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", [b"", BOM], ids=["", "bom"])
@pytest.mark.parametrize(
    "content",
    [
        ndjson(50),
        ndjson(50)[:-1],
        b"[" + ndjson(50)[:-1].replace(b"\n", b",") + b"]\n",
        b"[\n" + ndjson(50)[:-1].replace(b"\n", b",\n") + b"\n]",
        json.dumps([record("visit", bytes=n) for n in range(50)], indent=2).encode(),
    ],
    ids=["ndjson", "torn ndjson", "message array", "array of lines", "indented array"],
)
def test_json_files_of_all_forms_hold_the_same_records(path: Path, content: bytes, mark: bytes, pack: Any) -> None:
    decoded = read(path, pack(mark + content))
    assert decoded.records["bytes"].to_list() == list(range(50))
    assert decoded.rejected.height == 0


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_read_whole(path: Path, pack: Any) -> None:
    """Its beginning cannot be read twice: to look at what it holds must not lose it."""
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(pack(ndjson(100))), daemon=True)
    writer.start()
    [decoded] = read_file(path, VISIT)
    writer.join(10)
    assert decoded.records["bytes"].to_list() == list(range(100))


@pytest.mark.parametrize("chunk", [100, 1000, 1 << 20])
def test_chunks_change_no_record_and_no_offset(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK", chunk)
    content = ndjson(30) + b"{broken\n" + ndjson(5)
    decoded = read(path, content)
    starts = [position + 1 for position in range(len(content) - 1) if content[position : position + 1] == b"\n"]
    everything = pl.concat([decoded.records.select("offset"), decoded.rejected.select("offset")])
    assert sorted(everything["offset"]) == [0, *starts]
    assert decoded.rejected["raw"].to_list() == ["{broken"]


@pytest.mark.parametrize("chunk", [512, 5000, 1 << 20])
def test_a_line_that_is_too_long_is_rejected_with_its_beginning(
    path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CHUNK", chunk)
    content = ndjson(3) + b"y" * 20_000 + b"\n" + ndjson(3)
    decoded = read(path, content, max_message_bytes=1000)
    assert decoded.records["offset"].to_list()[3] == len(ndjson(3)) + 20_001
    assert decoded.rejected["reason"].to_list() == ["message is longer than 1000 bytes"]
    assert decoded.rejected["raw"][0].startswith("y" * 1001)


@pytest.mark.parametrize("content", [b"", BOM, gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_one_empty_chunk(path: Path, content: bytes) -> None:
    decoded = read(path, content)
    assert (decoded.messages, decoded.records.height, decoded.rejected.height) == (0, 0, 0)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM], ids=["", "bom"])
def test_a_csv_is_read_by_its_header(path: Path, separator: str, end: str, mark: bytes) -> None:
    rows = [SOUND, record("visit", path="a b"), record("visit", bytes=" 24K ")]
    text = end.join(separator.join(map(str, line)) for line in [list(SOUND), *(row.values() for row in rows)])
    decoded = read(path, mark + text.encode())
    assert decoded.records["path"].to_list() == ["/item/17", "a b", "/item/17"]
    assert decoded.records["bytes"].to_list() == [12800.0, 12800.0, 24576.0]
    assert decoded.records["ts"].to_list() == [1554218915.25] * 3
    assert decoded.records["offset"].to_list() == [0, 1, 2]


def test_csv_rows_that_do_not_fit_are_rejected_or_counted(path: Path) -> None:
    good = "c,s,/,a,200,1K,0.1,1e9,0"
    content = f'{HEADER}\n{good}\n\nc,s\n{good},more\n"c",s,"a,""b",a,200,1K,0.1,1e9,0\n'
    path.write_text(content)
    [decoded] = read_file(path, VISIT)
    assert decoded.records["path"].to_list() == ["/", "/", 'a,"b']
    assert decoded.rejected["offset"].to_list() == [1]
    assert decoded.rejected["reason"][0].startswith("path: missing or null; agent: missing or null")
    assert dict(decoded.unknown_fields) == {"(beyond the header)": 1}


def test_invalid_utf8_in_a_csv_is_kept_as_escapes(path: Path) -> None:
    row = b"c,s,a\xffb,a,200,1K,0.1,1e9,0"
    assert read(path, HEADER.encode() + b"\n" + row).records["path"].to_list() == ["a\\xffb"]


def test_progress_ends_at_the_size_of_the_file(path: Path) -> None:
    path.write_bytes(gzip.compress(ndjson(2000)))
    seen: list[tuple[int, int]] = []
    for _ in read_file(path, VISIT, on_progress=lambda done, size: seen.append((done, size))):
        pass
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(ndjson(500))[:-20], "broken gzip file"),
        (b"\x1f\x8bnonsense", "broken gzip file"),
        (b"[\n{]", "begins as a JSON array but is none"),
        (b"a,b,c\n1,2,3\n", "no column client, server, .*, ts in the header"),
        (b"client,path,client\n1,2,3\n", "columns occur twice: client"),
        (HEADER.encode() + b'\n1,"' + b"x" * 200_000, "not readable as CSV"),
        (b"1,2,3\n4,5,6\n", "this is no file of visit: it seems to hold nothing known"),
        (LOG, "visit reads json, csv"),
    ],
    ids=["torn gzip", "no gzip", "no array", "no column", "doubled", "open quote", "no header", "a log"],
)
def test_a_file_that_is_not_what_it_says_is_a_data_error(path: Path, content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(path, content)
    assert str(path) in str(caught.value)
    assert caught.value.next_step


def requests(path: Path, content: bytes) -> pl.DataFrame:
    path.write_bytes(content)
    return pl.concat([chunk.records for chunk in read_file(path, STREAM)])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_lines_of_a_stream_s_own_format_are_read(
    path: Path, pack: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CHUNK", chunk)
    line = short() + b"\r\n"
    records = requests(path, pack(line * 30 + b"a stranger's\n" + line))
    assert records["offset"].to_list() == [*(len(line) * n for n in range(30)), len(line) * 30 + 13]
    assert records["event_time"].n_unique() == 1


def test_a_header_s_missing_fields_get_the_stream_s_defaults(path: Path) -> None:
    records = requests(path, b"when;bot;bytes;path\n2000-10-10T13:55:36-07:00;no;-;/a\n1e9;YES;5;/b\n")
    assert records.select("client", "when", "bot", "bytes", "path").rows() == [
        ("192.0.2.7", 971211336.0, False, None, "/a"), ("192.0.2.7", 1e9, True, 5, "/b")
    ]  # fmt: skip


def test_a_file_of_another_stream_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"visit": VISIT, "request": STREAM}
    monkeypatch.setattr(streams, "names", lambda: tuple(known))
    monkeypatch.setattr(streams, "get", known.__getitem__)
    path.write_bytes(short() + b"\n")
    with pytest.raises(DataError) as caught:
        list(read_file(path, known["visit"]))
    assert "this is no file of visit: it seems to hold short (of request)" in str(caught.value)
    assert "visit reads json, csv" in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_of_the_place(path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file"):
        list(read_file(path, VISIT))
