"""Runs whose workdir lies in a bucket, of a real server on this machine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import main
import repre_jax
from repre_jax.core import buckets, config_paths, manifest, run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.tools import compare, doctor, export, figures, inspect, prepare, reproduce, results, segment
from tests.helpers import bucket
from tests.helpers.devices import xla_flags
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parents[2]
TINY = ["main.py", "--config=configs/moco_vit_s.py:tiny"]


def test_addresses_stay_what_they_are(server):
    path = config_paths.absolute("gs://bucket/runs/one")
    assert str(path) == "gs://bucket/runs/one" == str(config_paths.typed("gs://bucket/runs/one"))
    assert str(config_paths.absolute(Path("gs://bucket/runs/one"))) == str(path), "pathlib has taken a slash"
    assert str(path.with_name("two") / "x") == "gs://bucket/runs/two/x"
    assert config_paths.stored("init_from", "gs://bucket/runs/one") == str(path)
    assert config_paths.same("init_from", str(path), "gs://bucket/runs/one")
    assert not config_paths.is_relative("init_from", str(path))
    assert buckets.holds(path) and not buckets.holds(config_paths.absolute("runs"))
    assert config_paths.typed("runs/one") == Path("runs/one")
    for address in ("s3://bucket/runs", "GS://bucket/runs", "gs://", "https://example.org/x"):
        with pytest.raises(UserError, match=r"cannot be used.\n  expected: a folder, or one in a bucket"):
            config_paths.absolute(address)
    for name in ("run*", "run?", "lr=[0.1]"):
        with pytest.raises(UserError, match=r"in a bucket \* \? \[ \] stand for other names"):
            config_paths.absolute(f"gs://bucket/{name}/one")
    with pytest.raises(UserError, match=r"data.dir=gs://bucket/data is on no disk"):
        config_paths.stored("data.dir", "gs://bucket/data")
    with pytest.raises(UserError, match=r"data.name=folder:gs://bucket/data is on no disk"):
        config_paths.stored("data.name", "folder:gs://bucket/data")


@pytest.mark.parametrize("tool", [compare, export, figures, inspect, results, reproduce])
def test_tools_refuse_other_addresses_without_a_traceback(tool, capsys):
    before = {figures: ["attention"], reproduce: ["table4", "--workdir"]}.get(tool, [])
    with pytest.raises(SystemExit) as ended:
        tool.main([*before, "s3://bucket/run"])
    assert ended.value.code == 2
    assert "s3://bucket/run cannot be used." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [(reproduce, ["table4", "--results"]), (figures, ["attention", "RUN", "--images"]), (segment, ["RUN", "--images"])],
)
def test_what_must_be_on_a_disk_is_said(tool, arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main([*arguments, "gs://bucket/x"])
    assert "gs://bucket/x is on no disk.\n  expected: a folder or file of this machine" in capsys.readouterr().err


def test_doctor_looks_at_a_bucket(folder, capsys):
    doctor.main([f"--workdir={folder}", "--data-dir=gs://bucket/data"])
    said = capsys.readouterr().out
    assert f"{folder} can be written" in said
    assert "gs://bucket/data is on no disk.\n  expected: a folder" in said
    doctor.main(["--workdir=gs://no-such-bucket/run"])
    assert "gs://no-such-bucket/run cannot be written: there is no such bucket" in capsys.readouterr().out
    assert prepare.main(["convert", "gs://bucket/data"]) == 1
    assert "gs://bucket/data is on no disk" in capsys.readouterr().err


def test_what_may_not_be_listed_is_not_taken_for_missing(folder, capsys):
    """Nor for damaged: a start would begin anew where the checkpoints are."""
    run = folder / "unlisted" / "run"
    checkpoints = run / run_files.CHECKPOINTS
    run_files.replace(checkpoints / "8.manifest.json", "{}")
    run_files.replace(run / run_files.METRICS, '{"step": 8}\n')
    for look in (run_files.is_folder, run_files.exists, run_files.is_file, run_files.files_below):
        with pytest.raises(buckets.BucketError):
            look(checkpoints)
    with pytest.raises(buckets.BucketError):
        run_files.matching(checkpoints, "*")
    assert main.main([*TINY, f"--workdir={run}"]) == 1
    assert "cannot be written: the bucket says: Forbidden: " in capsys.readouterr().err
    assert inspect.main([str(run)]) == 1
    assert f"{run}/checkpoints cannot be used: the bucket says: Forbidden: " in capsys.readouterr().err
    assert run_files.read_text(run / run_files.METRICS) == '{"step": 8}\n'


def test_what_may_not_be_read_is_not_taken_for_damaged(folder):
    checkpoint = folder / "8"
    run_files.replace(checkpoint / "unread" / "state", "x")
    written = {"files": {"unread/state": {"bytes": 1, "sha256": "0"}}}
    run_files.write_json(manifest.path_of(checkpoint), written)
    with pytest.raises(buckets.BucketError, match="Forbidden: "):
        manifest.fault(checkpoint)
    with pytest.raises(buckets.BucketError, match="Forbidden: "):
        run_files.read_json(checkpoint / "unread" / "state")


@pytest.mark.parametrize("said", ["UNAVAILABLE: no connection", "a PERMISSION_DENIED of it"])
def test_a_checkpoint_that_cannot_be_asked_for_is_not_damaged(said):
    path = config_paths.absolute("gs://bucket/run")
    with pytest.raises(buckets.BucketError, match=said):
        buckets.check_answered(path, ValueError(said))
    buckets.check_answered(path, ValueError("NOT_FOUND: no such array"))
    buckets.check_answered(Path("run"), ValueError(said))


def test_without_gcsfs_its_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        UserError, match=r"needs gcsfs, which is not installed.\n  change:   pip install 'repre-jax\[gcs"
    ):
        config_paths.absolute("gs://bucket/run")
    with pytest.raises(SystemExit):
        inspect.main(["gs://bucket/run"])
    assert "needs gcsfs, which is not installed." in capsys.readouterr().err


def test_files_of_a_run(folder):
    assert run_files.read_json(folder / "x.json") is None
    run_files.write_json(folder / "x.json", {"a": 1})
    assert run_files.read_json(folder / "x.json") == {"a": 1}
    with pytest.raises(ZeroDivisionError), run_files.replacing(folder / "x.json", "w") as file:
        file.write("half")
        raise ZeroDivisionError
    assert run_files.read_json(folder / "x.json") == {"a": 1}
    metrics = run_files.MetricsFile(folder / run_files.METRICS, continue_from=0)
    for step in (1, 2):
        metrics.write(step, {"loss": 0.5})
    metrics.write(2, {"knn": 0.25})
    assert run_files.read_metrics(folder / run_files.METRICS)[1] == {"step": 2, "loss": 0.5, "knn": 0.25}
    with run_files.drafts(folder) as draft:
        run_files.replace(draft / "new", "whole")
        run_files.move(draft / "new", folder / "new")
    run_files.replace(folder / "deep" / "er" / "file", "text")
    assert run_files.files_below(folder) == ["deep/er/file", "metrics.jsonl", "new", "x.json"]
    assert [path.name for path in run_files.matching(folder, "*.json")] == ["x.json"]
    assert abs(run_files.written_at(folder / "new") - time.time()) < 60
    assert run_files.bytes_of(folder / "new") == 5
    run_files.move(folder / "deep", folder / "moved")
    assert not run_files.exists(folder / "deep") and run_files.read_text(folder / "moved" / "er" / "file") == "text"
    run_files.remove_folder(folder)
    assert run_files.files_below(folder) == []
    with pytest.raises(UserError, match="Features cannot be kept in a bucket"):
        run_files.new_array(folder / "x.npy", "float32", (2, 2))
    with pytest.raises(OSError):
        run_files.check_writable(config_paths.absolute("gs://no-such-bucket/run"))


@pytest.mark.slow
def test_a_run_and_what_is_made_of_it(folder, tmp_path, monkeypatch, capsys):
    """It is trained, judged, looked at, exported and gone on with, and nothing of it is written on this machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    run = str(folder / "run")
    assert main.main([*TINY, f"--workdir={run}"]) == 0
    said = capsys.readouterr().out
    assert f"Report: {run}/report.html" in said and "TensorBoard's files are left out" in said
    names = {name.split("/")[0] for name in run_files.files_below(folder / "run")}
    files = {f"{name}.json" for name in ("config", "data", "result")} | {"metrics.jsonl", "starts.jsonl", "report.html"}
    assert names == {"checkpoints", "figures", *files}
    with contextlib.closing(Checkpoints(folder / "run" / run_files.CHECKPOINTS)) as checkpoints:
        assert checkpoints.newest_whole() == (8, [])
        assert list(checkpoints.measures()) == [4, 6, 8], "the best and the newest: 2 is removed"

    knn = ["main.py", "--config=configs/knn.py:tiny", f"--config.init_from={run}"]
    assert main.main([*knn, f"--workdir={tmp_path / 'knn'}"]) == 0
    assert main.main([*knn, f"--workdir={folder / 'knn'}"]) == 1
    assert "Features cannot be kept in a bucket" in capsys.readouterr().err
    assert inspect.main([run]) == 0
    assert "Starts of this run:" in capsys.readouterr().out
    assert export.main([run]) == 0
    (file,) = (path for path in run_files.matching(folder / "run" / "export", "*.safetensors"))
    encoder, _, card = repre_jax.load_encoder(str(file))
    assert (encoder.width, card["step"]) == (32, 8)
    assert figures.main(["attention", run]) == 0
    assert run_files.exists(folder / "run" / "figures" / "attention.pdf")
    assert results.main([run, str(tmp_path / "knn")]) == 0
    assert compare.main([run, str(tmp_path / "knn"), f"--out={tmp_path / 'compare.html'}"]) == 0
    assert reproduce.main(["table4", f"--workdir={run}", "--dry-run"]) == 1
    capsys.readouterr()

    longer = [*TINY, f"--workdir={run}", "--config.total_steps=10", "--config.may_change=('total_steps',)"]
    assert main.main([*longer, "--dry-run"]) == 0
    assert "from step 8 of 10" in capsys.readouterr().out
    assert main.main(longer) == 0
    assert "Going on from step 8 of 10." in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"configs", "knn", "compare.html"}


def test_no_bucket_is_no_traceback(server, capsys):
    assert main.main([*TINY, "--workdir=gs://no-such-bucket/run"]) == 1
    assert "The workdir gs://no-such-bucket/run cannot be written: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_bucket_that_is_out_of_reach_is_not_taken_for_empty():
    """Slow: gcsfs tries again for half a minute."""
    command = [sys.executable, "-m", "repre_jax.tools.inspect", "gs://bucket/run"]
    variables = os.environ | bucket.variables(9)
    ended = subprocess.run(command, check=False, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=HANGS)
    assert ended.returncode == 1
    assert ended.stderr.startswith("gs://bucket/run/checkpoints cannot be used: the bucket says: Cannot connect to ")


@pytest.mark.slow
def test_a_killed_run_goes_on(folder, server, tmp_path):
    """Killed between steps, and while a checkpoint is written: a part of it in the bucket is no checkpoint."""
    command = [sys.executable, "-u", *TINY, f"--workdir={folder}", "--config.total_steps=60"]
    command += ["--config.checkpoint.every=10", "--config.log_every=5", "--config.knn.times=1"]
    variables = os.environ | bucket.variables(server) | {"XLA_FLAGS": xla_flags(1)}

    def start(until):
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + HANGS
        while process.poll() is None and not until():
            assert time.monotonic() < end
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(), (tmp_path / "log").read_text()

    checkpoints = folder / run_files.CHECKPOINTS
    status, _ = start(lambda: run_files.exists(checkpoints / "10.manifest.json"))
    assert status == -signal.SIGKILL
    status, said = start(lambda: bool(run_files.matching(checkpoints, "30*")))
    assert status == -signal.SIGKILL
    assert "Going on from step 10 of 60." in said or "Going on from step 20 of 60." in said
    for name in ("state/part", "record/part"):  # whether or not the kill has left some
        run_files.replace(checkpoints / "40" / name, "cut short")
    status, said = start(lambda: False)
    assert status == 0, said
    assert "Ignored: checkpoint 40: its writing was cut short; removed." in said
    assert [row["step"] for row in run_files.read_metrics(folder / run_files.METRICS)] == [0, *range(5, 61, 5)]
    assert json.loads(run_files.read_text(folder / run_files.RESULT))["steps"] == 60
    with contextlib.closing(Checkpoints(checkpoints)) as saved:
        assert saved.newest_whole() == (60, [])
