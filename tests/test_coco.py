"""COCO's official archives in miniature: prepared, opened by TFDS and by us, and scored against themselves."""

import json
import re
import shlex
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from tensorflow_datasets.core import shuffle

from repre_jax.core.errors import UserError
from repre_jax.data import detection, loader, sources
from repre_jax.data.coco import builder
from repre_jax.data.detection_views import DetectionView
from repre_jax.data.resizing import Resizing
from repre_jax.evaluation import detected
from repre_jax.tasks.figures import data
from tests.helpers.coco import CATEGORIES, SIZES, file_name, jpeg, pictures, tables, zips
from tests.helpers.preparing import run

NAME = "coco_instances/2017"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return zips(tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def root(downloads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert run("coco", "--from", downloads, "--data-dir", folder, "--partial") == 0
    return folder


def stored(root, split):
    builder = tfds.builder_from_directory(root / NAME / "1.0.0")
    skipped = {"image": tfds.decode.SkipDecoding()}
    return list(builder.as_data_source(split, decoders=skipped)), builder


def test_tfds_opens_what_was_prepared(root):
    """Every image to the byte, by rising id; every field of every object as the JSON has it, masks at original size."""
    for split, part in (("train", "train"), ("validation", "val")):
        records, builder = stored(root, split)
        assert builder.info.full_name == f"{NAME}/1.0.0"
        assert [record["image_id"] for record in records] == sorted(SIZES[part])
        assert [record["image"] for record in records] == list(pictures(part).values())
        found = {}
        for record in records:
            size = SIZES[part][record["image_id"]]
            assert (record["height"], record["width"]) == size
            assert record["file_name"].decode() == file_name(record["image_id"])
            objects = record["objects"]
            for place, identity in enumerate(objects["id"]):
                found[int(identity)] = size, {key: value[place] for key, value in objects.items()}
        given = {each["id"]: each for each in tables(part)["annotations"]}
        assert found.keys() == given.keys()
        for identity, (size, each) in found.items():
            assert each["category_id"] == given[identity]["category_id"]
            assert each["bbox"].tolist() == given[identity]["bbox"]
            assert (each["area"], each["iscrowd"]) == (given[identity]["area"], given[identity]["iscrowd"])
            reference = COCO()
            reference.imgs = {1: {"height": size[0], "width": size[1]}}
            expected = reference.annToRLE(given[identity] | {"image_id": 1})
            np.testing.assert_array_equal(
                pycocotools_mask.decode({"size": list(size), "counts": each["counts"]}),
                pycocotools_mask.decode(expected),
            )
    metadata = json.loads((root / NAME / "1.0.0" / "metadata.json").read_text())
    assert metadata["categories"] == [{"id": each["id"], "name": each["name"]} for each in CATEGORIES]
    assert metadata["index"]["train"]["objects"] == [2, 1, 1, 0, 1, 0]


def test_what_is_trained_on_and_what_is_tested(root):
    """Images without annotations and with a side below 32 are left out of training; those with crowds alone stay."""
    found = detection.open_dataset(NAME, str(root))
    assert (len(found.dataset.train), found.left_out, len(found.dataset.test)) == (4, 2, 2)
    assert found.dataset.test_split == "validation"
    assert [found.dataset.train[number]["image_id"] for number in range(4)] == [9, 25, 30, 34]
    assert found.indices["train"].sizes.tolist() == [[60, 80], [96, 64], [64, 64], [70, 90]]
    assert found.indices["train"].objects.tolist() == [2, 1, 1, 0]
    assert found.indices["test"].sizes.tolist() == [[72, 96], [90, 60]]
    assert (found.categories.ids, found.categories.names) == ((1, 18, 90), ("person", "dog", "toothbrush"))
    assert found.dataset.class_names == found.categories.names
    assert (found.crowded(1), found.crowded(2)) == (1, 0)
    first, last = found.dataset.train[0], found.dataset.train[3]
    assert first["classes"].tolist() == [2, 0]
    assert (first["record"], last["record"], last["file_name"]) == (0, 3, "000000000034.jpg")
    part = detection.open_dataset(NAME, str(root), "validation[1:]+train[2:5]", "train")
    assert [part.dataset.train[number]["image_id"] for number in range(3)] == [285, 30, 34]
    assert part.indices["train"].sizes.tolist() == [[90, 60], [64, 64], [70, 90]]
    assert len(part.dataset.test) == 6  # whole: what is scored is not chosen


def test_samples_of_it(root):
    found = detection.open_dataset(NAME, str(root))
    how = Resizing(shorts=(64,), longest=96, flip=0.0, crop=0.0)
    sample = DetectionView(how, 4)(found.dataset.train[0], loader.draws(0, 0, 0))
    assert sample["extents"].tolist() == [64, 85]
    scale = np.array([85 / 80, 64 / 60] * 2)
    expected = np.array([[10.25, 8.5, 50.38, 39.27], [50, 40, 78, 59.5]]) * scale
    np.testing.assert_allclose(sample["boxes"][:2], expected, rtol=1e-5)
    assert sample["classes"].tolist() == [2, 0, 0, 0]
    masks = np.unpackbits(sample["masks"], axis=-1)[..., :96]
    assert masks[:2].sum(axis=(1, 2)) == pytest.approx(np.array([617, 273]) * scale[0] * scale[1], rel=0.05)


def test_the_truth_scores_one(root):
    """Through ids with holes, crowds and run lengths, by the real evaluator."""
    for split in ("train", "validation"):
        found = detection.open_dataset(NAME, str(root), test_split=split)
        truth = detected.ground_truth((found.dataset.test[n] for n in range(len(found.dataset.test))), found.categories)
        assert {each["category_id"] for each in truth["annotations"]} == {1, 18, 90}
        assert [each["id"] for each in truth["annotations"]] == list(range(1, 8 if split == "train" else 4))
        of_file = {each["image_id"]: each for each in truth["annotations"] if each["iscrowd"]}
        assert {identity: each["area"] for identity, each in of_file.items()} == (
            {30: 64 * 32, 34: 70 * 45} if split == "train" else {}
        )
        for what in (detected.BOXES, detected.MASKS):
            results = detected.truth_as_results(truth, what)
            assert detected.precision(truth, results, what).values["AP"] == pytest.approx(1)


def test_what_is_missing_is_named(downloads, tmp_path, capsys):
    some = zips(tmp_path / "some", without=(file_name(25), "instances_val2017.json"))
    assert run("coco", "--from", some, "--data-dir", tmp_path / "data") == 1
    error = capsys.readouterr().err
    for line in (
        "missing:  annotations/instances_val2017.json was not found\n",
        "missing:  train: 1 of 6 images that instances_train2017.json lists: 000000000025.jpg\n",
        "missing:  train: instances_train2017.json lists 6 of 118,287 images\n",
        "train2017.zip (19 GB), val2017.zip (0.8 GB) and annotations_trainval2017.zip (0.3 GB)",
        "change:   --partial",
    ):
        assert line in error
    for archive in ("train2017.zip", "annotations_trainval2017.zip"):
        (some / archive).unlink()
    assert run("coco", "--from", some, "--data-dir", tmp_path / "data", "--partial") == 1
    error = capsys.readouterr().err
    assert "missing:  neither train2017.zip nor a folder train2017/ was found\n" in error
    assert "missing:  neither annotations_trainval2017.zip nor a folder annotations/ was found\n" in error
    assert "--partial" not in error
    assert not (tmp_path / "data").exists()


def test_what_is_there_is_written(tmp_path, capsys):
    """An image that the archive lacks is left out with --partial, one that is damaged with --skip-unreadable; extracted
    or not."""
    some = zips(tmp_path / "some", without=(file_name(25),))
    for archive in ("train2017.zip", "annotations_trainval2017.zip"):
        with zipfile.ZipFile(some / archive) as file:
            file.extractall(some)
        (some / archive).unlink()
    whole = jpeg(9, (60, 80))
    (some / "train2017" / file_name(9)).write_bytes(whole[: len(whole) // 2])
    arguments = ["coco", "--from", some, "--data-dir", tmp_path / "data", "--partial"]
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert (
        "1 file is no readable image of the annotations' size; nothing was written.\n  train2017/000000000009.jpg: "
        in error
    )
    assert not (tmp_path / "data" / NAME / "1.0.0").exists()
    assert run(*arguments, "--skip-unreadable") == 0
    records, _ = stored(tmp_path / "data", "train")
    assert [record["image_id"] for record in records] == [30, 34, 36, 42]
    found = detection.open_dataset(NAME, str(tmp_path / "data"))
    assert found.indices["train"].sizes.tolist() == [[64, 64], [70, 90]]


def test_more_than_memory_keeps_the_order(downloads, tmp_path, monkeypatch):
    """COCO is larger than what TFDS sorts in memory: its index stands beside the records in the same order."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 3000)
    assert run("coco", "--from", downloads, "--data-dir", tmp_path, "--partial") == 0
    assert [record["image_id"] for record in stored(tmp_path, "train")[0]] == sorted(SIZES["train"])
    files = [shuffle.get_bucket_number(builder.key(place, 118_287), shuffle.BUCKETS_NUMBER) for place in range(118_287)]
    assert len(set(files)) == shuffle.BUCKETS_NUMBER
    assert files == sorted(files)


def test_how_to_get_it_is_told(downloads, tmp_path, capsys):
    """The commands work as they are typed: the one that prepares, and the one that it then names."""
    with pytest.raises(UserError, match="was not found") as error:
        detection.open_dataset(NAME, str(tmp_path / "my data"))
    command = shlex.split(re.search(r"prepare:  (.*)\n", str(error.value))[1])
    assert command[:3] == ["python", "-m", "repre_jax.tools.prepare"]
    arguments = [argument.replace("--from=DIR", f"--from={downloads}") for argument in command[3:]]
    assert run(*arguments, "--partial") == 0
    said = shlex.split(re.search(r"To train on it:  (.*)\n", capsys.readouterr().out)[1])
    assert said[2:] == [
        *("--config", "configs/detect.py", f"--config.data.dir={tmp_path / 'my data'}"),
        *(f"--config.data.name={NAME}", "--config.init_from=RUN"),
    ]
    assert len(detection.open_dataset(NAME, str(tmp_path / "my data")).dataset.train) == 4
    assert run(*arguments, "--partial") == 1
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(UserError, match="prepare coco --from=DIR --name=pets --images=FOLDER --annotations=FILE"):
        detection.open_dataset("pets", str(tmp_path / "my data"))


def test_images_of_one_id_cannot_be_scored_together(root):
    found = detection.open_dataset(NAME, str(root))
    with pytest.raises(UserError, match="the same id"):
        detected.ground_truth([found.dataset.train[0]] * 2, found.categories)


@pytest.mark.parametrize("name", ["", "folder:photos"])
def test_what_has_no_objects_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="no data set of images with objects"):
        detection.open_dataset(name, str(tmp_path))


def test_tfds_own_features_are_refused(tmp_path):
    """As TFDS's coco has them: neither masks nor ids."""
    from tests.helpers.prepared import prepare

    prepare(tmp_path)
    with pytest.raises(UserError, match="no objects as they are read here") as error:
        detection.open_dataset("pets", str(tmp_path))
    assert "there is no image_id, objects/area, objects/bbox, objects/category_id" in str(error.value)


def test_figures_draw_its_boxes_and_masks(root):
    """Any pre-training on it shows them, since they are stored as those of scenes/dense are."""
    dataset = sources.open_dataset(NAME, str(root))
    known = data._known(dataset, dataset.train[0], 3)
    assert known.kinds == [(3, "toothbrush"), (1, "person")]
    np.testing.assert_allclose(known.boxes, [[10.25, 8.5, 40.13, 30.77], [50, 40, 28, 19.5]])
    assert known.masks.shape == (2, 60, 80) and known.masks[1].sum() == pytest.approx(273, rel=0.05)
