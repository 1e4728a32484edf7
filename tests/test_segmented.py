"""A split of images of several sizes in one confusion matrix, whatever the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from repre_jax.core.errors import Interrupted, UserError
from repre_jax.data import label_classes
from repre_jax.evaluation import confusion, segmented
from repre_jax.evaluation.segmented import Segmented
from repre_jax.evaluation.windows import SlidingTest

HOW = SlidingTest((16, 16), (8, 8))
CLASSES = label_classes.numbered(3)


def records(count=5):
    """Of two sizes; the labels are what `brightest` finds, but in the lower half, and 255 in a corner."""
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, ((24, 32), (40, 16))[number % 2] + (3,)).astype(np.uint8)
        labels = image.argmax(-1).astype(np.uint8)
        labels[len(labels) // 2 :] = rng.integers(0, 3, labels[len(labels) // 2 :].shape)
        labels[:5, :5] = 255
        made.append({"image": image, "label_map": labels})
    return made


def sizes(made):
    return {record["image"].shape[:2]: 1 for record in made if isinstance(record["image"], np.ndarray)}


def brightest(variables, pixels):
    return pixels * variables


def over(devices, made, how=HOW):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    return Segmented(
        made, sizes(made), CLASSES, how, brightest, mesh, align_corners=False, mean=(0.0,) * 3, std=(1.0,) * 3
    )


def test_the_matrix_is_that_of_all_pixels_for_any_number_of_devices(two_devices):
    made = records()
    expected = sum(
        np.asarray(confusion.count(record["image"].argmax(-1).astype(np.int32), record["label_map"], 3))
        for record in made
    )
    for devices in (1, 2):
        matrix, images = over(devices, made).confusion(jnp.ones(3), lambda: False, 0.0)
        np.testing.assert_array_equal(matrix, expected)
        assert (matrix.dtype, images) == (np.int64, 5)
    assert expected.sum() == 3 * 24 * 32 + 2 * 40 * 16 - 5 * 25
    assert 0.5 < np.diag(expected).sum() / expected.sum() < 0.8


def test_predictions_stay_where_they_are_made_unless_somebody_asks_for_them(two_devices):
    made = records()
    for devices in (1, 2):
        whole = over(devices, made)
        for matrices, counts, predictions in whole._batches(made, jnp.ones(3), "", lambda: False):
            assert len(predictions) == whole.at_once * devices
            assert {shard.data.shape[0] for shard in predictions.addressable_shards} == {whole.at_once}
            assert matrices.is_fully_replicated and counts.is_fully_replicated
        found = whole.predicted(jnp.ones(3), np.array([3, 0]))
        for number, one in zip((3, 0), found, strict=True):
            image = made[number]["image"]
            np.testing.assert_array_equal(one[: image.shape[0], : image.shape[1]], image.argmax(-1))


def test_few_large_images_are_on_a_device_at_once():
    assert over(1, records()).at_once == segmented.MOST
    big = {"image": np.zeros((1024, 2048, 3), np.uint8), "label_map": np.zeros((1024, 2048), np.uint8)}
    assert over(1, [big]).at_once == 1


def test_unreadable_images_are_left_out_up_to_a_share():
    made = [*records(4), {"image": b"nothing", "label_map": b"nothing"}]
    matrix, images = over(1, made).confusion(jnp.ones(3), lambda: False, 0.2)
    assert images == 4
    assert matrix.sum() == 2 * (24 * 32 + 40 * 16) - 100
    with pytest.raises(UserError, match="1 of 5 records to evaluate on could not be read"):
        over(1, made).confusion(jnp.ones(3), lambda: False, 0.1)


def test_a_stop_is_heard_between_batches():
    with pytest.raises(Interrupted):
        over(1, records()).confusion(jnp.ones(3), lambda: True, 0.0)
