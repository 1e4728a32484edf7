"""README.md and docs/: short where it is read first, and nothing in them points to what is not there.

tests/test_advice.py parses the commands of the pages, tests/test_doc_commands.py runs them.
"""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from configs import base, base_evaluation, dense_probe, detect, figures, finetune, knn, linear, segment
from repre_jax.core import run_files
from tests.helpers import documented
from tests.helpers.documented import pages

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 200
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")  # the address of a link or an image
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
# A file or folder of the repository, named anywhere in a page, commands included.
PATH = re.compile(
    r"(?<![\w./$-])"
    r"((?:repre_jax|configs|benchmarks|tests|docs|\.ci)/[\w./-]+|main\.py|requirements[\w-]*\.txt)"
)
MODULE = re.compile(r"python -m ((?:repre_jax|benchmarks)(?:\.[a-z_]+)+)(?!\w|\.\w)")
MADE = "benchmarks/results/accelerator"  # where such a measurement was made, by benchmarks.accelerator
KEY = re.compile(r"--config\.([a-z_0-9.]*[a-z_0-9])")
TARGET = re.compile(r"`make ([a-z-]+)")


def anchors(text: str) -> set[str]:
    """What #names a page has, as GitHub makes them of its headings."""
    headings = re.findall(r"^#{1,6} (.*)$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def relative_links(page: Path) -> list[str]:
    links = LINK.findall(FENCE.sub("", page.read_text()))
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in relative_links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


def not_in_the_index(root: Path) -> list[str]:
    index = root / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in relative_links(index)}
    return [page.name for page in pages(root)[1:] if page != index and page.resolve() not in linked]


def missing_paths(root: Path, text: str) -> list[str]:
    """Paths in a page that the repository does not have; links count from the page's folder and have their own test."""
    named = (path.rstrip(".") for path in PATH.findall(re.sub(r"\]\([^)]*\)", "]", text)))
    return sorted({path for path in named if not (root / path).exists() and not path.startswith(MADE)})


def missing_modules(root: Path, text: str) -> list[str]:
    """Programs in a page, as `python -m` starts them, that the repository does not have."""
    return sorted({name for name in MODULE.findall(text) if not (root / f"{name.replace('.', '/')}.py").is_file()})


def unknown_keys(text: str) -> list[str]:
    """Keys in a page's flags --config.KEY that no config has, old names among them."""
    modules = (base, base_evaluation, knn, linear, dense_probe, finetune, segment, detect, figures)
    known = {key for module in modules for key in run_files.flat(module.get_config().to_dict())}
    return sorted(set(KEY.findall(text)) - known)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_every_page_is_in_the_index():
    assert not_in_the_index(ROOT) == []


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_points_to_what_is_there(page):
    text = page.read_text()
    assert broken_links(page) == []
    assert missing_paths(ROOT, text) == []
    assert missing_modules(ROOT, text) == []
    assert unknown_keys(text) == []
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in TARGET.findall(text) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_the_rules_catch_what_they_forbid(tmp_path):
    (tmp_path / "docs").mkdir()
    index, page, readme = tmp_path / "docs" / "README.md", tmp_path / "docs" / "a.md", tmp_path / "README.md"
    readme.write_text("# Top\n\n[a](docs/a.md#part-b) [site](https://example.org/x) ![picture](docs/none.png)\n")
    index.write_text("# Index\n\n[up](../README.md#top) [gone](gone.md)\n")
    page.write_text(
        "## Part: `B`\n\n```\n# no heading\n[no link](nowhere.md)\n```\n[here](#part-b) [not](#no-heading)\n"
    )
    assert broken_links(readme) == ["docs/none.png"]
    assert broken_links(index) == ["gone.md"]
    assert broken_links(page) == ["#no-heading"]
    assert not_in_the_index(tmp_path) == ["a.md"]
    index.write_text("[a](a.md#part-b)")
    assert not_in_the_index(tmp_path) == []


def test_names_that_are_not_there_are_found():
    text = "`repre_jax/tasks/pretrain.py`, `repre_jax/tasks/training.py`; see tests/golden. [x](tests/none)"
    assert missing_paths(ROOT, text) == ["repre_jax/tasks/training.py"]
    assert missing_paths(ROOT, "python main.py --config configs/nobody_vit_s.py:digits") == ["configs/nobody_vit_s.py"]
    assert missing_paths(ROOT, "https://example.org/docs/x.md, $HOME/tests/x, ../docs/x.md") == []
    assert missing_modules(ROOT, "`python -m repre_jax.tools.export RUN`, `python -m benchmarks.none`") == [
        "benchmarks.none"
    ]
    assert missing_modules(ROOT, "`python -m repre_jax.tools.NAME --help`") == []
    assert unknown_keys("--config.network=target --config.branch=target --config.data.name=x") == ["branch"]


def not_in(excerpt: str, text: str) -> list[str]:
    """Lines of an excerpt that the text does not have, or not in this order; remarks and `...` may differ."""
    lines = iter([re.split(r"\s+#", line)[0].strip() for line in text.splitlines()])
    wanted = (re.split(r"\s+#", line)[0].strip() for line in excerpt.splitlines())
    return [line for line in wanted if line and "..." not in line and line not in lines]


def missing_names(code: str) -> list[str]:
    """What Python code imports, or reads of an imported module of ours, that is not there."""
    missing, modules, tree = [], {}, ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "repre_jax":
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                if not hasattr(module, name) and importlib.util.find_spec(f"{node.module}.{name}") is None:
                    missing.append(f"{node.module}.{name}")
        elif isinstance(node, ast.Import):
            modules |= {
                each.name: importlib.import_module(each.name) for each in node.names if each.name == "repre_jax"
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                missing.append(f"{node.value.id}.{node.attr}")
    return missing


BLOCKS = [block for page in pages(ROOT) for block in documented.blocks(page)]
MARKS = re.compile(r"<!--\s*(?:needs|given|of):")


def named(block):
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def test_a_block_says_what_it_is_and_what_is_run_of_it():
    assert [named(block) for block in BLOCKS if block.language not in documented.LANGUAGES] == []
    assert [named(block) for block in BLOCKS if block.language == "bash" and not block.commands] == []
    assert [named(block) for block in BLOCKS if block.kind == "twin" and not block.runs] == []
    assert [named(block) for block in BLOCKS if block.needs == ""] == []
    for page in pages(ROOT):  # a comment that a blank line parts from its block says nothing
        marked = [block for block in BLOCKS if block.page == page and (block.needs or block.given or block.of)]
        assert len(MARKS.findall(page.read_text())) == len(marked), page


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=named)
def test_a_python_block_stands_in_its_file_or_imports_what_there_is(block):
    if block.of:
        assert not_in(block.text, (ROOT / block.of).read_text()) == []
    else:
        assert missing_names(f"{block.given}\n{block.text}") == []


def test_blocks_that_point_nowhere_are_found(tmp_path):
    assert not_in("a = 1  # one\n...\nc\n", "a = 1\nb\nc  # three\n") == []
    assert not_in("c\na = 1\n", "a = 1\nc\n") == ["a = 1"]
    assert missing_names("from repre_jax.models import nobody, decoder\nimport repre_jax\nrepre_jax.load()") == [
        "repre_jax.models.nobody",
        "repre_jax.load",
    ]
    page = tmp_path / "a.md"
    page.write_text(
        "```bash\npython a.py --x \\\n  --y  # why\n\nmake z\n```\n"
        "<!-- needs: hours; instead: tiny -->\n```bash\nX=1 python main.py --config configs/a.py:b --workdir w\n"
        "python main.py --config configs/a.py:tiny\nls\n```\n"
        "<!-- needs: a chip -->\n```bash\nls\n```\n<!-- needs: it; instead:\nls -a\n-->\n```bash\nls\n```\n"
        "<!-- given: a = 1 -->\n```python\na\n```\n```text\nls\n```\n"
    )
    first, second, third, fourth, code, text = documented.blocks(page)
    assert first.runs == first.commands == ["python a.py --x --y", "make z"]
    assert second.runs == [
        "X=1 python main.py --config configs/a.py:b,tiny --workdir w",
        "python main.py --config configs/a.py:tiny",
        "ls",
    ]
    assert (third.kind, third.runs, fourth.kind, fourth.runs) == ("read only", [], "twin", ["ls -a"])
    assert (code.given, code.kind, code.line, text.commands) == ("a = 1", "run", 24, [])


def test_the_drawing_is_what_its_program_draws():
    spec = importlib.util.spec_from_file_location("drawing", ROOT / ".ci" / "drawing.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert drawing.TARGET.read_text() == drawing.drawing()
