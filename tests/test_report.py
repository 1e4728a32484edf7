"""What is printed and drawn, and the files beside it."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from repre_jax.core import run_files, schedules
from repre_jax.data.order import epoch_order
from repre_jax.report import console
from repre_jax.running import loop

RESULT = {
    "steps": 1200,
    "seconds": 3723.4,
    "images_per_second": 512.3,
    "knn_k": 20,
    "knn_top1": 0.951,
    "knn_top1_untrained": 0.64,
    "knn_top1_pixels": 0.944,
    "reconstruction_l1": 0.03,
    "reconstruction_l1_mean_colour": 0.3,
    "figure": "figures/reconstructions.png",
}


def test_summary_says_how_the_encoder_stands_against_pixels():
    text = console.summary(RESULT, Path("runs/x"))
    for words in ("95.1%  trained", "64.0%  untrained", "94.4%  raw pixels: the encoder is 0.7 points better"):
        assert words in text
    for words in (
        "1,200 in 1:02:03",
        "0.0300 over all test images, 10% of the next line",
        "runs/x/figures/reconstructions.png",
    ):
        assert words in text
    assert "5.0 points worse" in console.summary(RESULT | {"knn_top1": 0.894}, Path("x"))
    assert "reconstruction" not in console.summary(RESULT | {"reconstruction_l1": None}, Path("x"))
    assert "HOG" not in text
    assert "79.2%  HOG, edges alone" in console.summary(RESULT | {"knn_top1_hog": 0.792}, Path("x"))
    assert "skipped" not in text
    assert "7 of them skipped" in console.summary(RESULT | {"skipped_steps": 7}, Path("x"))


def test_the_plan_says_what_changes_over_the_run():
    settings = {"records": 1000, "batch_size": 100, "epochs": 20.0, "total_steps": None, "warmup_epochs": 2.0}
    plan = schedules.resolve(**settings, lr_per_256=0.256, weight_decay=0.04, weight_decay_end=0.4, momentum_start=0.99)
    told = {"lr_per_256": 0.256, "optimizer": "adamw", "shape": "moco_v3"}
    text = console.table(console.plan(plan, **told, momentum=True))
    for words in (
        "200 of 100 images = 20 epochs of 10.0 steps; warm-up 20",
        "adamw, weight decay 0.04 -> 0.4",
        "0 -> 0.1 -> 0 (0.256 per 256 images), schedule moco_v3",
        "momentum       0.99 -> 1",
    ):
        assert words in text
    assert "momentum" not in console.table(console.plan(plan, **told, momentum=False))


def test_the_machine_is_named():
    said = console.machine()
    assert re.fullmatch(rf"{os.cpu_count()} cores, \S.+", said)
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    assert ("AVX-512" in said) == ("avx512f" in flags)
    assert said.endswith("AVX2") == ("avx2" in flags and "avx512f" not in flags)


def test_progress_line_shows_what_was_measured():
    values = {"loss": 2.0, "contrastive": 1.5, "wait_share": 0.034, "images_per_second": 50.0, "embedding_std": 0.08}
    line = console.progress_line(7, 107, values, batch_size=10)
    for words in ("step   7/107", "loss 2.0000", "contrastive 1.5000", "waiting 3%", "50 images/s", "0:20 left"):
        assert words in line
    assert "k-NN" not in line
    assert console.progress_line(0, 9, {"knn_top1": 0.5}, batch_size=1) == "step 0/9  k-NN 50.0%"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (90061, "25:01:01")])
def test_duration(seconds, text):
    assert console.duration(seconds) == text


def test_metrics_after_the_last_checkpoint_are_written_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = run_files.MetricsFile(path, continue_from=0)
    for step in (2, 4, 6):
        first.write(step, {"loss": float(step), "wait_share": None})
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # the process died here
    second = run_files.MetricsFile(path, continue_from=4)
    second.write(6, {"loss": 0.5})
    assert run_files.read_metrics(path) == [
        {"step": 2, "loss": 2.0, "wait_share": None},
        {"step": 4, "loss": 4.0, "wait_share": None},
        {"step": 6, "loss": 0.5},
    ]
    assert run_files.median(path, "loss") == 2.0
    assert run_files.median(path, "wait_share") is None


def test_when_the_loop_does_what():
    assert sorted(loop.every(3, 10)) == [3, 6, 9, 10]
    assert sorted(loop.every(20, 10)) == [10]
    assert sorted(loop.evenly(4, 10)) == [2, 5, 8, 10]
    assert sorted(loop.evenly(10, 3)) == [1, 2, 3]


def copies(records, batch_size):
    return console.copies(schedules.resolve(records=records, batch_size=batch_size, epochs=9, lr_per_256=0.1))


@pytest.mark.parametrize(
    ("records", "batch_size", "expected"),
    [
        (1, 16, "and there is 1 training record. A batch holds each of them 16 times, and"),
        (5, 16, "and there are 5 training records. A batch holds each of them 3 times or more, and"),
        (12, 16, "12 training records. A batch holds some of them twice, and"),
        (17, 16, "17 training records. A batch in which an epoch ends holds some of them twice, and"),
        (1_281_167, 4096, None),
        (32, 16, None),
        (16, 16, None),
    ],
)
def test_a_batch_that_holds_a_record_more_than_once_says_so(records, batch_size, expected):
    """As the loader's batches do, which are counted here; its advice, once taken, ends the warning."""
    said = copies(records, batch_size)
    places = np.arange(40 * batch_size) if records < 1000 else np.arange(0)
    order = [epoch_order(records, 0, int(place) // records)[place % records] for place in places]
    batches = np.array(order, int).reshape(-1, batch_size)
    times = max((np.bincount(batch).max() for batch in batches), default=1)
    if expected is None:
        assert said is None and times <= 1 + (batch_size < records)
        return
    assert said.startswith(f"Warning: batch_size is {batch_size}, ") and expected in said and times >= 2
    if "--config.batch_size" in said:
        assert copies(records, int(said.split("to at most ")[1].split(",")[0])) is None
    else:
        assert records < 4 and said.endswith("change:   more images")


@pytest.mark.parametrize(
    ("test", "classes", "sizes"),
    [
        (12, 2, "1,048 train, 12 test, 2 classes, in"),
        (0, 2, "1,048 train, 2 classes, no test split, so no k-NN, in"),
        (12, None, "1,048 train, 12 test, no labels, so no k-NN, in"),
        (0, None, "1,048 train, no test split and no labels, so no k-NN, in"),
    ],
)
def test_what_a_data_set_lacks_is_said_once(test, classes, sizes):
    identity = {"name": "pets", "version": "1.0.0", "train_records": 1048, "test_records": test}
    assert console.dataset(identity, "/data", classes) == f"pets 1.0.0: {sizes} /data"


def test_an_encoder_s_origin_is_told_with_the_present_names_of_keys():
    stored = {"init_from": "runs/demo", "framework": "moco_v3", "branch": "online", "step": 8, "sha256": None}
    assert console.origin(stored) == "init_from runs/demo, framework moco_v3, network online, step 8"
