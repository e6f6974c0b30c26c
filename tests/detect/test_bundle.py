"""A bundle vouches for every byte: whatever was changed, it does not load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hackwatch.detect.bundle import Bundle, digest, load_bundle, save_bundle
from hackwatch.errors import DataError
from tests.conftest import mode


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_is_private(folder: Path) -> None:
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_a_flipped_bit_anywhere_is_found(folder: Path) -> None:
    for name in _files(folder):
        path = folder / name
        intact = path.read_bytes()
        for place in range(0, len(intact), max(1, len(intact) // 12)):
            path.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
            with pytest.raises(DataError):
                load_bundle(folder)
        path.write_bytes(intact)
    load_bundle(folder)


def test_a_truncated_file_is_found(folder: Path) -> None:
    for name in _files(folder):
        path = folder / name
        intact = path.read_bytes()
        for size in (0, len(intact) // 2, len(intact) - 1):
            path.write_bytes(intact[:size])
            with pytest.raises(DataError):
                load_bundle(folder)
        path.write_bytes(intact)


def test_a_missing_file_is_named(folder: Path) -> None:
    for name in _files(folder):
        path = folder / name
        intact = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError) as caught:
            load_bundle(folder)
        assert name in str(caught.value)
        path.write_bytes(intact)


def _rewrite(folder: Path, **changes: object) -> None:
    """Change bundle.json as someone would who also renews its digest."""
    document = json.loads((folder / "bundle.json").read_bytes()) | changes
    document["digest"] = digest(document)
    (folder / "bundle.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"format": 2}, "format 2", id="format of the future"),
        pytest.param({"method": "guess"}, "unknown method", id="unknown method"),
        pytest.param({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "leads out", id="file outside"),
        pytest.param({"files": {}}, "not a bundle", id="no model file"),
        pytest.param({"encoder": [{"column": "load"}]}, "not a bundle", id="feature without kind"),
        pytest.param({"statistics": [{"nonsense": 1}]}, "not a bundle", id="statistics of another form"),
        pytest.param({"files": []}, "not a bundle", id="files as a list"),
    ],
)
def test_a_well_signed_but_wrong_document_is_refused(folder: Path, changes: dict[str, object], said: str) -> None:
    _rewrite(folder, **changes)
    with pytest.raises(DataError) as caught:
        load_bundle(folder)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"\xff", b""])
def test_any_other_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(DataError):
        load_bundle(folder)


def test_an_existing_folder_is_not_overwritten(bundle: Bundle, folder: Path) -> None:
    with pytest.raises(FileExistsError):
        save_bundle(bundle, folder)
