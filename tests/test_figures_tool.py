"""The figures tool as a command: what it draws of a run, where that goes, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from repre_jax.running import resume, workdir
from repre_jax.system import command_line
from repre_jax.tools import export
from tests.helpers.drawing import FEW, draw
from tests.helpers.runs import ROOT
from tests.helpers.saved import saved_run

KINDS = ("reconstructions", "attention", "tsne", "neighbours", "pyramid", "augmentations", "data")


def test_all_draws_each_kind_and_one_seed_gives_the_same_bytes(drawn_runs, tmp_path, capsys):
    root, _ = drawn_runs
    run = tmp_path / "run"
    shutil.copytree(root / "multi", run)
    (run / "config.json").write_text(config_json("dino_vit_s"))
    assert draw("all", run, "--seed=3", *FEW) == 0
    out = capsys.readouterr().out
    names = {f"{kind}{suffix}" for kind in KINDS for suffix in (".png", ".pdf")}
    assert {path.name for path in (run / "figures").iterdir()} == names
    drawn = [line for line in out.splitlines() if line.startswith("Drawn: ")]
    assert sorted(drawn) == sorted(f"Drawn: {run / 'figures' / kind}.png and .pdf" for kind in KINDS)
    assert "Silhouette: " in out
    first = {name: (run / "figures" / name).read_bytes() for name in names}
    assert draw("all", run, "--seed=3", *FEW) == 0
    assert {name for name in names if (run / "figures" / name).read_bytes() != first[name]} == set()
    for kind in ("attention", "augmentations"):
        assert draw(kind, run, "--seed=4", f"--out={tmp_path / 'other.png'}", *FEW) == 0
        assert (tmp_path / "other.png").read_bytes() != first[f"{kind}.png"]


def config_json(config):
    return json.dumps(resume.plain(command_line.parse(["main.py", f"--config=configs/{config}.py:tiny"])[0]))


def test_all_says_what_a_file_does_not_allow(drawn_runs, tmp_path, photos, capsys):
    root, _ = drawn_runs
    assert export.main([str(root / "swin"), f"--output={tmp_path / 'swin.safetensors'}"]) == 0
    assert draw("all", tmp_path / "swin.safetensors", "--images", *photos, "--config.data.name=none") == 0
    out = capsys.readouterr().out
    folder = tmp_path / "swin-figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        "attention.pdf",
        "attention.png",
        "pyramid.pdf",
        "pyramid.png",
    ]
    for left_out in (
        f"Left out, reconstructions: {tmp_path / 'swin.safetensors'} holds an encoder and no decoder",
        "Left out, tsne: t-SNE is of a data set's images",
        "Left out, neighbours: Data set none was not found",
        "Left out, augmentations: augmentations draws one run's own training images",
    ):
        assert left_out in out


def test_weights_that_are_no_numbers_are_named(tmp_path, capsys):
    saved_run(tmp_path / "run", "moco_vit_s", change=lambda state: jax.tree.map(lambda leaf: leaf + np.nan, state))
    for kind in ("pyramid", "tsne", "reconstructions"):
        assert draw(kind, tmp_path / "run", *FEW) == 1
        assert "is not finite" in capsys.readouterr().err


AUGMENTATIONS = ("augmentations", "--config=configs/dino_vit_s.py:tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attention",), "Which run, or file of weights?"),
        (("attention", "NOWHERE"), "does not exist"),
        (("attention", "EMPTY"), "is no run: it has no folder checkpoints"),
        (("attention", "multi", "--config.figures.block=5"), "figures.block is 5, and multi has 2 blocks"),
        (("attention", "swin", "--config.figures.block=1"), "a Swin's map goes through all of its blocks"),
        (("attention", "multi", "--config.figures.mass=1.5"), "figures.mass is 1.5"),
        (("attention", "multi", "--config.figures.score=1"), "figures.score is 1"),
        (("attention", "multi", "--config.figures.masss=1"), "Did you mean 'mass'?"),
        (("attention", "multi", "--config.step=7"), "has no checkpoint 7"),
        (("attention", "multi", "--images", "NOWHERE"), "cannot be read: No such file"),
        (("attention", "multi", "--images", "NOIMAGE"), "are no image"),
        (("attention", "multi", "--images", "~/text.png"), "text.png cannot be read: 8 bytes are no image"),
        (("attention", "multi", "--out=~nobody7/a.png"), "there is no user 'nobody7'"),
        (("attention", "multi", "--images", "EMPTY"), "cannot be read: Is a directory"),
        (("attention", "multi", "--config=configs/dino_vit_s.py:tiny"), "The config's task is 'pretrain'"),
        (("attention", "multi", "--records=0"), "--records is 0"),
        (("attention", "multi", "--out=a.bmp"), "a file name ending in .png or .pdf"),
        (("attention", "--images", "NOWHERE", "--seed=1", "--", "multi"), "cannot be read: No such file"),
        (("attention", "--seed=1", "multi", "--config.step=7"), "has no checkpoint 7"),
        (("all", "multi", "--out=a.png"), "--out names one file"),
        (("pyramid", "multi", "single"), "pyramid is drawn of one run or file, got 2"),
        (("reconstructions", "baseline"), "has no decoder: repre.enabled was False"),
        (("reconstructions", "multi", "--config.network=target"), "trained on the features of the online encoder"),
        (("neighbours", "multi", "--config.figures.k=0"), "figures.k is 0"),
        (("tsne", "multi", "--config.figures.classes=1"), "have no clusters"),
        (("tsne", "multi", "--config.data.test_split=test[:1]"), "0 images of 0 classes that were chosen"),
        (("tsne", "multi", "--seed=-1"), "seed is -1"),
        (("augmentations", "multi"), "Nothing says how"),
        (("augmentations",), "--config is missing"),
        ((*AUGMENTATIONS, "--images", "NOIMAGE"), "leave --images out"),
        (("data", "--config=configs/moco_vit_s.py:tiny", "--config.data.name=none"), "Data set none was not found"),
        ((*AUGMENTATIONS, "--records=0"), "at least 1"),
        ((*AUGMENTATIONS, "--out=README.md/new/a.png"), "README.md/new cannot be written to: Not a directory"),
    ],
)
def test_what_is_refused(drawn_runs, tmp_path, monkeypatch, capsys, arguments, message):
    root, _ = drawn_runs
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    places = {"NOWHERE": tmp_path / "none", "EMPTY": tmp_path / "empty", "NOIMAGE": tmp_path / "text.png"}
    places |= {name: root / name for name in ("multi", "single", "baseline", "swin")}
    assert draw(*(places.get(argument, argument) for argument in arguments)) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert "Drawn" not in told.out


def test_a_figure_does_not_become_an_image_of_the_folder_that_it_is_of(tmp_path, capsys):
    """But in a run's own folder, which no scan looks into, and under a tool's own name, which it knows."""
    images = tmp_path / "photos"
    (images / "cat").mkdir(parents=True)
    command = (*AUGMENTATIONS, f"--config.data.name=folder:{images}")
    for out in (images / "cat" / "sheet.png", images / "sheet.png", images / "new" / "sheet.png"):
        assert draw(*command, f"--out={out}") == 1
        assert f"--out is {out}, in the folder of images {images}: it would be one" in capsys.readouterr().err
        assert not out.exists()
    (images / "run" / "figures").mkdir(parents=True)
    for name in ("config.json", "starts.jsonl"):
        (images / "run" / name).write_text("{}")
    for out in ("photos/run/figures/sheet.png", "photos/cat/sheet.pdf", "photos/augmentations.png", "sheet.png"):
        assert draw(*command, f"--out={tmp_path / out}") == 1
        assert "There are no images in" in capsys.readouterr().err, "it went on to the data"


@pytest.mark.parametrize("kind", ["attention", "all"])
def test_where_nothing_can_be_written_is_said_first(drawn_runs, tmp_path, capsys, kind):
    """Before the checkpoint is looked for, and so before anything is computed; no folder is left behind."""
    root, _ = drawn_runs
    run = shutil.copytree(root / "multi", tmp_path / "run")
    (run / "figures").write_text("a file in its place")
    assert draw(kind, run, "--config.step=7") == 1
    assert (
        f"{run / 'figures'} cannot be written to: File exists.\n  change:   --out=FILE.png" in capsys.readouterr().err
    )
    (run / "figures").unlink()
    assert draw("attention", run, "--config.step=7", f"--out={tmp_path / 'new' / 'deep' / 'a.png'}") == 1
    assert "has no checkpoint 7" in capsys.readouterr().err
    assert draw("attention", run, f"--out={run}.png", "--config.step=7") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert not (run / "figures").exists()
    (tmp_path / "folder.png").mkdir()
    assert draw("attention", run, f"--out={tmp_path / 'folder.png'}") == 1
    assert "expected: a file name ending in .png or .pdf" in capsys.readouterr().err


def test_drawing_renews_the_page_of_the_run(drawn_runs, tmp_path, capsys):
    root, _ = drawn_runs
    run = shutil.copytree(root / "multi", tmp_path / "run")
    assert draw("pyramid", run) == 0
    assert f"Report: {run / 'report.html'}" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "pyramid.png" in text
    assert ">Stopped<" in text, "no process goes on with it"
    assert "http-equiv" not in text
    with workdir.locked(run):
        assert draw("pyramid", run) == 0
    text = (run / "report.html").read_text()
    assert ">Not finished<" in text
    assert "http-equiv" in text
    (run / "report.html").unlink()
    assert draw("pyramid", run, f"--out={tmp_path / 'made' / 'for it' / 'elsewhere.png'}") == 0
    assert (tmp_path / "made" / "for it" / "elsewhere.png").read_bytes()[1:4] == b"PNG"
    assert not (run / "report.html").exists()
    (run / "report.html").mkdir()
    assert draw("pyramid", run) == 0
    assert "Warning: " in capsys.readouterr().out
