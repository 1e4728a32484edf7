"""benchmarks.accelerator: slices that go on, parts that fail, parts that are not finished."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from benchmarks import accelerator, accelerator_parts
from benchmarks import accelerator_records as records
from benchmarks.accelerator_parts import Part
from benchmarks.accelerator_records import Here
from benchmarks.sources import ROOT
from repre_jax.core.errors import UserError
from repre_jax.running import workdir
from repre_jax.system import environment

AT = Here("1 x NVIDIA H200", "16 cores", "0123456789abcdef", "aaaa", "jax 1.2.3")


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


def works(pid):
    """Whether the process is there, and not only its end, which nobody has asked for yet."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def test_slices_go_on_where_they_stopped(tmp_path, capsys):
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=5) == ["long"]
    assert said(tmp_path) == {"good": "done", "bad": "failed, exit status 3", "last": "done"}
    heading, about, _, output = (tmp_path / "good.txt").read_text().splitlines()
    assert heading.startswith("MARK=42 python -c 'import os;")
    assert about.startswith("1 x NVIDIA H200; 16 cores; 20") and about.endswith("; jax 1.2.3; commit 0123456789abcdef")
    assert (output, (tmp_path / "bad.txt").read_text().splitlines()[-1]) == ("marked 42", "so far")
    assert "long: takes 30.0 minutes, for a later slice" in capsys.readouterr().out
    records.summarise(PARTS, AT, tmp_path)
    assert "| long | not done |" in (tmp_path / "summary.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.txt")}
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=31) == []
    assert said(tmp_path)["long"] == "done"
    assert {path: path.stat().st_mtime_ns for path in before} == before, "neither is one that failed repeated"
    assert records.expected(PARTS[1], AT, tmp_path) < 60, "as it took before, not as was guessed"

    alone = tmp_path / "alone"
    assert accelerator.run_slice(PARTS[1:2], AT, alone, minutes=5) == [], "one longer than a slice has a whole one"
    assert records.forget(PARTS, ["failed", "last"], tmp_path) == ["bad", "last"]
    assert said(tmp_path).keys() == {"good", "long"}
    assert accelerator.run_slice(PARTS, AT, tmp_path, minutes=5) == []
    assert (tmp_path / "bad.txt").stat().st_mtime_ns > before[tmp_path / "bad.txt"]
    assert not records.done(dataclasses.replace(PARTS[0], variables={"MARK": "43"}), AT, tmp_path), "another command"
    assert not records.done(PARTS[0], dataclasses.replace(AT, versions="jax 1.2.4"), tmp_path), "another JAX"
    aside = dataclasses.replace(PARTS[0], command=(*PARTS[0].command, "--out", "elsewhere"))
    assert records.done(aside, AT, tmp_path), "the same, whose results went elsewhere"
    other = dataclasses.replace(AT, sources="bbbb", commit=f"{AT.commit} + changes")
    assert [each.name for each in PARTS if not records.done(each, other, tmp_path)] == [each.name for each in PARTS]
    records.summarise(PARTS, other, tmp_path)
    assert "| good | done, by other code |" in (tmp_path / "summary.md").read_text()
    records.write(PARTS[0], other, tmp_path, rc=0, seconds=1)
    records.summarise(PARTS, other, tmp_path)
    assert "| 0123456 + changes |" in (tmp_path / "summary.md").read_text().splitlines()[2]


def test_a_part_that_is_not_finished_begins_the_next_slice_and_fails_the_second_time(tmp_path, monkeypatch):
    def ended(error):
        def run(*_):
            raise error

        return run

    real = accelerator.exit_status
    monkeypatch.setattr(accelerator, "exit_status", ended(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        accelerator.run_slice(PARTS[:1], AT, tmp_path, minutes=5)
    assert records.tries(PARTS[0], AT, tmp_path) == 0, "Ctrl-C says nothing of the part"
    known = records.of(PARTS[0], AT) | {"tries": 1}
    (tmp_path / f"good{records.BEGUN}").write_text(json.dumps(known))
    with pytest.raises(KeyboardInterrupt):
        accelerator.run_slice(PARTS[:1], AT, tmp_path, minutes=5)
    assert records.tries(PARTS[0], AT, tmp_path) == 1, "but what came before stays"
    for attempt in (1, 2):
        monkeypatch.setattr(accelerator, "exit_status", ended(RuntimeError("ended")))
        with pytest.raises(RuntimeError):
            accelerator.run_slice([PARTS[3], PARTS[1]] if attempt == 2 else PARTS[1:2], AT, tmp_path, minutes=35)
        assert records.tries(PARTS[1], AT, tmp_path) == attempt
    monkeypatch.setattr(accelerator, "exit_status", real)
    assert accelerator.run_slice([PARTS[3], PARTS[1]], AT, tmp_path, minutes=1) == []
    assert said(tmp_path) == {"long": "was begun 2 times and not finished", "last": "done"}


@pytest.mark.parametrize("asked", [True, False])
def test_no_process_of_a_part_stays_on_the_device(tmp_path, asked):
    """Neither where the slice is ended (asked) nor where the part ends without waiting for what it started."""
    child = "import time; print('begun', flush=True); time.sleep(600)"
    code = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {child!r}]); print(child.pid)"
    code += "; sys.stdout.flush(); child.wait()" if asked else "; sys.stdout.flush()"

    def end(*_):
        if len((tmp_path / "log").read_text().split()) == 2:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with (tmp_path / "log").open("w") as log, pytest.raises(KeyboardInterrupt) if asked else nullcontext():
            assert accelerator.exit_status(part("parent", code), log, tmp_path) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (pid,) = (word for word in (tmp_path / "log").read_text().split() if word.isdigit())
    end = time.monotonic() + 60
    while works(int(pid)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_results_are_committed(tmp_path, monkeypatch):
    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("config", "user.name", "name")
    git("config", "user.email", "name@example.org")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("out/good.txt", "other.txt"):
        (tmp_path / name).write_text("measured")
    git("add", "other.txt")
    assert records.commit(tmp_path / "out").startswith("Committed: ")
    assert git("show", "--name-only", "--format=%s").split("\n") == [records.SUBJECT, "", "out/good.txt", ""]
    assert records.commit(tmp_path / "out") == "Nothing new to commit."
    (tmp_path / ".git" / "index.lock").touch()
    (tmp_path / "out" / "more.txt").touch()
    assert "git add failed, nothing is lost: " in records.commit(tmp_path / "out")
    monkeypatch.setattr(records.environment, "commit", lambda: "0123")
    with pytest.raises(UserError, match="--commit: /elsewhere is not in this clone"):
        records.check_clone(Path("/elsewhere"))


def test_a_killed_slice_leaves_nothing_on_the_device_of_the_next(tmp_path):
    child = "import time; print('begun', flush=True); time.sleep(600)"
    code = f"""
import pathlib, sys
from benchmarks import accelerator
from benchmarks.accelerator_parts import Part
with open({str(tmp_path / "log")!r}, "w") as log:
    accelerator.exit_status(Part("part", (sys.executable, "-c", {child!r}), 1), log, pathlib.Path({str(tmp_path)!r}))
"""
    slice_ = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    end = time.monotonic() + 60
    while not (tmp_path / "log").exists() or "begun" not in (tmp_path / "log").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    (begun,) = psutil.Process(slice_.pid).children()
    slice_.kill()
    slice_.wait()
    assert works(begun.pid)
    accelerator.end_outliving(tmp_path / "other")
    assert works(begun.pid)
    accelerator.end_outliving(tmp_path)
    begun.wait(60)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs the command line on four small parts."""
    monkeypatch.setattr(accelerator, "here", lambda: ("gpu", AT))
    monkeypatch.setattr(accelerator_parts, "all_parts", lambda *_: PARTS)
    committed = []
    monkeypatch.setattr(records, "check_clone", lambda out: None)
    monkeypatch.setattr(records, "commit", lambda out: committed.append(out) or "Committed.")

    def run(*words):
        monkeypatch.setattr("sys.argv", ["accelerator", "--out", str(tmp_path), *words])
        return accelerator.run()

    run.committed = committed
    return run


def test_the_command_line(tmp_path, monkeypatch, ask, capsys):
    assert ask("--only", "bad", "--slice-minutes", "5") == 0
    assert said(tmp_path) == {"bad": "failed, exit status 3"}
    assert ask("--slice-minutes", "5", "--commit") == accelerator.LEFT
    assert ask.committed == [tmp_path]
    assert "Left: long; the same command goes on." in capsys.readouterr().out
    assert ask("--forget", "failed", "--only", "good") == 0
    assert "bad" in said(tmp_path), "--only says whose records"
    assert ask("--forget", "failed") == 0
    assert said(tmp_path).keys() == {"good", "last"}
    for words in (["--only", "failed"], ["--forget", "other"]):
        with pytest.raises(UserError, match="Unknown part"):
            ask(*words)

    with workdir.locked(tmp_path), pytest.raises(UserError, match="Another process is at work in"):
        ask()  # it would end the other's part

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerator, "exit_status", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("--commit")
    assert ask.committed == [tmp_path] * 2, "what was done before is committed"


def test_results_are_no_changes_of_the_code(tmp_path, monkeypatch):
    """A commit says what measured something, also where another measurement has just been written."""
    for name in ("main.py", "benchmarks/results/digits/README.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    for words in ("init -q", "add -A", "-c user.name=n -c user.email=e@example.org commit -q -m begin"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(environment.shipped, "root", lambda: tmp_path)
    monkeypatch.setattr(environment.shipped, "is_clone", lambda: True)
    commit = environment.commit()
    (tmp_path / "benchmarks/results/table.md").touch()
    assert environment.commit() == commit
    (tmp_path / "main.py").write_text("after")
    assert environment.commit() == f"{commit} + changes"


def test_every_file_of_tests_is_in_one_part():
    parts = accelerator_parts.all_parts("gpu", accelerator_parts.Path("out"), "python", "code and device")
    files = [word for each in parts if each.name.startswith("tests-") for word in each.command if word.endswith(".py")]
    expected = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(files) == sorted(map(str, expected))
    assert parts[-1].variables == {"REPRE_TEST_PLATFORM": "cuda"}
    assert len({each.name for each in parts}) == len(parts)
    assert max(each.minutes for each in parts) < 9, "each fits into a slice"
    other = accelerator_parts.all_parts("gpu", accelerator_parts.Path("out"), "python", "code and other device")
    demos = [each.shown() for each in (*parts, *other) if each.name == "demo"]
    assert "DEMO_DIR=runs/demo-" in demos[0] != demos[1], "what another device has begun is not gone on with"
