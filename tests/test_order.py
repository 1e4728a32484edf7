"""Orders of the records: pure functions of (seed, epoch), shuffled, or grouped into batches of one shape."""

import io
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.data import crops, loader, order

PORTRAITS = (1, 4, 5, 9, 10)
BATCH = 4
SETTINGS = {"seed": 3, "batch_size": BATCH, "start_step": 0, "workers": 0}


@dataclass(frozen=True)
class Upright:
    """A tall crop of a tall image and a wide one of a wide image, and the record's number; a batch is a dict."""

    batch: ClassVar[Callable[..., dict]] = dict

    def __call__(self, record, rng):
        image = crops.decode(record["image"])
        size = (9, 5) if image.shape[0] > image.shape[1] else (5, 9)
        (crop,) = crops.RandomCrops(1, size, (0.3, 1.0), (3 / 4, 4 / 3))(image, rng)
        return {"images": crop, "numbers": np.int32(record["number"])}


def encoded(height, width, kind=".jpg", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


@pytest.fixture(scope="module")
def source():
    """13 images, 5 of them taller than wide."""
    sizes = [(20, 12) if number in PORTRAITS else (12, 20) for number in range(13)]
    return [{"image": encoded(*size, seed=number), "number": number} for number, size in enumerate(sizes)]


@pytest.fixture(scope="module")
def grouped(source):
    return order.Grouped(order.by_orientation(source), BATCH)


def stream(source, grouped, count, **changes):
    return list(itertools.islice(loader.train_batches(source, Upright(), order=grouped, **SETTINGS | changes), count))


def test_sizes_are_those_of_decoding():
    """Of any format, by the header alone: half a file has the same."""
    image = Image.fromarray(np.zeros((7, 11, 3), np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        image.save(file := io.BytesIO(), kind)
        assert order.image_size(file.getvalue()) == crops.decode(file.getvalue()).shape[:2] == (7, 11), kind
    np.save(file := io.BytesIO(), np.zeros((7, 11, 5), np.uint8))
    assert order.image_size(file.getvalue()) == order.image_size(np.zeros((7, 11, 5), np.uint8)) == (7, 11)
    whole = encoded(300, 200)
    assert order.image_size(whole[: len(whole) // 2]) == (300, 200)
    for broken in (b"", b"no", b"\xff\xd8", whole[:10], b"\x93NUMPY", np.zeros(3, np.uint8)):
        with pytest.raises(crops.UnreadableImage):
            order.image_size(broken)


def test_orientations(source):
    groups = order.by_orientation(source)
    assert [number for number, group in enumerate(groups) if group == order.PORTRAIT] == list(PORTRAITS)
    square, tall = {"image": encoded(8, 8)}, {"image": encoded(9, 8)}
    assert order.by_orientation([square, {"image": b"no"}, tall, tall]).tolist() == [0, 1, 1, 1]


def test_each_batch_has_one_group_and_each_record_comes(grouped):
    """8 landscapes and 5 portraits in batches of 4: 2 + 2 batches, and 3 portraits come twice."""
    assert len(grouped) == 16
    epochs = [order.grouped_order(grouped, 0, epoch)[0] for epoch in range(6)]
    for numbers in epochs:
        batches = grouped.groups[numbers].reshape(-1, BATCH)
        assert (batches == batches[:, :1]).all()
        times = Counter(numbers.tolist())
        assert times.keys() == set(range(13))
        assert sorted(times[number] for number in PORTRAITS) == [1, 1, 2, 2, 2]
        assert all(times[number] == 1 for number in set(range(13)) - set(PORTRAITS))
    assert len({tuple(grouped.groups[numbers]) for numbers in epochs}) > 1, "batches are shuffled among groups"
    assert len({tuple(numbers) for numbers in epochs}) == 6
    other, _ = order.grouped_order(grouped, 1, 0)
    assert not np.array_equal(other, epochs[0])


def test_a_stream_of_two_shapes_is_the_same_from_workers_and_steps(source, grouped):
    whole = stream(source, grouped, 9)  # two epochs and a batch
    shapes = {batch["images"].shape for batch in whole}
    assert shapes == {(BATCH, 9, 5, 3), (BATCH, 5, 9, 3)}
    fresh = order.Grouped(grouped.groups.copy(), BATCH)
    for start, workers in ((3, 0), (3, 2)):
        rest = stream(source, fresh, 9 - start, start_step=start, workers=workers)
        for ours, expected in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(ours["images"], expected["images"])
            np.testing.assert_array_equal(ours["numbers"], expected["numbers"])
    for host in (0, 1):
        for part, expected in zip(stream(source, grouped, 5, host=host, hosts=2), whole, strict=False):
            np.testing.assert_array_equal(part["images"], expected["images"][2 * host : 2 * host + 2])
    traced = []

    @jax.jit
    def step(total, batch):
        traced.append(batch["images"].shape)
        return total + batch["images"].astype(np.float32).mean()

    total = np.float32(0)
    for batch in whole:
        total = step(total, batch)
    assert total == pytest.approx(sum(batch["images"].mean() for batch in whole), rel=1e-5)
    assert len(traced) == 2
    assert set(traced) == shapes


def test_unreadable_records_are_replaced_by_the_next_of_their_group(source, grouped):
    bad, told = {4, 5, 7}, []
    broken = [record | {"image": b"no"} if record["number"] in bad else record for record in source]
    wanted = np.concatenate([batch["numbers"] for batch in stream(source, grouped, 8)]).reshape(2, 16)
    got = np.concatenate([batch["numbers"] for batch in stream(broken, grouped, 8, on_unreadable=told.append)])
    for epoch, replaced in zip(wanted.tolist(), got.reshape(2, 16).tolist(), strict=True):
        for place, number in enumerate(epoch):
            alike = [n for n in (*epoch[place:], *epoch[:place]) if (n in PORTRAITS) == (number in PORTRAITS)]
            assert replaced[place] == next(n for n in alike if n not in bad)
    assert set(told) == bad
    gone = [record | {"image": b"no"} if record["number"] in PORTRAITS else record for record in source]
    with pytest.raises(UserError, match="None of the 13 training records of one group is a readable image"):
        stream(gone, grouped, 4)


def test_an_order_of_other_batches_is_refused(source, grouped):
    with pytest.raises(ValueError, match="grouped into batches of 4, not 2"):
        stream(source, grouped, 1, batch_size=2)
    with pytest.raises(ValueError, match="0 records cannot be put into batches"):
        order.Grouped(np.zeros(0, int), 4)


def drawn(seed, epoch):
    """A group for each of 13 records, drawn anew each epoch; sometimes all are in one."""
    return np.random.default_rng((seed, epoch)).integers(0, 2 if epoch % 3 else 1, 13)


def test_groups_may_be_drawn_anew_each_epoch():
    """Every epoch has as many places, each batch one group of that epoch, and no record is left out."""
    anew = order.Grouped(drawn, BATCH, records=13, kinds=2)
    assert len(anew) == 20
    for epoch in range(6):
        numbers, groups = order.grouped_order(anew, 5, epoch)
        np.testing.assert_array_equal(groups, drawn(5, epoch))
        assert len(numbers) == 20
        assert set(numbers) == set(range(13))
        assert all(len(set(groups[batch])) == 1 for batch in numbers.reshape(-1, BATCH))
        assert next(anew.from_place(5, epoch, 7)) == numbers[7]
    with pytest.raises(ValueError, match="0 records"):
        order.Grouped(drawn, BATCH)
    with pytest.raises(ValueError, match="2 groups, but Grouped was given kinds=1"):
        order.grouped_order(order.Grouped(drawn, BATCH, records=13), 5, 1)
