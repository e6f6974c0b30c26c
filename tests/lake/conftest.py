"""Lakes to test, in a folder and in a bucket of a real S3 server, and a way to the server on which answers get lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hackwatch.lake import Lake
from tests.lake.lossy import Lossy
from tests.servers.s3 import Server


@pytest.fixture
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """In a folder, or where `tests.lake.support.EVERYWHERE` says."""
    if getattr(request, "param", "folder") == "folder":
        return Lake(tmp_path / "lake", target_file_mib=1, retention_hours=168)
    server: Server = request.getfixturevalue("s3")
    return Lake(f"{server.bucket()}/some/lake", options=server.options, target_file_mib=1, retention_hours=168)


@pytest.fixture
def lossy(s3: Server) -> Iterator[Lossy]:
    """It can lose the answers to commits."""
    way = Lossy(s3.port, b"/_delta_log/", losing=0)
    yield way
    way.close()
