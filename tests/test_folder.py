"""Own images, as they lie on the disk."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import main
from repre_jax.core.errors import UserError
from repre_jax.data import crops, folder, sources

ROOT = Path(__file__).resolve().parent.parent
FEW = ["--config.knn.times=1", "--config.checkpoint.every=99"]  # evaluations and checkpoints: neither is looked at here


def fill(root, names, channels=3):
    """Photographs at these places, each another colour."""
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(rng.integers(0, 256, (4, 5, channels), dtype=np.uint8), (40, 30))
        if path.suffix == ".npy":
            np.save(path, pixels)
        else:
            path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return root


def test_a_flat_folder_has_no_labels(tmp_path):
    found = folder.scan(fill(tmp_path, ["b.jpg", "a.PNG".lower(), "c.jpeg", ".hidden.jpg", "d.npy"]))
    (tmp_path / "notes.txt").write_text("no image")
    assert found.splits["train"].files == ("a.png", "b.jpg", "c.jpeg", "d.npy")
    assert found.classes is None
    assert "label" not in found.splits["train"][0]
    assert found.splits["train"][0]["image"].startswith(b"\x89PNG")
    assert crops.decode(found.splits["train"][3]["image"]).shape == (30, 40, 3)


def test_nested_folders_have_no_labels(tmp_path):
    found = folder.scan(fill(tmp_path, ["2024/may/a.jpg", "2024/june/b.jpg", "c.jpg"]))
    assert sorted(found.splits["train"].files) == ["2024/june/b.jpg", "2024/may/a.jpg", "c.jpg"]
    assert found.classes is None
    for other in (["2024/may/a.jpg", "2024/june/b.jpg"], ["all/a.jpg", "all/b.jpg"]):
        assert folder.scan(fill(tmp_path / str(len(other[0])), other)).classes is None


def test_class_folders_are_labels(tmp_path):
    found = folder.scan(fill(tmp_path, ["dog/1.jpg", "cat/1.jpg", "cat/2.jpg"]))
    assert found.classes == ("cat", "dog")
    assert [found.splits["train"][i]["label"] for i in range(3)] == [0, 0, 1]


def test_splits_are_folders_too(tmp_path):
    found = folder.scan(fill(tmp_path, ["train/cat/1.jpg", "train/dog/1.jpg", "val/dog/9.jpg", "other/x.jpg"]))
    assert set(found.splits) == {"train", "validation"}
    (tmp_path / "test").mkdir()
    assert set(folder.scan(tmp_path).splits) == {"train", "validation"}, "an empty folder is no split"
    assert found.splits["validation"][0]["label"] == 1
    opened = sources.open_dataset(f"folder:{tmp_path}")
    assert (opened.classes, opened.class_names) == (2, ("cat", "dog"))
    fill(tmp_path, ["val/cow/1.jpg"])
    found = folder.scan(tmp_path)
    assert found.splits["train"].labels == (0, 1)
    assert found.splits["validation"].labels is None, "a class that training does not have"
    opened = sources.open_dataset(f"folder:{tmp_path}")
    assert (opened.classes, opened.class_names) == (None, None)
    assert opened.lacking == "validation has classes that train lacks: cow"
    fill(tmp_path, ["test/1.jpg"])
    assert folder.scan(tmp_path).classes == ("cat", "dog"), "a flat test folder does not take train's labels"
    assert sources.open_dataset(f"folder:{tmp_path}", test_split="test").lacking is None, "it has none of its own"
    fill(tmp_path, ["test/dog/1.jpg", *(f"test/{name}/1.jpg" for name in "abcde")])
    opened = sources.open_dataset(f"folder:{tmp_path}", test_split="test[:50%]")
    assert opened.lacking == "test has classes that train lacks: (in no folder), a, b, c, d and 1 more"


def test_links_that_lead_back_are_followed_once(tmp_path):
    fill(tmp_path, ["a/1.jpg", "b/2.JPG".lower()])
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert folder.scan(tmp_path).splits["train"].files == ("a/1.jpg", "b/2.jpg")


def test_splits_are_cut_as_tfds_does(tmp_path):
    """And mixed, so that a part of class folders has all classes; the whole stays sorted."""
    fill(tmp_path, [f"{'ab'[i // 10]}/{i:02}.jpg" for i in range(20)])
    dataset = sources.open_dataset(f"folder:{tmp_path}", None, "train[:75%]", "train[75%:]")
    assert (len(dataset.train), len(dataset.test)) == (15, 5)
    parts = [{part[i]["file_name"] for i in range(len(part))} for part in (dataset.train, dataset.test)]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 20
    assert set(dataset.test.labels) == {0, 1}
    for index in range(5):
        assert dataset.test[index]["label"] == "ab".index(dataset.test[index]["file_name"][0])
    assert sources.open_dataset(f"folder:{tmp_path}").test is None
    with pytest.raises(UserError, match=r"no split 'validation'(.|\n)*expected: one of train, or a part"):
        sources.open_dataset(f"folder:{tmp_path}", None, "train", "validation")
    with pytest.raises(UserError, match=r"Split 'train\[:1%\]' .* is empty"):
        sources.open_dataset(f"folder:{tmp_path}", None, "train[:1%]")


def test_validation_is_preferred_to_test(tmp_path):
    """As with TFDS's data sets: ImageNet's 'test' has no labels."""
    fill(tmp_path, ["train/a.jpg", "test/b.jpg", "val/c.jpg"])
    assert sources.open_dataset(f"folder:{tmp_path}").test[0]["file_name"] == "c.jpg"


def test_too_many_unreadable_files_end_a_run_that_can_go_on(tmp_path, monkeypatch, capsys):
    """The state is saved first, and the key that the message names may be changed."""
    monkeypatch.chdir(ROOT)
    root = fill(tmp_path / "images", [f"{i:02}.jpg" for i in range(40)])
    (root / "07.jpg").write_bytes(b"no")
    (root / "23.jpg").unlink()
    (root / "23.jpg").symlink_to("gone.jpg")
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.data.name=folder:{root}", "--config.total_steps=6", *FEW]
    assert main.main([*command, "--config.data.max_unreadable=0.03"]) == 1
    output, error = capsys.readouterr()
    assert "2 of 40 records could not be read" in error
    assert "07.jpg: 2 bytes are no image" in error
    assert "No such file or directory: '" in error
    assert "23.jpg'" in error
    assert output.count("another record took the place of") == 2
    assert main.main([*command, "--config.data.max_unreadable=0.1"]) == 0
    output = capsys.readouterr().out
    assert "Going on from step" in output
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["unreadable"] >= 1


def test_what_is_no_folder_of_images_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    for missing, said in (("none", r"is not there\.\n"), ("phots", r"is not there\. Did you mean 'photos'\?\n")):
        with pytest.raises(UserError, match=said):
            sources.open_dataset(f"folder:{tmp_path / missing}")
    with pytest.raises(UserError, match=r"is not there\.\n"):
        sources.open_dataset(f"folder:{tmp_path / 'none' / 'photos'}")
    with pytest.raises(UserError, match=r"no images in .*\n.*\*.jpg"):
        sources.open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".jpg"), (5, ".npy")])
def test_training_on_a_folder_without_labels(channels, suffix, tmp_path, monkeypatch, capsys):
    """No labels, and with 5 channels no test split; these switch the colours off and want a mean."""
    monkeypatch.chdir(ROOT)
    fill(
        tmp_path / "images",
        [f"{i // 8}/{i}{suffix}" for i in range(8)] + [f"x{suffix}"] + [f"y{i}{suffix}" for i in range(30)],
        channels,
    )
    command = [
        "main.py",
        "--config=configs/moco_vit_s.py:tiny",
        f"--workdir={tmp_path / 'run'}",
        "--config.total_steps=2",
        *FEW,
    ]
    command += [f"--config.data.name=folder:{tmp_path / 'images'}", f"--config.data.channels={channels}"]
    statistics = [f"--config.data.{key}={(0.5,) * channels}" for key in ("mean", "std")]
    if channels == 3:
        command.append("--config.data.test_split=train[75%:]")
    if channels == 5:
        assert main.main([*command, "--config.data.mean=(0.5, 0.5)"]) == 1
        assert "5 numbers" in capsys.readouterr().err
    assert main.main([*command, *statistics]) == 0
    output = capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["knn_top1"] is None
    assert result["reconstruction_l1"] > 0
    assert "no labels, so no k-NN" in output
    assert ("over training images" in output) == ("no test split" in output) == (channels == 5)
    assert ("colours are not jittered" in output) == (channels != 3)


def test_pre_training_goes_without_the_labels_that_one_class_spoils(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    fill(tmp_path / "images", [f"train/{i % 2}/{i}.jpg" for i in range(20)] + [f"test/{i}/{i}.jpg" for i in range(3)])
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.data.name=folder:{tmp_path / 'images'}", "--config.total_steps=2", *FEW]
    assert main.main(command) == 0
    assert "test has classes that train lacks: 2; its labels do not count" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["knn_top1"], result["effective_rank"] > 0) == (None, True)
