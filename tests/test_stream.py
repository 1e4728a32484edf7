"""The training stream is a function of (seed, epoch, record): the same for any workers, hosts and start, and whole."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import crops, folder, loader
from repre_jax.data.unreadable import Unreadable
from repre_jax.data.views import PretrainView
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
BAD = (3, 4, 17)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """23 small photographs, three of them not whole, in two class folders."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(23):
        place = root / ("left", "right")[number % 2]
        place.mkdir(exist_ok=True)
        picture = cv2.resize(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8), (40 + number, 30))
        (place / f"{number:02}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    source = folder.scan(root).splits["train"]
    for number in BAD:
        path = Path(source.root, source.files[number])
        path.write_bytes(path.read_bytes()[:200])
    return source


def stream(source, count, **changes):
    cut = crops.RandomCrops(2, (12, 16), (0.3, 1.0), (3 / 4, 4 / 3))
    local = crops.RandomCrops(3, (6, 6), (0.1, 0.3), (3 / 4, 4 / 3))
    settings = {"seed": 5, "batch_size": 6, "start_step": 0, "workers": 0}
    batches = loader.train_batches(source, PretrainView(cut, local), **settings | changes)
    return list(itertools.islice(batches, count))


def flat(batches):
    return [np.concatenate([getattr(b, name) for b in batches]) for name in ("images", "local", "labels")]


def assert_equal(ours, expected):
    for one, other in zip(flat(ours), flat(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "changes", [{"workers": 2}, {"workers": 3}, {"start_step": 4}, {"start_step": 5, "workers": 2}]
)
def test_workers_and_start_change_nothing(images, changes):
    whole = stream(images, 9)  # 54 samples: epochs end in the middle of a batch
    start = changes.get("start_step", 0)
    assert_equal(stream(images, 9 - start, **changes), whole[start:])


@pytest.mark.parametrize("hosts", [2, 3])
def test_each_host_gets_its_rows_of_the_same_batches(images, hosts):
    whole = stream(images, 5)
    rows = 6 // hosts
    for host in range(hosts):
        part = stream(images, 5, host=host, hosts=hosts)
        for ours, batch in zip(part, whole, strict=True):
            np.testing.assert_array_equal(ours.images, batch.images[host * rows : (host + 1) * rows])
            np.testing.assert_array_equal(ours.labels, batch.labels[host * rows : (host + 1) * rows])


def test_a_crop_depends_on_seed_epoch_and_record_alone():
    """Records that are told apart by colour: another batch size moves them to other places, with the same crops."""
    source = [{"image": np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)} for i in range(10)]
    small, large = (flat(stream(source, 60 // size, batch_size=size))[0] for size in (4, 6))
    np.testing.assert_array_equal(small, large)
    first, second = small[:10], small[10:20]
    assert not {image.tobytes() for image in first} & {image.tobytes() for image in second}, "epochs differ"
    other = flat(stream(source, 10, batch_size=6, seed=6))[0]
    assert not {image.tobytes() for image in first} & {image.tobytes() for image in other[:10]}, "seeds differ"


def test_a_crop_knows_its_record_not_its_place():
    """The same crops of a record where it comes at other places, because another one had to be replaced."""
    rng = np.random.default_rng(0)
    whole = [{"image": rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), "label": i} for i in range(6)]
    expected, labels = (x[:6] for x in (flat(stream(whole, 1))[0], flat(stream(whole, 1))[2]))
    views = dict(zip(labels.tolist(), expected, strict=True))
    broken = [{"image": b"no", "label": 0}, *whole[1:]]
    batch = stream(broken, 1)[0]
    for label, images in zip(batch.labels.tolist(), batch.images, strict=True):
        np.testing.assert_array_equal(images, views[label])


def test_every_record_is_read_once_an_epoch():
    source = [{"image": np.full((4, 4, 3), i, np.uint8), "label": i} for i in range(23)]
    labels = flat(stream(source, 23, batch_size=6))[2].reshape(6, 23)
    assert all(sorted(epoch) == list(range(23)) for epoch in labels.tolist())
    assert len({tuple(epoch) for epoch in labels.tolist()}) == 6


def test_unreadable_records_are_replaced_by_the_next_of_the_epoch(images):
    """And told: each by its number, at its own place."""
    told = []
    labels = flat(stream(images, 23, on_unreadable=told.append))[2].reshape(6, 23)
    assert Counter(told) == dict.fromkeys(BAD, 6)
    good = Counter(images.labels[i] for i in range(23) if i not in BAD)
    for epoch in labels.tolist():
        assert sum((Counter(epoch) - good).values()) == 3, "20 records once, 3 of them again"
    whole = [{"image": np.full((4, 4, 3), i, np.uint8), "label": i} for i in range(23)]
    order = flat(stream(whole, 23))[2].reshape(6, 23)
    bad = range(0, 23, 2)  # every other record, so that some follow each other in any order
    broken = [r | {"image": b"no"} if i in bad else r for i, r in enumerate(whole)]
    told.clear()
    replaced = flat(stream(broken, 23, on_unreadable=told.append))[2].reshape(6, 23)
    assert Counter(told) == dict.fromkeys(bad, 6)
    for wanted, got in zip(order.tolist(), replaced.tolist(), strict=True):
        for place, record in enumerate(wanted):
            following = itertools.chain(wanted[place:], wanted[:place])
            assert got[place] == next(r for r in following if r not in bad), record


def test_each_unreadable_record_is_named_once_and_too_many_end_the_run(images):
    said = []
    unreadable = Unreadable(images, 3, largest_share=2 / 23, say=said.append)
    for number in (3, 3, 4, 3):
        unreadable(number)
    assert len(unreadable) == len(said) == 2
    assert images.files[3] in said[0]
    assert "not a readable image" in said[0]
    gone = folder.ImageFolder(images.root, ("not_there.jpg", *images.files[5:7]))
    Unreadable(gone, 3, largest_share=1, say=said.append)(0)
    assert "not_there.jpg: [Errno 2]" in said[-1] or "No such file" in said[-1]
    assert len(stream(gone, 1)[0].images) == 6
    with pytest.raises(UserError, match=f"3 of 23 records could not be read(.|\n)*{images.files[17]}") as error:
        unreadable(17)
    assert "expected: at most 0.0869565 of all, data.max_unreadable\n" in str(error.value)
    again = Unreadable(images, 3, largest_share=1, say=said.clear, known=unreadable.numbers)
    again(3)
    assert (len(again), len(said)) == (3, 4), "what an earlier start has named is counted, and not named again"


def test_records_that_were_mended_since_count_no_more(images):
    """So the same command goes on once the data are whole; records that are not there any more count neither."""
    said = []
    before = Unreadable(images, 3, largest_share=1, say=said.append)
    for number in BAD:
        before(number)
    mended = [record | {"image": images[0]["image"]} if number in BAD[:2] else record for number, record in
              enumerate([images[number] for number in range(23)])]  # fmt: skip
    said.clear()
    after = Unreadable(mended, 3, largest_share=1.5 / 23, say=said.append, known=[*before.numbers, 23])
    assert after.numbers == list(BAD[2:])
    assert said == ["Records that could not be read before and are readable now, so that they count no more: 2."]
    after(BAD[2])
    with pytest.raises(UserError, match="2 of 23 records could not be read"):
        after(22)


def test_data_of_which_nothing_can_be_read_is_an_error():
    with pytest.raises(UserError, match="None of the 3 training records is a readable image"):
        stream([{"image": b"no"}] * 3, 1)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGKILL, "killed (signal 9): most likely the machine ran out of memory"),
        (signal.SIGBUS, "killed (signal 7): shared memory, /dev/shm, is full"),
    ],
)
def test_a_worker_that_is_killed_is_told_not_waited_for(images, tmp_path, number, why):
    """As the kernel kills it when memory runs out, or shared memory."""
    code = f"""
import os, sys
from repre_jax.core.errors import UserError
from repre_jax.data import crops, folder, loader, views
from pathlib import Path
if __name__ == "__main__":
    source = folder.scan(Path({images.root!r})).splits["train"]
    cut = crops.RandomCrops(2, (12, 16), (0.3, 1.0), (0.75, 1.33))
    batches = loader.train_batches(source, views.PretrainView(cut), seed=0, batch_size=6, start_step=0, workers=1)
    try:
        for number, _ in enumerate(batches):
            print(number, flush=True)
    except UserError as error:
        print(error)
"""
    script = tmp_path / "read.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert child.stdout.readline().strip() == "0"
    started = time.monotonic()
    for process in psutil.Process(child.pid).children():
        if any("spawn_main" in word for word in process.cmdline()):  # not multiprocessing's resource tracker
            process.send_signal(number)
    output, _ = child.communicate(timeout=HANGS)
    assert time.monotonic() - started < 30
    assert why in output
    assert "--config.data.workers" in output


def test_a_data_set_of_many_files_may_have_them_all_open():
    """In a shell that allows fewer; a process of its own, since a limit stays."""
    text = (
        "import resource; from repre_jax.data import sources; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard)); sources.open_dataset('digits');"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(4096, hard)"
    )
    subprocess.run([sys.executable, "-c", text], cwd=ROOT, check=True)
