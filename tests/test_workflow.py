"""The workflow for a forge: what it holds versions to, and that it asks for what there is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = (ROOT / ".github" / "workflows" / "test.yml").read_text()
REQUIRED = [
    Requirement(line.split(" #")[0])
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith(("#", "-"))
]


@pytest.mark.skipif(
    shutil.which("sed") is None,
    reason="runs the workflow's own line, which is sed's, and pytest may be run by itself on a machine without sed",
)
def test_the_oldest_versions_are_the_lower_bounds(tmp_path):
    """Of each requirement; a form that sed does not know would be tested with its newest version, and nobody told."""
    (command,) = re.findall(r"^ +(sed .*)$", WORKFLOW, re.MULTILINE)
    (tmp_path / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True)
    held = [Requirement(line) for line in (tmp_path / "oldest.txt").read_text().splitlines()]
    lower = [
        (each.name, each.marker, min(str(one) for one in each.specifier if one.operator == ">=")) for each in REQUIRED
    ]
    assert [(each.name, each.marker, str(each.specifier).replace("==", ">=")) for each in held] == lower


def test_it_runs_the_pythons_that_the_package_says():
    versions = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", WORKFLOW)[1])
    declared = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert versions[0] == declared
    assert re.search(rf"include: \[\{{python: \"{declared}\", versions: oldest", WORKFLOW)
    assert "run: make test" in WORKFLOW and "\ntest: " in (ROOT / "Makefile").read_text()


@pytest.mark.skipif(
    shutil.which("make") is None,
    reason="reads the Makefile as make does, and pytest may be run by itself on a machine without make",
)
def test_the_oldest_versions_are_tested_without_lint():
    (flag,) = re.findall(r"'oldest' && '(LINT=\w+)'", WORKFLOW)

    def printed(*flags):
        command = ["make", "-n", "test", "VENV=none", f"PYTHON={sys.executable}", *flags]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "-m mypy" in printed() and "-m mypy" not in printed(flag)
    assert "-m pytest" in printed(flag)
