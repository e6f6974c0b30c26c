"""Files of records of hosts as they are published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from hackwatch import streams
from hackwatch.feeds.files import read_file
from hackwatch.streams.stream import Decoded, DecodeOptions
from tests.streams.support import PROCESS

#: As the ToN_IoT Train_Test tables begin: no ts, a truth column named `attack`.
TRAIN_TEST = "PID,MINFLT,MAJFLT,VSTEXT,VSIZE,RSIZE,VGROW,RGROW,MEM,CMD,attack,type"


def read(path: Path, content: bytes, stream: str = "memory", **options: Any) -> Decoded:
    path.write_bytes(content)
    [chunk] = read_file(path, streams.get(stream), DecodeOptions(**options))
    return chunk


def test_a_csv_without_time_and_place_gets_them(tmp_path: Path) -> None:
    rows = "7,24K,0,193K,519.1M,2.0G,0K,0K,13%,atop,0,normal\n7,1,2,3K,4K,5K,6K,7K,0.1,<grep>,1,ddos\n"
    decoded = read(tmp_path / "Train_Test_1.csv.gz", gzip.compress(f"{TRAIN_TEST}\n{rows}".encode()), labels=True)
    assert decoded.records.select("sequence", "machine", "ts", "label", "type").rows() == [
        (0, "Train_Test_1", 1.0, 0, "normal"),
        (1, "Train_Test_1", 2.0, 1, "ddos"),
    ]


def test_process_files_are_read_alike(tmp_path: Path) -> None:
    assert read(tmp_path / "process.ndjson", json.dumps(PROCESS).encode(), "process").records["NICE"].to_list() == [0]
