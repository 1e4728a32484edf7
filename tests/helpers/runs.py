"""Whole runs of the smallest config, for the tests of what they leave, of going on and of stopping."""

import json
from pathlib import Path

import orbax.checkpoint as ocp

import main
from tests.helpers.named import unnamed

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["main.py", "--config", "configs/moco_vit_s.py:tiny"]


def run(workdir, *arguments, variants=""):
    argv = [*TINY[:2], TINY[2] + variants, "--workdir", str(workdir), "--config.checkpoint.keep=9", *arguments]
    assert main.main(argv) == 0
    assert unnamed(workdir) == set()
    return json.loads((workdir / "result.json").read_text())


def final_state(workdir, step=8):
    steps = [int(folder.name) for folder in (workdir / "checkpoints").iterdir() if folder.name.isdigit()]
    assert max(steps) == step
    return ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")
