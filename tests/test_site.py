"""The docs as a site: it is built for real, every link and anchor leads somewhere, and it needs nothing but itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.conftest import ROOT
from tools.docsite import OUTSIDE

COPIED = ("docs", "tools", "mkdocs.yml", "CHANGELOG.md", *OUTSIDE)


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    # A proxy that is not there: who asks the network for something fails.
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """What a page loads, what it links to, its anchors and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "link", "source"):
            self.loads += [given[name] for name in ("src", "href") if name in given]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_pages_are_there(site: Path) -> None:
    pages = {file.stem for file in site.glob("*.html")}
    assert pages >= {file.stem for file in (ROOT / "docs").glob("*.md")} | {
        Path(page).stem for page in OUTSIDE.values()
    }


def test_links_and_anchors_lead_somewhere_in_the_site(site: Path) -> None:
    pages = {file: Page(file) for file in site.glob("*.html") if file.stem != "404"}  # that one is read from anywhere
    for file, page in pages.items():
        for link in page.links:
            if re.match(r"https?://|mailto:", link):
                continue
            path, anchor = urldefrag(unquote(link))
            target = (file.parent / path).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{file.name}: {link}"
            assert not anchor or target not in pages or anchor in pages[target].anchors, f"{file.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for file in site.glob("*.html"):
        assert not [one for one in Page(file).loads if re.match(r"(https?:)?//", one)], file.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_the_home_page_is_the_readme(site: Path) -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    text = Page(site / "index.html").text
    assert all(heading in text for heading in headings)


def test_releases_are_the_changelog(site: Path) -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    text = " ".join(Page(site / "releases.html").text.split())
    versions = re.findall(r"^## (.+)$", changes, re.MULTILINE)
    assert len(versions) >= 2
    assert all(version in text for version in versions)
    for change in re.findall(r"^- [^`*\[\n]{30,}", changes, re.MULTILINE):
        assert change.removeprefix("- ").strip() in text


def test_code_is_shown_as_it_is_written(site: Path) -> None:
    """Links are rewritten in prose alone."""
    text = Page(site / "contributing.html").text
    assert 'arrived = folder / "s", list[str]()' in text


def test_what_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """A page, an anchor or a file that is not there, from the docs and from the pages outside them."""
    for entry in ROOT.iterdir():
        if entry.name not in COPIED:
            (tmp_path / entry.name).symlink_to(entry)
        elif entry.is_dir():
            shutil.copytree(entry, tmp_path / entry.name)
        else:
            shutil.copy(entry, tmp_path)
    broken = {
        "README.md": "docs/kafka.md#no-such-place",
        "CONTRIBUTING.md": "tests/no_such_test.py",
        "SECURITY.md": "docs/no-such-page.md",
        "CHANGELOG.md": "docs/spark.md#nowhere",
        "docs/kafka.md": "../SECURITY.md#never",
    }
    for name, target in broken.items():
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(f"\n[broken]({target})\n")
    (tmp_path / "docs" / "forgotten.md").write_text("# A page that the navigation does not have\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for told in ("#no-such-place", "no_such_test.py", "no-such-page.md", "#nowhere", "#never", "forgotten.md"):
        assert told in done.stderr, told
