"""What mkdocs asks for while it builds the site (`make site`): the pages that lie outside docs/, and links to the rest.

README is the home page; CONTRIBUTING, SECURITY and CHANGELOG have their places too. Links are those of the repository:
to a page they become links of the site, and a file that no page is made of (an example, a test) comes along as it is.
So pages read the same on a forge and in the site, and the site needs nothing but itself.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["INCLUDED", "OUTSIDE", "on_files", "on_page_markdown"]

ROOT = Path(__file__).parent.parent
#: Files outside docs/ -> their page of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
}
#: A line that says "here comes that file": its text without its title.
INCLUDED = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
#: A link to a file, with its anchor; or code, in which nothing is one.
_LINK = re.compile(
    r"^```.*?^```|`[^`\n]+`|(?<=\]\()(?!https?://|mailto:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and every file that a page links to."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for page in files.documentation_pages():
        source = _source(page)
        for link in _LINK.finditer((ROOT / source).read_text(encoding="utf-8")):
            target = _resolved(source, link["path"] or "")
            if link["path"] and (ROOT / target).is_file() and files.get_file_from_path(_place(target)) is None:
                files.append(File.generated(config, _place(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page with what it includes, its links turned into those of the site."""
    markdown = _relinked(markdown, _source(page.file), page.file.src_uri)
    return INCLUDED.sub(lambda found: _included(found[1], page.file.src_uri), markdown)


def _included(source: str, page: str) -> str:
    text = (ROOT / source).read_text(encoding="utf-8")
    return _relinked(text.partition("\n")[2].strip(), source, page)


def _relinked(text: str, source: str, page: str) -> str:
    def there(link: re.Match[str]) -> str:
        if link["path"] is None:
            return link[0]
        target = _place(_resolved(source, link["path"]))
        return posixpath.relpath(target, posixpath.dirname(page) or ".") + (link["anchor"] or "")

    return _LINK.sub(there, text)


def _source(page: File) -> str:
    """Where in the repository the text of a page is."""
    return Path(page.abs_src_path or "").relative_to(ROOT).as_posix()


def _resolved(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place(path: str) -> str:
    """Where in the site a file of the repository is."""
    outside = {**OUTSIDE, "CHANGELOG.md": "releases.md"}
    return outside.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}")
