"""The figure of a data set's records: classes, boxes, masks and label maps, as they are stored."""

import numpy as np
import pytest

from configs import moco_vit_s, segment
from repre_jax.data import instances, label_classes, sources
from repre_jax.report.figures import objects
from repre_jax.report.figures import records as drawing
from repre_jax.tasks.figures import data
from repre_jax.tools import figures
from tests.helpers.label_maps import fill, values


@pytest.fixture
def drawn(monkeypatch):
    """What is given to be drawn, also drawn."""
    given, draw = [], drawing.draw

    def kept(records, **texts):
        given.append((records, texts))
        return draw(records, **texts)

    monkeypatch.setattr(drawing, "draw", kept)
    return given


def test_digits_with_their_classes(drawn, tmp_path):
    command = ["data", "--config=configs/moco_vit_s.py:digits", "--seed=3", "--records=2"]
    assert figures.main([*command, f"--out={tmp_path / 'a.png'}"]) == 0
    (((one, two), texts),) = drawn
    train = sources.open_dataset("digits").train
    chosen = [train[int(number)] for number in np.random.default_rng(3).permutation(len(train))[:2]]
    assert [one.name, two.name] == [str(record["label"]) for record in chosen]
    assert (one.image.shape, one.boxes, one.label_map) == ((8, 8, 3), None, None)
    assert texts["caption"] == "2 of 1,437 training records of digits, as they are stored."
    assert (tmp_path / "a.png").stat().st_size > 5000
    evaluated = ["data", "--config=configs/linear.py:digits", "--seed=3", "--records=2", f"--out={tmp_path / 'b.png'}"]
    assert figures.main([*evaluated, "--config.data.name=digits", "--config.data.train_split=test"]) == 0
    assert drawn[1][1]["caption"] == "2 of 360 records of split test of digits, as they are stored."


def test_data_of_an_evaluation_are_those_of_its_run(drawn, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(moco_vit_s.get_config("digits").to_json())
    command = ["data", "--config=configs/knn.py:digits", "--records=1", f"--out={tmp_path / 'a.png'}"]
    assert figures.main([*command, f"--config.init_from={tmp_path / 'run'}"]) == 0
    assert drawn[0][1]["caption"] == "1 of 1,437 training records of digits, as they are stored."
    capsys.readouterr()
    assert figures.main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "  change:   --config.init_from=RUN, or --config.data.name=NAME"


def test_boxes_masks_and_label_map_of_a_scene():
    """Colours of a category are the same in masks and label map."""
    from repre_jax.data.scenes import builder, dense_canvases

    canvas = dense_canvases.canvas("train", 0)
    stored = builder.record("dense", "train", 0)
    objects = {
        key: np.array([each[key] for each in stored["objects"]]) for key in ("id", "category_id", "area", "iscrowd")
    }
    objects |= {"bbox": np.stack([each["bbox"] for each in stored["objects"]])}
    objects |= {"counts": [each["counts"] for each in stored["objects"]]}
    record = {"image": canvas.image, "label_map": canvas.label_map()[..., None], "objects": objects}
    categories = {each["id"]: each["name"] for each in builder.known("dense")["categories"]}
    found = data._objects(record, canvas.image.shape[:2], categories)
    np.testing.assert_array_equal(found["masks"], instances.of_record(record).masks())
    np.testing.assert_array_equal(found["boxes"], objects["bbox"])
    label_map = data._label_map(record, canvas.image.shape[:2])
    np.testing.assert_array_equal(label_map, canvas.label_map())
    for mask, (kind, name) in zip(found["masks"], found["kinds"], strict=True):
        assert set(label_map[mask]) - {drawing.IGNORED} == {kind}
        assert name in categories.values()


def test_crowds_are_hatched_and_named():
    boxes, kinds = np.array([[2, 2, 8, 8], [12, 2, 8, 8]]), [(1, "cat"), (1, "cat")]
    record = drawing.Known(np.zeros((30, 30, 3), np.float32), None, boxes, kinds, crowds=np.array([False, True]))
    axis = drawing.draw([record], title="t", caption="c").axes[1]
    assert [patch.get_hatch() for patch in axis.patches] == [None, "////"]
    assert [text.get_text() for text in axis.texts] == ["cat", "crowd: cat"]
    found = data._instances(
        instances.Instances(
            (4, 4), np.ones(2, int), np.array([1, 2]), boxes, np.ones(2), np.array([False, True]), (b"",)
        ),
        {1: "a", 2: "b"},
    )
    assert found["crowds"].tolist() == [False, True]


def test_names_are_inside_the_image_and_apart():
    """At their boxes' corners otherwise: behind each is its box's colour."""
    boxes = np.array([[0, 0, 30, 30], [1, 1, 20, 20], [110, 90, 18, 6], [60, 40, 9, 9]], float)
    names = ["People & Body", "Symbols", "Smileys & Emotion", "Objects"]
    record = drawing.Known(np.zeros((96, 128, 3), np.float32), None, boxes, list(enumerate(names, start=1)))
    figure = drawing.draw([record], title="t", caption="c")
    axis = figure.axes[1]
    figure.draw_without_rendering()
    canvas = axis.get_window_extent()
    extents = [text.get_bbox_patch().get_window_extent() for text in axis.texts]
    assert [text.get_text() for text in axis.texts] == names
    for number, each in enumerate(extents):
        assert canvas.x0 - 2 < each.x0 < each.x1 < canvas.x1 + 2 and canvas.y0 - 2 < each.y0, names[number]
        assert not any(each.overlaps(other) for other in extents[:number]), names[number]
    assert axis.texts[3].get_position() == (60, 40)
    for text, kind in zip(axis.texts, range(1, 5), strict=True):
        np.testing.assert_allclose(text.get_bbox_patch().get_facecolor()[:3], drawing.colour(kind))


def test_images_alone_are_in_a_grid():
    records = [drawing.Known(np.full((8, 8, 3), n / 9, np.float32), str(n)) for n in range(8)]
    figure = drawing.draw(records, title="t", caption="c")
    assert len(figure.axes) == 12 and figure.get_figwidth() > 2 * figure.get_figheight()
    assert [axis.get_xlabel() for axis in figure.axes[:8]] == list("01234567")
    assert [len(axis.images) for axis in figure.axes] == 8 * [1] + 4 * [0]


def test_one_legend_and_palette_for_scenes():
    """Of pre-training's and detection's configs, whose data know categories, as of segmentation's classes."""
    names = {1: "Smileys", 2: "People", 4: "Animals"}
    label_map = np.zeros((4, 4), int)
    legend = data._legend(names, [drawing.Known(np.zeros((4, 4, 3)), label_map=label_map)])
    classes = label_classes.plain(("background", "Smileys", "People", "Animals"))
    assert legend == dict(zip(classes.names, classes.colours, strict=True))
    assert data._legend(names, [drawing.Known(np.zeros((4, 4, 3)))]) == {}


def test_a_workdir_is_told_where_it_goes(capsys):
    assert figures.main(["data", "--config=configs/moco_vit_s.py:digits", "--workdir=x"]) == 1
    assert "  change:   --out=FILE.png\n" in capsys.readouterr().err


def test_tfdss_own_boxes_become_pixels():
    """(ymin, xmin, ymax, xmax) in 0..1 of an image of 100 x 200."""
    record = {"objects": {"bbox": np.array([[0.1, 0.2, 0.5, 0.7]], np.float32), "label": np.array([4])}}
    found = data._objects(record, (100, 200), {4: "cat"})
    np.testing.assert_allclose(found["boxes"], [[40, 10, 100, 40]], atol=1e-4)
    assert found["kinds"] == [(5, "cat")]


def test_objects_are_drawn_where_they_are():
    """A mask tints its pixels alone, and a record without objects beside one with them stays as it is."""
    image, mask = np.zeros((20, 30, 3), np.float32), np.zeros((1, 20, 30), bool)
    mask[0, 5:9, 10:20] = True
    with_box = drawing.Known(image, "a", np.array([[10, 5, 10, 4]]), [(1, "x")], mask, mask[0].astype(int))
    figure = drawing.draw([with_box, drawing.Known(image)], title="t", caption="c")
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(shown[6, 12], objects.SHADE * drawing.colour(1), atol=1e-6)
    assert not shown[~mask[0]].any()
    (box,) = figure.axes[1].patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((9.5, 4.5), 10, 4)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "objects", "label map"]
    assert not figure.axes[4].images[0].get_array().any()


@pytest.fixture
def labelled(tmp_path):
    """A folder of images with label maps, in colours of its own."""
    root = fill(tmp_path / "own", [("images/train/{}", "labels/train/{}", 4), ("images/val/{}", "labels/val/{}", 1)])
    (root / "classes.txt").write_text("0 0 0 nothing\n128 64 128 road\n70 70 70 house\n")
    return root


def check_labelled(records, texts, root):
    """That each record has its label map, and the colours that a legend names."""
    for record in records:
        number = int(record.name.removesuffix(".png"))
        np.testing.assert_array_equal(record.label_map, values(number))
        colours = np.array([(0, 0, 0), (128, 64, 128), (70, 70, 70)])
        np.testing.assert_array_equal(record.painted, colours[values(number)])
    assert texts["legend"] == {"nothing": (0, 0, 0), "road": (128, 64, 128), "house": (70, 70, 70)}
    assert texts["caption"].startswith(f"{len(records)} of 4 training records of folder:{root}")


def test_label_maps_of_a_segmentation_config(drawn, labelled, tmp_path):
    flags = [f"--config.data.name=folder:{labelled}", "--records=3", f"--out={tmp_path / 'a.png'}"]
    assert figures.main(["data", "--config=configs/segment.py", *flags]) == 0
    ((records, texts),) = drawn
    assert len(records) == 3
    check_labelled(records, texts, labelled)
    assert texts["title"] == f"Data\nfolder:{labelled}"
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_label_maps_of_a_segmentation_run(drawn, labelled, tmp_path, capsys):
    """Its augmentations are another thing, and not drawn."""
    config = segment.get_config()
    config.data.name = f"folder:{labelled}"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    out = f"--out={tmp_path / 'a.png'}"
    assert figures.main(["data", str(tmp_path / "run"), "--records=2", out]) == 0
    ((records, texts),) = drawn
    check_labelled(records, texts, labelled)
    assert figures.main(["augmentations", str(tmp_path / "run"), out]) == 1
    assert "Nothing says how" in capsys.readouterr().err
    assert figures.main(["augmentations", "--config=configs/segment.py", out]) == 1
    assert "The config's task is 'segment'.\n  expected: 'pretrain'\n" in capsys.readouterr().err


def test_a_legend_has_room_beside_the_images():
    """In more columns where there are more classes than lines."""
    record = drawing.Known(np.zeros((20, 30, 3), np.float32), label_map=np.zeros((20, 30), int))
    alone = drawing.draw([record], title="t", caption="c").get_figwidth()
    wide = [
        drawing.draw([record], title="t", caption="c", legend={str(n): (n, 0, 0) for n in range(count)})
        for count in (3, 60)
    ]
    assert alone < wide[0].get_figwidth() < wide[1].get_figwidth()
    assert [text.get_text() for text in wide[0].legends[0].get_texts()] == ["0", "1", "2"]
