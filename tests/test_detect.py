"""`configs/detect.py` as a command, on COCO's archives in miniature: what it leaves, going on, measuring again.

A run of two canvases is the slow test's, and test_hosts.py's."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import main
import repre_jax
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.data import crops
from repre_jax.pretrained import detector
from repre_jax.report.figures import precision as precision_drawing
from repre_jax.running.recorder import Recorder
from repre_jax.tools import detect as tool
from repre_jax.tools import export, figures
from tests.helpers import coco, detectors
from tests.helpers.detectors import SQUARE, flags
from tests.helpers.evaluating import ON_CPU, attention_of_start, command, evaluate
from tests.helpers.runs import final_state

DETECT = "configs/detect.py"
NAMES = ["person", "dog", "toothbrush"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return detectors.data(tmp_path_factory.mktemp("detectors"))


@pytest.fixture(scope="module")
def trained(finished, root, tmp_path_factory):
    """(Workdir, result) of four steps on one canvas; to be looked at, not changed."""
    workdir = tmp_path_factory.mktemp("detect") / "w"
    return workdir, evaluate(DETECT, finished[0], workdir, *flags(root, *SQUARE), variants="")


@pytest.mark.slow
def test_a_swin_is_trained_to_detect(root, tmp_path):
    """The paper's encoder, small, from random weights, on two canvases; its step is test_detection_step.py's."""
    swin = {"name": "swin_t", "width": 12, "depth": "(1, 2, 2, 1)", "heads": "(1, 2, 2, 4)", "window": 4}
    encoder = [f"--config.encoder.{key}={value}" for key, value in swin.items()]
    given = flags(root, *encoder, "--config.evaluations=1", "--config.data.image_size=(32, 64)")
    result = evaluate(DETECT, None, tmp_path / "w", *given, variants="scratch")
    assert (result["steps"], result["skipped_steps"], result["test_images"]) == (4, 0, 2)
    assert result["detections"] > 0
    state = final_state(tmp_path / "w", 4)["params"]
    assert {f"norm_{level}" for level in range(1, 5)} <= state["neck"].keys()
    assert "norm" in state["encoder"], "its own, which nothing reads"
    as_the_run_has_found(tmp_path / "w")


def scored(workdir, file, what):
    """By COCO's program, of a file as it lies there."""
    known = COCO()
    known.dataset = coco.tables("val")
    known.createIndex()
    judge = COCOeval(known, known.loadRes(str(workdir / file)), what)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats


def test_what_a_run_leaves_is_what_coco_s_program_says_of_it(trained):
    workdir, result = trained
    masks, boxes = (json.loads((workdir / name).read_text()) for name in ("detections.json", "detections_boxes.json"))
    assert len(masks) == len(boxes) == result["detections"] > 0
    sizes = coco.SIZES["val"]
    for mask, box in zip(masks, boxes, strict=True):
        assert mask.keys() == {"image_id", "category_id", "score", "segmentation"}
        assert box.keys() == {"image_id", "category_id", "score", "bbox"}
        assert [mask[key] for key in ("image_id", "category_id", "score")] == [
            box[key] for key in ("image_id", "category_id", "score")
        ]
        height, width = sizes[mask["image_id"]]
        assert mask["segmentation"]["size"] == [height, width]
        assert mask["category_id"] in (1, 18, 90)
        assert 0.05 < mask["score"] <= 1
        x, y, w, h = box["bbox"]
        assert 0 <= x <= x + w <= width * 1.001 and 0 <= y <= y + h <= height * 1.001
    assert {mask["image_id"] for mask in masks} == set(sizes)
    for what, file, name in (("bbox", "detections_boxes.json", "box"), ("segm", "detections.json", "mask")):
        stats = scored(workdir, file, what)
        assert list(result["ap"][name].values()) == [None if value < 0 else value for value in stats[:6]]
        assert (result[f"{name}_ap"], result[f"{name}_ap50"]) == (stats[0], stats[1])
    assert result["ap_of_classes"]["box"].keys() == set(NAMES)


def test_a_run_says_what_it_was(trained):
    workdir, result = trained
    assert (result["task"], result["steps"], result["test_images"], result["trained_on"]) == ("detect", 4, 2, 4)
    rows = run_files.read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows if "box_ap" in row] == [2, 4], "fresh heads find nothing"
    row = rows[-1]
    assert (row["step"], row["box_ap"], row["mask_ap"]) == (4, result["box_ap"], result["mask_ap"])
    assert attention_of_start(workdir) == ON_CPU
    parts = ("objectness_loss", "anchor_box_loss", "class_loss", "box_loss", "mask_loss")
    assert row["loss"] == pytest.approx(sum(row[part] for part in parts), rel=1e-4)
    assert (
        "detect.shorts [64] instead of [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]" in result["departures"]
    )
    assert result["test"]["test_short"] == 64
    page = (workdir / "report.html").read_text()
    assert "Detection of MoCo v3" in page
    assert "Losses of the detector" in page
    assert run_files.read_data(workdir)["objects"][2] == {"id": 90, "name": "toothbrush"}
    assert set(final_state(workdir, 4)["params"]) == {"encoder", "neck", "anchor_head", "box_head", "mask_head"}


def test_a_run_that_was_stopped_goes_on_to_the_same_state(finished, root, trained, tmp_path):
    after = Recorder.after

    def stop_at_three(self, step, state, values):
        after(self, step, state, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    argv = command(DETECT, finished[0], tmp_path / "w", *flags(root, *SQUARE, "--config.evaluations=1"), variants="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "after", stop_at_three)
        assert main.main(argv) == 128 + signal.SIGTERM
    assert main.main(argv) == 0
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path / "w", 4), final_state(trained[0], 4))
    for name in ("detections.json", "detections_boxes.json"):
        assert (tmp_path / "w" / name).read_text() == (trained[0] / name).read_text()


def measured(run, workdir, *arguments):
    return evaluate(DETECT, None, workdir, f"--config.evaluate={run}", *arguments, variants="")


def test_a_detector_is_measured_again(trained, tmp_path):
    """By its own data and test, whatever the batch; by another test the result says so."""
    again = measured(trained[0], tmp_path / "a", "--config.batch_size=6")
    assert (tmp_path / "a" / "detections.json").read_text() == (trained[0] / "detections.json").read_text()
    assert (again["ap"], again["departures"], "steps" in again) == (trained[1]["ap"], [], False)
    assert again["origin"]["step"] == 4
    before = json.loads((trained[0] / "detections.json").read_text())
    score = float(np.median([each["score"] for each in before]))
    flags_of_test = (f"--config.detect.test_score={score!r}", "--config.detect.test_detections=3")
    other = measured(trained[0], tmp_path / "b", *flags_of_test)
    assert other["departures"] == [
        f"detect.test_score {score!r} instead of 0.05",
        "detect.test_detections 3 instead of 100",
    ]
    above = [each["image_id"] for each in before if each["score"] > score]
    left = [min(3, above.count(image)) for image in coco.SIZES["val"]]
    assert other["detections"] == sum(left) > 0


def test_a_detector_is_taken_out_of_its_run(trained):
    found = detector.load(trained[0], 2)
    assert (found.step, found.categories.ids, list(found.categories.names)) == (2, (1, 18, 90), NAMES)
    expected = final_state(trained[0], 4)["params"]["encoder"]
    later = detector.load(trained[0]).params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, later), expected)


WRONG = [
    (["--config.detect.shorts=()"], "detect.shorts is ()"),
    (["--config.detect.longest=31"], "detect.longest is 31, below detect.shorts, 32"),
    (["--config.detect.test_longest=32", "--config.detect.test_short=40"], "below detect.test_short, 40"),
    (["--config.detect.anchor_positives=33"], "detect.anchor_positives is 33, and detect.anchors 32"),
    (["--config.detect.test_threshold=1.5"], "detect.test_threshold is 1.5.\n  expected: a number from 0 to 1"),
    (["--config.data.name=folder:/photos"], "no data set of images with objects"),
    (["--config.data.test_split=none"], "has no split 'none'"),
    (["--config.encoder.pyramid_blocks=(1,)"], "and a detector reads the last block, 2"),
    (["--config.evaluate=nowhere"], "nowhere is no run"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_use_is_one_message(finished, root, tmp_path, capsys, arguments, message):
    argv = command(DETECT, finished[0], tmp_path / "new", *flags(root, *arguments), variants="")
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_what_was_trained_is_no_matter_of_measuring(finished, trained, tmp_path, capsys):
    for run, argument, message in (
        (trained[0], "--config.detect.width=32", "detect.width: 16, given 32"),
        (finished[0], "--config.batch_size=2", "is a run of the task 'pretrain'"),
    ):
        argv = command(DETECT, None, tmp_path / "w", f"--config.evaluate={run}", argument, variants="")
        assert main.main(argv) == 1
        assert message in capsys.readouterr().err


def as_the_run_has_found(workdir):
    """A detector as a function finds what its run has found, but for rounding, in batches of one. Returns it."""
    detect = repre_jax.load_detector(workdir)
    names = ("detections_boxes.json", "detections.json")
    boxes, masks = (json.loads((workdir / name).read_text()) for name in names)
    ids = dict(zip(NAMES, (1, 18, 90), strict=True))
    for image, size in coco.SIZES["val"].items():
        found = detect(crops.decode(coco.jpeg(image, size), detect.config.data.channels))
        mine = [place for place, each in enumerate(boxes) if each["image_id"] == image]
        assert len(found) == len(mine) > 0
        np.testing.assert_allclose(found.scores, [boxes[place]["score"] for place in mine], rtol=1e-4)
        sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        np.testing.assert_allclose(sides, [boxes[place]["bbox"] for place in mine], atol=1e-2)
        assert [ids[label] for label in found.labels] == [boxes[place]["category_id"] for place in mine]
        decoded = np.array([pycocotools_mask.decode(masks[place]["segmentation"]) for place in mine], bool)
        assert found.masks.shape == (len(mine), *size)
        assert (found.masks == decoded).mean() > 0.99, "values near one half fall on either side"
    return detect


def test_a_detector_is_a_function_of_an_image(trained):
    detect = as_the_run_has_found(trained[0])
    with pytest.raises(UserError, match=r"expected: uint8 \[height, width, "):
        detect(np.zeros((4, 4), np.uint8))


def test_detections_of_pictures_are_written_as_coco_has_them(trained, tmp_path, capsys):
    """Of the split, as the run's own test has found them, and of the same pictures as files, whose names are their
    ids."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    for image, size in coco.SIZES["val"].items():
        (tmp_path / "photos" / coco.file_name(image)).write_bytes(coco.jpeg(image, size))
    count, read = trained[1]["detections"], {}
    for arguments in ([], ["--images", tmp_path / "photos"]):
        assert tool.main([str(each) for each in (trained[0], *arguments, "--out", tmp_path / "out")]) == 0
        known = COCO(str(tmp_path / "out" / "images.json"))
        assert {each["id"]: (each["height"], each["width"]) for each in known.imgs.values()} == coco.SIZES["val"]
        assert {each["file_name"] for each in known.imgs.values()} == {coco.file_name(id) for id in coco.SIZES["val"]}
        for name in ("detections.json", "detections_boxes.json"):
            assert len(known.loadRes(str(tmp_path / "out" / name)).anns) == count
            read[name] = (tmp_path / "out" / name).read_text()
            found, wanted = json.loads(read[name]), json.loads((trained[0] / name).read_text())
            assert [each["image_id"] for each in found] == [each["image_id"] for each in wanted]
            pairs = [(each["score"], other["score"]) for each, other in zip(found, wanted, strict=True)]
            np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-4)
    scores = [each["score"] for each in json.loads(read["detections.json"]) if each["image_id"] == 285]
    middle = sorted(scores)[len(scores) // 2]
    one = tmp_path / "a.jpg"
    one.write_bytes(coco.jpeg(285, coco.SIZES["val"][285]))
    few = [trained[0], "--images", one, "--score", middle, "--out", tmp_path / "few"]
    assert tool.main([str(each) for each in few]) == 0
    found = json.loads((tmp_path / "few" / "detections.json").read_text())
    assert (len(found), {each["image_id"] for each in found}) == (sum(each > middle for each in scores), {1})
    capsys.readouterr()
    for arguments, message in (
        (["--images", tmp_path / "empty"], "empty has no images"),
        (["--images", tmp_path / "b.jpg"], "b.jpg does not exist"),
        (["--images", one, "--split", "test"], "--images are of no data set"),
        (["--score", "1.0"], "--score is 1.0"),
    ):
        assert tool.main([str(each) for each in (trained[0], *arguments, "--out", tmp_path / "none")]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "none").exists()


def test_a_detector_is_drawn(trained, root, tmp_path, monkeypatch):
    """As the run itself has drawn it, of a finished run from what it has written."""
    drawn = {path.name for path in (trained[0] / "figures").iterdir()}
    assert drawn == {"detection.png", "detection.pdf", "precision.png", "precision.pdf"}
    assert "Precision of detections" in (trained[0] / "report.html").read_text()
    given, draw = [], precision_drawing.draw
    monkeypatch.setattr(precision_drawing, "draw", lambda *of, **how: given.append(of) or draw(*of, **how))
    assert figures.main(["precision", str(trained[0]), f"--out={tmp_path / 'p.png'}"]) == 0
    ((curves, classes, counted),) = given
    for what in ("box", "mask"):
        values = curves[what]
        assert values[values > -1].mean() == pytest.approx(trained[1]["ap"][what]["AP"])
        assert classes[what] == trained[1]["ap_of_classes"][what]
    found = json.loads((trained[0] / "detections_boxes.json").read_text())
    kept = sum(each["score"] >= 0.5 for each in found)
    assert sum(count for verdict, count in counted.items() if verdict != "missed") == kept
    image = tmp_path / "own.jpg"
    image.write_bytes(coco.jpeg(1, (50, 70)))
    for arguments in (["--records=2", "--config.figures.score=0.01"], ["--images", str(image)]):
        assert figures.main(["detection", str(trained[0]), *arguments, f"--out={tmp_path / 'd.png'}"]) == 0
    assert figures.main(["data", str(trained[0]), f"--out={tmp_path / 'data.png'}"]) == 0
    assert figures.main(["precision", str(trained[0]), "--images", str(image)]) == 1


def test_a_detectors_encoder_is_exported(trained, tmp_path):
    """What fine-tuning has made of it, to the bit."""
    assert export.main([str(trained[0]), "--format=npz", f"--output={tmp_path / 'e.npz'}"]) == 0
    encoder, params, card = repre_jax.load_encoder(tmp_path / "e.npz")
    expected = final_state(trained[0], 4)["params"]["encoder"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert (card["framework"], card["step"], encoder.class_token) == ("detect", 4, False)
