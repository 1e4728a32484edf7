"""The commands and Python blocks of README.md and docs/, and what is run of each: python -m tests.helpers.documented

A fence is bash, python or text (what something prints). A comment before it says why it is not run as it stands:

  <!-- needs: imagenet -->                  read only: flags, config, modules and options must exist
  <!-- needs: imagenet; instead: tiny -->   those of main.py are run with the variant tiny, the others as they are
  <!-- needs: imagenet; instead:            these commands are run, a line each
  COMMAND
  -->
  <!-- given: image = ... -->               of Python: is run before the block
  <!-- of: FILE -->                         of Python: an excerpt of FILE, line by line; `...` is what is left out

Only the standard library is imported, since `make docs` prints the count by an environment that has no JAX.
"""

import collections
import dataclasses
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LANGUAGES = ("bash", "python", "text")
MARK = r"<!--\s*(?P<mark>needs|given|of):(?P<said>(?:(?!-->).)*)-->\n"
FENCE = re.compile(rf"^(?:{MARK})?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
KINDS = ("run", "twin", "read only")


def pages(root: Path) -> list[Path]:
    """Those that are written by hand."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "docs").glob("*/README.md"))]


@dataclasses.dataclass(frozen=True)
class Block:
    """A fence and the comment before it.

    page, line: where the fence begins. language: see LANGUAGES, or '' where it says none. text: what is between.
    needs, instead: None where there is no such comment. given: code, or ''. of: a path from the root, or ''.
    """

    page: Path
    line: int
    language: str
    text: str
    needs: str | None = None
    instead: str | None = None
    given: str = ""
    of: str = ""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if self.of or (self.needs is not None and self.instead is None):
            return "read only"
        return "run" if self.instead is None else "twin"

    @property
    def commands(self) -> list[str]:
        """Of bash: the commands as they stand, continued lines joined, remarks left out."""
        return split(self.text) if self.language == "bash" else []

    @property
    def runs(self) -> list[str]:
        """Of bash: what is run for them; nothing where they are only read."""
        if self.kind != "twin":
            return self.commands if self.kind == "run" else []
        return [tiny(each) for each in self.commands] if self.instead == "tiny" else split(self.instead or "")


def split(text: str) -> list[str]:
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    plain = (re.split(r"(?:^|\s)#\s", line)[0].strip() for line in lines)
    return [line for line in plain if line]


def tiny(command: str) -> str:
    """The command with the variant tiny; unchanged where it does not start main.py, or has it."""

    def with_it(found: re.Match) -> str:
        variants = found[2].split(",") if found[2] else []
        return found[1] + ":" + ",".join([*variants, *(() if "tiny" in variants else ("tiny",))])

    return re.sub(r"(main\.py .*?--config \S+?\.py)(?::(\S+))?(?=\s|$)", with_it, command, count=1)


def blocks(page: Path) -> list[Block]:
    """Of a page, from top to bottom."""
    content, found = page.read_text(), []
    for fence in FENCE.finditer(content):
        said, marks = (fence["said"] or "").strip(), {}
        if fence["mark"] == "needs":
            needs, colon, instead = said.partition("; instead:")
            marks = {"needs": needs, "instead": instead.strip() if colon else None}
        elif fence["mark"]:
            marks = {fence["mark"]: said}
        line = content[: fence.start("language")].count("\n") + 1
        found.append(Block(page, line, fence["language"], fence["text"], **marks))
    return found


def counts(root: Path) -> dict[str, collections.Counter]:
    """How many there are: by language, bash or python, the number of each kind. A Python block is one."""
    found = {language: collections.Counter(dict.fromkeys(KINDS, 0)) for language in ("bash", "python")}
    for page in pages(root):
        for block in blocks(page):
            if block.language in found:
                found[block.language][block.kind] += len(block.commands) if block.language == "bash" else 1
    return found


def main() -> int:
    """Prints the counts."""
    for language, found in counts(ROOT).items():
        named = "commands" if language == "bash" else "Python blocks"
        print(f"{named}: {found['run']} run, {found['twin']} run as a twin, {found['read only']} read only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
