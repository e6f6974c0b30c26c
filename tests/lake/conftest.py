"""Lakes to test: in a folder, and in a bucket of a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from hackwatch.lake import Lake
from tests.servers.s3 import Server


@pytest.fixture
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """In a folder, or where `tests.lake.support.EVERYWHERE` says."""
    if getattr(request, "param", "folder") == "folder":
        return Lake(tmp_path / "lake", target_file_mib=1, retention_hours=168)
    server: Server = request.getfixturevalue("s3")
    return Lake(f"{server.bucket()}/some/lake", options=server.options, target_file_mib=1, retention_hours=168)
