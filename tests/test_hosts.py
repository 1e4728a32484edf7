"""Two real processes over loopback: training as in one, the same step after a signal, a message for each fault."""

import json
import re
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from repre_jax.core import run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.running.agreement import Agreement
from repre_jax.system import runtime
from tests.helpers import coco, detectors, labelled_folder
from tests.helpers.hosts import TINY, child_pair, finish, flags, free_port, pair, started
from tests.helpers.patience import HANGS


def wait_for_rows(workdir, count, children):
    deadline = time.monotonic() + HANGS
    while len(run_files.read_metrics(workdir / "metrics.jsonl")) < count:
        assert all(child.poll() is None for child in children), finish(children)
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_processes_train_as_one_also_when_one_of_them_is_told_to_stop(tmp_path):
    arguments = ["--config.total_steps=40", "--config.knn.times=2", "--config.checkpoint.every=1000"]
    two, one = tmp_path / "two", tmp_path / "one"
    with started(*pair(two, *arguments)) as children:
        wait_for_rows(two, 3, children)
        children[1].send_signal(signal.SIGTERM)
        ends = finish(children)
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2, ends
    saved = {re.search(r"Saved at step (\d+) of 40", error)[1] for _, _, error in ends}
    assert len(saved) == 1
    assert Checkpoints(two / "checkpoints").newest_whole() == (int(*saved), [])
    with started(*pair(two, *arguments)) as children:
        ends = finish(children)
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "Process 0 of 2 on " in ends[0][1]
    assert f"Going on from step {saved.pop()} of 40." in ends[0][1]
    assert re.fullmatch(r"Process 1 of 2 on \S+: 1 x cpu\n", ends[1][1])
    with started([*TINY, "--workdir", str(one), *arguments], devices=2) as children:
        assert finish(children)[0][0] == 0
    ours, expected = (run_files.read_metrics(folder / "metrics.jsonl") for folder in (two, one))
    assert [row["step"] for row in ours] == [row["step"] for row in expected] == [0, *range(2, 41, 2)]
    assert [row.get("loss") for row in ours[1:]] == pytest.approx([row["loss"] for row in expected[1:]], abs=1e-4)
    assert [row.get("knn_top1") for row in ours] == [row.get("knn_top1") for row in expected]
    ours, expected = (json.loads((folder / "result.json").read_text()) for folder in (two, one))
    for name in ("knn_top1", "knn_top1_untrained", "knn_top1_pixels"):
        assert ours[name] == expected[name]
    assert ours["reconstruction_l1"] == pytest.approx(expected["reconstruction_l1"], abs=1e-4)
    assert (two / "figures" / "reconstructions.png").exists()


def first_features_are_written(folder):
    """From then on both processes are among the batches, where a signal to one of them stops both."""
    return (folder / "labels.npy").exists() and np.load(folder / "features.npy", mmap_mode="r")[0].any()


@pytest.mark.slow
def test_two_processes_judge_as_one(finished, tmp_path):
    """Also when one of them is told to stop."""
    argv = ["main.py", "--config=configs/knn.py:tiny", f"--config.init_from={finished[0]}", "--config.batch_size=2"]
    port = free_port()
    two = [[*argv, f"--workdir={tmp_path / 'two'}", *flags(port, process)] for process in (0, 1)]
    with started(*two) as children:
        deadline = time.monotonic() + HANGS
        while not first_features_are_written(tmp_path / "two" / "features" / "train"):
            assert all(child.poll() is None for child in children), finish(children)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children[1].send_signal(signal.SIGTERM)
        ends = finish(children)
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2, ends
    assert len({re.search(r"Stopped after ([\d,]+) of 1,437 train images", error)[1] for _, _, error in ends}) == 1
    with started(*two) as children:
        ends = finish(children)
    assert [status for status, _, _ in ends] == [0, 0], ends
    with started(*two) as children:
        ends = finish(children)
    assert ["This evaluation is finished." in output for _, output, _ in ends] == [True, False], ends
    assert [status for status, _, _ in ends] == [0, 0], ends
    with started([*argv, f"--workdir={tmp_path / 'one'}"], devices=2) as children:
        assert finish(children)[0][0] == 0
    ours, expected = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "one"))
    for result in (ours, expected):
        del result["seconds"], result["command"]
    assert ours == expected


def by_two_and_one(argv, folder):
    """The same command in two processes of a device each, workdir folder/two, and in one of two devices, folder/one."""
    port = free_port()
    with started(*[[*argv, f"--workdir={folder / 'two'}", *flags(port, process)] for process in (0, 1)]) as children:
        ends = finish(children)
    assert [status for status, _, _ in ends] == [0, 0], ends
    with started([*argv, f"--workdir={folder / 'one'}"], devices=2) as children:
        assert finish(children)[0][0] == 0
    return folder / "two", folder / "one"


def metrics_of_two_and_one(argv, tmp_path):
    """What both log, of by_two_and_one. Their losses are equal."""
    ours, expected = (run_files.read_metrics(run / "metrics.jsonl") for run in by_two_and_one(argv, tmp_path))
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (ours, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and losses[0]
    return ours, expected


@pytest.mark.slow
@pytest.mark.parametrize("config", ["linear.py:cached,tiny", "finetune.py:tiny"])
def test_two_processes_train_a_head_as_one(finished, tmp_path, config):
    argv = ["main.py", f"--config=configs/{config}", f"--config.init_from={finished[0]}"]
    ours, expected = metrics_of_two_and_one(argv, tmp_path)
    assert [row.get("top1") for row in ours] == [row.get("top1") for row in expected]


@pytest.mark.slow
def test_two_processes_segment_as_one(finished, tmp_path):
    """Images of several sizes, 7 to be tested by two: one process has an image less than the other."""
    labelled_folder.write(
        tmp_path / "data", {"train": [(40, 56)] * 6, "val": [(40, 56), (48, 40), (40, 40)] * 2 + [(50, 33)]}
    )
    argv = ["main.py", "--config=configs/segment.py:linear,tiny", f"--config.init_from={finished[0]}",
            f"--config.data.name=folder:{tmp_path / 'data'}", "--config.data.num_classes=3",
            "--config.data.test_split=validation", "--config.data.image_size=(32, 32)",
            "--config.segment.test_stride=(16, 16)", "--config.segment.train_size=()",
            "--config.segment.test_size=()"]  # fmt: skip
    metrics_of_two_and_one(argv, tmp_path)
    trained = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "one")]
    assert trained[0]["miou"] == pytest.approx(trained[1]["miou"], abs=0.02)
    again = ["main.py", "--config=configs/segment.py", f"--config.evaluate={tmp_path / 'one'}"]
    two, one = (json.loads((run / "result.json").read_text()) for run in by_two_and_one(again, tmp_path / "again"))
    assert two["test_images"] == one["test_images"] == 7
    assert two["confusion"] == one["confusion"] == trained[1]["confusion"], "by the same weights"


@pytest.mark.slow
def test_two_processes_detect_as_one(finished, tmp_path):
    """Test images of two canvases, one of each: one process has no image of its own. Trained on one canvas, since the
    order of canvases is a function of seed and epoch alone (test_many_draws.py)."""
    flags = detectors.flags(detectors.data(tmp_path), "--config.detect.shorts=(64,)", "--config.evaluations=1")
    argv = ["main.py", "--config=configs/detect.py", f"--config.init_from={finished[0]}", *flags]
    ours, expected = metrics_of_two_and_one(argv, tmp_path)
    assert ours[-1].keys() == expected[-1].keys() >= {"box_ap", "mask_ap"}
    for file in ("detections_boxes.json", "detections.json"):
        two, one = (json.loads((tmp_path / name / file).read_text()) for name in ("two", "one"))
        assert {each["image_id"] for each in two} == set(coco.SIZES["val"])
        assert [each["image_id"] for each in two] == [each["image_id"] for each in one]
        scores = [[each["score"] for each in found] for found in (two, one)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_each_process_reads_and_measures_its_share(tmp_path):
    """Rows of the batches, features, labels and what they agree on, as one process has them; the digits are prepared by
    both at once."""
    data_dir = tmp_path / "data"
    with started(*child_pair("measure", data_dir), devices=2) as children:
        ends = finish(children)
    assert [status for status, _, _ in ends] == [0, 0], ends
    zero, one = (json.loads(Path(f"{data_dir}-{process}.json").read_text()) for process in (0, 1))
    with started(["tests/helpers/host_child.py", "", "0", "alone", str(data_dir)], devices=4) as children:
        assert finish(children)[0][0] == 0
    alone = json.loads(Path(f"{data_dir}-alone.json").read_text())
    for mine, other, expected in zip(zero["batches"], one["batches"], alone["batches"], strict=True):
        assert list(mine) == [str(row) for row in range(8)]
        assert mine | other == expected
    for found in (zero, one):
        assert found["labels"] == alone["labels"]
        assert len(found["labels"]) == 21
        assert found["features"] == alone["features"]
        assert (found["kept"], found["kept_labels"]) == (alone["features"], alone["labels"])
        assert found["knn"] == alone["knn"]
        assert found["rebuilt"] == pytest.approx(alone["rebuilt"], rel=1e-6)
        assert found["key"] == alone["key"]
        assert found["lagging"] == [0, 0, 15, 0]
        assert found["now"] == [0, 2]
        assert "Process 0 and process 1 have another number. Here:\n  mine:" in found["differ"]
    assert (zero["main"], one["main"]) == (True, False)


def test_a_coordinator_that_cannot_be_reached_is_named(tmp_path):
    port = free_port()
    begun = time.monotonic()
    workdir = ["--workdir", str(tmp_path)]
    with started(
        [*TINY, *workdir, *flags(port, 1, timeout=3)], [*TINY, *workdir, *flags(free_port(), 0, 3, timeout=3)]
    ) as children:
        ends = finish(children)
    assert time.monotonic() - begun < 100  # 120 unless told
    assert [status for status, _, _ in ends] == [1, 1]
    assert f"Process 0 cannot be reached: nothing answered at 127.0.0.1:{port} within 3 s" in ends[0][2]
    assert "process 1, 2 of 3 did not come within 3 s." in ends[1][2]
    assert all("Traceback" not in error and "distributed.timeout" in error for _, _, error in ends)


def test_processes_that_do_not_fit_together_are_named(tmp_path):
    """Another number of processes, and a port that is taken."""
    port = free_port()
    workdir = ["--workdir", str(tmp_path)]
    with started(
        [*TINY, *workdir, *flags(port, 0, 2, timeout=30)], [*TINY, *workdir, *flags(port, 2, 3, timeout=30)]
    ) as children:
        ends = finish(children)
    assert [status for status, _, _ in ends] == [1, 1]
    assert all("was started as one of 3, process 0 as one of 2" in error for _, _, error in ends), ends
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UserError, match=f"cannot listen at port {port}"), \
         runtime.started(coordinator=f"127.0.0.1:{port}", processes=2, process=0):  # fmt: skip
        pass


def test_a_signal_to_one_process_stops_the_loop_of_both_after_the_same_step(tmp_path):
    with started(*child_pair("loop", tmp_path)) as children:
        wait_for_rows(tmp_path, 5, children)
        children[1].send_signal(signal.SIGINT)
        ends = finish(children)
    assert [status for status, _, _ in ends] == [128 + signal.SIGINT] * 2, ends
    assert len({re.search(r"Stopped after step (\d+)", error)[1] for _, _, error in ends}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_hangs_ends_the_other_with_a_message(tmp_path, victim):
    with started(*child_pair("hang", tmp_path)) as children:
        wait_for_rows(tmp_path, 5, children)
        children[victim].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        children[1 - victim].wait(timeout=HANGS)
        seconds = time.monotonic() - begun
        children[victim].send_signal(signal.SIGCONT)
        ends = finish(children)
    status, _, error = ends[1 - victim]
    assert status == 1, error
    assert ends[victim][0] in (1, -signal.SIGABRT), ends  # JAX aborts a process that wakes up without process 0
    assert 3 < seconds < 30
    where = (
        rf"Process {1 - victim} of 2 on \S+ hangs. Step \d+: waiting for \S+ \S+ for 4 s; the last finished step: step "
    )
    assert re.search(where, error), error
    assert "The same command goes on from the last checkpoint" in error
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_other_with_a_message(tmp_path, victim):
    with started(*child_pair("loop", tmp_path)) as children:
        wait_for_rows(tmp_path, 5, children)
        children[victim].kill()
        ends = finish(children)
    status, _, error = ends[1 - victim]
    assert status == 1, error
    assert re.search(rf"Process {victim} of 2 on \S+ ended without a word; look at its output", error), error
    assert "The same command, in every process, goes on from the last checkpoint" in error
    assert "Traceback" not in error


def test_alone_one_agrees_with_oneself_at_once():
    agreement = Agreement(jax.sharding.Mesh(np.asarray(jax.devices()), ("data",)))
    assert [agreement.lagging(number) for number in (0, 15, 0)] == [0, 15, 0]
    assert agreement.now(2) == 2


def test_deterministic_keeps_the_users_flags():
    code = (
        "import os, main; from repre_jax.system import runtime; import jax\n"
        "with runtime.started(deterministic=True): print(os.environ['XLA_FLAGS'], jax.device_count())"
    )
    with started(["-c", code], devices=3) as children:
        ((status, output, error),) = finish(children)
    assert status == 0, error
    assert output.startswith("--xla_gpu_exclude_nondeterministic_ops=true ")
    assert output.endswith("--xla_force_host_platform_device_count=3 3\n")
