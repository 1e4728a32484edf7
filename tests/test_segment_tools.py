"""A trained segmentation used on its own: label maps written as files, and its figures."""

import json
import shutil

import cv2
import numpy as np
import pytest

import repre_jax
from repre_jax.core.errors import UserError
from repre_jax.data import label_maps, segmentation
from repre_jax.data.cityscapes.labels import CLASSES
from repre_jax.data.label_classes import plain, stored
from repre_jax.data.segmentation import Asked
from repre_jax.pretrained import saved_run, segmenter
from repre_jax.report.figures import segmentation as drawing
from repre_jax.tools import figures
from repre_jax.tools import segment as tool
from tests.helpers import labelled_folder, segmenters

COLOURS = ((10, 200, 10), (200, 0, 0), (0, 0, 200))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(Folder, its images and label maps), whose class 0 is stored as 1, and whose classes have names and colours."""
    root = tmp_path_factory.mktemp("labelled")
    made = labelled_folder.write(root)
    for path in root.glob("labels/*/*.png"):
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(values == 255, 255, values + 1))
    lines = [
        f"{red} {green} {blue} {name}"
        for (red, green, blue), name in zip(COLOURS, ("grass", "cat", "sea"), strict=True)
    ]
    (root / "classes.txt").write_text("\n".join(lines))
    return root, made


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmented") / "run"
    return segmenters.saved(folder, f"folder:{data[0]}", "--config.data.first_value=1", attention="cudnn")


@pytest.fixture(scope="module")
def segment(run):
    return repre_jax.load_segmenter(run)


def test_a_run_that_was_trained_by_cudnns_attention_is_used_anywhere(run, segment):
    assert saved_run.chosen(run, None)[1]["config"]["encoder"]["attention"] == "cudnn"
    assert (segment.encoder.attention, segment.config.encoder.attention) == ("xla", "xla")
    assert segment.encoder.dtype == "float32"
    assert segmenter.load(run, dtype="bfloat16").encoder.dtype == "bfloat16"
    with pytest.raises(UserError, match=r"encoder.attention cudnn: bfloat16, heads 8 wide, on cpu"):
        segmenter.load(run, dtype="bfloat16", attention="cudnn")


def test_label_maps_of_a_data_set_are_what_the_function_gives(run, segment, data, capsys):
    """As the data set's own are stored: read back, they are the predictions."""
    assert segment.classes.names == ("grass", "cat", "sea")
    assert segment.classes.colours == COLOURS
    assert tool.main([str(run), "--coloured"]) == 0
    said = capsys.readouterr().out
    assert f"Written: 3 label maps in {run / 'predictions'}\nValues: 1 grass, 2 cat, 3 sea\n" in said
    assert sorted(path.name for path in (run / "predictions").iterdir()) == ["0.png", "1.png", "2.png"]
    classes, seen = plain(("grass", "cat", "sea"), 1), set()
    for number, (image, labels) in enumerate(data[1]["val"]):
        encoded = (run / "predictions" / f"{number}.png").read_bytes()
        expected = segment(image)
        seen |= set(np.unique(expected).tolist())
        assert expected.shape == labels.shape
        np.testing.assert_array_equal(label_maps.read(encoded), expected + 1)
        np.testing.assert_array_equal(label_maps.classes_of(encoded, classes, labels.shape), expected)
        painted = cv2.imread(str(run / "predictions-coloured" / f"{number}.png"), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(painted, np.array(COLOURS)[expected])
    assert len(seen) > 1, "else any mistake in the values would pass"


def test_what_lay_in_the_folder_before_is_said(run, data, tmp_path, capsys):
    pictures = [str(data[0] / "images/val" / f"{number}.png") for number in (0, 1)]
    for images, others in (([pictures[0]], None), ([pictures[0]], None), ([pictures[1]], "1 other files lie there")):
        assert tool.main([str(run), "--out", str(tmp_path / "out"), "--images", *images]) == 0
        said = capsys.readouterr().out
        assert ("other files" in said) == (others is not None)
        assert others is None or f"{others}, of earlier commands, such as 0.png: --out to an empty folder" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


def test_label_maps_of_ones_own_pictures(run, segment, data, tmp_path, capsys):
    """Of any size, also where the data set is gone; by another test than the run's, too."""
    image = data[1]["train"][0][0]
    for name, pixels in (("a.b.png", image), ("small.PNG", image[:20, :30])):
        cv2.imwrite(str(tmp_path / name), pixels[..., ::-1])
    paths = [str(tmp_path / name) for name in ("a.b.png", "small.PNG")]
    assert tool.main([str(run), "--images", *paths, f"--out={tmp_path / 'out'}"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.b.png", "small.png"]
    for name, pixels in (("a.b.png", image), ("small.png", image[:20, :30])):
        found = label_maps.read((tmp_path / "out" / name).read_bytes())
        np.testing.assert_array_equal(found, segment(pixels) + 1)
    for arguments, message in (
        (["--images", paths[0], paths[0]], "Two images would have one label map, a.b.png"),
        (
            ["--images", str(tmp_path / "none.jpg")],
            "none.jpg does not exist.\n  expected: paths of images, or of folders",
        ),
        (["--images", paths[0], f"--out={tmp_path}"], "a.b.png is one of the images, and would be replaced"),
        (["--images", paths[0], "--split=test"], "--images are of no data set"),
        (["--scales", "0"], "--scales is 0.0"),
        ([f"--out={data[0] / 'images' / 'maps'}"], "in the folder of images"),
        (["--step=7"], "has no checkpoint 7, or not any more.\n  expected: one of 3\n  change:   --step=...\n"),
    ):
        assert tool.main([str(run), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (data[0] / "images" / "maps").exists()
    (tmp_path / "photos" / "more").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "photos" / "more" / "a.png"), image[..., ::-1])
    (tmp_path / "photos" / "half.png").write_bytes(b"\x89PNG")
    assert tool.main([str(run), "--images", str(tmp_path / "photos"), f"--out={tmp_path / 'all'}"]) == 0
    assert "half.png cannot be read: " in capsys.readouterr().out
    assert [str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*.png")] == ["more/a.png"]
    np.testing.assert_array_equal(label_maps.read((tmp_path / "all/more/a.png").read_bytes()), segment(image) + 1)


def test_another_data_set_has_its_own_split_and_what_messages_advise_can_be_typed(run, segment, tmp_path, capsys):
    """The run's test images are called validation. A figure of them takes the same keys."""
    made = labelled_folder.write(tmp_path / "other", {"train": [(40, 56)], "test": [(40, 56)] * 2})
    argv = [str(run), f"--data=folder:{tmp_path / 'other'}", f"--out={tmp_path / 'out'}"]
    assert tool.main(argv) == 1
    assert "change:   --config.data.num_classes=3" in capsys.readouterr().err
    assert tool.main([*argv, "--config.data.num_classes=3"]) == 1
    assert "has class 0 '0', which was 'grass' in training" in capsys.readouterr().err
    shutil.copy(segment.config.data.name.removeprefix("folder:") + "/classes.txt", tmp_path / "other")
    assert tool.main([*argv, "--config.data.test_split=validation"]) == 1
    assert "has no split 'validation'" in capsys.readouterr().err
    assert tool.main(argv) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    found = label_maps.read((tmp_path / "out" / "1.png").read_bytes())
    np.testing.assert_array_equal(found, segment(made["test"][1][0]) + 1)
    capsys.readouterr()
    assert tool.main([*argv, "--config.data.image_size=(48, 48)"]) == 1
    assert "A measurement does not change how" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main([*argv, "--config.segment.head=mla"])
    assert "unexpected argument '--config.segment.head=mla'" in capsys.readouterr().err
    figure = [
        "segmentation",
        str(run),
        f"--config.data.name=folder:{tmp_path / 'other'}",
        f"--out={tmp_path / 'a.png'}",
    ]
    assert figures.main([*figure, "--config.data.num_classes=2"]) == 1
    assert "names 3 classes" in capsys.readouterr().err
    assert figures.main([*figure, "--records=1"]) == 0


def test_names_of_label_maps():
    """Cityscapes' test server takes <city>_123456_123456*.png (evalPixelLevelSemanticLabeling.py, getPrediction)."""
    assert tool.file_of("berlin_000000_000019") == "berlin_000000_000019.png"
    assert tool.file_of("berlin/berlin_000000_000019_leftImg8bit.png") == "berlin/berlin_000000_000019_leftImg8bit.png"
    assert tool.file_of("a/b.c.JPG") == "a/b.c.png"
    assert tool.file_of("/../../x.jpeg") == "x.png"
    assert CLASSES.values(np.array([[0, 13, 18]], np.uint8)).tolist() == [[7, 26, 33]]


def test_classes_are_kept_beside_a_run(run):
    """With their stored values, so that no data set need be there."""
    kept = json.loads((run / "data.json").read_text())
    assert (kept["class_values"], kept["class_colours"]) == ([1, 2, 3], [list(colour) for colour in COLOURS])
    again = stored(CLASSES.names, CLASSES.colours, CLASSES.values(np.arange(19, dtype=np.uint8)).tolist())
    np.testing.assert_array_equal(
        again.values(np.arange(19, dtype=np.uint8)), CLASSES.values(np.arange(19, dtype=np.uint8))
    )


def captured(monkeypatch, module):
    calls, function = [], module.draw

    def call(*arguments, **texts):
        calls.append((arguments, texts))
        return function(*arguments, **texts)

    monkeypatch.setattr(module, "draw", call)
    return calls


def test_the_figure_shows_what_the_function_gives(run, segment, data, tmp_path, monkeypatch):
    calls = captured(monkeypatch, drawing)
    assert figures.main(["segmentation", str(run), "--records=2", "--seed=5", f"--out={tmp_path / 'a.png'}"]) == 0
    (((shown, classes), texts),) = calls
    records = segmentation.open_dataset(f"folder:{data[0]}", asked=Asked(first_value=1)).dataset.split("test")
    chosen = np.random.default_rng(5).permutation(3)[:2].tolist()
    assert [each.name for each in shown] == [records[number]["file_name"] for number in chosen]
    for each in shown:
        image, labels = data[1]["val"][int(each.name.removesuffix(".png"))]
        np.testing.assert_array_equal(each.image, image)
        np.testing.assert_array_equal(each.label_map, labels)
        np.testing.assert_array_equal(each.predicted, segment(image))
    assert classes.colours == COLOURS
    assert texts["title"] == "Segmentation\nrun: linear, step 3"
    picture = tmp_path / "own.png"
    cv2.imwrite(str(picture), data[1]["val"][0][0][..., ::-1])
    out = f"--out={tmp_path / 'b.pdf'}"
    assert figures.main(["segmentation", str(run), "--images", str(picture), out]) == 0
    ((one,), _), _ = calls[1]
    assert (one.name, one.label_map) == ("own.png", None)
    np.testing.assert_array_equal(one.predicted, segment(data[1]["val"][0][0]))


def test_all_figures_of_a_segmentation(run, tmp_path, capsys):
    """The matrix is that of its result, once it has one."""
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("predictions*"))
    assert figures.main(["all", str(copy), "--records=1"]) == 0
    out = capsys.readouterr().out
    assert "Left out, confusion: " in out
    assert sorted(path.stem for path in (copy / "figures").glob("*.png")) == ["data", "segmentation"]
    result = {"confusion": [[3, 1], [0, 0]], "iou": {"a": 0.75, "b": 0.0}, "miou": 0.375, "test_images": 2}
    whole = result | {"head": "linear", "steps": 3, "data_set": {"name": "some"}, "task": "segment", "seconds": 1.0}
    (copy / "result.json").write_text(json.dumps(whole))
    assert figures.main(["confusion", str(copy), "--config.step=2"]) == 1
    assert "is that of step 3" in capsys.readouterr().err
    assert figures.main(["confusion", str(copy)]) == 0
    assert (copy / "figures" / "confusion.pdf").exists()
    assert figures.main(["segmentation", str(copy), str(run)]) == 1
    assert "segmentation is drawn of one run, got 2" in capsys.readouterr().err
