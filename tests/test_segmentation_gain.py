"""The table of what pre-training is worth to segmentation, of results that are made up: nothing is trained."""

import json
import math
import sys

import pytest

from benchmarks import detection_gain, segmentation_gain, segmentation_table
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.report.run import read

SEEDS = 3
MIOU = {
    "with, fine-tuned": (0.30, 0.32, 0.31),
    "without, fine-tuned": (0.29, 0.33, 0.31),
    "from scratch": (0.25, 0.26, 0.24),
    "with, frozen, linear": (0.20, 0.21, 0.22),
    "without, frozen, linear": (0.18, 0.18, 0.18),
    "untrained, frozen, linear": (0.19, 0.20, 0.24),
}


def pre_training(folder, repre, width=64):
    (folder / run_files.CHECKPOINTS).mkdir(parents=True)
    config = {"task": "pretrain", "encoder": {"name": "vit_s", "width": width}, "repre": {"enabled": repre}}
    (folder / run_files.CONFIG).write_text(json.dumps(config))
    return folder


def finished(folder, miou, **others):
    """A run of configs/segment.py as it is read: its result and its one start."""
    folder.mkdir(parents=True)
    start = {"step": 0, "time": "2026-11-30T07:00:00+0000", "devices": "1 x cpu", "python": "3.12.1", "commit": "abc"}
    (folder / run_files.STARTS).write_text(json.dumps(start | {"versions": {"jax": "0.10.2"}}) + "\n")
    result = {"miou": miou, "miou_constant": 0.123, "steps": 1500, "data_set": {"name": "scenes/dense"}}
    (folder / run_files.RESULT).write_text(json.dumps(result | others))


@pytest.fixture
def runs(tmp_path):
    return [pre_training(tmp_path / "without", repre=False), pre_training(tmp_path / "with", repre=True)]


@pytest.fixture
def table(runs, tmp_path):
    found = {}
    for row in segmentation_gain.rows(runs, "naive", tiny=False):
        folders = [tmp_path / "work" / row.folder(seed) for seed in range(SEEDS)]
        for folder, miou in zip(folders, MIOU[row.name], strict=True):
            finished(folder, miou)
        found[row.name] = [segmentation_table.Trained(read(folder), 300.4) for folder in folders]
    return found


def test_what_is_trained(runs):
    """Fine-tuned and from scratch by the same head, frozen ones by the linear one, each in a folder of its own."""
    planned = segmentation_gain.rows(runs, "pup", tiny=True)
    assert [(row.name, row.run.name, row.variants) for row in planned] == [
        ("without, fine-tuned", "without", "scenes,pup,tiny"),
        ("with, fine-tuned", "with", "scenes,pup,tiny"),
        ("from scratch", "without", "scenes,pup,tiny,scratch"),
        ("without, frozen, linear", "without", "scenes,linear,tiny"),
        ("with, frozen, linear", "with", "scenes,linear,tiny"),
        ("untrained, frozen, linear", "without", "scenes,linear,tiny,scratch"),
    ]
    folders = [row.folder(seed) for row in planned for seed in range(SEEDS)]
    assert len(set(folders)) == len(folders) == 18
    assert folders[1] == "without-scenes-pup-tiny-1"


def test_the_table_and_its_differences(table, runs):
    """By hand: the standard deviation of 4, 7, 7 is sqrt(3) and that of 5, 6, 7 is 1; both are divided by sqrt(3)."""
    lines = segmentation_table.lines(table, segmentation_gain.pairs(runs), runs)
    assert any(line.startswith("2026-11-30, 1 x cpu (") and "jax 0.10.2, commit abc" in line for line in lines)
    assert "| from scratch | 25.0% | 26.0% | 24.0% | 25.0% | 1,500 | 300, 300, 300 |" in lines
    assert "| the same class everywhere | 12.3% | 12.3% | 12.3% | 12.3% | - | - |" in lines
    assert lines[-6:] == [
        "| without, fine-tuned minus from scratch | +4.00 | +7.00 | +7.00 | +6.00 | 1.00 | yes |",
        "| with, fine-tuned minus from scratch | +5.00 | +6.00 | +7.00 | +6.00 | 0.58 | yes |",
        "| without, frozen, linear minus untrained, frozen, linear | -1.00 | -2.00 | -6.00 | -3.00 | 1.53 | no |",
        "| with, frozen, linear minus untrained, frozen, linear | +1.00 | +1.00 | -2.00 | +0.00 | 1.00 | no |",
        "| with, fine-tuned minus without, fine-tuned | +1.00 | -1.00 | +0.00 | +0.00 | 0.58 | no |",
        "| with, frozen, linear minus without, frozen, linear | +2.00 | +3.00 | +4.00 | +3.00 | 0.58 | yes |",
    ]


def test_standard_errors():
    assert segmentation_table.paired([1.0, 0.0, 1.0]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert segmentation_table.paired([2.0, 4.0]) == (3.0, pytest.approx(math.sqrt(2) / math.sqrt(2)))
    assert segmentation_table.paired([2.0]) == (2.0, None)
    assert [segmentation_table.enough(*each) for each in ((2.0, 1.0), (1.9, 1.0), (0.0, 0.0), (-3.0, 1.0))] == [
        *(True, False, False, False)
    ]


def test_one_run_of_one_seed_has_no_error(table, runs):
    (run,) = having = runs[1:]
    kept = {name: found[:1] for name, found in table.items() if not name.startswith("without")}
    lines = segmentation_table.lines(kept, segmentation_gain.pairs(having), having)
    assert run.name == "with"
    assert lines[-2:] == [
        "| with, fine-tuned minus from scratch | +5.00 | +5.00 | not known of one seed | - |",
        "| with, frozen, linear minus untrained, frozen, linear | +1.00 | +1.00 | not known of one seed | - |",
    ]


@pytest.mark.parametrize("key", ["data_set", "origin"])
def test_what_cannot_be_compared_is_refused(table, runs, tmp_path, key):
    other = tmp_path / "other"
    finished(other, 0.5, **{key: {"name": "else"}})
    table["from scratch"][1] = segmentation_table.Trained(read(other), None)
    with pytest.raises(UserError, match=f"other cannot be compared: they differ in {key}."):
        segmentation_table.lines(table, segmentation_gain.pairs(runs), runs)


def test_runs_that_cannot_share_a_table(runs, tmp_path):
    segmentation_gain.check(runs)
    wide = pre_training(tmp_path / "wide", repre=True, width=128)
    same = pre_training(tmp_path / "elsewhere" / "with", repre=True)
    for wrong, message in (
        ([tmp_path / "none"], "none holds no run"),
        ([*runs, wide], "have different encoders"),
        ([*runs, same], "Two runs are called the same"),
    ):
        with pytest.raises(UserError, match=message):
            segmentation_gain.check(wrong)


def test_seconds_are_those_of_all_starts(tmp_path):
    """A run that was stopped and went on took both; of one that was killed with this program nobody knows."""
    record = tmp_path / segmentation_gain.PROCESSOR
    busy = "import time; end = time.process_time() + 0.05\nwhile time.process_time() < end: pass\nraise SystemExit({})"
    assert segmentation_gain._timed([sys.executable, "-c", busy.format(7)], record, "a") == 7
    once = segmentation_gain.seconds(tmp_path, "a")
    assert segmentation_gain._timed([sys.executable, "-c", busy.format(0)], record, "a") == 0
    assert segmentation_gain.seconds(tmp_path, "a") > once + 0.05 > 0.1
    assert segmentation_gain.seconds(tmp_path, "b") is None
    record.write_text(json.dumps({"a": [1.0, 2.5], "b": [1.0, None]}))
    assert segmentation_gain.seconds(tmp_path, "a") == 3.5
    assert segmentation_gain.seconds(tmp_path, "b") is None


def test_detection_has_a_table_for_boxes_and_one_for_masks(runs, tmp_path):
    """The same program, for two scores; by hand 1, 2, 3 has a standard deviation of 1."""
    planned = detection_gain.rows(runs, tiny=True)
    assert [(row.name, row.variants, row.config) for row in planned] == [
        ("without, pre-trained", "scenes,tiny", "configs/detect.py"),
        ("with, pre-trained", "scenes,tiny", "configs/detect.py"),
        ("from scratch", "scenes,tiny,scratch", "configs/detect.py"),
    ]
    found = {}
    for place, row in enumerate(planned):
        folders = [tmp_path / "work" / row.folder(seed) for seed in range(SEEDS)]
        for seed, folder in enumerate(folders):
            finished(folder, 0.0, box_ap=0.3 + 0.01 * place * seed, mask_ap=0.2, box_ap50=0.5)
        found[row.name] = [segmentation_table.Trained(read(folder), 300.4) for folder in folders]
    pairs = detection_gain.pairs(runs)
    lines = segmentation_table.lines(found, pairs, runs, detection_gain.SCORES, "detection")
    assert "| box AP | seed 0 | seed 1 | seed 2 | mean | steps | processor seconds, by seed |" in lines
    assert "| with, pre-trained | 30.0% | 31.0% | 32.0% | 31.0% | 1,500 | 300, 300, 300 |" in lines
    assert "| with, pre-trained minus without, pre-trained | +0.00 | +1.00 | +2.00 | +1.00 | 0.58 | no |" in lines
    assert "| with, pre-trained minus from scratch | +0.00 | -1.00 | -2.00 | -1.00 | 0.58 | no |" in lines
    assert sum(line.startswith("| difference of") for line in lines) == 3
    assert "One pre-training each: its seed does not vary, those of the detection do." in lines
    assert not any("same class everywhere" in line for line in lines)
