"""From scikit-learn's digits through TFDS, ArrayRecord, Grain and OpenCV to batches; and what goes wrong on the way."""

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from repre_jax.core.errors import UserError
from repre_jax.data import crops, loader, sources, views
from repre_jax.evaluation.batches import eval_batches, images_and_labels


@pytest.fixture(scope="module")
def dataset():
    return sources.open_dataset("digits")


VIEW = views.PretrainView(crops.RandomCrops(count=2, size=(12, 20), scale=(0.3, 1.0), ratio=(0.75, 1.33)))


def take(source, count, **changes):
    settings = {"seed": 3, "batch_size": 7, "start_step": 0, "workers": 0}
    return list(itertools.islice(loader.train_batches(source, VIEW, **settings | changes), count))


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_digits_are_scikit_learns_in_its_order(dataset):
    digits = load_digits()
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (1437, 360, 10)
    assert dataset.class_names == tuple("0123456789")
    for start, split in ((0, dataset.train), (1437, dataset.test)):
        for index in (0, 1, 17, len(split) - 1):
            image = crops.decode(split[index]["image"])
            expected = np.round(digits.images[start + index] * 255 / 16)
            np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, axis=-1))
            assert split[index]["label"] == digits.target[start + index]


def test_digits_lie_in_the_data_directory_as_array_record(dataset, data_dir):
    assert dataset.directory == str(data_dir / "digits" / "1.0.0")
    assert any("array_record" in name for name in map(str, Path(dataset.directory).iterdir()))


def test_preparing_the_digits_says_one_line(tmp_path):
    """On a fresh machine, where TFDS would warn; whatever comes after may."""
    code = (
        "import absl.logging; from repre_jax.data import digits;"
        f"digits.prepare({str(tmp_path)!r}); absl.logging.warning('later')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"Writing the digits that ship with scikit-learn to {tmp_path / 'digits' / '1.0.0'}.\n"
    (line,) = done.stderr.splitlines()
    assert "later" in line


def test_nothing_imports_tensorflow(data_dir):
    code = (
        "import sys; from repre_jax.data import sources, loader; from repre_jax.tasks import pretrain;"
        f"d = sources.open_dataset('digits', {str(data_dir / 'again')!r}, 'train', 'test'); d.train[0];"
        "print([m for m in ('tensorflow', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_batches_are_uint8_views_with_labels(dataset):
    (batch,) = take(dataset.train, 1)
    assert batch.images.shape == (7, 2, 12, 20, 3)
    assert batch.images.dtype == np.uint8
    assert batch.labels.shape == (7,)
    different = (batch.images[:, 0] != batch.images[:, 1]).any(axis=(1, 2, 3))
    assert different.sum() >= 5, "two crops; of 8 x 8 pixels two may be the same by chance"


def test_a_run_continues_where_it_stopped_also_with_workers(dataset):
    whole = take(dataset.train, 5)
    for workers in (0, 2):
        rest = take(dataset.train, 2, start_step=3, workers=workers)
        for ours, expected in zip(rest, whole[3:], strict=True):
            np.testing.assert_array_equal(ours.images, expected.images)
            np.testing.assert_array_equal(ours.labels, expected.labels)


def test_each_epoch_is_another_permutation_and_epochs_flow_into_each_other():
    source = [{"image": png(np.full((4, 4), 10 * i, np.uint8)), "label": i} for i in range(10)]
    labels = np.concatenate([batch.labels for batch in take(source, 6, batch_size=5)])
    epochs = labels.reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_crops_differ_between_epochs_and_seeds():
    source = [{"image": png(np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)), "label": 0}]
    first, second = (batch.images for batch in take(source, 2, batch_size=1))
    other = take(source, 1, seed=4, batch_size=1)[0].images
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_test_batches_are_evenly_spaced_and_fill_up_the_last(dataset):
    passed = loader.test_batches(dataset.test, views.CentreView((8, 8), 1.0), batch_size=50, limit=130)
    batches = list(images_and_labels(passed))
    assert [len(labels) for _, labels in batches] == [50, 50, 30]
    assert {images.shape for images, _ in batches} == {(50, 8, 8, 3)}
    np.testing.assert_array_equal(batches[1][0][4], crops.decode(dataset.test[54 * 359 // 129]["image"]))
    np.testing.assert_array_equal(batches[2][0][29], crops.decode(dataset.test[359]["image"]))
    assert not batches[2][0][30:].any()


def test_labels_of_another_kind_are_none():
    source = [{"image": png(np.full((9, 9), i, np.uint8)), "label": b"a text"} for i in range(7)]
    assert set(take(source, 1)[0].labels.tolist()) == {-1}


def test_hosts_that_do_not_divide_the_batch_are_named(dataset):
    with pytest.raises(UserError, match="batch_size 7 cannot be split evenly over 2 hosts"):
        take(dataset.train, 1, host=0, hosts=2)


def test_crop_boxes_stay_inside_and_cover_the_asked_areas():
    rng = np.random.default_rng(0)
    boxes = [crops.sample_crop(50, 80, rng, (0.1, 0.4), (0.75, 4 / 3)) for _ in range(2000)]
    top, left, height, width = np.array(boxes).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 50).all()
    assert (left + width <= 80).all()
    area = height * width / 4000
    assert 0.09 < area.min() < 0.11
    assert 0.38 < area.max() < 0.42
    assert area.mean() == pytest.approx(0.25, abs=0.01), "area is drawn uniformly"
    ratio = np.log(width / height)
    assert abs(ratio.mean()) < 0.02, "the ratio is drawn symmetrically in its logarithm"
    assert np.abs(ratio).max() < np.log(4 / 3) + 0.06


def test_crop_falls_back_to_the_centre():
    assert crops.sample_crop(10, 1000, np.random.default_rng(0), (1.0, 1.0), (0.75, 4 / 3)) == (0, 493, 10, 13)


def test_resize_averages_when_it_shrinks():
    """Every fourth column is bright: bilinear interpolation would pass between them."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    np.testing.assert_array_equal(crops.resize(stripes, (16, 16)), 50)


def test_a_crop_is_never_empty():
    for height, width, ratio in ((1, 700, (0.1, 0.3)), (700, 1, (3.0, 9.0))):
        box = crops.sample_crop(height, width, np.random.default_rng(0), (1.0, 1.0), ratio)
        assert min(box[2:]) >= 1


def test_test_records_that_cannot_be_read_are_left_out():
    source = [{"image": png(np.full((9, 9), i, np.uint8)) if i != 3 else b"no", "label": i} for i in range(7)]
    batches = list(images_and_labels(loader.test_batches(source, views.CentreView((8, 8), 1.0), batch_size=5)))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 4], [5, 6]]
    for images, labels in batches:
        assert images.shape == (5, 8, 8, 3)
        np.testing.assert_array_equal(images[: len(labels), 0, 0, 0], labels)
        assert not images[len(labels) :].any()


class Maps:
    """A view of dense labels: an image, and a class for each pixel."""

    batch = dict
    filler = {"images": np.zeros((8, 8, 3), np.uint8), "map": np.full((8, 8), 255, np.uint8)}  # noqa: RUF012

    def __call__(self, record, rng):
        image = crops.decode(record["image"])
        return {"images": image, "map": image[:, :, 0] + rng.integers(2, dtype=np.uint8)}


def test_an_evaluation_of_dense_labels_takes_a_view_of_its_own():
    """What fills up the last batch is the view's, not the loader's; what a view draws depends on the record alone."""
    source = [{"image": png(np.full((8, 8), 2 * i, np.uint8)) if i != 3 else b"no"} for i in range(7)]
    (first, three), (last, two) = eval_batches(source, Maps(), 4, "images")
    assert (three, two) == (3, 3)
    np.testing.assert_array_equal(first["images"][:3, 0, 0, 0], [0, 2, 4])
    np.testing.assert_array_equal(last["map"][:3, 7, 7] // 2, [4, 5, 6])
    assert (last["map"][3] == 255).all()
    ((resumed, _),) = eval_batches(source, Maps(), 4, "images", start=1)
    np.testing.assert_array_equal(resumed["map"], last["map"])


def test_center_crop_takes_the_middle_in_the_targets_shape():
    image = np.zeros((40, 100, 3), np.uint8)
    image[10:30, 30:70] = 255
    np.testing.assert_array_equal(crops.center_crop(image, size=(20, 40), fraction=0.5), 255)
    assert crops.center_crop(image, size=(20, 40), fraction=1.0).min() == 0


def test_decode_ignores_exif_rotation_and_gives_rgb():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[..., 0] = 200
    np.testing.assert_array_equal(crops.decode(png(pixels[..., ::-1])), pixels)


@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut"])
def test_a_record_that_is_no_image_is_named(encoded):
    with pytest.raises(UserError, match=r"not a readable image|are no image"):
        crops.decode(encoded)


def test_a_missing_data_set_says_what_to_do(tmp_path):
    with pytest.raises(UserError) as error:
        sources.open_dataset("imagenet2012", str(tmp_path), "train", "validation")
    text = str(error.value)
    for words in (
        str(tmp_path / "imagenet2012"),
        "ILSVRC2012_img_train.tar",
        "tools.prepare imagenet2012 --from=DIR",
        "moco_vit_s.py:digits",
    ):
        assert words in text


def test_an_unknown_split_lists_the_known(dataset):
    with pytest.raises(UserError, match=r"no split 'validation'(.|\n)*expected: one of test, train"):
        sources.open_dataset("digits", None, "train", "validation")
    assert len(sources.open_dataset("digits", None, "train[:10%]", "test").train) == 144


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        sources.open_dataset("digits", str(tmp_path / "file"), "train", "test")


class Shapes(tfds.core.GeneratorBasedBuilder):
    """A data set with other features than ours, and one in another format."""

    VERSION = tfds.core.Version("2.1.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {"picture": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"picture": "round", "label": 1}


def test_other_features_are_refused(tmp_path):
    Shapes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    with pytest.raises(UserError, match=r"has the features (.|\n)*expected: one called 'image'"):
        sources.open_dataset("shapes", str(tmp_path), "train", "train")


def test_another_format_is_refused(tmp_path):
    Shapes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    info = tmp_path / "shapes" / "2.1.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(
        UserError, match=r"stored as tfrecord(.|\n)*prepare convert .*shapes/2.1.0 --data-dir .*-array_record\n"
    ):
        sources.open_dataset("shapes", str(tmp_path), "train", "train")


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path, dataset):
    for version in ("0.9.0", "0.10.0"):
        folder = tmp_path / "mine" / version
        folder.mkdir(parents=True)
        for file in Path(dataset.directory).iterdir():
            (folder / file.name).write_bytes(file.read_bytes().replace(b'"1.0.0"', f'"{version}"'.encode()))
    assert sources.open_dataset("mine", str(tmp_path), "train", "test").directory.endswith("0.10.0")
    assert sources.open_dataset("mine:0.9.0", str(tmp_path), "train", "test").directory.endswith("0.9.0")
