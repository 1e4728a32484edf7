"""What a workdir already holds: whether the run in it goes on, is finished, is refused, and with which settings."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import chex
import jax
import pytest
from array_record.python import array_record_module

import main
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.running import loop, resume
from repre_jax.running.workdir import LOCK, locked
from repre_jax.tasks import pretrain
from tests.helpers.runs import ROOT, TINY, final_state, run

LONGER = ["--config.total_steps=10", "--config.optim.lr=0.01"]  # one program for all that are longer than the finished


def test_a_changed_config_is_refused_with_the_difference(finished, capsys):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    assert main.main([*TINY, "--workdir", str(workdir), "--config.optim.lr=0.5"]) == 1
    error = capsys.readouterr().err
    assert "optim.lr: 0.00015 -> 0.5" in error
    assert "--workdir" in error
    assert "--config.may_change=\"('optim.lr',)\"" in error
    assert (workdir / "config.json").read_text() == before


def test_what_the_user_says_may_change(finished, tmp_path, capsys):
    """A finished run that is to be longer goes on from its last checkpoint, at the new rate; a third key is refused."""
    folder = tmp_path / "longer"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), *LONGER]
    assert main.main([*argv, "--config.may_change=('optim',)"]) == 1
    error = capsys.readouterr().err
    assert "total_steps: 8 -> 10" in error
    assert "optim.lr" not in error.split("change:")[0]
    argv.append("--config.may_change=('optim', 'total_steps')")
    assert main.main([*argv, "--config.encoder.width=64"]) == 1
    assert "encoder.width: 32 -> 64" in capsys.readouterr().err
    assert main.main(argv) == 0
    output = capsys.readouterr().out
    assert "Changed, as may_change allows: optim.lr: 0.00015 -> 0.01" in output
    assert "Going on from step 8 of 10." in output
    rows = run_files.read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert main.main(argv) == 0
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [("('optim.lrr',)", "Did you mean 'optim.lr'?"), ("(5,)", "may_change names 5"), ("('',)", "may_change names ''")],
)
def test_may_change_must_name_keys(tmp_path, capsys, names, message):
    assert main.main([*TINY, "--workdir", str(tmp_path), f"--config.may_change={names}"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "--config.may_change=\"('optim.lr', 'epochs')\"" in error


def test_changes_that_come_too_late_are_refused(finished, tmp_path, capsys):
    """Nothing is left to be trained at the new rate; evaluations may still change."""
    folder = tmp_path / "late"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.may_change=('optim.lr', 'knn')", "--config.knn.k=5"]
    assert main.main([*argv, "--config.optim.lr=1.0"]) == 1
    error = capsys.readouterr().err
    assert "optim.lr: 0.00015 -> 1.0" in error
    assert "knn.k" not in error
    assert json.loads((folder / "config.json").read_text())["optim"]["lr"] == 0.00015
    assert main.main(argv) == 0
    assert json.loads((folder / "result.json").read_text())["knn_k"] == 5


def test_a_state_of_another_shape_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "wider"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.encoder.width=64", "--config.total_steps=10"]
    argv.append("--config.may_change=('encoder.width', 'total_steps')")
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert "Checkpoint 8" in error
    assert re.search(r"Tensors that differ: \d\d+\n(  \S+: \(.*\) -> \(.*64.*\)\n){5}", error)
    assert re.search(r"(  \S+: \(.*\) -> \(.*\)\n){8}", error)


def test_another_data_set_under_the_same_name_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    (folder / "result.json").unlink()
    source = Path(os.environ["TFDS_DATA_DIR"]) / "digits" / "1.0.0"
    target = tmp_path / "other" / "digits" / "1.0.0"
    shutil.copytree(source, target)
    info = json.loads((target / "dataset_info.json").read_text())
    train = next(split for split in info["splits"] if split["name"] == "train")
    train["shardLengths"] = ["1000"]
    (shard,) = target.glob("digits-train.*")
    records = array_record_module.ArrayRecordReader(str(shard)).read(0, 1000)
    writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    (target / "dataset_info.json").write_text(json.dumps(info))
    assert main.main([*TINY, "--workdir", str(folder), f"--config.data.dir={tmp_path / 'other'}"]) == 1
    assert "train_records: 1437 -> 1000" in capsys.readouterr().err


def test_a_finished_run_prints_its_summary_at_once(finished, capsys, monkeypatch):
    workdir, result = finished
    before = modified(workdir)
    monkeypatch.setattr(pretrain.loop, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert run(workdir) == result
    output = capsys.readouterr().out
    assert "finished" in output
    assert "k-NN top-1 (k = 20)" in output
    assert before == modified(workdir)


def modified(folder):
    """When each file was, but for the lock and the page, which is written again."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (LOCK, run_files.PAGE))
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_finished_run_that_is_made_longer_is_not_finished(finished, tmp_path, monkeypatch, capsys):
    """Stopped on the way, the same command goes on instead of printing the old result."""
    folder = tmp_path / "longer"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), *LONGER, "--config.may_change=('optim.lr', 'total_steps')"]
    fit = loop.fit

    def interrupted(step_fn, state, batches, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return fit(step_fn, state, batches, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.loop, "fit", interrupted)
        assert main.main(argv) == 128 + signal.SIGTERM
    assert json.loads((folder / "result.before.json").read_text())["steps"] == 8
    assert main.main(argv) == 0
    assert "Going on from step 8 of 10." in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text())["steps"] == 10


def test_files_that_are_something_else_count_as_none(finished, tmp_path, capsys):
    folder = tmp_path / "odd"
    shutil.copytree(finished[0], folder)
    settings = resume.plain(main.parse(TINY)[0])
    for content in (b"[]", b"{}", b"\xff\xfe\x00"):
        (folder / "result.json").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        past = resume.look(folder, settings)
        assert (past.step, past.result, past.changed) == (8, None, [])
    assert main.main([*TINY, "--workdir", str(folder)]) == 0
    assert "Going on from step 8 of 8." in capsys.readouterr().out


def test_what_a_crash_leaves_does_not_confuse_the_next_start(finished, tmp_path, capsys):
    """A result cut short counts as none, damaged and half-written checkpoints are named, and the one before is taken;
    a log without any checkpoint is begun anew."""
    folder = tmp_path / "crashed"
    shutil.copytree(finished[0], folder)
    (folder / "result.json").write_text('{"task": "pre')
    shutil.rmtree(folder / "checkpoints" / "8" / "state")
    (folder / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    largest = max((folder / "checkpoints" / "6").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    run(folder)
    output = capsys.readouterr().out
    assert re.search(r"Ignored: checkpoint 8: its file state/\S+ is missing; now 8.damaged.", output)
    assert re.search(r"Ignored: checkpoint 6: its file state/\S+ has other content; now 6.damaged.", output)
    assert "Ignored: checkpoint 9.orbax-checkpoint-tmp: its writing was cut short; removed." in output
    assert "Going on from step 4 of 8." in output
    chex.assert_trees_all_equal(final_state(folder), final_state(finished[0]))
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").glob("?.manifest.json"):
        path.unlink()
    run(folder, "--config.total_steps=2", "--config.may_change=('total_steps',)")
    assert "No whole checkpoint is left: starting from the beginning." in capsys.readouterr().out
    assert [row["step"] for row in run_files.read_metrics(folder / "metrics.jsonl")] == [0, 1, 2]


def test_two_runs_in_one_workdir_are_refused(finished, tmp_path, capsys):
    with locked(tmp_path):
        assert main.main([*TINY, "--workdir", str(tmp_path)]) == 1
    assert f"Another process is at work in {tmp_path}." in capsys.readouterr().err
    assert not (tmp_path / LOCK).exists()


def test_a_workdir_that_was_removed_while_its_lock_was_opened_is_made_anew(tmp_path, monkeypatch):
    """By a run that left it empty: the lock that this one then has is of a file that is gone."""
    flock, removed = fcntl.flock, []

    def late(file, how):
        if not removed:  # between opening and locking
            removed.append((tmp_path / "run" / LOCK).unlink())
            (tmp_path / "run").rmdir()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text()
        with pytest.raises(UserError, match="Another process is at work"), locked(tmp_path / "run"):
            pytest.fail("two runs at once")


def test_each_start_is_written_down(finished):
    folder, _ = finished
    start = json.loads((folder / "starts.jsonl").read_text().splitlines()[0])
    assert (start["step"], start["seed"], start["processes"]) == (0, 0, 1)
    assert start["devices"] == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert start["versions"]["jax"] == jax.__version__
    assert start["variables"]["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert start["commit"].startswith(head.strip())
