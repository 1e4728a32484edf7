"""What README.md and docs/ show is done: commands, or what stands in place of those that take hours, and Python.

tests/helpers/documented.py says how a page marks them. The folder in which they run is what the pages speak of: a
clone, with runs as small as there are, and a few pictures.
"""

import contextlib
import fcntl
import importlib
import io
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

import main
from repre_jax.tools import export
from tests.helpers import documented
from tests.helpers.documented import ROOT, pages
from tests.helpers.miniature import CLASSES, picture

OF_A_CLONE = ("main.py", "configs", "repre_jax", "benchmarks", "tests", "Makefile")
# The runs that pages speak of: what each is a copy of, by the command that made it.
MADE = {
    "runs/demo": "--config configs/moco_vit_s.py:tiny",
    "runs/scenes": "--config configs/moco_vit_s.py:scenes,tiny",
    "runs/segment": "--config configs/segment.py:tiny --config.init_from=runs/scenes --config.data.test_split=test[:8]",
    "runs/detect": "--config configs/detect.py:tiny --config.init_from=runs/scenes --config.data.test_split=test[:8]",
}
COPIES = {
    "runs/demo": ("runs/single", "runs/multi", "runs/moco_vit_s-digits", "RUN", "W"),
    "runs/scenes": ("runs/pretrained", "runs/with", "runs/without"),
    "runs/segment": ("runs/segment-again",),
    "runs/detect": ("runs/scenes-detect",),
}
EXPORTED = "runs/demo/export/moco_v3-vit_s-online-2245.safetensors"  # as the demo's is called
MAIN = re.compile(r"python main\.py |python -m repre_jax |repre-jax ")
TOOL = re.compile(r"python -m (repre_jax\.tools\.\w+) ")

BLOCKS = [block for page in pages(ROOT) for block in documented.blocks(page)]


def unnamed(command):
    """The command without its workdir: what differs in that alone is run once."""
    return re.sub(r" --workdir \S+", "", command)


RUN = sorted({unnamed(command) for block in BLOCKS for command in block.runs})
PYTHON = [block for block in BLOCKS if block.language == "python" and block.kind == "run"]


def make(folder):
    for name in (*OF_A_CLONE, *(path.name for path in ROOT.glob("requirements*.txt"))):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs").mkdir()
    for split in ("train", "val"):
        for name in CLASSES:
            place = folder / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(4):
                (place / f"{name}_{number}.JPEG").write_bytes(picture(number))
    for name, number in (("a.jpg", 1), ("b.jpg", 2)):
        (folder / name).write_bytes(picture(number))
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    for run, command in MADE.items():
        assert main.main(["main.py", *shlex.split(command), "--workdir", run]) == 0
        for copy in COPIES[run]:
            shutil.copytree(run, copy)
    assert export.main(["runs/demo", "--output", EXPORTED]) == 0


@pytest.fixture
def clone(shared_folder, monkeypatch):
    """The folder, made by the first worker that needs it, while the others wait."""
    folder = shared_folder / "documented"
    with (shared_folder / "documented.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir()
            with contextlib.chdir(folder):
                make(folder)
            (folder / "made").touch()
    monkeypatch.chdir(folder)
    return folder


def test_there_is_something_to_run_of_every_kind():
    kinds = {kind: [c for c in RUN if re.match(start, c)] for kind, start in (("main", MAIN), ("tool", TOOL))}
    assert min(len(found) for found in kinds.values()) > 10
    assert len(PYTHON) > 5


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_command_does_what_it_is_there_for(command, clone):
    """main.py and the tools in this process, which has JAX; all else by a shell."""
    output, words = io.StringIO(), shlex.split(command)
    tool = TOOL.match(f"{command} ")
    if MAIN.match(command):
        start = 1 if words[0] == "repre-jax" else 2 if words[1] == "main.py" else 3
        # A finished run would only print its summary.
        words = ["main.py", *words[start:], "--workdir", f"done/{RUN.index(command)}"]
        status = main.main(words)
    elif tool:
        status = importlib.import_module(tool[1]).main(words[3:])
    else:
        environment = os.environ | {"PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "VENV": "none"}
        workdir = f" --workdir done/{RUN.index(command)}" if "main.py" in command else ""
        shell = subprocess.run(
            ["bash", "-c", f"{command}{workdir}"], env=environment, capture_output=True, text=True, check=False
        )
        status = shell.returncode
        output.write(shell.stderr)
    assert status == 0, output.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page.relative_to(ROOT)}:{block.line}")
def test_a_python_block_runs(block, clone):
    exec(compile(f"{block.given}\n{block.text}", f"{block.page.name}:{block.line}", "exec"), {"np": np})
