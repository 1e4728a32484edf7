"""Imports point down: each room of the package imports from the floors below it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "repre_jax"
FLOORS = (  # each may import those before it
    ("core",),
    ("system",),
    ("losses", "models", "data"),
    ("frameworks", "evaluation", "interop"),
    ("train", "report"),
    ("running",),
    ("builders",),
    ("pretrained",),
    ("probing",),
    ("tasks", "reproduction"),
    ("tools",),
)
LAYERS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms(source: str) -> set[str]:
    parts = (name.split(".") for name in imported(source))
    return {part[1] for part in parts if part[0] == "repre_jax" and len(part) > 1 and part[1] in LAYERS}


def faults(room: str, source: str) -> list[str]:
    wrong = [other for other in rooms(source) if other != room and LAYERS[other] >= LAYERS[room]]
    top = {name.split(".")[0] for name in imported(source)}
    wrong += [name for name in ("configs", "main", "tests", "benchmarks", "tensorflow", "torch") if name in top]
    wrong += ["data"] if room == "frameworks" and "data" in rooms(source) else []
    wrong += ["flax"] if room == "losses" and "flax" in top else []
    return wrong


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    inside = path.relative_to(PACKAGE).parts
    if inside != ("__init__.py",):  # that one may load anything, but only when it is asked to: see below
        assert faults("system" if len(inside) == 1 else inside[0], path.read_text()) == []


@pytest.mark.parametrize("module", ["repre_jax", "repre_jax.__main__"])
def test_importing_the_package_costs_nothing(module):
    """Neither JAX nor anything else that is not Python's own."""
    program = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"repre_jax"}


def test_the_page_lists_the_same_floors():
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "house.md").read_text(), re.MULTILINE)
    assert [(int(floor), tuple(re.findall(r"`(\w+)`", named))) for floor, named in rows] == list(enumerate(FLOORS, 1))


def test_the_rule_catches_what_it_forbids():
    assert faults("models", "from repre_jax.train import update") == ["train"]
    assert faults("core", "from repre_jax.system import terminal") == ["system"]
    assert faults("running", "from repre_jax.builders import methods") == ["builders"]
    assert faults("models", "import repre_jax.losses.weighting") == ["losses"]
    assert faults("frameworks", "from repre_jax.data import crops") == ["data"]
    assert faults("losses", "from flax import linen") == ["flax"]
    assert faults("tasks", "import configs.base") == ["configs"]
    assert faults("train", "from repre_jax.models import vit") == []
