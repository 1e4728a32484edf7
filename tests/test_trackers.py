"""Event files and W&B's runs, read back by the programs that they are for."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

import main
from repre_jax.core import run_files
from repre_jax.report import trackers
from tests.helpers.patience import HANGS
from tests.helpers.runs import ROOT, run


def events(workdir):
    """(name, step) -> value, as TensorBoard shows it; each but once."""
    found = EventAccumulator(str(workdir / "tensorboard"), {"scalars": 0}).Reload()
    scalars = [(name, event.step, event.value) for name in found.Tags()["scalars"] for event in found.Scalars(name)]
    assert len({(name, step) for name, step, _ in scalars}) == len(scalars)
    return {(name, step): value for name, step, value in scalars}


def logged(workdir):
    """The same of metrics.jsonl."""
    rows = run_files.read_metrics(workdir / "metrics.jsonl")
    return {(k, row["step"]): v for row in rows for k, v in row.items() if k != "step" and v is not None}


def test_event_files_hold_what_metrics_jsonl_holds(finished):
    assert events(finished[0]) == pytest.approx(logged(finished[0]), rel=1e-6)


def test_a_continued_run_is_one_curve(continued):
    assert len(list((continued[0] / "tensorboard").iterdir())) == 2
    assert events(continued[0]) == pytest.approx(logged(continued[0]), rel=1e-6)


def test_a_start_forgets_what_lies_beyond_its_step_and_completes_it(tmp_path):
    for first, rows in ((0, {0: {"a": 1.0}, 4: {"a": 2.0}, 6: {"a": 9.0}}), (4, {4: {"b": 3.0}, 6: {"a": 4.0}})):
        tracker = trackers.TensorBoard(tmp_path, first)
        for step, values in rows.items():
            tracker.write(step, values | {"nothing": None, "nan": math.nan})
        tracker.close(finished=True)
    assert events(tmp_path) == {("a", 0): 1, ("a", 4): 2, ("b", 4): 3, ("a", 6): 4}
    trackers.TensorBoard(tmp_path, 0).close(finished=True)  # a run begun anew
    assert events(tmp_path) == {}


def test_event_files_can_be_turned_off(tmp_path):
    run(tmp_path / "run", "--config.total_steps=2", "--config.tensorboard=False")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_wandb_keeps_one_run_over_two_starts(tmp_path, monkeypatch):
    """Offline, as without a network; what lies there is what `wandb sync` uploads."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "run"
    run(workdir, "--config.total_steps=2", "--config.wandb=repre")
    tracker = trackers.WandB(workdir, 2, "repre", {})
    tracker.write(3, {"loss": 0.5, "none": None})
    tracker.close(finished=False)
    ids, found, exits = set(), {}, []
    for record in of_starts(workdir, 2):
        if record.HasField("run"):
            ids.add(record.run.run_id)
        if record.HasField("exit"):
            exits.append(record.exit.exit_code)
        row = {item.nested_key[0] or item.key: json.loads(item.value_json) for item in record.history.item}
        found |= {(name, row["_step"]): v for name, v in row.items() if row and not name.startswith("_")}
    assert ids == {json.loads((workdir / "wandb.json").read_text())["id"]}
    assert found == logged(workdir) | {("loss", 3): 0.5}
    assert sorted(exits) == [0, 1]


def test_wandb_is_told_again_what_it_did_not_get_before_a_run_was_killed(finished, tmp_path):
    """In a process of its own, as each start is one."""
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    start = (
        "import sys, pathlib; from repre_jax.report import trackers; "
        "trackers.WandB(pathlib.Path(sys.argv[1]), 4, 'repre', {}).close(finished=False)"
    )
    command = [sys.executable, "-c", start, str(workdir)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"WANDB_MODE": "offline"}, check=True)
    (path,) = workdir.glob("wandb/offline-run-*/*.wandb")
    steps = {
        json.loads(i.value_json) for r in records(path) for i in r.history.item if "_step" in (*i.nested_key, i.key)
    }
    assert steps == {0, 2, 4}


def of_starts(workdir, count):
    """The records of so many starts, once each has its last: W&B writes on after one that failed is closed."""
    deadline = time.monotonic() + HANGS
    while True:
        found = [each for path in workdir.glob("wandb/offline-run-*/*.wandb") for each in records(path)]
        if sum(each.HasField("exit") for each in found) == count or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def records(path):
    """W&B's file is a log of LevelDB's form: blocks of 32 kB; parts of records, each with checksum, length and kind."""
    data, place, parts = path.read_bytes(), 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        if place + 7 > len(data):
            return  # it is being written
        length, kind = struct.unpack_from("<4xHB", data, place)
        if place + 7 + length > len(data):
            return
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_wandb_without_an_account_is_one_message(tmp_path):
    """In a process of its own: W&B keeps its settings for as long as one lives."""
    start = "from repre_jax.report import trackers; trackers.check('p')"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    command, place = [sys.executable, "-c", start], {"cwd": ROOT, "env": variables | {"HOME": str(tmp_path)}}
    done = subprocess.run(command, **place, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "UserError: wandb is 'p', and nobody is logged in to Weights & Biases.\n  change:   `wandb login`"
        in done.stderr
    )


def test_wandb_without_the_package_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    command = [
        "main.py",
        "--config=configs/moco_vit_s.py:tiny",
        f"--workdir={tmp_path / 'run'}",
        "--config.wandb=repre",
    ]
    assert main.main(command) == 1
    assert "the package is not installed.\n  change:   pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
