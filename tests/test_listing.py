"""What a folder's scan takes, what it passes over, and that it says so."""

import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.data import folder, listing, sources
from repre_jax.report.figures import sheet
from repre_jax.tasks.figures import request

JPEG = cv2.imencode(".jpg", np.full((4, 5, 3), 90, np.uint8))[1].tobytes()
PNG = cv2.imencode(".png", np.full((4, 5, 3), 90, np.uint8))[1].tobytes()


def fill(root, names, data=JPEG):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def files_of(found):
    return {split: images.files for split, images in found.splits.items()}


def test_figures_that_were_drawn_into_the_folder_are_no_images(tmp_path):
    """By the tool without a run (into the current folder) and of a file of weights (into a folder beside it). What is
    called so and was drawn by nobody here stays."""
    fill(tmp_path, ["cat/1.png", "cat/attention.png", "dog/2.png"], PNG)
    figure = Figure(figsize=(1, 1))
    ours = ["augmentations.png", "cat/pyramid.png", "vit-figures/attention-and-mine.png", "vit-figures/tsne.png"]
    for name in ours:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sheet.save(figure, tmp_path / name)
    found = folder.scan(tmp_path)
    assert files_of(found) == {"train": ("cat/1.png", "cat/attention.png", "dog/2.png")}
    assert (found.classes, found.splits["train"].labels) == (("cat", "dog"), (0, 0, 1))
    (said,) = found.notes
    first = tmp_path / "augmentations.png"
    what = "Passed over: 4 files, which were drawn by repre_jax.tools.figures"
    assert said == f"{what}: {first}, ..."
    assert listing.loose_images(tmp_path) == [], "else folders called Training and Testing would be no splits"
    assert all(run_files.DRAWN.fullmatch(f"{kind}.png") for kind in (*request.DRAW, *request.SEGMENTED))


def test_suffixes(tmp_path):
    taken = ["a.JPG", "b.jfif", "c.JPE", "d", "e.tiff"]
    fill(tmp_path, taken)
    fill(tmp_path, ["f"], PNG)
    fill(tmp_path, ["README", "g.heic", "h.heic", "i.txt", "img.0001"], b"BM text, no image at all")
    found = listing.list_images(tmp_path)
    assert found.files == [*taken, "f"]
    assert found.notes() == [
        "Passed over: 5 files, which are of no format that is read "
        f"(2 .heic, 1 without a suffix, 1 .txt, 1 .0001): {tmp_path}/README, ..."
    ]


def test_only_regular_files_are_read(tmp_path, monkeypatch):
    """A pipe would be read for ever, also behind a link, and without a suffix."""
    fill(tmp_path, ["a.jpg"])
    os.mkfifo(tmp_path / "b.jpg")
    os.mkfifo(tmp_path / "c")
    (tmp_path / "d.jpg").symlink_to("b.jpg")
    (tmp_path / "e.jpg").symlink_to("a.jpg")
    (tmp_path / "f.jpg").symlink_to("/dev/zero")
    (tmp_path / "g.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as end:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        end.bind("h.jpg")
        found = listing.list_images(tmp_path)
    assert found.files == ["a.jpg", "e.jpg"]
    assert [Path(path).name for path in found.special] == ["b.jpg", "c", "d.jpg", "f.jpg", "h.jpg"]
    assert "5 entries, which are a pipe, a socket or a device" in found.notes()[0]


def test_links_in_a_circle_to_nothing_and_to_a_class(tmp_path):
    fill(tmp_path, ["cat/1.jpg", "dog/2.jpg"])
    (tmp_path / "kitty").symlink_to("cat")
    (tmp_path / "dog" / "up").symlink_to("..")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "dog" / "self.jpg").symlink_to("self.jpg")
    found = folder.scan(tmp_path)
    assert files_of(found)["train"] == ("cat/1.jpg", "dog/2.jpg", "dog/self.jpg"), "it counts as unreadable, as ever"
    assert found.notes == (
        f"Passed over: 2 links, which lead to a folder that is listed already: {tmp_path}/dog/up, ...",
        f"Not readable: 2 links, which lead to nothing: {tmp_path}/gone, ...",
    )


def test_hidden_files_and_folders_are_passed_over_and_named(tmp_path):
    """macOS's companions and a notebook's copies."""
    fill(tmp_path, ["a.jpg", "._a.jpg", ".b.jpg", ".ipynb_checkpoints/a.jpg", ".DS_Store", "__MACOSX/._a.jpg"])
    found = listing.list_images(tmp_path)
    assert found.files == ["a.jpg"]
    assert sorted(found.hidden) == sorted(
        f"{tmp_path}/{name}" for name in ("._a.jpg", ".b.jpg", ".ipynb_checkpoints", "__MACOSX/._a.jpg")
    )
    assert found.notes() == [f"Passed over: 4 entries, which are hidden: {tmp_path}/._a.jpg, ..."]


@pytest.mark.parametrize("mode", [0, 0o444, 0o111])
def test_a_class_that_cannot_be_entered_is_named(mode, tmp_path, monkeypatch):
    """Neither listed nor opened, listed and not opened, opened and not listed. Root may do all, so another looks."""
    monkeypatch.chdir(tmp_path)  # whose parents are closed to others, too
    tmp_path.chmod(0o755)
    fill(Path("photos"), ["a/1.jpg", "b/1.jpg", "c/1.jpg"])
    Path("photos/b").chmod(mode)
    me = os.geteuid()
    os.seteuid(me or 54321)
    try:
        found = folder.scan(Path("photos"))
    finally:
        os.seteuid(me)
        Path("photos/b").chmod(0o755)
    assert (found.classes, files_of(found)["train"]) == (("a", "c"), ("a/1.jpg", "c/1.jpg"))
    assert found.notes == (
        "Passed over: 1 folder, which cannot be entered or read by this user (images in it are missing): photos/b",
    )


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["a/1.jpg", "b/1.jpg", "logo.jpg"], "No labels: logo.jpg lies in no folder of a class (one of 3 images)"),
        (["a/1.jpg", "b/c/1.jpg", "b/d/1.jpg"],
         "No labels: b/c/1.jpg lies deeper than in a folder of a class (2 of 3 images do)"),
        (["a/1.jpg", "a/2.jpg"], "No labels: all images lie in one folder, a/"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/9.jpg"],
         "No labels in test: 9.jpg lies in no folder called as a class of train is"),
    ],
)  # fmt: skip
def test_the_file_that_cost_the_labels_is_named(names, note, tmp_path, capsys):
    dataset = sources.open_dataset(f"folder:{fill(tmp_path, names)}")
    assert dataset.classes is None
    assert f"  {note}\n" in capsys.readouterr().out


def test_what_is_as_it_should_be_needs_no_word(tmp_path):
    assert folder.scan(fill(tmp_path / "1", ["a/1.jpg", "b/2.jpg"])).notes == ()
    assert folder.scan(fill(tmp_path / "2", ["1.jpg", "2.jpg"])).notes == ()
    assert folder.scan(fill(tmp_path / "3", ["train/a/1.jpg", "train/b/2.jpg", "val/a/1.jpg"])).notes == ()


def test_folders_that_hold_a_run_are_no_data(tmp_path):
    """Its figures would be images of a class 'runs', or cost all labels."""
    fill(tmp_path, ["a/1.jpg", "b/2.jpg", "runs/one/figures/attention.png", "runs/one/loose.png"])
    fill(tmp_path, ["runs/one/config.json", "runs/one/starts.jsonl"], b"{}")
    found = folder.scan(tmp_path)
    assert (found.classes, files_of(found)["train"]) == (("a", "b"), ("a/1.jpg", "b/2.jpg"))
    assert found.notes == (f"Passed over: 1 folder, which holds a run (its pictures are no data): {tmp_path}/runs/one",)


def test_a_run_in_the_folder_of_the_images_itself(tmp_path):
    """--workdir . and folder:. : the run's own folders are left out, the classes stay."""
    fill(tmp_path, ["a/1.jpg", "b/2.jpg", "figures/attention.png", "export/x.png"])
    fill(tmp_path, ["config.json", "result.json"], b"{}")
    assert folder.scan(tmp_path).classes == ("a", "b")
    fill(tmp_path, ["Training/a/1.jpg", "Training/b/2.jpg", "Testing/b/1.jpg"])
    for name in "ab":
        (tmp_path / name).rename(tmp_path / "Training" / name / "more")
    found = folder.scan(tmp_path)
    assert set(found.splits) == {"train", "test"}
    assert [note for note in found.notes if "figures" in note or "export" in note] == []


def test_a_folder_called_checkpoints_is_a_run_only_with_a_config(tmp_path):
    fill(tmp_path, ["checkpoints/1.jpg", "figures/2.jpg", "features/3.jpg"])
    assert folder.scan(tmp_path).classes == ("checkpoints", "features", "figures")


def test_no_images_at_all_says_what_was_there(tmp_path):
    fill(tmp_path, ["a.heic", "b.heic"])
    with pytest.raises(UserError, match=r"no images in(.|\n)*expected: files called \*.jpg(.|\n)*2 \.heic"):
        folder.scan(tmp_path)


def test_names_that_are_not_utf_8(tmp_path):
    """Everything that is printed or stored is text; what is opened is the file."""
    odd = os.fsdecode(b"caf\xe9")
    fill(tmp_path, ["bar/1.jpg", os.fsdecode(b"caf\xe9/1_\xff.jpg"), f"{odd}/x/2.jpg"])
    found = folder.scan(tmp_path)
    train = found.splits["train"]
    assert [train[i]["file_name"] for i in range(3)] == ["bar/1.jpg", "caf\\xe9/1_\\xff.jpg", "caf\\xe9/x/2.jpg"]
    assert train.name(1) == "caf\\xe9/1_\\xff.jpg"
    assert train[1]["image"] == JPEG
    (tmp_path / odd / "x" / "2.jpg").unlink()
    found = folder.scan(tmp_path)
    assert found.classes == ("bar", "caf\\xe9")
    assert "\n".join(found.notes).encode().endswith(rb"caf\xe9/1_\xff.jpg")
