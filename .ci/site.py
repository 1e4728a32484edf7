"""A hook of mkdocs.yml: brings what pages of docs/ link to elsewhere in the repository into the site.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages; any other file is copied to source/, and a link to a folder
becomes plain text. So all links of the site are checked by mkdocs, and none leaves it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "project.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(\[(?:[^\]\[]|\[[^\]]*\])*\])\(([^()\s#]+)(#[^()\s]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_copied: dict[str, Path] = {}


def on_files(files: Files, config) -> Files:
    """Adds the pages, and a copy of each file outside docs/ that a page links to."""
    _copied.clear()
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    for file in list(files.documentation_pages()):
        text = file.content_string
        for _, link, _ in LINK.findall(FENCE.sub("", text)):
            path = _path(_home(file.src_uri), link)
            if path is not None and (ROOT / path).is_file() and path not in PAGES and not path.startswith("docs/"):
                _copied[path] = ROOT / path
    for path, source in _copied.items():
        files.append(File.generated(config, _target(path), content=source.read_bytes()))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """The page with links as the site has them."""
    kept = [*FENCE.finditer(markdown)]
    parts, end = [], 0
    for fence in kept:
        parts += [_rewritten(markdown[end : fence.start()], page.file.src_uri), fence.group()]
        end = fence.end()
    return "".join([*parts, _rewritten(markdown[end:], page.file.src_uri)])


def _rewritten(text: str, page: str) -> str:
    def replaced(match: re.Match) -> str:
        label, link, anchor = match.group(1), match.group(2), match.group(3) or ""
        path = _path(_home(page), link)
        if path is None:
            return match.group()
        if (ROOT / path).is_dir():
            return label[1:-1]
        target = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else _target(path))
        return f"{label}({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(replaced, text)


def _home(page: str) -> str:
    """The folder in the repository that a page's links start from."""
    return "" if page in PAGES.values() else posixpath.dirname(f"docs/{page}")


def _path(folder: str, link: str) -> str | None:
    """What a link names, from the root of the repository; None for an address of the web."""
    return None if re.match(r"[a-z]+:", link) else posixpath.normpath(posixpath.join(folder, link))


def _target(path: str) -> str:
    """Where a copied file lies in the site: as text, so that a browser shows it."""
    return f"source/{path}" if path.endswith((".png", ".json")) else f"source/{path}.txt"
