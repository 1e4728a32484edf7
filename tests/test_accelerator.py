"""benchmarks.accelerator: slices that go on, parts that fail, parts that are not finished."""

import dataclasses
import json
import subprocess
import sys

import pytest

from benchmarks import accelerator, accelerator_parts
from benchmarks.accelerator import Here
from benchmarks.accelerator_parts import Part

AT = Here("1 x NVIDIA H200", "16 cores", "0123456789abcdef", "aaaa")


def part(name, code, minutes=0.5):
    return Part(name, (sys.executable, "-c", code), minutes, {"MARK": "42"})


PARTS = [
    part("good", "import os; print('marked', os.environ['MARK'])"),
    part("long", "print('at last')", minutes=30),
    part("bad", "print('so far'); raise SystemExit(3)"),
    part("last", "print('the last')"),
]


def said(out):
    return {path.stem: json.loads(path.read_text())["said"] for path in out.glob("*.json")}


def test_slices_go_on_where_they_stopped(tmp_path, capsys):
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=5) == ["long"]
    assert said(tmp_path) == {"good": "done", "bad": "failed, exit status 3", "last": "done"}
    heading, about, _, output = (tmp_path / "good.txt").read_text().splitlines()
    assert heading.startswith("MARK=42 python -c 'import os;")
    assert about.startswith("1 x NVIDIA H200; 16 cores; 20") and about.endswith("; commit 0123456789abcdef")
    assert (output, (tmp_path / "bad.txt").read_text().splitlines()[-1]) == ("marked 42", "so far")
    assert "long: takes 30.0 minutes, for a later slice" in capsys.readouterr().out
    assert "| long | not done |" in (tmp_path / "summary.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.txt")}
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=31) == []
    assert said(tmp_path)["long"] == "done"
    assert {path: path.stat().st_mtime_ns for path in before} == before, "neither is one that failed repeated"
    assert accelerator.expected(PARTS[1], AT, tmp_path) < 60, "as it took before, not as was guessed"

    alone = tmp_path / "alone"
    assert accelerator.run_slice(PARTS[1:2], AT, alone, minutes=5) == [], "one longer than a slice has a whole one"
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=5, again=["bad"]) == []
    assert (tmp_path / "bad.txt").stat().st_mtime_ns > before[tmp_path / "bad.txt"]
    other = dataclasses.replace(AT, sources="bbbb")
    assert [each.name for each in PARTS if not accelerator.done(each, other, tmp_path)] == [each.name for each in PARTS]
    accelerator.summarise(PARTS, other, tmp_path)
    assert "| good | done, by other code |" in (tmp_path / "summary.md").read_text()


def test_a_part_that_is_not_finished_begins_the_next_slice_and_fails_the_second_time(tmp_path, monkeypatch):
    def ended(error):
        def run(command, **_):
            raise error

        return run

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", ended(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        accelerator.run_slice(PARTS[:1], AT, tmp_path, minutes=5)
    assert accelerator.tries(PARTS[0], AT, tmp_path) == 0, "Ctrl-C says nothing of the part"
    for attempt in (1, 2):
        monkeypatch.setattr(subprocess, "run", ended(RuntimeError("ended")))
        with pytest.raises(RuntimeError):
            accelerator.run_slice([PARTS[3], PARTS[1]] if attempt == 2 else PARTS[1:2], AT, tmp_path, minutes=35)
        assert accelerator.tries(PARTS[1], AT, tmp_path) == attempt
    monkeypatch.setattr(subprocess, "run", real)
    assert accelerator.run_slice([PARTS[3], PARTS[1]], AT, tmp_path, minutes=1) == []
    assert said(tmp_path) == {"long": "was begun 2 times and not finished", "last": "done"}


def test_every_file_of_tests_is_in_one_part():
    parts = accelerator_parts.all_parts("gpu", accelerator_parts.Path("out"), "python", "abcdef0123")
    files = [word for each in parts if each.name.startswith("tests-") for word in each.command if word.endswith(".py")]
    expected = [path.relative_to(accelerator.ROOT) for path in (accelerator.ROOT / "tests").rglob("test_*.py")]
    assert sorted(files) == sorted(map(str, expected))
    assert parts[-1].variables == {"REPRE_TEST_PLATFORM": "cuda"}
    assert len({each.name for each in parts}) == len(parts)
    assert max(each.minutes for each in parts) < 9, "each fits into a slice"
    assert "DEMO_DIR=runs/demo-abcdef01" in next(each for each in parts if each.name == "demo").shown()
