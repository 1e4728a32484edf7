"""`configs/segment.py` as a command: what it leaves, going on, measuring again, wrong use."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

import main
import repre_jax
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.data import crops, label_classes
from repre_jax.evaluation import confusion
from repre_jax.evaluation.segmented import Segmented
from repre_jax.models import resize
from repre_jax.pretrained import segmenter
from repre_jax.running.recorder import Recorder
from tests.helpers import labelled_folder
from tests.helpers.evaluating import ON_CPU, attention_of_start, command, evaluate, retrain
from tests.helpers.runs import final_state

SEGMENT = "configs/segment.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(Folder, its images and label maps)."""
    root = tmp_path_factory.mktemp("labelled")
    return root, labelled_folder.write(root)


def flags(root, *more):
    return (
        f"--config.data.name=folder:{root}", "--config.data.num_classes=3", "--config.data.test_split=validation",
        "--config.data.image_size=(32,)", "--config.segment.test_stride=(16, 16)", "--config.checkpoint.keep=9",
        "--config.segment.train_size=()", "--config.segment.test_size=()", "--config.segment.colours=False", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def linear(finished, data, tmp_path_factory):
    """(Workdir, result) of a head on a frozen encoder, that of the link `encoder` beside it; to be looked at, not
    changed."""
    root = tmp_path_factory.mktemp("linear")
    (root / "encoder").symlink_to(finished[0])
    return root / "w", evaluate(SEGMENT, root / "encoder", root / "w", *flags(data[0]), variants="linear,tiny")


def test_a_run_is_measured_over_every_pixel_that_has_a_class(linear, data):
    workdir, result = linear
    matrix = np.array(result["confusion"])
    labels = np.concatenate([label_map.ravel() for _, label_map in data[1]["val"]])
    np.testing.assert_array_equal(matrix.sum(axis=1), [(labels == c).sum() for c in range(3)])
    found = confusion.scores(matrix)
    assert (result["miou"], result["macc"], result["aacc"]) == (found.miou, found.macc, found.aacc)
    assert list(result["iou"].values()) == pytest.approx(found.iou.tolist())
    assert result["miou_constant"] == pytest.approx((labels == 0).sum() / (labels != 255).sum() / 3)
    assert (result["task"], result["steps"], result["test_images"], result["trained_on"]) == ("segment", 4, 3, 6)
    rows = run_files.read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows if "miou" in row] == [4], "a fresh head tells nothing"
    row = rows[-1]
    assert (row["step"], row["miou"], row["aacc"]) == (4, found.miou, found.aacc)
    assert attention_of_start(workdir) == ON_CPU
    assert "data.image_size [32, 32] instead of [768, 768]" in result["departures"]
    page = (workdir / "report.html").read_text()
    assert "Segmentation of MoCo v3, ViT" in page
    assert f"best constant answer {result['miou_constant']:.1%}" in page
    assert 'alt="Segmentation, from figures/segmentation.png"' in page
    assert 'alt="Confusion matrix, from figures/confusion.png"' in page
    kinds = [f"{kind}{suffix}" for kind in ("confusion", "segmentation") for suffix in (".pdf", ".png")]
    assert sorted(path.name for path in (workdir / "figures").iterdir()) == kinds


def test_a_run_that_was_stopped_goes_on_to_the_same_state(finished, data, linear, tmp_path):
    after = Recorder.after

    def stop_at_three(self, step, state, values):
        after(self, step, state, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    argv = command(SEGMENT, finished[0], tmp_path / "w", *flags(data[0]), variants="linear,tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "after", stop_at_three)
        assert main.main(argv) == 128 + signal.SIGTERM
    assert main.main(argv) == 0
    ours, expected = final_state(tmp_path / "w", 4), final_state(linear[0], 4)
    assert np.abs(expected["batch_stats"]["head"]["bn"]["mean"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    results = [json.loads((workdir / "result.json").read_text()) for workdir in (tmp_path / "w", linear[0])]
    assert results[0]["confusion"] == results[1]["confusion"]


def test_a_trained_head_is_a_function_of_an_image(linear, data):
    """Alone, each image gives what it gave among others, on two devices."""
    segment = repre_jax.load_segmenter(str(linear[0]))
    assert segment.classes.names == ("0", "1", "2")
    assert segment.classes.colours == label_classes.palette(3)
    total = sum(np.asarray(confusion.count(segment(image), labels, 3)) for image, labels in data[1]["val"])
    np.testing.assert_array_equal(total, linear[1]["confusion"])
    with pytest.raises(UserError, match=r"float32 of shape \(40, 56, 3\).\n  expected: uint8 \[height, width, 3\]"):
        segment(data[1]["val"][0][0].astype(np.float32))
    with pytest.raises(UserError, match=r"expected: one of 2, 4\n  change:   step="):
        repre_jax.load_segmenter(str(linear[0]), step=3)


def test_a_frozen_encoder_must_be_there_as_it_was(finished, linear, tmp_path):
    link = linear[0].with_name("encoder")
    other = shutil.copytree(finished[0], tmp_path / "other")
    retrain(other)
    link.unlink()
    try:
        with pytest.raises(UserError, match=r"(?s)in no checkpoint of it and cannot be had:\n  .*encoder is neither"):
            repre_jax.load_segmenter(linear[0])
        link.symlink_to(other)
        with pytest.raises(UserError, match=f"The encoder in {link} is not the one on which {linear[0]} has trained"):
            repre_jax.load_segmenter(linear[0])
    finally:
        link.unlink(missing_ok=True)
        link.symlink_to(finished[0])


def test_an_image_below_the_crop_is_enlarged_for_it(linear, data):
    """As by hand, by bilinear resizing; what it gives has the image's own size."""
    segment, image = segmenter.load(linear[0]), data[1]["val"][0][0][:24]
    found = segment(image)
    assert (found.shape, found.dtype) == ((24, 56), np.uint8)
    enlarged = crops.resize(image, (32, 75))
    pixels = (enlarged / np.float32(255) - np.float32(segment.mean)) / np.float32(segment.std)
    columns, logits_of = [0, 16, 32, 43], jax.jit(segment.logits)  # 75 by windows of 32 every 16
    logits, cover = np.zeros((32, 75, 3), np.float32), np.zeros((32, 75, 1), np.float32)
    for left in columns:
        window = np.s_[:, left : left + 32]
        logits[window] += np.asarray(logits_of(segment.variables, pixels[window][None].astype(np.float32)))[0]
        cover[window] += 1
    own = np.asarray(resize.bilinear((logits / cover)[None], (24, 56), segment.head.align_corners))[0]
    assert (found == own.argmax(-1)).mean() > 0.995
    np.testing.assert_array_equal(segment(image[:20, :10]).shape, (20, 10))


def measured(run, workdir, *arguments):
    """Without any variant: what is not set is the run's."""
    argv = ["main.py", "--config", SEGMENT, f"--config.evaluate={run}", f"--workdir={workdir}", *arguments]
    assert main.main([*argv, "--config.data.workers=0"]) == 0
    return json.loads((workdir / "result.json").read_text())


def test_a_run_is_measured_again_by_other_tests(linear, data, tmp_path, capsys):
    again = measured(linear[0], tmp_path / "a", "--config.batch_size=6")
    assert "other than the run" not in capsys.readouterr().out
    assert (again["confusion"], again["departures"]) == (linear[1]["confusion"], [])
    assert (again["data_set"]["name"], again["image_size"]) == (f"folder:{data[0]}", [32, 32])
    assert (again["origin"]["step"], "steps" in again) == (4, False)
    assert not {"typed", "usual"} & set(json.loads((tmp_path / "a" / "config.json").read_text()))
    more = ("--config.segment.test_flip=True", "--config.segment.test_scales=(1.0, 1.5)", "--config.dtype=bfloat16")
    other = measured(linear[0], tmp_path / "b", *more)
    expected = [
        "segment.test_scales [1.0, 1.5] instead of [1.0]",
        "segment.test_flip True instead of False",
        "dtype 'bfloat16' instead of 'float32'",
    ]
    assert (other["departures"], other["dtype"]) == (expected, "bfloat16")
    said = capsys.readouterr().out
    assert f"other than the run  {expected[0]}\n" in said
    assert all(f"  {line}\n" in said for line in expected[1:])
    assert np.sum(other["confusion"]) == np.sum(again["confusion"])
    assert other["confusion"] != again["confusion"]
    assert other["test"]["test_scales"] == [1.0, 1.5]
    capsys.readouterr()
    assert measured(linear[0], tmp_path / "a", "--config.batch_size=6") == again
    assert "This evaluation is finished." in capsys.readouterr().out


def test_a_run_is_not_measured_by_other_classes(linear, tmp_path, capsys):
    root = tmp_path / "other"
    labelled_folder.write(root)
    (root / "classes.txt").write_text("grass\nred\nblue\n")
    argv = command(
        SEGMENT, None, tmp_path / "w", f"--config.evaluate={linear[0]}", *flags(root), variants="linear,tiny"
    )
    assert main.main(argv) == 1
    assert "has class 0 'grass', which was '0' in training" in capsys.readouterr().err


def test_a_head_is_trained_with_its_encoder(finished, data, tmp_path, monkeypatch):
    """From random weights: naive's auxiliary heads, positions for the crop, rates of both. Its figure's images are
    segmented once."""
    drawn, predicted = [], Segmented.predicted
    monkeypatch.setattr(Segmented, "predicted", lambda *given: drawn.append(given) or predicted(*given))
    result = evaluate(
        SEGMENT, finished[0], tmp_path / "w", *flags(data[0], "--config.encoder.pyramid_blocks=(1, 2)"),
        variants="scratch,naive,tiny",
    )  # fmt: skip
    state = final_state(tmp_path / "w", 4)
    assert set(state["params"]) == {"encoder", "head"}
    assert {"decode", "auxiliary_1"} == set(state["params"]["head"])
    assert result["origin"]["branch"] == "untrained"
    assert result["head"] == "naive"
    assert len(drawn) == 1


WRONG = [
    (["--config.data.image_size=(48, 48)"], "A test image of 40 x 40 pixels is smaller than the crop, 48 x 48"),
    (["--config.data.image_size=(36, 32)"], "36"),
    (["--config.data.num_classes=2"], "A label map has values that stand for no class"),
    (["--config.data.test_split=none"], "has no split 'none'"),
    (["--config.step=5"], "has no checkpoint 5"),
    (["--config.segment.head=mla"], "segment.head is 'mla', and the settings are those of 'linear'"),
    (["--config.segment.test_stride=(40, 32)"], "segment.test_stride is 40 x 32, for windows of 32 x 32 pixels"),
    (
        ["--config.segment.test_scales=()"],
        "segment.test_scales is ().\n  expected: one number or several from 0.01 to 100\n"
        "  change:   --config.segment.test_scales='(1.0,)'",
    ),
    (["--config.encoder.attention=cudnn"], "encoder.attention cudnn: float32, heads"),
    (["--config.segment.ratios=(2.0, 0.5)"], "segment.ratios is (2.0, 0.5)"),
    (["--config.segment.loss_over=some"], "Unknown segment.loss_over 'some'.\n  expected: all, labelled"),
    (["--config.batch_size=0"], "batch_size is 0.\n  expected: a number at least 1"),
    (["--config.evaluate=nowhere"], "nowhere is no run"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_use_is_one_message(finished, data, tmp_path, capsys, arguments, message):
    argv = command(SEGMENT, finished[0], tmp_path / "new", *flags(data[0], *arguments), variants="linear,tiny")
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_a_swins_head_is_not_a_vits(finished, data, tmp_path, capsys):
    argv = command(SEGMENT, finished[0], tmp_path / "new", *flags(data[0]), variants="fpn,tiny")
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert "The segmentation head 'fpn' cannot read a ViT's maps" in error
    assert "change:   variant naive in place of fpn, as in --config configs/segment.py:naive" in error


def test_what_a_head_was_trained_by_cannot_change_but_its_test_can(finished, data, linear, tmp_path, capsys):
    workdir = shutil.copytree(linear[0], tmp_path / "w")
    may = "--config.may_change=('segment', 'optim')"
    argv = command(SEGMENT, finished[0], workdir, *flags(data[0], may), variants="linear,tiny")
    assert main.main([*argv, "--config.segment.test_flip=True"]) == 0
    assert json.loads((workdir / "result.json").read_text())["test"]["test_flip"] is True
    assert main.main([*argv, "--config.segment.loss_over=labelled"]) == 1
    assert "segment.loss_over: 'all' -> 'labelled'" in capsys.readouterr().err
