"""Cityscapes' official archives in miniature, prepared as TFDS would and opened by TFDS; its ids and classes."""

import re
import shlex
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.cityscapes import cityscapes_dataset_builder

from repre_jax.core.errors import UserError
from repre_jax.data import segmentation
from repre_jax.data.cityscapes import archives
from repre_jax.data.cityscapes.labels import CLASSES
from repre_jax.data.segmentation import Asked
from repre_jax.data.segmentation_views import SegmentationView, decoded
from repre_jax.report.figures import records as drawing
from repre_jax.system import command_line
from repre_jax.tools import figures
from repre_jax.tools.checkup import storage
from tests.helpers.cityscapes import IMAGE, IMAGES, LABEL_MAP, SIZE, contents, files, ids, zips
from tests.helpers.prepared import change, to_tfrecord
from tests.helpers.preparing import run

ROOT = Path(__file__).resolve().parent.parent
NAME = "cityscapes/semantic_segmentation"
TRAIN_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14},
    **{28: 15, 31: 16, 32: 17, 33: 18},
}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return zips(tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def root(downloads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert run("cityscapes", "--from", downloads, "--data-dir", folder, "--partial") == 0
    return folder


def test_every_id_has_its_class():
    """All 256 values: 19 are classes, the others below 34 and 255 are ignored, and the rest is unknown."""
    found = CLASSES.of_values(np.arange(256, dtype=np.uint8)[None])[0]
    expected = [TRAIN_IDS.get(value, 255 if value < 34 or value == 255 else 254) for value in range(256)]
    assert found.tolist() == expected
    assert len(CLASSES) == 19
    assert (CLASSES.names[0], CLASSES.names[13], CLASSES.names[18]) == ("road", "car", "bicycle")
    assert (CLASSES.colours[0], CLASSES.colours[13]) == ((128, 64, 128), (0, 0, 142))
    assert len(set(CLASSES.colours)) == 19
    back = CLASSES.values(np.arange(19, dtype=np.uint8))
    assert [TRAIN_IDS[value] for value in back.tolist()] == list(range(19))


def test_tfds_opens_what_was_prepared(root):
    """Under its own name, configuration, version and features, every file to the byte."""
    builder = tfds.builder_from_directory(root / NAME / "1.0.0")
    own = cityscapes_dataset_builder.Builder(data_dir=str(root), config="semantic_segmentation")
    assert (builder.info.full_name, str(builder.version)) == (own.info.full_name, str(own.version))
    assert builder.info.full_name == f"{NAME}/1.0.0"
    assert repr(builder.info.features) == repr(own.info.features)
    assert builder.info.file_format.value == "array_record"
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        skipped = dict.fromkeys(("image_left", "segmentation_label"), tfds.decode.SkipDecoding())
        found = {each["image_id"].decode(): each for each in builder.as_data_source(split, decoders=skipped)}
        assert sorted(found) == sorted(IMAGES[folder])
        for image_id, each in found.items():
            assert (each["image_left"], each["segmentation_label"]) == files(image_id)


def test_tfds_own_builder_finds_it_prepared(root):
    """So that nobody prepares it twice."""
    own = cityscapes_dataset_builder.Builder(data_dir=str(root), config="semantic_segmentation")
    assert own.info.splits["train"].num_examples == 3


def test_what_tfds_stores_by_default_is_converted(root, tmp_path):
    """As TFRecord, by the command and the flags that a message advises."""
    shutil.copytree(root, tmp_path / "data")
    to_tfrecord(tmp_path / "data" / NAME / "1.0.0")
    with pytest.raises(UserError, match="is stored as tfrecord") as error:
        segmentation.open_dataset(NAME, str(tmp_path / "data"))
    command = shlex.split(re.search(r"convert:  (.*)\n", str(error.value))[1])
    assert run(*command[3:]) == 0
    opened = segmentation.open_dataset(NAME, change(str(error.value))["dir"])
    assert {opened.dataset.train[number]["file_name"] for number in range(3)} == set(IMAGES["train"])
    assert opened.classes == CLASSES


def test_label_maps_are_read_as_classes(root):
    opened = segmentation.open_dataset(NAME, str(root))
    assert (len(opened.dataset.train), len(opened.dataset.test)) == (3, 1)
    assert opened.dataset.test_split == "validation"
    assert opened.classes == CLASSES
    assert opened.sizes("test") == {SIZE: 1}
    table = np.array([TRAIN_IDS.get(value, 255) for value in range(256)])
    for number in range(3):
        record = opened.dataset.train[number]
        image, classes = decoded(record, opened.classes, 3)
        np.testing.assert_array_equal(classes, table[ids(record["file_name"])])
        stored = cv2.imdecode(np.frombuffer(files(record["file_name"])[0], np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(image, stored[..., ::-1])
    view = SegmentationView((768, 768), opened.classes, scale_to=(2049, 1025))
    sample = view(opened.dataset.train[0], np.random.default_rng(0))
    assert {name: value.shape for name, value in sample.items()} == {
        "images": (768, 768, 3),
        "extents": (2,),
        "label_maps": (768, 768),
    }
    for asked in (Asked(num_classes=20), Asked(first_value=1)):
        with pytest.raises(UserError, match="leave --config"):
            segmentation.open_dataset(NAME, str(root), asked=asked)


def test_its_label_maps_are_drawn_in_its_own_colours(root, tmp_path, monkeypatch):
    """What is ignored is white."""
    given, draw = [], drawing.draw

    def kept(records, **texts):
        given.append((records, texts))
        return draw(records, **texts)

    monkeypatch.setattr(drawing, "draw", kept)
    out = tmp_path / "data.png"
    argv = ["data", "--config=configs/segment.py", f"--config.data.dir={root}", "--records=2", f"--out={out}"]
    assert figures.main(argv) == 0
    (((one, two), texts),) = given
    colours = np.full((256, 3), 255, np.uint8)
    colours[:19] = CLASSES.colours
    for record in (one, two):
        assert record.image.shape == (*SIZE, 3)
        classes = np.vectorize(lambda value: TRAIN_IDS.get(value, 255))(ids(record.name)[0])
        np.testing.assert_array_equal(record.painted, np.broadcast_to(colours[classes], (*SIZE, 3)))
    assert {one.name, two.name} < set(IMAGES["train"])
    assert texts["legend"] == dict(zip(CLASSES.names, CLASSES.colours, strict=True))
    assert texts["caption"].startswith(f"2 of 3 training records of {NAME}, as they are stored. Label map: 255,")
    assert out.stat().st_size > 5000


def test_the_test_split_has_no_classes(root, capsys):
    opened = segmentation.open_dataset(NAME, str(root), test_split="test")
    assert "none has a pixel of a class" in capsys.readouterr().out
    assert opened.dataset.test[0]["file_name"] == IMAGES["test"][0]


def test_extracted_archives_are_prepared_alike(tmp_path):
    for inside in contents().values():
        for name, content in inside.items():
            path = tmp_path / "downloads" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    found = archives.find(tmp_path / "downloads")
    assert {split: [pair.image_id for pair in pairs.pairs] for split, pairs in found.splits.items()} == {
        "train": list(IMAGES["train"]),
        "validation": list(IMAGES["val"]),
        "test": list(IMAGES["test"]),
    }
    record = found.splits["train"][1]
    assert record == {"image_id": IMAGES["train"][1], "image": files(IMAGES["train"][1])}
    assert found.size() == sum(
        len(file) for images in IMAGES.values() for image_id in images for file in files(image_id)
    )


def test_what_is_missing_is_named(downloads, tmp_path, capsys):
    """Counts, cities, and files of the other archive; nothing is written."""
    some = zips(tmp_path / "some", without=("000019_gtFine_labelIds.png", "zurich_000002_000019_leftImg8bit.png"))
    with zipfile.ZipFile(some / LABEL_MAP, "a") as file:
        for image_id in ("aachen_000000_000019", "zurich_000002_000019"):
            file.writestr(
                f"gtFine/train/{image_id.partition('_')[0]}/{image_id}_gtFine_labelIds.png", files(image_id)[1]
            )
    assert run("cityscapes", "--from", some, "--data-dir", tmp_path / "data") == 1
    error = capsys.readouterr().err
    for line in (
        "missing:  train: 1 of 2,975 images with label maps; none of bochum, bremen, ",
        "missing:  train: 1 label maps: aachen_000001_000019_gtFine_labelIds.png\n",
        "missing:  train: 1 images: zurich_000002_000019_leftImg8bit.png\n",
        "missing:  validation: 0 of 500 images with label maps; none of frankfurt, lindau\n",
        "change:   --partial",
    ):
        assert line in error
    (some / LABEL_MAP).unlink()
    assert run("cityscapes", "--from", some, "--data-dir", tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert "missing:  neither gtFine_trainvaltest.zip nor a folder gtFine/ was found\n" in error
    assert "--partial" not in error
    assert not (tmp_path / "data").exists()


def test_an_archive_that_is_not_whole_is_told(downloads, tmp_path, capsys):
    """Cut short, it has no list of its files; with a wrong byte, a file's check sum tells."""
    for name in (IMAGE, LABEL_MAP):
        (tmp_path / name).write_bytes((downloads / name).read_bytes())
    whole = (downloads / IMAGE).read_bytes()
    (tmp_path / IMAGE).write_bytes(whole[:-5000])
    assert run("cityscapes", "--from", tmp_path, "--data-dir", tmp_path / "data", "--partial") == 1
    assert f"{IMAGE} cannot be read: File is not a zip file" in capsys.readouterr().err
    place = whole.index(b"zurich_000002_000019_leftImg8bit.png") + 2000
    (tmp_path / IMAGE).write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    assert run("cityscapes", "--from", tmp_path, "--data-dir", tmp_path / "data", "--partial") == 1
    error = capsys.readouterr().err
    assert "1 file is no readable image; nothing was written" in error
    assert "zurich/zurich_000002_000019_leftImg8bit.png: leftImg8bit_trainvaltest.zip: Bad CRC-32" in error
    assert not (tmp_path / "data" / NAME / "1.0.0").exists()


@pytest.mark.parametrize(
    ("image", "label_map", "words"),
    [
        (np.zeros((512, 1024, 3), np.uint8), None, "an image of 512 x 1024 pixels, expected 1024 x 2048"),
        (None, np.zeros((512, 1024), np.uint8), "another size than its image"),
        (None, np.full(SIZE, 60, np.uint8), "values that stand for no class"),
    ],
    ids=["image", "label map", "ids"],
)
def test_another_data_sets_files_are_refused(image, label_map, words):
    pair = [
        own if other is None else cv2.imencode(".png", other)[1].tobytes()
        for own, other in zip(files(IMAGES["train"][0]), (image, label_map), strict=True)
    ]
    with pytest.raises(UserError, match=words):
        archives.checked(tuple(pair), "train")


def test_how_to_get_it_is_told(downloads, tmp_path, capsys):
    """The commands work as they are typed: the one that prepares, and the one that it then names."""
    for name in ("cityscapes", NAME):
        with pytest.raises(UserError, match="was not found") as error:
            segmentation.open_dataset(name, str(tmp_path / "my data"))
    command = shlex.split(re.search(r"prepare:  (.*)\n", str(error.value))[1])
    assert command[:3] == ["python", "-m", "repre_jax.tools.prepare"]
    arguments = [argument.replace("--from=DIR", f"--from={downloads}") for argument in command[3:]]
    assert run(*arguments, "--partial") == 0
    said = shlex.split(re.search(r"To train on it:  (.*)\n", capsys.readouterr().out)[1])
    assert said[2:4] == ["--config", "configs/segment.py"]
    config, _ = command_line.parse(["main.py", f"--config={ROOT / said[3]}", *said[4:]])
    opened = segmentation.open_dataset(config.data.name, config.data.dir)
    assert len(opened.dataset.train) == 3
    assert Path(config.init_from).name == "RUN"


def test_it_is_prepared_once(root, downloads, capsys):
    assert run("cityscapes", "--from", downloads, "--data-dir", root, "--partial") == 1
    assert "is there already" in capsys.readouterr().err


def test_the_doctor_finds_no_fault(root):
    found, problems = storage.data_sets(root)
    assert problems == []
    assert [(each.name, each.fault) for each in found] == [(f"{NAME} 1.0.0", None)]
