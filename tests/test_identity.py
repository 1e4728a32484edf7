"""What tells a data set from another of the same name and size, and what follows where it has changed since."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import main
from repre_jax.core.errors import UserError
from repre_jax.data import identity, sources
from repre_jax.report import comparison
from repre_jax.report.run import read
from repre_jax.running import resume, same_data
from repre_jax.running.resume import History
from tests.helpers.evaluating import LINEAR, begun, command, evaluate

CLASSES = ("ant", "bee", "cat")
OLD_KEYS = ("name", "version", "train_records", "test_records")  # of identities before they had digests


def fill(root, classes=CLASSES, train=4, test=2):
    """Images of one colour each, of which every class has as many."""
    for split, count in (("train", train), ("val", test)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                colour = [40 * CLASSES.index(name) + 20, 200, number]
                cv2.imwrite(str(root / split / name / f"{number}.png"), np.full((8, 8, 3), colour, np.uint8))
    return root


def rename(root, old, new):
    for split in ("train", "val"):
        (root / split / old).rename(root / split / new)


def opened(root, **splits):
    return sources.open_dataset(f"folder:{root}", **splits)


def written(dataset):
    return json.loads(json.dumps(same_data.described(dataset)))


def trained(dataset, steps=3):
    """What a run of these steps left of its data."""
    known = written(dataset)
    return History(step=steps, data=known["identity"], described=known)


@pytest.fixture
def pets(tmp_path):
    return fill(tmp_path / "pets")


def changed(before, after):
    before, after = before.identity(), after.identity()
    return {key for key in before if before[key] != after[key]}


def test_a_copy_elsewhere_is_the_same_but_for_its_name(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "copy")
    assert changed(opened(pets), opened(tmp_path / "copy")) == {"name"}
    assert tuple(opened(pets).identity()) == identity.KEYS


def test_a_class_that_is_renamed_moved_or_added_is_another_data_set(pets):
    before = opened(pets)
    (pets / "train" / "ant" / "0.png").rename(pets / "train" / "bee" / "9.png")
    assert changed(before, opened(pets)) == {"train_content"}, "as many records and classes"
    assert same_data.since_last_start(History(described=written(before)), opened(pets)) == [
        "data.train_content: other ones in ant, bee"
    ]
    (pets / "train" / "bee" / "9.png").rename(pets / "train" / "ant" / "0.png")
    assert changed(before, opened(pets)) == set()
    rename(pets, "ant", "wasp")
    assert changed(before, opened(pets)) == {"class_names", "train_content", "test_content"}
    assert opened(pets).class_names == ("bee", "cat", "wasp")


def test_content_of_a_file_is_not_looked_at(pets):
    """A record that is mended is the same record."""
    before = opened(pets)
    (pets / "train" / "ant" / "0.png").write_bytes(b"no image")
    assert changed(before, opened(pets)) == set()


def test_other_files_without_labels(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    before = opened(tmp_path)
    (tmp_path / "b.png").rename(tmp_path / "\udcff.png")  # no UTF-8
    assert changed(before, opened(tmp_path)) == {"train_content"}
    assert before.identity()["classes"] is before.identity()["class_names"] is None
    assert len(opened(tmp_path).identity()["train_content"]) == 16


def test_parts_of_a_split_are_told_by_its_files(pets):
    part = {"train_split": "train[:50%]", "test_split": "train[50%:]"}
    before = opened(pets, **part)
    assert before.identity()["train_content"] == opened(pets).identity()["train_content"]
    rename(pets, "cat", "dog")
    assert changed(before, opened(pets, **part)) == {"class_names", "train_content", "test_content"}


def test_shards_are_told_by_names_sizes_and_what_tfds_wrote_of_them(data_dir, tmp_path):
    before = sources.open_dataset("digits", str(data_dir))
    for split, count in (("train", 1437), ("test", 360)):
        shard = f"digits-{split}.array_record-00000-of-00001"
        size = Path(before.directory, shard).stat().st_size
        assert before.contents[split][shard] == f"records 0 to {count} of {count}, {size} bytes"
    shutil.copytree(before.directory, tmp_path / "digits" / "1.0.0")
    assert changed(before, sources.open_dataset("digits", str(tmp_path))) == set()
    info = tmp_path / "digits" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"numBytes": "61144"', '"numBytes": "61145"'))
    assert changed(before, sources.open_dataset("digits", str(tmp_path))) == {"test_content"}
    features = tmp_path / "digits" / "1.0.0" / "features.json"
    features.write_text(features.read_text().replace('"numClasses": "10"', '"numClasses": "11"'))
    after = sources.open_dataset("digits", str(tmp_path))
    assert changed(before, after) == {"classes", "class_names", "test_content"}
    assert same_data.since_last_start(History(described=written(before)), after)[:2] == [
        "data.class_names: new: 10", "data.classes: 10 -> 11",
    ]  # fmt: skip


def test_a_run_does_not_go_on_with_other_classes_and_says_which(pets):
    past = trained(opened(pets))
    assert same_data.check(past, opened(pets), ()) == []
    rename(pets, "ant", "wasp")
    with pytest.raises(UserError) as raised:
        same_data.check(past, opened(pets), ())
    assert str(raised.value).splitlines()[:4] == [
        "This workdir holds a run with another data set:",
        "  data.class_names: gone: ant; new: wasp; of another number: bee, cat",
        "  data.test_content: other ones in ant, wasp",
        "  data.train_content: other ones in ant, wasp",
    ]
    allowed = ("data.class_names", "data.test_content", "data.train_content")
    assert f'--config.may_change="{str(allowed)[:-1]},)"' in str(raised.value)
    resume.check_names(allowed, {})
    assert len(same_data.check(past, opened(pets), allowed)) == len(same_data.check(past, opened(pets), ("data",))) == 3


def test_heads_are_of_their_classes_whatever_may_change(pets):
    past = trained(opened(pets))
    rename(pets, "ant", "wasp")
    with pytest.raises(UserError, match=r"The 3 steps in this workdir were trained on other classes(.|\n)*gone: ant"):
        same_data.check(past, opened(pets), ("data",), ("data.labels", "data.classes", "data.class_names"))
    rename(pets, "wasp", "ant")
    (pets / "train" / "ant" / "0.png").rename(pets / "train" / "ant" / "9.png")
    lines = same_data.check(past, opened(pets), ("data",), ("data.classes", "data.class_names"))
    assert lines == ["data.train_content: other ones in ant"]


def test_what_data_json_does_not_know_is_refused_in_fewer_words(pets):
    past = trained(opened(pets))
    other = written(opened(fill(pets.parent / "others", ("bee", "cat"))))
    rename(pets, "ant", "wasp")
    for known in ({}, other):
        with pytest.raises(UserError, match=r"data\.class_names: no longer those that were trained on"):
            same_data.check(History(step=3, data=past.data, described=known), opened(pets), ())


def test_a_run_from_before_goes_on_with_a_note(pets):
    old = {key: value for key, value in opened(pets).identity().items() if key in OLD_KEYS}
    past = History(step=3, data=old)
    rename(pets, "ant", "wasp")
    assert same_data.check(past, opened(pets), (), ("data.classes",)) == []
    assert "whether its classes and files are still the same is not known" in same_data.note(past)
    assert same_data.note(trained(opened(pets))) is None
    (pets / "train" / "bee" / "0.png").unlink()
    with pytest.raises(UserError, match="train_records: 12 -> 11"):
        same_data.check(past, opened(pets), ())


def test_a_head_from_before_that_does_not_fit_may_be_of_other_classes(pets):
    """Its identity does not say how many it was trained on."""
    old = {key: value for key, value in opened(pets).identity().items() if key in OLD_KEYS}
    said = same_data.perhaps(History(step=3, data=old), opened(pets), ("data.classes",))
    assert said.endswith("had another number of them than the 3 that it has")
    assert not same_data.perhaps(trained(opened(pets)), opened(pets), ("data.classes",))
    assert not same_data.perhaps(History(step=3, data=old), opened(pets), ())


def test_compared_runs_of_other_files_differ_in_that(pets, tmp_path):
    """Unless one of them does not say."""
    runs = []
    for name in ("a", "b", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"seed": 0}))
        if name != "old":
            (tmp_path / name / "data.json").write_text(json.dumps(written(opened(pets))))
        if name == "a":
            (pets / "val" / "bee" / "0.png").rename(pets / "val" / "bee" / "7.png")
        runs.append(read(tmp_path / name))
    assert list(comparison.differences(runs[:2])) == ["data set: test_content"]
    assert comparison.differences(runs) == {}


def of_finished(dataset, reopen, labels=1.0, keys=identity.KEYS):
    known = {key: value for key, value in dataset.identity().items() if key in keys}
    past = History(result={"data_set": known, "labels": labels}, described=written(dataset))
    return same_data.of_finished(past, reopen, "evaluation")


def test_a_finished_one_of_data_that_changed_says_so_first(pets):
    before = opened(pets)
    assert of_finished(before, lambda: opened(pets)) == ("", "")
    rename(pets, "ant", "wasp")
    above, below = of_finished(before, lambda: opened(pets))
    assert above.startswith(
        "Warning: the data set has changed since this evaluation was finished:\n  data.class_names: "
    )
    assert "gone: ant; new: wasp" in above and not below
    assert of_finished(before, lambda: opened(pets), keys=OLD_KEYS)[0] == ""
    assert "earlier versions did not write it down" in of_finished(before, lambda: opened(pets), keys=OLD_KEYS)[1]
    shutil.rmtree(pets)
    above, below = of_finished(before, lambda: opened(pets))
    assert not above
    assert f"Not compared with the data set that is there now: {pets}, the folder of images, is not there" in below
    assert "result.json does not say which it was" in same_data.of_finished(History(result={}), lambda: None, "run")[1]


def test_a_draw_of_the_labels_is_not_compared_by_its_size(pets):
    half = opened(pets).identity() | {"train_records": 6}
    past = History(result={"data_set": half, "labels": 0.5}, described=written(opened(pets)))
    assert same_data.of_finished(past, lambda: opened(pets), "evaluation") == ("", "")


def of(root):
    return [
        f"--config.data.name=folder:{root}",
        "--config.data.test_split=validation",
        "--config.data.train_split=train",
    ]


def test_a_probe_does_not_go_on_with_more_classes(finished, tmp_path, capsys):
    """As many records as before, and words in place of tensors' shapes."""
    data = [*of(fill(tmp_path / "pets", train=40, test=8)), "--config.linear.held_out=0.0"]
    begun(finished[0], tmp_path / "w", *data)
    for split in ("train", "val"):
        (tmp_path / "pets" / split / "dog").mkdir()
        (tmp_path / "pets" / split / "cat" / "0.png").rename(tmp_path / "pets" / split / "dog" / "0.png")
    again = command(LINEAR, finished[0], tmp_path / "w", *data, "--config.may_change=('data',)")
    capsys.readouterr()
    assert main.main(again) == 1
    error = capsys.readouterr().err
    assert "data.class_names: new: dog\n  data.classes: 3 -> 4\n" in error
    assert "Tensors" not in error and "Traceback" not in error


def test_a_finished_evaluation_prints_its_old_summary_below_a_warning(finished, tmp_path, capsys):
    """And k-NN of the data as they are now is right: each class has a colour of its own."""
    data = [*of(fill(tmp_path / "pets", train=12)), "--config.knn.k=(3,)"]
    result = evaluate("configs/knn.py", finished[0], tmp_path / "k", *data)
    assert (result["data_set"]["classes"], result["knn_top1"]) == (3, {"3": 1.0})
    assert json.loads((tmp_path / "k" / "data.json").read_text())["class_names"] == list(CLASSES)
    rename(tmp_path / "pets", "ant", "wasp")
    capsys.readouterr()
    assert evaluate("configs/knn.py", finished[0], tmp_path / "k", *data) == result
    printed = capsys.readouterr().out
    assert printed.index("gone: ant; new: wasp; of another number: bee, cat") < printed.index("Its summary:")
    (tmp_path / "k" / "result.json").unlink()  # as if it had been stopped among the test images
    again = evaluate("configs/knn.py", finished[0], tmp_path / "k", *data)
    assert "they are of another set of classes and files" in capsys.readouterr().out
    assert again["knn_top1"] == result["knn_top1"]
    np.testing.assert_array_equal(np.bincount(np.load(tmp_path / "k" / "features" / "train" / "labels.npy")), [12] * 3)


def test_what_was_mended_is_measured_by_the_same_command(finished, tmp_path, capsys):
    data = [*of(fill(tmp_path / "pets", train=12)), "--config.knn.k=(3,)"]
    torn = tmp_path / "pets" / "train" / "bee" / "5.png"
    whole = torn.read_bytes()
    torn.write_bytes(b"none")
    assert main.main(command("configs/knn.py", finished[0], tmp_path / "k", *data)) == 1
    error = capsys.readouterr().err
    assert "1 of 36 train records could not be read.\n  bee/5.png: 4 bytes are no image" in error
    torn.write_bytes(whole)
    result = evaluate("configs/knn.py", finished[0], tmp_path / "k", *data)
    assert (result["train_records"], result["unreadable"]) == (36, 0)
    evaluate("configs/knn.py", finished[0], tmp_path / "new", *data)
    found = [np.load(tmp_path / name / "features" / "train" / "features.npy") for name in ("k", "new")]
    np.testing.assert_array_equal(*found)
