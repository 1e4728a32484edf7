"""The parts of benchmarks/accelerator.py: what each runs, and how many minutes it is expected to take.

None was timed on an accelerator yet: what is expected is a guess, until a part has been run once.
"""

import hashlib
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import scaling, table
from benchmarks.sources import ROOT

MARK = "REPRE_PART"  # a variable that every process of a part has: OUT and its name
TESTS_AT_ONCE = 8  # files of tests, which are as many parts as it takes
PLATFORMS = {"gpu": "cuda", "tpu": "tpu", "cpu": ""}  # as REPRE_TEST_PLATFORM


@dataclass(frozen=True)
class Part:
    name: str
    command: tuple[str, ...]
    minutes: float
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return os.environ | self.variables

    def shown(self) -> str:
        """As it can be typed."""
        words = [word.replace(sys.executable, "python") for word in self.command]
        return " ".join([*(f"{name}={value}" for name, value in self.variables.items()), shlex.join(words)])

    def key(self) -> str:
        """What tells it from others: the same wherever its results go."""
        return re.sub(r" --out \S+", "", self.shown())


def module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)


def all_parts(platform: str, out: Path, torch: str, code_and_device: str) -> list[Part]:
    """What says most, first. torch: an interpreter that has it, for the rows beside PyTorch. code_and_device: names
    both; a demo that was stopped goes on with the same ones only."""
    rows = table.ON_CPU if platform == "cpu" else table.ELSEWHERE
    of_table = [
        Part(f"table-{place}", module("benchmarks.table", "--only", str(place), "--torch-python", torch, *_to(out)), 5)
        for place in range(1, len(rows) + 1)
    ]
    key = hashlib.sha256(code_and_device.encode()).hexdigest()[:8]
    make = ("make", "demo", "VENV=none", f"PYTHON={sys.executable}", f"DEMO_DIR=runs/demo-{key}")
    return [
        Part("doctor", module("repre_jax.tools.doctor"), 2),
        Part("attention", module("benchmarks.attention"), 7),
        *of_table,
        Part("demo", make, 8),
        Part("segment_step", module("benchmarks.segment_step", "--heads", "naive"), 5),
        Part("detection_step", module("benchmarks.detection_step"), 7),
        *(
            Part(f"scaling-{name}", module("benchmarks.scaling", "--only", name, *_to(out / f"scaling-{name}")), 8)
            for name in scaling.TABLES
        ),
        *tests(platform),
    ]


def tests(platform: str) -> list[Part]:
    """The tests that take no minutes, some files a part, on this platform's device."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py"))
    variables = {"REPRE_TEST_PLATFORM": PLATFORMS[platform]} if PLATFORMS[platform] else {}
    groups = [files[start : start + TESTS_AT_ONCE] for start in range(0, len(files), TESTS_AT_ONCE)]
    return [
        Part(f"tests-{number:02}", module("pytest", "-q", "-n", "0", "-m", "not slow", *group), 6, variables)
        for number, group in enumerate(groups, start=1)
    ]


def tiny(out: Path) -> list[Part]:
    """Of each kind one that any machine does in a minute or two."""
    config = ("--config", "configs/moco_vit_s.py:tiny")
    return [
        Part("attention", module("benchmarks.attention", "--images", "1", "--turns", "1"), 2),
        Part("step", module("benchmarks.train_step", *config, "--turns", "1"), 2),
        Part("scaling-fusion", module("benchmarks.scaling", *config, "--only", "fusion", *_to(out / "scaling")), 2),
        Part("tests-01", module("pytest", "-q", "-n", "0", "-m", "not slow", "tests/test_schedules.py"), 2),
    ]


def _to(out: Path) -> tuple[str, str]:
    return ("--out", str(out))
