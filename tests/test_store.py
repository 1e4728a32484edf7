"""Features in files: whole after an interruption, and made anew when they are not what is asked for."""

import errno
import itertools
import json
import shutil
import subprocess

import cv2
import jax
import numpy as np
import pytest

from repre_jax.core import sharding
from repre_jax.core.errors import Interrupted, UserError
from repre_jax.data import loader, subset
from repre_jax.data.views import CentreView
from repre_jax.evaluation import features, store
from repre_jax.evaluation.batches import eval_batches, images_and_labels

RECORDS, BATCH = 53, 8
MADE_FROM = {"step": 8, "crop": (4, 6)}


@pytest.fixture(scope="module")
def source():
    """Small pictures, of which two cannot be read."""
    rng = np.random.default_rng(0)
    images = [cv2.imencode(".png", rng.integers(0, 256, (4, 6, 3), np.uint8))[1].tobytes() for _ in range(RECORDS)]
    images[9] = images[52] = b"none"
    return [{"image": image, "label": number % 5} for number, image in enumerate(images)]


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(8)


@jax.jit
def encode(images):
    return images.reshape(len(images), -1)[:, :7] / 255


VIEW = CentreView((4, 6), 1.0)


def batches_from(source, start=0, should_stop=lambda: False, told=lambda number: None):
    batches = eval_batches(source, VIEW, BATCH, "train images", should_stop, start=start, on_unreadable=told)
    return images_and_labels(batches)


def keep(folder, source, mesh, should_stop=lambda: False, encode=encode, starts=None, width=7, begun=False,
         made_from=MADE_FROM, without=None):  # fmt: skip
    def begin(start, on_unreadable):
        if starts is not None:
            starts.append(start)
        return batches_from(source, start, should_stop, on_unreadable)

    readable = None if begun else lambda number: loader.test_sample(source, VIEW, number) is not None
    of = store.Pass(loader.numbers(len(source), None), BATCH, width, readable, without)
    return store.stored(folder, made_from, encode, begin, of, mesh)


@pytest.fixture(scope="module")
def expected(source, mesh):
    return features.extract(encode, batches_from(source), mesh)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, source, mesh):
    folder = tmp_path_factory.mktemp("features") / "train"
    keep(folder, source, mesh)
    return folder


def after(count):
    """Says no `count` times, then yes."""
    answers = itertools.chain([False] * count, itertools.repeat(True))
    return lambda: next(answers)


def check(found, expected):
    np.testing.assert_array_equal(found.features, expected[0])
    np.testing.assert_array_equal(found.labels, expected[1])
    assert (found.features.dtype, found.labels.dtype) == (np.float32, np.int32)
    assert (len(found.labels), found.unreadable) == (RECORDS - 2, 2)


def test_it_equals_an_extraction_in_memory(tmp_path, source, mesh, expected):
    found = keep(tmp_path / "train", source, mesh)
    check(found, expected)
    assert isinstance(found.features, np.memmap)
    assert found.seconds_before == 0


def test_a_batch_without_a_readable_record_leaves_no_row(tmp_path, source, mesh):
    torn = [*source[:BATCH], *[{"image": b"none", "label": 0}] * BATCH, *source[2 * BATCH :]]
    found = keep(tmp_path / "train", torn, mesh)
    expected = features.extract(encode, batches_from(torn), mesh)
    np.testing.assert_array_equal(found.features, expected[0])
    np.testing.assert_array_equal(found.labels, expected[1])
    assert len(found.labels) == RECORDS - BATCH - 1


@pytest.mark.parametrize("start", [0, 1, 6, 7])
def test_batches_begin_anywhere(source, start):
    """The last one of 7 has 5 records."""
    ours, all_of_them = list(batches_from(source, start)), list(batches_from(source))
    assert len(ours) == 7 - start
    for batch, same in zip(ours, all_of_them[start:], strict=True):
        np.testing.assert_array_equal(batch[0], same[0])
        np.testing.assert_array_equal(batch[1], same[1])
    halves = [list(loader.test_batches(source, CentreView((4, 6), 1.0), batch_size=BATCH, start=start, host=host,
                                       hosts=2)) for host in (0, 1)]  # fmt: skip
    labels_of = [[labels for _, labels in images_and_labels(half)] for half in halves]
    assert [np.concatenate([a, b]).tolist() for a, b in zip(*labels_of, strict=True)] == [
        labels.tolist() for _, labels in ours
    ]


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_left_off_it_goes_on_where_it_was(tmp_path, source, mesh, expected, count):
    starts = []
    with pytest.raises(Interrupted, match=f"{count * BATCH} of 53 train images"):
        keep(tmp_path / "train", source, mesh, after(count), starts=starts)
    found = keep(tmp_path / "train", source, mesh, starts=starts)
    check(found, expected)
    assert starts == [0, count]
    assert found.seconds_before > 0
    check(keep(tmp_path / "train", source, mesh, starts=starts), expected)
    assert starts == [0, count, 7]


@pytest.mark.parametrize(("every", "start"), [(0.0, 3), (1000.0, 0)])
def test_killed_it_goes_on_from_what_was_saved(tmp_path, source, mesh, expected, monkeypatch, every, start):
    """Rows that were written behind it are overwritten."""
    monkeypatch.setattr(store, "SAVE_EVERY", every)
    calls = itertools.count()

    def dies(images):
        if next(calls) == 3:
            raise KeyError
        return encode(images)

    starts = []
    with pytest.raises(KeyError):
        keep(tmp_path / "train", source, mesh, encode=dies)
    check(keep(tmp_path / "train", source, mesh, starts=starts), expected)
    assert starts == [start]


def damaged_bit(folder):
    content = bytearray((folder / "features.npy").read_bytes())
    content[-100] ^= 1
    (folder / "features.npy").write_bytes(content)


def damaged_label(folder):
    content = bytearray((folder / "labels.npy").read_bytes())
    content[-12] ^= 1
    (folder / "labels.npy").write_bytes(content)


def cut_short(folder):
    content = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(content[:-40])


def of_other_records(folder):
    np.save(folder / "labels.npy", np.zeros(RECORDS + 1, np.int32))


FAULTS = {
    "a bit of a feature": (damaged_bit, "they are damaged"),
    "a bit of a label": (damaged_label, "they are damaged"),
    "cut short": (cut_short, "they are damaged"),
    "empty": (lambda folder: (folder / "labels.npy").write_bytes(b""), "they are damaged"),
    "other records": (of_other_records, "they are damaged"),
    "half a JSON": (lambda folder: (folder / store.PROGRESS).write_text('{"rows": 5'), "nothing there is whole"),
    "no JSON": (lambda folder: (folder / store.PROGRESS).unlink(), "nothing there is whole"),
}


@pytest.mark.parametrize(("harm", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_damaged_is_made_anew(tmp_path, whole, source, mesh, expected, capsys, harm, message):
    shutil.copytree(whole, tmp_path / "train")
    harm(tmp_path / "train")
    starts = []
    check(keep(tmp_path / "train", source, mesh, starts=starts), expected)
    assert starts == [0]
    assert f"{tmp_path / 'train'} are made anew: {message}" in capsys.readouterr().out


def test_what_was_made_from_something_else_is_made_anew(tmp_path, whole, source, mesh, expected, capsys):
    shutil.copytree(whole, tmp_path / "train")
    other = lambda images: encode(images) + 1  # noqa: E731
    starts = []
    found = keep(tmp_path / "train", source, mesh, encode=other, made_from=MADE_FROM | {"step": 9}, starts=starts)
    np.testing.assert_allclose(found.features, expected[0] + 1, rtol=1e-6)
    assert starts == [0]
    assert "are made anew: they are of another step." in capsys.readouterr().out
    assert json.loads((tmp_path / "train" / store.PROGRESS).read_text())["made_from"] == {"step": 9, "crop": [4, 6]}


GOOD = cv2.imencode(".png", np.full((4, 6, 3), 99, np.uint8))[1].tobytes()


@pytest.mark.parametrize(("mended", "start"), [((9,), 1), ((52,), 6), ((9, 52), 1)])
def test_records_that_are_mended_get_their_features(tmp_path, whole, source, mesh, capsys, mended, start):
    """In their places; what comes before the batch of the first of them stays."""
    shutil.copytree(whole, tmp_path / "train")
    assert json.loads((whole / store.PROGRESS).read_text())["unreadable"] == [9, 52]
    better = [record | {"image": GOOD} if number in mended else record for number, record in enumerate(source)]
    starts = []
    found = keep(tmp_path / "train", better, mesh, starts=starts)
    expected = features.extract(encode, batches_from(better), mesh)
    np.testing.assert_array_equal(found.features, expected[0])
    np.testing.assert_array_equal(found.labels, expected[1])
    assert (starts, found.unreadable, list(found.left_out)) == (
        [start], 2 - len(mended), [number for number in (9, 52) if number not in mended],
    )  # fmt: skip
    assert f"are readable now: {len(mended)}. The features from record {start * BATCH} on" in capsys.readouterr().out
    np.testing.assert_array_equal(keep(tmp_path / "train", better, mesh, starts=starts).features, expected[0])
    assert starts == [start, 7]


def test_mended_after_a_stop_they_get_their_features_too(tmp_path, source, mesh):
    with pytest.raises(Interrupted):
        keep(tmp_path / "train", source, mesh, after(3))
    better = [record | {"image": GOOD} if number == 9 else record for number, record in enumerate(source)]
    starts = []
    found = keep(tmp_path / "train", better, mesh, starts=starts)
    np.testing.assert_array_equal(found.features, features.extract(encode, batches_from(better), mesh)[0])
    assert (starts, found.unreadable) == ([1], 1)


def test_what_was_trained_without_them_goes_on_without_them(tmp_path, whole, source, mesh, expected):
    shutil.copytree(whole, tmp_path / "train")
    better = [record | {"image": GOOD} if number == 9 else record for number, record in enumerate(source)]
    check(keep(tmp_path / "train", better, mesh, begun=True), expected)


def test_made_anew_they_still_go_on_without_them(tmp_path, whole, source, mesh, expected, capsys):
    """Also where what was made in between has a record that it must not have."""
    better = [record | {"image": GOOD} if number == 9 else record for number, record in enumerate(source)]
    kept = subset.Without(better, frozenset([9, 52]))
    check(keep(tmp_path / "train", kept, mesh, begun=True, without=[52, 9]), expected)
    starts = []
    check(keep(tmp_path / "train", kept, mesh, starts=starts, begun=True, without=[52, 9]), expected)
    assert starts == [7], "what is whole stays"
    assert keep(tmp_path / "other", better, mesh).left_out == [52]
    capsys.readouterr()
    check(keep(tmp_path / "other", kept, mesh, begun=True, without=[9, 52]), expected)
    assert "are made anew: they lack other records than those" in capsys.readouterr().out
    assert store.lacking(tmp_path / "other") == [9, 52]
    assert store.lacking(tmp_path / "none") is None


def earlier(folder, source, mesh):
    """Files as earlier versions left them."""
    keep(folder, source, mesh, made_from={"step": 8, "crop": (4, 6)})
    progress = json.loads((folder / store.PROGRESS).read_text())
    del progress["unreadable"]
    (folder / store.PROGRESS).write_text(json.dumps(progress))


@pytest.mark.parametrize("whole_records", [True, False])
def test_files_of_earlier_versions_are_read(tmp_path, source, mesh, capsys, whole_records):
    """With a note that their classes are not known; anew only where they do not say which records were left out."""
    records = [record | {"image": GOOD} if number in (9, 52) else record for number, record in enumerate(source)]
    records = records if whole_records else source
    expected = features.extract(encode, batches_from(records), mesh)
    earlier(tmp_path / "train", records, mesh)
    starts, made_from = [], MADE_FROM | {store.CONTENTS: ["a", "b"]}
    found = keep(tmp_path / "train", records, mesh, starts=starts, made_from=made_from)
    np.testing.assert_array_equal(found.features, expected[0])
    assert starts == [7 if whole_records else 0]
    printed = capsys.readouterr().out
    assert "of the data set only name, version and size; earlier versions wrote down no more." in printed
    assert ("which records were left out was not written down" in printed) == (not whole_records)


def test_features_of_other_classes_are_made_anew(tmp_path, source, mesh, capsys):
    starts = []
    for contents in (["a", "b"], ["a", "c"]):
        keep(tmp_path / "train", source, mesh, starts=starts, made_from=MADE_FROM | {store.CONTENTS: contents})
    assert starts == [0, 0]
    assert "are made anew: they are of another set of classes and files." in capsys.readouterr().out


def test_features_that_are_no_numbers_are_refused(tmp_path, source, mesh):
    with pytest.raises(UserError, match="features of train images are not finite"):
        keep(tmp_path / "train", source, mesh, encode=lambda images: encode(images) / 0)


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path, source, mesh):
    """As it would be for arrays in mapped memory. A small disk of its own; its files are as long as they are to be
    before they have any content."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a disk wants root's rights, which this user or container does not have")
    try:
        wide = {"encode": lambda images: np.ones((len(images), 1000), np.float32), "width": 1000}
        with pytest.raises(OSError) as raised:
            keep(disk / "train", source, mesh, **wide)
        assert raised.value.errno == errno.ENOSPC
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_data_set_whose_path_is_written_otherwise_is_the_same(tmp_path, source, mesh, monkeypatch, capsys):
    """An earlier version stored it as it was typed. Of another folder, or of other records, features are made anew."""
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)

    def made_from(name, records=53):
        return {"data set": [name, "as it lies there", records]}

    kept = keep(tmp_path / "features", source, mesh, made_from=made_from("folder:pets"))
    starts = []
    for name in (f"folder:{tmp_path}/pets", "folder:./pets", f"folder:{tmp_path}/there/../pets"):
        again = keep(tmp_path / "features", source, mesh, starts=starts, made_from=made_from(name))
        np.testing.assert_array_equal(again.features, kept.features)
    assert starts == [7, 7, 7], "there are seven batches: none is read again"
    starts.clear()
    for other in (made_from("folder:dogs"), made_from("folder:pets", 54), made_from("pets"), {"data set": "pets"}):
        keep(tmp_path / "features", source, mesh, starts=starts, made_from=other)
        assert starts.pop() == 0
        assert "they are of another data set" in capsys.readouterr().out
        keep(tmp_path / "features", source, mesh, made_from=made_from("folder:pets"))
